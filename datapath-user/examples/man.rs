//! Writes the man pages into the folder that is named: one for each command, made from what the command line accepts.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("name the folder that the man pages go into");
        return ExitCode::from(2);
    };
    // `datapath help X` is `datapath X --help`: no page of its own.
    let command = datapath_user::cli::command().disable_help_subcommand(true);
    match clap_mangen::generate_to(command, &folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the man pages cannot be written into {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
