//! `cargo xtask fuzz`: libFuzzer on the pure packet logic, with the stable compiler.
//!
//! cargo-fuzz wants nightly only to say `-Z sanitizer`; coverage, which is what guides the fuzzer, is an LLVM pass
//! that stable turns on as well. Memory errors need no sanitizer here: the logic is safe Rust.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    corpus,
    shell::{self, say},
};

/// An explicit target keeps the flags away from build scripts and proc-macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const RUSTFLAGS: &[&str] = &[
    "--cfg",
    "fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];

/// Options of `fuzz`.
#[derive(clap::Args)]
pub struct Options {
    /// For how long, all targets together.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Afterwards keep the inputs that reach something with the sources, in datapath-common/fuzz/corpus.
    #[arg(long)]
    pub keep: bool,
    /// Only this target.
    pub target: Option<String>,
}

/// The fuzz targets' own workspace.
pub fn folder() -> PathBuf {
    shell::root().join("datapath-common/fuzz")
}

/// Builds all targets and runs each for its share of the time.
pub fn run(options: &Options) -> Result<()> {
    let targets: Vec<String> =
        targets()?.into_iter().filter(|name| options.target.as_ref().is_none_or(|wanted| wanted == name)).collect();
    ensure!(!targets.is_empty(), "there is no such target in {}", folder().join("fuzz_targets").display());
    say(format!("building the fuzz targets: {}", targets.join(", ")));
    let built = shell::target().join("fuzz");
    shell::run(
        shell::cargo()
            .args(["build", "--release", "--target", TARGET, "--target-dir"])
            .arg(&built)
            .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
            .current_dir(folder()),
    )?;
    let share = (options.seconds / targets.len() as u64).max(1);
    for target in &targets {
        let binary = built.join(TARGET).join("release").join(target);
        fuzz(target, &binary, share)?;
        if options.keep {
            keep(target, &binary)?;
        }
    }
    Ok(())
}

/// The files of `fuzz_targets`, which is where the manifest's binaries are.
fn targets() -> Result<Vec<String>> {
    let sources = folder().join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&sources).with_context(|| sources.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Where a target's inputs are: those that were kept, and what this machine has learnt since.
fn inputs(target: &str) -> PathBuf {
    shell::target().join("corpus").join(target)
}

/// Runs one target. What it learns stays in `target/corpus`; an input that breaks it is kept and named.
fn fuzz(target: &str, binary: &Path, seconds: u64) -> Result<()> {
    let (corpus, crashes) = (inputs(target), shell::target().join("crashes"));
    fs::create_dir_all(&corpus)?;
    corpus::unpack(target, &corpus)?;
    fs::create_dir_all(&crashes)?;
    let log = crashes.join(format!("{target}.log"));
    say(format!("fuzzing {target} for {seconds} s"));
    let status = shell::run_within(
        shell::command(binary)
            .arg(&corpus)
            .args([format!("-max_total_time={seconds}"), format!("-artifact_prefix={}/{target}-", crashes.display())])
            // An input's time is by the wall clock, and on a busy machine it may wait for a core.
            .args(["-print_final_stats=1", "-max_len=2048", "-timeout=50"])
            .stderr(fs::File::create(&log)?),
        Duration::from_secs(seconds + 60),
    )?;
    let said = fs::read_to_string(&log)?;
    if !status.success() {
        let end: Vec<&str> = said.lines().rev().take(40).collect();
        end.iter().rev().for_each(|line| eprintln!("{line}"));
        bail!("{target} broke on an input, which is in {}; make it a named regression test", crashes.display());
    }
    let tried: u64 = stat(&said, "number_of_executed_units").context("the fuzzer printed no statistics")?;
    let found = stat(&said, "new_units_added").unwrap_or(0);
    // A target that never looks at its input would pass for ever: all inputs reach the same, and one is enough.
    let different = corpus_size(&said).context("the fuzzer did not say how many inputs it goes by")?;
    ensure!(tried > 0 && different > 1, "{target} found nothing interesting in {tried} inputs; does it look at them?");
    say(format!("  {target}: {tried} inputs, {found} of them new, none broke it"));
    Ok(())
}

/// Keeps as few inputs as reach all that the corpus reaches.
fn keep(target: &str, binary: &Path) -> Result<()> {
    let few = inputs(target).with_extension("few");
    if few.exists() {
        fs::remove_dir_all(&few)?;
    }
    fs::create_dir_all(&few)?;
    let log = shell::target().join("crashes").join(format!("{target}.merge.log"));
    let status = shell::run_within(
        shell::command(binary).arg("-merge=1").arg(&few).arg(inputs(target)).stderr(fs::File::create(&log)?),
        Duration::from_secs(600),
    )?;
    ensure!(status.success(), "{target} broke while its corpus was merged; see {}", log.display());
    say(format!("  {target}: {} inputs kept", corpus::keep(target, &few)?));
    fs::remove_dir_all(&few)?;
    Ok(())
}

/// How many inputs that reach something of their own libFuzzer had in the end.
fn corpus_size(log: &str) -> Option<u64> {
    let (_, last) = log.rsplit_once(" corp: ")?;
    last.split(|end: char| !end.is_ascii_digit()).next()?.parse().ok()
}

/// A number of libFuzzer's final statistics.
fn stat(log: &str, name: &str) -> Option<u64> {
    log.lines()
        .find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.trim_start_matches(':').trim().parse().ok())
}
