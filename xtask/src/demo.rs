//! `cargo xtask demo` and `cargo xtask bench`: everything from a fresh machine to numbers, in one command each.

use anyhow::{Result, bail, ensure};

use crate::{
    artifacts::executables,
    build::{self, Object},
    setup,
    shell::{self, say},
    test,
};

/// Options of `demo`, passed on to the program that shows it.
#[derive(clap::Args)]
pub struct Options {
    /// Passed on; `--help` lists what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// How the comparison ends where all was measured and something is not what it must be.
const MISSED: i32 = 3;

/// Options of `bench`, passed on to the program that measures.
///
/// Without `--docker`, `--new-flows`, `--programs` and `--guard`: every target of docs/performance.md, judged, and a report in
/// target/bench/report.html; fails where one is missed. Of its own options, those most used: `--no-judge` (figures only),
/// `--json FILE`, `--html FILE`, `--rounds N`, `--only IPv4,stream`.
#[derive(clap::Args)]
pub struct BenchOptions {
    /// Instead of packets: `docker run`, beside stock dockerd.
    #[arg(long)]
    pub docker: bool,
    /// Instead of packets of flows: the time to begin one, when nearly everything is in use.
    #[arg(long, conflicts_with = "docker")]
    pub new_flows: bool,
    /// Instead of packets on their way: what each program costs for one, by criterion.
    #[arg(long, conflicts_with_all = ["docker", "new_flows"])]
    pub programs: bool,
    /// Instead of packets of flows: what the guard of uplinks takes to drop one, and to look at one.
    #[arg(long, conflicts_with_all = ["docker", "new_flows", "programs"])]
    pub guard: bool,
    /// Fewer and shorter runs: under two minutes, instead of under thirty.
    #[arg(long, conflicts_with_all = ["new_flows", "programs", "guard"])]
    pub quick: bool,
    /// Passed on; `--help` behind `--` lists what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// Shows the main job at work.
pub fn demo(options: &Options) -> Result<()> {
    run("demo", &options.arguments)
}

/// The paired comparison.
pub fn bench(options: &BenchOptions) -> Result<()> {
    if options.programs {
        return programs(&options.arguments);
    }
    let quick = options.quick.then(|| "--quick".to_owned());
    let object = options.guard.then(|| ["--object".to_owned(), Object::Plain.path().display().to_string()]);
    let own = quick.into_iter().chain(object.into_iter().flatten());
    let arguments: Vec<_> = own.chain(options.arguments.iter().cloned()).collect();
    let program = match options {
        BenchOptions { docker: true, .. } => "compare_docker",
        BenchOptions { new_flows: true, .. } => "new_flows",
        BenchOptions { guard: true, .. } => "guard",
        _ => "compare",
    };
    run(program, &arguments)
}

/// The programs alone, by `cargo bench`.
fn programs(arguments: &[String]) -> Result<()> {
    prepare()?;
    let [datapath] = executables(&["--release"], ["datapath"])?;
    let mut bench = shell::cargo();
    bench
        .args(["bench", "--package", "benches", "--bench", "programs", "--"])
        .args(arguments)
        .env("DATAPATH", datapath)
        // Or criterion asks cargo, which would look for crates from a namespace that has no network.
        .env("CRITERION_HOME", shell::target().join("criterion"));
    shell::run(&mut bench)?;
    nothing_left()
}

/// Builds with optimisation (what is measured is what would be installed) and runs the program with the daemon's
/// binary.
fn run(program: &str, arguments: &[String]) -> Result<()> {
    prepare()?;
    let [datapath, program] = executables(&["--release"], ["datapath", program])?;
    let mut command = shell::command(program);
    command.arg("--datapath").arg(datapath).args(arguments);
    let status = shell::status(&mut command)?;
    match status.code() {
        Some(0) => {}
        Some(MISSED) => bail!("targets are missed: those with ✗ above (`--no-judge` if you only want figures)"),
        _ => bail!("`{}` failed: {status}", shell::shown(&command)),
    }
    nothing_left()
}

/// What a fresh machine lacks, and the BPF object.
fn prepare() -> Result<()> {
    test::require_root()?;
    setup::run(&setup::Options::default())?;
    test::mount_bpf()?;
    build::run(&build::Options { bpf_only: true, ..Default::default() })?;
    say("building the daemon and the laboratory");
    Ok(())
}

fn nothing_left() -> Result<()> {
    let leftovers = test::leftovers()?;
    ensure!(leftovers.is_empty(), "left behind: {}", leftovers.join(", "));
    Ok(())
}
