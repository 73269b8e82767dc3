//! Trying the package in a clean Debian that is booted by its systemd, in namespaces of its own (`packaging/clean-root`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::setup::MIRROR;
use crate::shell::{self, say};

/// The Debian that the project names as the oldest.
const SUITE: &str = "bookworm";
/// What the smallest Debian lacks: a network's tools, and the systemd that reads the unit.
const PACKAGES: &str = "systemd,init-system-helpers,iproute2,nftables";

/// Seconds, on an idle machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Boots it, and installs, tries and purges the package there.
pub fn in_clean_root(package: &Path) -> Result<()> {
    let archive = clean_root()?;
    let root = Root::unpack(&archive)?;
    let scripts = shell::root().join("packaging/clean-root");
    fs::copy(package, root.0.join("datapath.deb"))?;
    fs::copy(scripts.join("check.sh"), root.0.join("check.sh"))?;
    let cgroup = Cgroup::new()?;
    say(format!("installing, trying and purging it in a clean {SUITE}"));
    let mut boot = shell::command(scripts.join("boot.sh"));
    boot.arg(&root.0).arg(&cgroup.0).stdin(Stdio::null());
    let status = shell::run_within(&mut boot, LIMIT);
    let log = fs::read_to_string(root.0.join("check.log")).unwrap_or_default();
    eprint!("{log}");
    // systemd that never came to the check must not pass for one that did.
    let passed = status?.success() && log.lines().last() == Some("passed");
    ensure!(passed, "the package does not do in a clean {SUITE} what it should; see above");
    Ok(())
}

/// A cgroup for its systemd, removed when this is dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mounted =
            mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[2] == "cgroup2");
        let Some(words) = mounted else {
            bail!("cgroup version 2 is not mounted; mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        };
        let path = Path::new(words[1]).join(format!("datapath-check-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The processes in it have ended with their namespace, but the last may not be gone yet.
        for _ in 0..50 {
            if remove_groups(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        say(format!("{} cannot be removed; something still runs in it", self.0.display()));
    }
}

/// A cgroup is removed by its folder alone, those below it first.
fn remove_groups(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// The archive of a clean Debian; made once, which takes a minute.
fn clean_root() -> Result<PathBuf> {
    let archive = super::folder().join(format!("{SUITE}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    say(format!("making a clean {SUITE}"));
    let root = Root::new()?;
    let mut command = shell::command("debootstrap");
    command.args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE]).arg(&root.0).arg(MIRROR);
    shell::run(command.stdout(Stdio::null()))
        .with_context(|| format!("cannot make a clean {SUITE}; see {}/debootstrap", root.0.display()))?;
    let partial = archive.with_extension("new");
    shell::run(shell::command("tar").arg("-C").arg(&root.0).arg("-cf").arg(&partial).arg("."))?;
    fs::rename(&partial, &archive)?;
    Ok(archive)
}

/// A folder for a root, removed when this is dropped.
struct Root(PathBuf);

impl Root {
    fn new() -> Result<Self> {
        // Not below the target folder: dpkg has to write the owners of files, and apt to read there as another user.
        let path = std::env::temp_dir().join(format!("datapath-root-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    fn unpack(archive: &Path) -> Result<Self> {
        let root = Self::new()?;
        shell::run(shell::command("tar").arg("-C").arg(&root.0).arg("-xpf").arg(archive))?;
        Ok(root)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Mounts were made in a namespace that has ended: nothing but files is here.
        if let Err(error) = fs::remove_dir_all(&self.0) {
            say(format!("{} cannot be removed: {error}", self.0.display()));
        }
    }
}
