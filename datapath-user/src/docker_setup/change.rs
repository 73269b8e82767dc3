//! `datapath docker enable` and `disable`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use similar::TextDiff;

use super::dockerd::Dockerd;
use super::document::{self, Document, Undone};
use super::file::ConfigurationFile;
use super::service::{Service, ServiceChange};
use super::serving::{REMEDY, Serving};
use super::{refusals, restart, status};

/// Where dockerd looks if nobody tells it otherwise.
const DEFAULT_FILE: &str = "/etc/docker/daemon.json";

/// What is to be done besides the file.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `daemon.json`; none: where dockerd has it.
    pub file: Option<PathBuf>,
    /// dockerd's socket; none: where it listens.
    pub socket: Option<PathBuf>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Restart dockerd too.
    pub restart: bool,
}

/// What was done, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The file.
    pub file: PathBuf,
    /// Whether it was changed, or would be.
    pub changed: bool,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The change, as a unified diff.
    pub diff: String,
    /// What was changed, or would be, so that our own service serves Docker's networks, or no longer.
    pub service: Option<ServiceChange>,
    /// Where what was before is kept, if it is.
    pub backup: Option<PathBuf>,
    /// Whether dockerd was restarted.
    pub restarted: bool,
    /// What there is to know about it.
    pub notes: Vec<String>,
    /// What remains to be done by hand.
    pub remaining: Vec<String>,
}

/// What is known before anything is changed.
pub(super) struct Scene {
    pub(super) file: ConfigurationFile,
    pub(super) dockerd: Dockerd,
}

impl Scene {
    pub(super) async fn look(file: Option<&Path>, socket: Option<&Path>) -> Result<Self> {
        let dockerd = Dockerd::find(socket).await?;
        let named = file.map(Path::to_path_buf).or_else(|| dockerd.config_file());
        let file = ConfigurationFile::open(&named.unwrap_or_else(|| DEFAULT_FILE.into()))?;
        Ok(Self { file, dockerd })
    }
}

/// Tells dockerd, in `daemon.json`, to leave packets to the datapath.
///
/// # Errors
/// When dockerd would not start with it, swarm is active, or the file cannot be written. Then nothing is changed.
pub async fn enable(request: &Request) -> Result<Change> {
    let scene = Scene::look(request.file.as_deref(), request.socket.as_deref()).await?;
    let Scene { file, dockerd } = &scene;
    let current = file.text.as_deref();
    let new = document::enable(current).with_context(|| wrong(file))?;
    refusals::check(&scene, &new)?;
    let service = Service::find(Serving::find())?;
    if request.restart {
        let serving = Serving::find();
        ensure!(
            serving == Serving::Yes || service.is_some(),
            "{}, and containers would have no rules at all; {REMEDY} first",
            serving.name()
        );
        restart::require_systemd(dockerd)?;
    }
    let mut change = Change::of(file, request, current, Some(&new));
    change.backup = Some(file.backup_path());
    // First those who make the rules, then the one who leaves them.
    if let Some(service) = service {
        change.service = service.serve_docker(true, request.dry_run)?;
    }
    if !request.dry_run {
        keep_what_was(file)?;
        if change.changed {
            file.replace(Some(&new))?;
        }
    }
    let serving = Serving::find();
    if serving != Serving::Yes && change.service.is_none() {
        change.remaining.push(format!("{}: {REMEDY}", serving.name()));
    }
    restart::restart_or_say(&mut change, request, &scene)?;
    if change.restarted {
        restart::remove_old_rules(&mut change);
    }
    Ok(change)
}

/// Keeps what was there before us, once.
fn keep_what_was(file: &ConfigurationFile) -> Result<()> {
    let current = file.text.as_deref();
    match (file.backup()?, current) {
        (None, _) => file.keep(current),
        (Some(_), Some(text)) if Document::parse(text)?.is_enabled() => Ok(()),
        // Changed by hand since an earlier `enable`: what that one had found is still what is to come back.
        (Some(older), Some(text)) => {
            let before = document::disable(text, older.as_deref()).with_context(|| wrong(file))?;
            file.keep(before.text.as_deref())
        }
        (Some(_), None) => file.keep(None),
    }
}

