//! `cargo xtask test --mutants`: every rule is broken once, and a test must notice.
//!
//! `lab/mutants.toml` names, for each seeded fault of the programs, the tests that must go red under it. Each is run
//! twice: without the fault, where it must pass (so that it is known to have run), and with it, where it must fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use datapath_common::abi::Mutant;
use rayon::{
    ThreadPoolBuilder,
    iter::{IntoParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _},
};

use crate::{
    artifacts::TESTED,
    shell::{self, say},
};

/// Names the fault for the daemons that the lab starts.
const VARIABLE: &str = "DATAPATH_TEST_MUTANT";

/// A fault, and the tests that must notice it: `file::test`.
type Table = BTreeMap<String, Vec<String>>;

/// Tests that run at once: they wait more than they compute, for what a fault keeps from arriving. More would fail for want of
/// time, which passes for having noticed.
const AT_ONCE: usize = 3;

/// Runs all faults, or those whose name contains one of `filters`; with `first`, against the first test of each only.
pub fn run(filters: &[String], first: bool) -> Result<()> {
    let table = read()?;
    build()?;
    let is_wanted = |mutant: &str| filters.is_empty() || filters.iter().any(|filter| mutant.contains(filter.as_str()));
    let of_each = if first { 1 } else { usize::MAX };
    let pairs: Vec<(&String, &String)> = table
        .iter()
        .filter(|(mutant, _)| is_wanted(mutant))
        .flat_map(|(mutant, tests)| tests.iter().take(of_each).map(move |test| (mutant, test)))
        .collect();
    let workers = ThreadPoolBuilder::new().num_threads(AT_ONCE).build()?;
    workers.install(|| {
        let tests: BTreeSet<&String> = pairs.iter().map(|(_, test)| *test).collect();
        tests.into_par_iter().try_for_each(|test| {
            // Each has passed by itself; beside others one may once want for time.
            ensure!(passes(test, None)? || passes(test, None)?, "{test} fails without a fault");
            Ok(())
        })
    })?;
    let unnoticed: Vec<String> = workers.install(|| {
        let judged = pairs.par_iter().map(|(mutant, test)| {
            let passed = passes(test, Some(mutant))?;
            say(format!("  {mutant}: {}noticed by {test}", if passed { "not " } else { "" }));
            Ok(passed.then(|| format!("{mutant} by {test}")))
        });
        judged.filter_map(Result::transpose).collect::<Result<_>>()
    })?;
    ensure!(unnoticed.is_empty(), "faults that were not noticed: {}", unnoticed.join(", "));
    Ok(())
}

/// Reads the table; a fault without a test, or a test for a fault that is not there, is an error.
fn read() -> Result<Table> {
    let path = shell::root().join("lab/mutants.toml");
    let table: Table = toml::from_str(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        ensure!(table.get(&name).is_some_and(|tests| !tests.is_empty()), "mutants.toml names no test for {name}");
    }
    for name in table.keys() {
        ensure!(Mutant::named(name).is_some(), "mutants.toml names {name}, which abi::Mutant does not have");
    }
    Ok(table)
}

fn cargo_test() -> Command {
    let mut command = shell::cargo();
    command.args(["test", "--quiet"]).args(TESTED);
    command
}

fn build() -> Result<()> {
    say("building the tests with the seeded faults");
    shell::run(cargo_test().arg("--no-run"))
}

/// Whether this one test passes. Not to have run is neither: it is an error.
fn passes(test: &str, mutant: Option<&str>) -> Result<bool> {
    let (file, name) = test.split_once("::").with_context(|| format!("mutants.toml: {test}: not file::test"))?;
    let mut command = cargo_test();
    command.args(["--test", file, "--", "--exact", name]).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env_remove(VARIABLE);
    if let Some(mutant) = mutant {
        command.env(VARIABLE, mutant);
    }
    let output = command.output().context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = text.contains("1 passed") || text.contains("1 failed");
    ensure!(ran, "{test} did not run:\n{text}");
    Ok(output.status.success())
}
