//! Nothing that a dockerd started outlives it: processes, mounts, control groups, sockets and files.
//!
//! All of it bears the name of the dockerd's folder, so what a killed test run left is found and removed like what a
//! living one is done with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::cgroup;
use crate::namespace::names_of_the_dead;

/// Where the folders of dockerds are.
const PARENT: &str = "/tmp";
/// What their names end in.
pub(super) const ROLE: &str = "docker";
/// Killed processes are gone after a moment, unless something is badly wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// The folder of the dockerd of this name.
pub(super) fn folder(name: &str) -> PathBuf {
    Path::new(PARENT).join(name)
}

/// Removes what dockerds of labs that are gone left behind.
pub fn sweep() -> Result<()> {
    for name in names_of_the_dead(PARENT)? {
        if name.ends_with(ROLE) {
            remove(&name)?;
        }
    }
    Ok(())
}

/// The first dockerd of a process sweeps.
pub(super) fn sweep_once() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        if let Err(error) = sweep() {
            eprintln!("lab: what an earlier dockerd left cannot be removed: {error:#}");
        }
    });
}

/// Makes this process the parent of what its dockerds leave alone, in the place of process 1: in a container that is
/// seldom one that waits for the children of others.
pub(super) fn adopt_orphans() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("cannot become the parent of orphans")
}

/// Ends everything that the dockerd of this name started, and removes what it made.
pub(super) fn remove(name: &str) -> Result<()> {
    let folder = folder(name);
    // Those that would start others first: dockerd, its containerd, the shims. Then what runs in containers.
    kill_all(|| started_from(&folder))?;
    let groups = cgroup::folders(name)?;
    for group in &groups {
        cgroup::thaw(group)?;
    }
    kill_all(|| {
        let lists: Result<Vec<_>> = groups.iter().map(|group| cgroup::processes(group)).collect();
        Ok(lists?.concat())
    })?;
    remove_shim_sockets(&folder);
    unmount_below(&folder)?;
    for group in groups {
        cgroup::remove(&group)?;
    }
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| folder.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Kills what `list` finds until it finds nothing.
fn kill_all(list: impl Fn() -> Result<Vec<i32>>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = list()?;
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("processes {found:?} do not end");
        }
        for &pid in &found {
            // One that has ended meanwhile is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
        // Orphans are ours; the children of others are not, and that is no error either.
        for pid in found {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// Processes with an argument inside this folder: nobody else's have one. (A zombie has no arguments.)
fn started_from(folder: &Path) -> Result<Vec<i32>> {
    let inside = format!("{}/", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // It may have ended since.
        let Ok(arguments) = fs::read(entry.path().join("cmdline")) else { continue };
        let program = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
        let ours = [&b"dockerd"[..], b"containerd", b"containerd-shim-runc-v2"];
        let is_ours = program.rsplit(|byte| *byte == b'/').next().is_some_and(|name| ours.contains(&name));
        if is_ours && String::from_utf8_lossy(&arguments).contains(&inside) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// containerd's shims listen under /run/containerd, whatever folder containerd was given.
fn remove_shim_sockets(folder: &Path) {
    let tasks = folder.join("exec/containerd/daemon/io.containerd.runtime.v2.task/moby");
    for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
        // Since containerd 2 the address is one of several values in a JSON object.
        for file in ["address", "bootstrap.json"] {
            let Ok(text) = fs::read_to_string(task.path().join(file)) else { continue };
            let address = text.split_once("unix://").map(|(_, rest)| rest.split(['"', '\n']).next().unwrap_or(rest));
            if let Some(socket) = address {
                // A shim that ended in order has removed its own.
                let _ = fs::remove_file(socket);
            }
        }
    }
}

fn unmount_below(folder: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let places: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new).collect();
    for place in places.into_iter().rev().filter(|place| place.starts_with(folder)) {
        umount2(place, MntFlags::MNT_DETACH).with_context(|| place.display().to_string())?;
    }
    Ok(())
}
