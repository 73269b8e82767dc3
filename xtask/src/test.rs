//! `cargo xtask test`: builds what the tests need and runs them all, as CI does.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::{
    artifacts::TESTED,
    budget, build, docker,
    kernel::{self, Kernel},
    mutants, setup,
    shell::{self, say},
};

/// Names the release of Docker that tests use: `lab::docker::Release` reads it.
const DOCKER: &str = "DATAPATH_TEST_DOCKER";
/// Tests of Docker to which the release makes no difference.
const ANY_RELEASE: [&str; 3] = ["bad_days::in_the_way", "bad_days::socket", "bad_days::churn::stock"];

/// Options of `test`.
#[derive(Args, Default)]
pub struct Options {
    /// Run the tests of each rule against programs with that rule broken, and fail unless they notice.
    #[arg(long)]
    pub mutants: bool,
    /// With `--mutants`: of each rule only the first test.
    #[arg(long, requires = "mutants")]
    pub first: bool,
    /// Instead of the tests: the daemon and its programs on this older kernel, in a virtual machine.
    #[arg(long, value_enum, value_name = "VERSION")]
    pub kernel: Option<Kernel>,
    /// Instead of the tests: so many packets into the daemon's world and into the kernel's own, compared.
    #[arg(long, value_name = "PACKETS", num_args = 0..=1, default_missing_value = "100000")]
    pub differential: Option<u64>,
    /// With `--differential`: the seed that an earlier run has printed, to repeat it.
    #[arg(long, requires = "differential")]
    pub seed: Option<u64>,
    /// Passed to the test programs: filters, `--nocapture` and the like.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// Runs the tests that were asked for.
pub fn run(options: &Options) -> Result<()> {
    prepare()?;
    if let Some(kernel) = options.kernel {
        return kernel::test(kernel);
    }
    if options.mutants {
        return mutants::run(&options.arguments, options.first);
    }
    if let Some(packets) = options.differential {
        return differential(packets, options.seed);
    }
    suite(options)?;
    if options.arguments.is_empty() {
        budget::check_here()?;
    }
    Ok(())
}

/// Everything tests need besides their own code.
fn prepare() -> Result<()> {
    setup::run(&setup::Options::default())?;
    mount_bpf()?;
    build::run(&build::Options { bpf_only: true, mutants: true, ..Default::default() })
}

/// The differential test alone. Its seed is printed.
fn differential(packets: u64, seed: Option<u64>) -> Result<()> {
    let mut test = shell::cargo();
    test.env("DATAPATH_DIFFERENTIAL", packets.to_string());
    if let Some(seed) = seed {
        test.env("DATAPATH_DIFFERENTIAL_SEED", seed.to_string());
    }
    test.arg("test").args(TESTED).args(["--test", "differential", "--", "--nocapture"]);
    without_leftovers(|| shell::run(&mut test))
}

/// The whole suite.
fn suite(options: &Options) -> Result<()> {
    let mut test = shell::cargo();
    test.env(DOCKER, docker::STABLE.name).arg("test").args(TESTED);
    if !options.arguments.is_empty() {
        test.arg("--").args(&options.arguments);
    }
    without_leftovers(|| shell::run(&mut test).and_then(|()| modern_docker(&options.arguments)))
}

/// Runs tests, and proves that they left nothing behind.
fn without_leftovers(tests: impl FnOnce() -> Result<()>) -> Result<()> {
    let result = tests();
    let leftovers = leftovers()?;
    result?;
    ensure!(leftovers.is_empty(), "the tests left behind: {}", leftovers.join(", "));
    Ok(())
}

/// The tests of Docker once more, with a modern release.
fn modern_docker(arguments: &[String]) -> Result<()> {
    say(format!("the tests of Docker with release {}", docker::MODERN.name));
    let mut test = shell::cargo();
    test.env(DOCKER, docker::MODERN.name).arg("test").args(TESTED).args(["--test", "docker", "--"]);
    test.args(ANY_RELEASE.iter().flat_map(|name| ["--skip", name])).args(arguments);
    shell::run(&mut test)
}

/// The BPF file system, where Debian's own boot has not mounted it (containers, small machines).
pub fn mount_bpf() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some("/sys/fs/bpf")) {
        return Ok(());
    }
    say("mounting the BPF file system on /sys/fs/bpf");
    shell::run(shell::command("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]))
        .context("cannot mount /sys/fs/bpf; run as root")
}

/// Namespaces, pins and dockerds' folders of labs whose process has gone. Other people's are none of our business.
pub fn leftovers() -> Result<Vec<String>> {
    let mut left = Vec::new();
    for folder in ["/run/netns", "/sys/fs/bpf", "/tmp"] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("dp-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                left.push(format!("{folder}/{name}"));
            }
        }
    }
    Ok(left)
}

/// Fails when the user is not root, in one sentence instead of forty failed tests.
pub fn require_root() -> Result<()> {
    let user = shell::output(shell::command("id").arg("-u"))?;
    if user.trim() != "0" {
        bail!("network namespaces and BPF programs need root; run this as root");
    }
    Ok(())
}
