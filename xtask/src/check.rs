//! `cargo xtask check`: all that CI does, in CI's order, with the time each step took.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{
    artifacts::TESTED,
    build, deny, docs, fuzz,
    kernel::Kernel,
    package, setup,
    shell::{self, say},
    test,
};

type Step = (&'static str, fn() -> Result<()>);

/// Cheap and likely to fail first; what needs the BPF object after `build`.
const STEPS: &[Step] = &[
    ("setup", || setup::run(&setup::Options::default())),
    ("format", format),
    ("deny", deny::run),
    ("build", || build::run(&build::Options { bpf_only: true, mutants: true, ..Default::default() })),
    ("clippy", clippy),
    ("docs", documentation),
    ("generated docs", || docs::run(&docs::Options { check: true })),
    ("test", || test::run(&test::Options::default())),
    // The same packets every time: what a commit has broken, not what somebody else's never tried.
    ("test --differential", || {
        test::run(&test::Options { differential: Some(100_000), seed: Some(1), ..Default::default() })
    }),
    ("test --mutants --first", || test::run(&test::Options { mutants: true, first: true, ..Default::default() })),
    ("test --kernel 6.1", || test::run(&test::Options { kernel: Some(Kernel::V6_1), ..Default::default() })),
    ("package --check", || package::run(&package::Options { check: true })),
    ("fuzz", || fuzz::run(&fuzz::Options { seconds: 60, keep: false, target: None })),
];

/// Runs every step; the first that fails ends it.
pub fn run() -> Result<()> {
    test::require_root()?;
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for (name, step) in STEPS {
        say(format!("──── {name}"));
        let start = Instant::now();
        let result = step().with_context(|| format!("step `{name}` of `cargo xtask check`"));
        times.push((name, start.elapsed()));
        if result.is_err() {
            print_times(&times);
        }
        result?;
    }
    print_times(&times);
    say("all of check passed");
    Ok(())
}

fn print_times(times: &[(&str, Duration)]) {
    for (name, time) in times {
        say(format!("{:>7.1} s  {name}", time.as_secs_f32()));
    }
}

fn format() -> Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    shell::run(shell::cargo().args(["fmt", "--check"]).current_dir(fuzz::folder()))
}

fn clippy() -> Result<()> {
    // What is installed, too: it has none of the features for tests.
    shell::run(shell::cargo().args(["clippy", "--package", "datapath-user", "--", "-D", "warnings"]))?;
    shell::run(shell::cargo().arg("clippy").args(TESTED).args(["--all-targets", "--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    shell::run(shell::cargo().env("RUSTDOCFLAGS", "-D warnings").arg("doc").args(TESTED).arg("--no-deps"))
}
