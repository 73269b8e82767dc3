//! `datapath docker`

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::run::print;
use super::show;
use crate::docker_setup::{self, Change, Request, Status};

/// `datapath docker`
#[derive(Debug, Subcommand)]
pub enum DockerCommand {
    /// Have our service serve Docker's networks, and tell dockerd, in daemon.json, to leave packets to it; what was there
    /// before is kept beside it
    Enable(ChangeArguments),
    /// Put daemon.json back as it was; once dockerd makes its own rules again, our service lets go of its networks
    Disable(ChangeArguments),
    /// What dockerd is told, what it runs with, and what is still in the way
    Status(PlaceArguments),
}

/// Where dockerd is.
#[derive(Debug, Args)]
pub struct PlaceArguments {
    /// dockerd's configuration [default: where dockerd has it, or /etc/docker/daemon.json]
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// dockerd's socket [default: where dockerd listens, or /run/docker.sock]
    #[arg(long, value_name = "SOCKET")]
    pub docker: Option<PathBuf>,
}

/// `datapath docker enable` and `disable`
#[derive(Debug, Args)]
pub struct ChangeArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Restart dockerd too, by systemd; containers stop and start with it unless live-restore is on
    #[arg(long)]
    restart: bool,
}

impl From<ChangeArguments> for Request {
    fn from(arguments: ChangeArguments) -> Self {
        let ChangeArguments { place, dry_run, restart } = arguments;
        Self { file: place.file, socket: place.docker, dry_run, restart }
    }
}

/// Carries it out.
pub async fn run(command: DockerCommand, json: bool) -> Result<()> {
    match command {
        DockerCommand::Enable(arguments) => print(json, &docker_setup::enable(&arguments.into()).await?, change),
        DockerCommand::Disable(arguments) => print(json, &docker_setup::disable(&arguments.into()).await?, change),
        DockerCommand::Status(place) => {
            let found = docker_setup::status(place.file.as_deref(), place.docker.as_deref()).await?;
            print(json, &found, status)
        }
    }
}

fn change(change: &Change) -> Result<String> {
    let mut text = String::new();
    match (&change.service, change.dry_run) {
        (Some(service), true) => text.push_str(&service.diff),
        (Some(service), false) => {
            writeln!(text, "{} changed, and the datapath's service restarted", service.file.display())?;
        }
        (None, _) => {}
    }
    let file = change.file.display();
    match (change.changed, change.dry_run) {
        (true, true) => writeln!(text, "{}nothing was changed: this was a dry run", change.diff)?,
        (true, false) => writeln!(text, "{file} changed")?,
        (false, _) => writeln!(text, "{file} is as it should be and was not changed")?,
    }
    if let Some(backup) = change.backup.as_ref().filter(|_| !change.dry_run) {
        writeln!(text, "what it was before is in {}", backup.display())?;
    }
    if change.restarted {
        writeln!(text, "dockerd restarted")?;
    }
    for note in &change.notes {
        writeln!(text, "{note}")?;
    }
    for step in &change.remaining {
        writeln!(text, "→ {step}")?;
    }
    Ok(text)
}

fn status(status: &Status) -> Result<String> {
    let mut text = String::new();
    let told = if status.enabled { "leave packets to the datapath" } else { "filter and publish by itself" };
    writeln!(text, "{} tells dockerd to {told}", status.file.display())?;
    let dockerd = &status.dockerd;
    match (&dockerd.version, dockerd.running) {
        (_, false) => writeln!(text, "dockerd does not run")?,
        (version, true) => {
            let version = version.as_deref().unwrap_or("that does not answer");
            let since = dockerd.started.as_ref().map_or(String::new(), |time| format!(" since {time}"));
            let with = match dockerd.iptables {
                Some(true) => "with rules of its own",
                Some(false) => "without rules of its own",
                None => "with or without rules of its own",
            };
            writeln!(text, "dockerd {version} runs{since}, {with}")?;
        }
    }
    writeln!(text)?;
    text.push_str(&show::findings(&status.findings)?);
    Ok(text)
}
