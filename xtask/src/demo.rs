//! `cargo xtask demo` and `cargo xtask bench`: everything from a fresh machine to numbers, in one command each.

use anyhow::{Result, ensure};

use crate::{
    artifacts::executables,
    build, setup,
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

/// Options of `bench`, passed on to the program that measures.
#[derive(clap::Args)]
pub struct BenchOptions {
    /// Instead of packets: `docker run`, beside stock dockerd.
    #[arg(long)]
    pub docker: bool,
    /// Instead of packets of flows: the time to begin one, when nearly everything is in use.
    #[arg(long, conflicts_with = "docker")]
    pub new_flows: bool,
    /// A check that everything runs, not a measurement.
    #[arg(long, conflicts_with = "new_flows")]
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
    let quick = options.quick.then(|| "--quick".to_owned());
    let arguments: Vec<_> = quick.into_iter().chain(options.arguments.iter().cloned()).collect();
    let program = match options {
        BenchOptions { docker: true, .. } => "compare_docker",
        BenchOptions { new_flows: true, .. } => "new_flows",
        _ => "compare",
    };
    run(program, &arguments)
}

/// Builds with optimisation (what is measured is what would be installed) and runs the program with the daemon's
/// binary.
fn run(program: &str, arguments: &[String]) -> Result<()> {
    test::require_root()?;
    setup::run(&setup::Options::default())?;
    test::mount_bpf()?;
    build::run(&build::Options { bpf_only: true, ..Default::default() })?;
    say("building the daemon and the laboratory");
    let [datapath, program] = executables(&["--release"], ["datapath", program])?;
    let result = shell::run(shell::command(program).arg("--datapath").arg(datapath).args(arguments));
    let leftovers = test::leftovers()?;
    result?;
    ensure!(leftovers.is_empty(), "left behind: {}", leftovers.join(", "));
    Ok(())
}
