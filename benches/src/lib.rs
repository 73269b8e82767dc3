//! What is measured, as a library for the binaries of this package.
//!
//! - [`verifier`]: what each program costs the kernel's verifier.
//! - [`compare`]: the datapath beside the wire, a router, and a bridge with iptables, in pairs.
//! - [`control`]: what the daemon takes to do what it is asked.
//! - [`docker`]: `docker run` with stock dockerd, with the datapath, and with nobody in its place.
//! - [`demo`]: the main job at work.
//! - [`new_flows`]: how long it takes to begin a flow when nearly everything is in use.
//! - [`programs`]: programs of a running daemon, timed on frames that nobody sends.
//! - [`judge`]: what measured numbers should come to.
//! - [`report`]: the report of the comparison.

pub mod compare;
pub mod control;
pub mod demo;
pub mod docker;
pub mod guard;
pub mod judge;
pub mod new_flows;
pub mod programs;
pub mod report;
pub mod verifier;

use std::process::ExitCode;

/// How a program ends that has measured something which is not what it must be.
const MISSED: u8 = 3;

/// Ends a program that says whether all is as it must be.
#[must_use]
pub fn exit_judged(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(false) => ExitCode::from(MISSED),
        other => exit(other.map(drop)),
    }
}

/// Ends a program: an error in one line, without the stack of calls that `RUST_BACKTRACE` would add.
#[must_use]
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
