//! Debian's kernel package: found, downloaded once, and unpacked without installing it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::Kernel;
use crate::{
    setup::update_package_lists,
    shell::{self, say},
};

/// A kernel ready to boot.
pub struct Image {
    /// What `uname -r` says in it.
    pub release: String,
    /// The kernel itself.
    pub vmlinuz: PathBuf,
    /// Its modules, by file name below this folder.
    pub modules: PathBuf,
}

/// The newest kernel of this version, or the one that was fetched before.
pub fn fetch(kernel: Kernel) -> Result<Image> {
    let folder = kernel.folder();
    let unpacked = folder.join("unpacked");
    if let Ok(image) = find(&unpacked) {
        return Ok(image);
    }
    fs::create_dir_all(&folder)?;
    update_package_lists()?;
    let package = newest(kernel)?;
    say(format!("downloading {package}"));
    // As root: apt's own user may not write into the checkout, and warns when it is not asked to.
    let download = ["download", "-qq", "-o", "APT::Sandbox::User=root", &package];
    shell::run(shell::command("apt-get").args(download).current_dir(&folder))?;
    let archive = files(&folder)?
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded nothing")?;
    shell::run(shell::command("dpkg").arg("-x").arg(&archive).arg(&unpacked))?;
    fs::remove_file(archive)?;
    find(&unpacked)
}

/// Of `linux-image-6.1.0-N-cloud-amd64`, the one with the greatest N.
fn newest(kernel: Kernel) -> Result<String> {
    let prefix = format!("linux-image-{}.0-", kernel.version());
    let names = shell::output(shell::command("apt-cache").args(["pkgnames", &prefix]))?;
    names
        .lines()
        .filter_map(|name| {
            let number: u32 = name.strip_prefix(&prefix)?.strip_suffix("-cloud-amd64")?.parse().ok()?;
            Some((number, name.to_owned()))
        })
        .max()
        .map(|(_, name)| name)
        .with_context(|| format!("apt knows no {prefix}*-cloud-amd64; Debian 12's archive has it"))
}

fn find(unpacked: &Path) -> Result<Image> {
    let vmlinuz = files(&unpacked.join("boot"))?
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")))
        .context("the package holds no vmlinuz")?;
    let name = vmlinuz.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let release = name.trim_start_matches("vmlinuz-").to_owned();
    let modules = unpacked.join("lib/modules").join(&release);
    Ok(Image { release, vmlinuz, modules })
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect()
}
