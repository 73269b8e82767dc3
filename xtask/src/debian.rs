//! Debian's packages, fetched and unpacked beside the build, never installed: their services must not start here.

use std::{fs, path::Path, process::Command};

use anyhow::Result;

use crate::shell;

/// Has this apt-get fetch packages into `folder`. As root in a folder of our own, so apt's own user cannot write there.
pub fn fetch(mut apt_get: Command, packages: &[&str], folder: &Path) -> Result<()> {
    let options = ["-qq", "-o", "APT::Sandbox::User=root", "download"];
    shell::run(apt_get.args(options).args(packages).current_dir(folder))
}

/// Unpacks every package in `folder`, where it is; nothing else is in it.
pub fn unpack_all(folder: &Path) -> Result<()> {
    let packages: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    for package in packages {
        shell::run(shell::command("dpkg").arg("-x").arg(package.path()).arg(folder))?;
        fs::remove_file(package.path())?;
    }
    Ok(())
}
