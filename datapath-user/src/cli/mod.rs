//! The command line.

mod arguments;
mod bench;
mod client;
mod complete;
mod docker;
mod guard;
mod run;
mod show;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;

use arguments::{Cli, Command};

use crate::config::Config;
use crate::daemon;

/// The command line as clap has it, for what is made from it: man pages.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    CompleteEnv::with_factory(Cli::command).complete();
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Daemon(arguments) => {
            daemon::share_one_arena();
            start_logging();
            let config = Config::load(&arguments.overrides(cli.socket))?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let result = runtime.block_on(async {
                if arguments.cleanup { daemon::cleanup(&config).await } else { daemon::run(config).await }
            });
            // Streams of events have no end of their own.
            runtime.shutdown_background();
            result.map(|()| ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "datapath", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(arguments) => bench::run(arguments, cli.json),
        command => {
            client::end_quietly_with_the_pipe();
            let client = client::Client::new(cli.socket);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run::run(&client, command, cli.json))
        }
    }
}

fn start_logging() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env("DATAPATH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}
