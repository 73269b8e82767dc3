//! The one image: busybox, and a server of ours.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

use super::cli::Docker;
use crate::command::run;

/// Its name.
pub const NAME: &str = "lab";

/// `src/bin/inside.rs`, linked statically by `build.rs`.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inside"));
const BUSYBOX: &str = "/usr/bin/busybox";
/// What tests run by name in containers.
const APPLETS: [&str; 10] = ["sh", "timeout", "sleep", "nslookup", "ping", "ip", "cat", "nc", "hostname", "true"];

/// Makes it from files of this machine: there is no registry.
pub fn import(docker: &Docker) -> Result<()> {
    let root = tempfile::Builder::new().prefix("datapath-lab-").tempdir()?;
    let bin = root.path().join("bin");
    std::fs::create_dir(&bin)?;
    std::fs::copy(BUSYBOX, bin.join("busybox")).with_context(|| format!("{BUSYBOX}; `cargo xtask setup`"))?;
    for applet in APPLETS {
        symlink("busybox", bin.join(applet))?;
    }
    let program = root.path().join("inside");
    std::fs::write(&program, PROGRAM)?;
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
    let archive = root.path().with_extension("tar");
    let imported = pack(root.path(), &archive)
        .and_then(|()| docker.command(["import", "--change", "ENTRYPOINT [\"/inside\"]", &text(&archive)?, NAME]));
    let removed = std::fs::remove_file(&archive);
    imported?;
    Ok(removed?)
}

fn pack(folder: &Path, archive: &Path) -> Result<()> {
    run("tar", ["--create", "--owner=0", "--group=0", "--file", &text(archive)?, "--directory", &text(folder)?, "."])
        .map(drop)
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("temporary folders have plain names")?.to_owned())
}