/// Puts `daemon.json` back as it was.
///
/// # Errors
/// When the file is not JSON or cannot be written. Then nothing is changed.
pub async fn disable(request: &Request) -> Result<Change> {
    let scene = Scene::look(request.file.as_deref(), request.socket.as_deref()).await?;
    let Scene { file, dockerd } = &scene;
    if request.restart {
        restart::require_systemd(dockerd)?;
    }
    let current = file.text.as_deref();
    let Some(before) = file.backup()? else {
        let mut change = Change::of(file, request, current, current);
        change.notes.push(nothing_kept(file)?);
        let_go(&mut change, request).await?;
        return Ok(change);
    };
    let undone = match current {
        Some(text) => document::disable(text, before.as_deref()).with_context(|| wrong(file))?,
        None => Undone { text: before, exact: true, kept: Vec::new() },
    };
    let mut change = Change::of(file, request, current, undone.text.as_deref());
    change.notes = notes(&undone);
    if !request.dry_run {
        if change.changed {
            file.replace(undone.text.as_deref())?;
        }
        file.forget()?;
    }
    restart::restart_or_say(&mut change, request, &scene)?;
    let_go(&mut change, request).await?;
    Ok(change)
}

/// Has our service serve Docker's networks no longer; but not before dockerd's own rules are there.
async fn let_go(change: &mut Change, request: &Request) -> Result<()> {
    let serving = Serving::find();
    if serving != Serving::Yes {
        return Ok(());
    }
    let has_rules = match request.dry_run {
        true => request.restart,
        false => {
            status::runs_with_iptables(&Scene::look(Some(&change.file), request.socket.as_deref()).await?)
                != Some(false)
        }
    };
    match Service::find(serving)? {
        Some(service) if has_rules => change.service = service.serve_docker(false, request.dry_run)?,
        Some(_) => change
            .remaining
            .push("then have the datapath let go of Docker's networks: `datapath docker disable` again".to_owned()),
        None => change
            .remaining
            .push("when dockerd runs with its own rules again: start the datapath without `docker`".to_owned()),
    }
    Ok(())
}

fn notes(undone: &Undone) -> Vec<String> {
    let whole = match undone.exact {
        true => "it is what it was, byte for byte",
        false => "it was changed since, so only our keys are taken back",
    };
    let kept = undone.kept.iter().map(|key| format!("`{key}` was changed by somebody else since; it stays"));
    std::iter::once(whole.to_owned()).chain(kept).collect()
}

impl Change {
    fn of(file: &ConfigurationFile, request: &Request, old: Option<&str>, new: Option<&str>) -> Self {
        let name = file.path.display().to_string();
        let diff = TextDiff::from_lines(old.unwrap_or_default(), new.unwrap_or_default());
        let side = |text: Option<&str>| if text.is_some() { name.clone() } else { "/dev/null".to_owned() };
        Self {
            file: file.path.clone(),
            changed: old != new,
            dry_run: request.dry_run,
            diff: diff.unified_diff().header(&side(old), &side(new)).to_string(),
            service: None,
            backup: None,
            restarted: false,
            notes: Vec::new(),
            remaining: Vec::new(),
        }
    }
}

fn wrong(file: &ConfigurationFile) -> String {
    format!("{} is left as it is", file.path.display())
}

/// Without a backup, keys that are set are not ours to take away.
fn nothing_kept(file: &ConfigurationFile) -> Result<String> {
    let Some(text) = &file.text else { return Ok("there is no such file, and nothing to take back".to_owned()) };
    let document = Document::parse(text).with_context(|| wrong(file))?;
    let set: Vec<_> = document::KEYS.into_iter().filter(|key| document.boolean(key) == Some(false)).collect();
    if set.is_empty() {
        return Ok("it was not changed by `datapath docker enable`; nothing to take back".to_owned());
    }
    Ok(format!(
        "there is no {}, so nothing is known of what it was; {} stay false: remove them by hand if they are not wanted",
        file.backup_path().display(),
        set.join(", ")
    ))
}
