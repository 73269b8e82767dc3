//! `datapath daemon --cleanup`: everything of ours goes.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Result, bail};

use crate::config::Config;
use crate::engine::{Locks, is_ours};
use crate::kernel::netlink::Netlink;
use crate::kernel::{fence, remove_everything, sysctl};
use crate::store::{State, Store};

/// Removes programs, maps, devices and state, and puts sysctls back. Goes on where something fails, and reports it all.
///
/// # Errors
/// When a daemon runs, or something could not be removed.
pub async fn cleanup(config: &Config) -> Result<()> {
    let _locks = Locks::take(config)?;
    let mut problems = restore_sysctls(config);
    // Devices before programs: no packet passes a port whose program is gone.
    let devices = match remove_devices().await {
        Ok(devices) => devices,
        Err(error) => {
            problems.push(error);
            0
        }
    };
    problems.extend(fence::remove().await.err());
    let report = remove_everything(&config.pin_dir).await;
    problems.extend(report.errors);
    problems.extend(remove_files(config));
    eprintln!(
        "removed {devices} devices, {} links, {} filters, {} maps and the state",
        report.links, report.filters, report.maps
    );
    if problems.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = problems.iter().map(|problem| format!("{problem:#}")).collect();
    bail!("{}; correct that and run it again", list.join("; "))
}

fn restore_sysctls(config: &Config) -> Vec<anyhow::Error> {
    if !Store::path(&config.state_dir).exists() {
        return Vec::new();
    }
    let state = match Store::open(&config.state_dir) {
        Ok((_, Some(state))) => of_this_boot(state),
        Ok((_, None)) => return Vec::new(),
        Err(error) => {
            eprintln!("sysctls stay as they are, what they were is not known: {error:#}");
            return Vec::new();
        }
    };
    let mut problems = sysctl::restore(&state.remembered.sysctls);
    if let Some(mut reserved) = state.remembered.reserved_ports {
        problems.extend(reserved.restore().err());
    }
    problems
}

/// What an earlier boot set has gone with it.
fn of_this_boot(state: State) -> State {
    let same = crate::store::boot_id().is_ok_and(|boot| boot == state.boot_id);
    if same { state } else { State::default() }
}

async fn remove_devices() -> Result<usize> {
    let netlink = Netlink::open()?;
    let mut removed = 0;
    for link in netlink.links().await?.iter().filter(|link| is_ours(link)) {
        netlink.delete_link(link.index).await?;
        removed += 1;
    }
    Ok(removed)
}

fn remove_files(config: &Config) -> Vec<anyhow::Error> {
    let mut problems = Vec::new();
    let mut note = |path: &Path, result: std::io::Result<()>| match result {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            problems.push(anyhow::anyhow!("{} cannot be removed: {error}", path.display()));
        }
        _ => {}
    };
    for path in [Store::path(&config.state_dir), config.state_dir.join("lock"), config.socket.clone()] {
        note(&path, fs::remove_file(&path));
    }
    note(&config.state_dir, fs::remove_dir(&config.state_dir));
    problems
}
