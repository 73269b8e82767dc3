//! What is measured, as a library for the binaries of this package.
//!
//! - [`verifier`]: what each program costs the kernel's verifier.
//! - [`compare`]: the datapath beside the wire, a router, and a bridge with iptables, in pairs.
//! - [`control`]: what the daemon takes to do what it is asked.
//! - [`docker`]: `docker run` with stock dockerd, with the datapath, and with nobody in its place.
//! - [`demo`]: the main job at work.
//! - [`flows`]: forgetting all flows between two measurements.
//! - [`new_flows`]: how long it takes to begin a flow when nearly everything is in use.
//! - [`programs`]: programs of a running daemon, timed on frames that nobody sends.
//! - [`quartiles`], [`shuffle`]: what measured numbers come to, and the order to measure in.
//! - [`interruption`]: being asked to stop.
//! - [`judge`]: what measured numbers should come to.
//! - [`table`], [`report`], [`progress`]: tables of text, the report of the comparison, and how far it is.

pub mod compare;
pub mod control;
pub mod demo;
pub mod docker;
pub mod flows;
pub mod interruption;
pub mod judge;
pub mod new_flows;
pub mod programs;
pub mod progress;
pub mod quartiles;
pub mod report;
pub mod shuffle;
pub mod table;
pub mod verifier;

use std::process::ExitCode;

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
