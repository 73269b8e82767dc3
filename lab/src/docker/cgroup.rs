//! The control group that all containers of one dockerd are in, in every hierarchy of the machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Every folder that stands for the control group `name`: one in each hierarchy, version 1 or 2.
pub(super) fn folders(name: &str) -> Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let folders = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| Path::new(place).join(name))
    });
    Ok(folders.filter(|folder| folder.exists()).collect())
}

/// The processes in it and in all below it.
pub(super) fn processes(folder: &Path) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for group in tree(folder)? {
        // A group may go while we look.
        let Ok(text) = std::fs::read_to_string(group.join("cgroup.procs")) else { continue };
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    Ok(found)
}

/// Lets paused containers go on: a frozen process does not even die.
pub(super) fn thaw(folder: &Path) -> Result<()> {
    for group in tree(folder)? {
        // Version 1, where this is the hierarchy of the freezer; and version 2.
        for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = group.join(file);
            if file.exists() {
                std::fs::write(&file, value).with_context(|| file.display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Removes it and all below it.
pub(super) fn remove(folder: &Path) -> Result<()> {
    for group in tree(folder)?.iter().rev() {
        match std::fs::remove_dir(group) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| group.display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
}

/// The folder and all folders below it, parents first.
fn tree(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(parent) = found.get(next).cloned() {
        next += 1;
        let Ok(entries) = std::fs::read_dir(&parent) else { continue };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}
