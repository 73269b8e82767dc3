//! `cargo xtask`: everything a developer or CI does with the repository.
//!
//! This crate must build before the BPF toolchain is there, because it is what installs it: it depends on none of
//! the crates that embed the BPF object.

mod artifacts;
mod budget;
mod build;
mod check;
mod corpus;
mod debian;
mod demo;
mod deny;
mod docker;
mod docs;
mod fuzz;
mod kernel;
mod mutants;
mod package;
mod setup;
mod shell;
mod stun;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a developer or CI does with Datapath.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need and this machine lacks.
    Setup(setup::Options),
    /// Build the BPF object, then the workspace.
    Build(build::Options),
    /// Do all that CI does, in CI's order.
    Check,
    /// Run the tests.
    Test(test::Options),
    /// Show the main job at work: who reaches whom, what is refused, and how fast.
    Demo(demo::Options),
    /// Measure against the kernel's bridge and iptables, in pairs; with `--docker`, against stock dockerd.
    Bench(demo::BenchOptions),
    /// Feed random input to the packet logic.
    Fuzz(fuzz::Options),
    /// Make the Debian package.
    Package(package::Options),
    /// Check licences, sources and known vulnerabilities of the dependencies.
    Deny,
    /// Write the documents that are made from the code.
    Docs(docs::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup(options) => setup::run(&options),
        Command::Build(options) => build::run(&options),
        Command::Check => check::run(),
        Command::Test(options) => test::run(&options),
        Command::Demo(options) => demo::demo(&options),
        Command::Bench(options) => demo::bench(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Package(options) => package::run(&options),
        Command::Deny => deny::run(),
        Command::Docs(options) => docs::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\x1b[1m[xtask]\x1b[0m {error:#}");
            ExitCode::FAILURE
        }
    }
}
