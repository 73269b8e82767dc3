//! The `datapath` command: daemon and client in one.

use std::process::ExitCode;

fn main() -> ExitCode {
    datapath_user::cli::main()
}
