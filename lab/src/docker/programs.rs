//! Where Docker's programs are: unpacked by `cargo xtask setup`, not installed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::Release;

/// What `cargo xtask setup` unpacks Debian's packages into, a folder for each release.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/docker");

fn folder() -> PathBuf {
    Path::new(FOLDER).join(Release::current().name())
}

/// A program of Docker's packages, by its path; never one that happens to be installed.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    let path = folder().join(name);
    ensure!(path.exists(), "{} is missing; `cargo xtask setup` unpacks Docker there", path.display());
    Ok(path.canonicalize()?)
}

/// Lets `command` find those programs first: dockerd starts containerd, runc and docker-proxy by their names.
pub(super) fn prefer(command: &mut Command) {
    let folder = folder();
    let folder = folder.display();
    let mut path = OsString::from(format!("{folder}/usr/sbin:{folder}/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    if let Some(inherited) = std::env::var_os("PATH") {
        path.push(":");
        path.push(inherited);
    }
    command.env("PATH", path);
}
