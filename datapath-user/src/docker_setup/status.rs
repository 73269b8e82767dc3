//! `datapath docker status`: what dockerd is told, what it runs with, and what is still in the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::change::Scene;
use super::dockerd::Dockerd;
use super::document::{self, Document};
use super::obstacles;
use crate::doctor::Finding;

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The file.
    pub file: PathBuf,
    /// What it says of each of our keys; null: nothing.
    pub settings: BTreeMap<&'static str, Option<bool>>,
    /// Whether it is as the datapath needs it.
    pub enabled: bool,
    /// What was there before `enable`, if that was run.
    pub backup: Option<PathBuf>,
    /// dockerd.
    pub dockerd: Daemon,
    /// Whether dockerd has to be restarted for the file to count; null: not known.
    pub restart_pending: Option<bool>,
    /// What was looked at, with the remedy of what is in the way.
    pub findings: Vec<Finding>,
}

/// What is known of dockerd.
#[derive(Clone, Debug, Serialize)]
pub struct Daemon {
    /// Whether it runs.
    pub running: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// Its version.
    pub version: Option<String>,
    /// When it was started.
    pub started: Option<String>,
    /// Whether it makes rules; null: not known.
    pub iptables: Option<bool>,
}

/// Looks at it all, and changes nothing.
///
/// # Errors
/// When the file cannot be read, or what listens on the socket is not dockerd.
pub async fn status(file: Option<&Path>, socket: Option<&Path>) -> Result<Status> {
    let scene = Scene::look(file, socket).await?;
    let text = scene.file.text.as_deref();
    let document =
        text.map(Document::parse).transpose().with_context(|| format!("{} is wrong", scene.file.path.display()))?;
    let read = |key| document.as_ref().and_then(|document| document.boolean(key));
    let backup = scene.file.backup()?.map(|_| scene.file.backup_path());
    Ok(Status {
        settings: document::KEYS.into_iter().map(|key| (key, read(key))).collect(),
        enabled: document.as_ref().is_some_and(Document::is_enabled),
        backup,
        dockerd: daemon(&scene),
        restart_pending: restart_pending(&scene),
        findings: obstacles::findings(&scene),
        file: scene.file.path,
    })
}

fn daemon(scene: &Scene) -> Daemon {
    let Dockerd { process, info, .. } = &scene.dockerd;
    let started = process.as_ref().and_then(|process| process.started);
    Daemon {
        running: scene.dockerd.is_there(),
        pid: process.as_ref().map(|process| process.pid),
        version: info.as_ref().map(|info| info.server_version.clone()),
        started: started.map(|time| humantime::format_rfc3339_seconds(time).to_string()),
        iptables: runs_with_iptables(scene),
    }
}

/// Whether dockerd makes rules, as far as it can be known.
pub(super) fn runs_with_iptables(scene: &Scene) -> Option<bool> {
    match restart_pending(scene)? {
        false => Some(told(scene)?.iptables),
        true => believed(scene),
    }
}

/// Whether dockerd runs with something else than its file says; none: there is no dockerd, or it cannot be known.
pub(super) fn restart_pending(scene: &Scene) -> Option<bool> {
    if !scene.dockerd.is_there() {
        return None;
    }
    let started = scene.dockerd.process.as_ref().and_then(|process| process.started);
    // A file that is gone does not say since when.
    let newer_file = started.zip(scene.file.changed()).map(|(started, changed)| changed > started);
    pending(newer_file, believed(scene), told(scene)?.iptables)
}

/// What the file says to dockerd.
struct Told {
    iptables: bool,
    masquerade: bool,
}

fn told(scene: &Scene) -> Option<Told> {
    let document = scene.file.text.as_deref().map(Document::parse).transpose().ok()?;
    let boolean = |key| {
        let option = scene.dockerd.process.as_ref().and_then(|process| process.option(key));
        let file = document.as_ref().and_then(|document| document.boolean(key));
        option.map_or(file.unwrap_or(true), |value| value != "false")
    };
    Some(Told { iptables: boolean("iptables"), masquerade: boolean("ip-masq") })
}

/// dockerd masquerades docker0 unless it has no iptables or is told not to (moby, `verifyDaemonSettings`).
fn believed(scene: &Scene) -> Option<bool> {
    told(scene)?.masquerade.then_some(scene.dockerd.masquerades)?
}

fn pending(newer_file: Option<bool>, believed: Option<bool>, told: bool) -> Option<bool> {
    match (newer_file, believed) {
        // With live-restore, what dockerd says of docker0 can be of an earlier start: its age is the better witness.
        (Some(false), _) => Some(false),
        (_, Some(believed)) => Some(believed != told),
        (newer, None) => newer,
    }
}

#[cfg(test)]
mod tests {
    use super::pending;

    #[test]
    fn whether_a_restart_is_pending() {
        let cases = [
            ((Some(false), Some(true), false), Some(false)),
            ((Some(true), Some(true), false), Some(true)),
            ((Some(true), Some(false), false), Some(false)),
            ((Some(true), None, false), Some(true)),
            ((None, Some(false), true), Some(true)),
            ((None, None, true), None),
        ];
        for ((newer, believed, told), wanted) in cases {
            assert_eq!(pending(newer, believed, told), wanted, "{newer:?} {believed:?} {told}");
        }
    }
}
