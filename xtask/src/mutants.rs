//! `cargo xtask test --mutants`: every rule is broken once, and a test must notice.
//!
//! `lab/mutants.toml` names, for each seeded fault of the programs, the tests that must go red under it. Each is run
//! twice: without the fault, where it must pass (so that it is known to have run), and with it, where it must fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use datapath_common::abi::Mutant;

use crate::shell::{self, say};

/// Names the fault for the daemons that the lab starts.
const VARIABLE: &str = "DATAPATH_TEST_MUTANT";

/// A fault, and the tests that must notice it: `file::test`.
type Table = BTreeMap<String, Vec<String>>;

/// Runs all faults, or those whose name contains one of `filters`; with `first`, against the first test of each only.
pub fn run(filters: &[String], first: bool) -> Result<()> {
    let table = read()?;
    build()?;
    let (mut sound, mut unnoticed) = (BTreeSet::new(), Vec::new());
    for (mutant, tests) in &table {
        if !filters.is_empty() && !filters.iter().any(|filter| mutant.contains(filter.as_str())) {
            continue;
        }
        for test in tests.iter().take(if first { 1 } else { usize::MAX }) {
            if sound.insert(test) {
                ensure!(passes(test, None)?, "{test} fails without a fault");
            }
            if passes(test, Some(mutant))? {
                say(format!("  {mutant}: not noticed by {test}"));
                unnoticed.push(format!("{mutant} by {test}"));
            } else {
                say(format!("  {mutant}: noticed by {test}"));
            }
        }
    }
    if !unnoticed.is_empty() {
        bail!("faults that were not noticed: {}", unnoticed.join(", "));
    }
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
    command.args(["test", "--quiet", "--package", "datapath-user", "--features", "mutants"]);
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
