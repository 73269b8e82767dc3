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

/// Shows the main job at work.
pub fn demo(options: &Options) -> Result<()> {
    run("demo", options)
}

/// The paired comparison.
pub fn bench(options: &Options) -> Result<()> {
    run("compare", options)
}

/// Builds with optimisation (what is measured is what would be installed) and runs the program with the daemon's
/// binary.
fn run(program: &str, options: &Options) -> Result<()> {
    test::require_root()?;
    setup::run(&setup::Options::default())?;
    test::mount_bpf()?;
    build::run(&build::Options { bpf_only: true, ..Default::default() })?;
    say("building the daemon and the laboratory");
    let [datapath, program] = executables(&["--release"], ["datapath", program])?;
    let result = shell::run(shell::command(program).arg("--datapath").arg(datapath).args(&options.arguments));
    let leftovers = test::leftovers()?;
    result?;
    ensure!(leftovers.is_empty(), "left behind: {}", leftovers.join(", "));
    Ok(())
}
