//! Restarting dockerd, by systemd or by whoever runs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::change::{Change, Request, Scene};
use super::dockerd::Dockerd;
use super::{rules, status};

/// Whether systemd is the init of this host.
pub(super) fn systemd_runs() -> bool {
    // sd_booted(3)
    Path::new("/run/systemd/system").is_dir()
}

/// Refuses where dockerd could not be restarted by us.
pub(super) fn require_systemd(dockerd: &Dockerd) -> Result<()> {
    if systemd_runs() {
        return Ok(());
    }
    bail!("systemd does not run here, so nothing was changed; do it without --restart, then {}", by_hand(dockerd))
}

fn by_hand(dockerd: &Dockerd) -> String {
    match &dockerd.process {
        Some(process) => format!("stop dockerd (process {}) and start it again as you did before", process.pid),
        None => "start dockerd".to_owned(),
    }
}

/// Restarts dockerd, or says that it is to be done, where it runs with something else than its file says.
pub(super) fn restart_or_say(change: &mut Change, request: &Request, scene: &Scene) -> Result<()> {
    // What was changed just now is newer than any dockerd.
    if !change.changed && status::restart_pending(scene) != Some(true) {
        return Ok(());
    }
    if request.restart && !request.dry_run {
        let status =
            Command::new("systemctl").args(["restart", "docker"]).status().context("systemctl cannot be run")?;
        ensure!(
            status.success(),
            "{} is changed, but dockerd does not start again; see `journalctl -u docker`, and take the change back with \
             `datapath docker disable`",
            change.file.display()
        );
        change.restarted = true;
    } else if systemd_runs() {
        change.remaining.push("restart dockerd: `systemctl restart docker`".to_owned());
    } else {
        change.remaining.push(by_hand(&scene.dockerd));
    }
    Ok(())
}

/// dockerd does not take its own rules back, see `rules`.
pub(super) fn remove_old_rules(change: &mut Change) {
    let rules = rules::find();
    if rules.is_empty() {
        return;
    }
    match rules.remove() {
        Ok(()) => change.notes.push(format!("removed what dockerd had left: {}", rules.places.join(", "))),
        Err(error) => change.remaining.push(format!("{error:#}: {}", rules.removal_line())),
    }
}
