//! Where Docker's programs are: unpacked by `cargo xtask setup`, not installed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// The folder that `cargo xtask setup` unpacks Debian's packages into.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/docker");

/// A program of Docker's packages, by its path; never one that happens to be installed.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    let path = Path::new(FOLDER).join(name);
    ensure!(path.exists(), "{} is missing; `cargo xtask setup` unpacks Docker there", path.display());
    Ok(path.canonicalize()?)
}

/// Lets `command` find those programs first: dockerd starts containerd, runc and docker-proxy by their names.
pub(super) fn prefer(command: &mut Command) {
    let mut path = OsString::from(format!("{FOLDER}/usr/sbin:{FOLDER}/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    if let Some(inherited) = std::env::var_os("PATH") {
        path.push(":");
        path.push(inherited);
    }
    command.env("PATH", path);
}
