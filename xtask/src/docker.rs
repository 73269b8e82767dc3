//! Docker for the laboratory: Debian's own packages, unpacked beside the build and never installed.
//!
//! Installing docker.io would start a dockerd on the machine, with rules in its iptables, and again at every boot. The
//! tests start their own, in namespaces of their own, and need nothing but the programs.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    setup,
    shell::{self, find_program, say},
};

/// dockerd with its client and proxy, what it starts containers with, and `docker run --init`.
const PACKAGES: [&str; 4] = ["docker.io", "containerd", "runc", "tini"];
/// What must come out of them.
const PROGRAMS: [&str; 5] =
    ["usr/sbin/dockerd", "usr/sbin/docker-proxy", "usr/sbin/runc", "usr/bin/docker", "usr/bin/containerd"];
/// The release that the expectations of the tests are written for.
const RELEASE: &str = "20.10";

/// Where the programs are; `lab::docker` looks here.
pub fn folder() -> PathBuf {
    shell::target().join("docker")
}

/// Fetches and unpacks the packages, unless that is done.
pub fn unpack() -> Result<()> {
    if PROGRAMS.iter().all(|program| folder().join(program).exists()) {
        return Ok(());
    }
    ensure!(
        find_program("apt-get").is_some(),
        "the tests want dockerd {RELEASE} in {}, and this is not Debian: unpack Debian 12's {} there",
        folder().display(),
        PACKAGES.join(", ")
    );
    say(format!("unpacking {} into {}", PACKAGES.join(", "), folder().display()));
    setup::update_package_lists()?;
    // Beside the folder, then renamed: what is there is complete.
    let part = folder().with_extension("part");
    for stale in [&part, &folder()] {
        if stale.exists() {
            fs::remove_dir_all(stale).with_context(|| stale.display().to_string())?;
        }
    }
    fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
    // As root in a folder of our own; apt would otherwise warn that its own user cannot write there.
    let download = ["-qq", "-o", "APT::Sandbox::User=root", "download"];
    shell::run(shell::command("apt-get").args(download).args(PACKAGES).current_dir(&part))
        .with_context(|| format!("cannot fetch {}; is Debian's archive within reach?", PACKAGES.join(", ")))?;
    for entry in fs::read_dir(&part)? {
        let package = entry?.path();
        shell::run(shell::command("dpkg").arg("-x").arg(&package).arg(&part))?;
        fs::remove_file(&package)?;
    }
    check_release(&part.join("usr/sbin/dockerd"))?;
    fs::rename(&part, folder())?;
    Ok(())
}

/// Later releases of Docker have other rules, and the tests expect those of this one.
fn check_release(dockerd: &std::path::Path) -> Result<()> {
    let version = shell::output(shell::command(dockerd).arg("--version"))?;
    if !version.contains(&format!(" {RELEASE}.")) {
        bail!("the archive has {}; the tests of Docker are written for {RELEASE}, that of Debian 12", version.trim());
    }
    Ok(())
}
