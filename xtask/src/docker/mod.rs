//! Docker for the laboratory: Debian's own packages, unpacked beside the build and never installed.
//!
//! Installing docker.io would start a dockerd on the machine, with rules in its iptables, and again at every boot. The
//! tests start their own, in namespaces of their own, and need nothing but the programs.

mod testing;

use std::path::{Path, PathBuf};
use std::{fs, io::ErrorKind};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    debian, setup,
    shell::{self, find_program, say},
};
use testing::Testing;

/// A release of Docker that the tests are run with.
pub struct Release {
    /// Its folder, and the value of `DATAPATH_TEST_DOCKER`.
    pub name: &'static str,
    /// Packages of Debian 12.
    stable: &'static [&'static str],
    /// Packages of Debian's testing, which run on Debian 12 too: they need nothing new of its libraries.
    testing: &'static [&'static str],
    /// Whether a dockerd of this major and minor version is one.
    accepts: fn(u32, u32) -> bool,
}

/// That of Debian 12, which the tests use unless they are told otherwise.
pub const STABLE: Release = Release {
    name: "20.10",
    // dockerd with its client and proxy, what it starts containers with, and `docker run --init`.
    stable: &["docker.io", "containerd", "runc", "tini"],
    testing: &[],
    accepts: |major, minor| (major, minor) == (20, 10),
};

/// A modern one. Testing moves, and keeps no package that it has replaced, so it is any from 28 on.
pub const MODERN: Release = Release {
    name: "28",
    // Testing's runc wants a newer C library.
    stable: &["runc", "tini"],
    testing: &["docker.io", "docker-cli", "containerd"],
    accepts: |major, _| major >= 28,
};

/// What must come out of the packages.
const PROGRAMS: [&str; 5] =
    ["usr/sbin/dockerd", "usr/sbin/docker-proxy", "usr/sbin/runc", "usr/bin/docker", "usr/bin/containerd"];

impl Release {
    /// Where its programs are; `lab::docker` looks here.
    fn folder(&self) -> PathBuf {
        shell::target().join("docker").join(self.name)
    }

    /// Fetches and unpacks the packages, unless that is done.
    fn unpack(&self) -> Result<()> {
        let folder = self.folder();
        if PROGRAMS.iter().all(|program| folder.join(program).exists()) {
            return Ok(());
        }
        ensure!(
            find_program("apt-get").is_some(),
            "the tests want dockerd {} in {}, and this is not Debian: unpack Debian 12's {} and testing's {} there",
            self.name,
            folder.display(),
            self.stable.join(", "),
            self.testing.join(", ")
        );
        // Beside the folder, then renamed: what is there is complete.
        let part = shell::target().join("docker").join(format!("{}.part", self.name));
        for stale in [&part, &folder] {
            remove(stale)?;
        }
        fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
        self.download(&part)?;
        debian::unpack_all(&part)?;
        self.check_version(&part.join("usr/sbin/dockerd"))?;
        fs::rename(&part, &folder)?;
        Ok(())
    }

    /// Fetches the packages into `folder`.
    fn download(&self, folder: &Path) -> Result<()> {
        let unreachable =
            |packages: &[&str]| format!("cannot fetch {}; is Debian's archive within reach?", packages.join(", "));
        setup::update_package_lists()?;
        debian::fetch(shell::command("apt-get"), self.stable, folder).with_context(|| unreachable(self.stable))?;
        if self.testing.is_empty() {
            return Ok(());
        }
        let apt = Testing::new()?;
        debian::fetch(apt.get(), self.testing, folder).with_context(|| unreachable(self.testing))
    }

    /// Releases of Docker have different rules, and the tests expect those of each.
    fn check_version(&self, dockerd: &Path) -> Result<()> {
        let said = shell::output(shell::command(dockerd).arg("--version")).with_context(|| {
            format!("the dockerd {} of Debian's archive does not run on this machine; is it older?", self.name)
        })?;
        let said = said.trim();
        let Some((major, minor)) = version(said) else { bail!("dockerd says {said:?}, which names no version") };
        ensure!((self.accepts)(major, minor), "the archive has {said}; the tests of Docker want {}", self.name);
        say(format!("unpacked {said} into {}", self.folder().display()));
        Ok(())
    }
}

/// Fetches and unpacks what is missing of all releases.
pub fn unpack() -> Result<()> {
    STABLE.unpack()?;
    MODERN.unpack()
}

/// The numbers in `Docker version 28.5.2+dfsg4, build …`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("Docker version ")?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Removes a folder that need not be there.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| folder.display().to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("Docker version 20.10.24+dfsg1, build 297e128"), Some((20, 10)));
        assert_eq!(version("Docker version 28.5.2+dfsg4, build 9cc6dea"), Some((28, 5)));
        assert_eq!(version("podman version 4.3.1"), None);
        assert!((STABLE.accepts)(20, 10) && !(STABLE.accepts)(28, 5));
        assert!((MODERN.accepts)(28, 5) && (MODERN.accepts)(29, 0) && !(MODERN.accepts)(27, 5));
    }
}
