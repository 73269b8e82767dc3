//! Our daemon as a service of systemd, and the line of its configuration that has it serve Docker's networks.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use similar::TextDiff;
use toml_edit::{DocumentMut, Item, Value};

use super::file::ConfigurationFile;
use super::processes::{self, Process};
use super::restart::systemd_runs;
use super::serving::Serving;
use crate::config;

/// The unit.
const UNIT: &str = "datapath";

/// The service, where its configuration decides whether it serves Docker's networks.
pub(super) struct Service {
    file: ConfigurationFile,
}

/// A change of its configuration; the service was restarted with it.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceChange {
    /// The configuration.
    pub file: PathBuf,
    /// The change, as a unified diff.
    pub diff: String,
}

impl Service {
    /// The service, if the daemon of this network namespace is systemd's and was not told on its command line.
    ///
    /// # Errors
    /// When its configuration cannot be read.
    pub(super) fn find(serving: Serving) -> Result<Option<Self>> {
        if serving == Serving::NotRunning || !systemd_runs() {
            return Ok(None);
        }
        let Some(main) = main_process() else { return Ok(None) };
        if main.option("docker").is_some() {
            return Ok(None);
        }
        let file = main.value("config").map_or(Path::new(config::DEFAULT_FILE), Path::new);
        Ok(Some(Self { file: ConfigurationFile::open(file)? }))
    }

    /// Has it serve Docker's networks, or no longer. Traffic goes on while it is restarted. Nothing is done where it is
    /// so already.
    ///
    /// # Errors
    /// When the file cannot be written, or the service does not start with it: then the file is as it was.
    pub(super) fn serve_docker(&self, serve: bool, dry_run: bool) -> Result<Option<ServiceChange>> {
        let old = self.file.text.as_deref().unwrap_or_default();
        let new = with_docker(old, serve).with_context(|| format!("{} is wrong", self.file.path.display()))?;
        let Some(new) = new else { return Ok(None) };
        let name = self.file.path.display().to_string();
        let diff = TextDiff::from_lines(old, &new).unified_diff().header(&name, &name).to_string();
        if !dry_run {
            self.file.replace(Some(&new))?;
            if let Err(error) = restart() {
                self.file.replace(self.file.text.as_deref())?;
                return Err(error.context(format!("{name} is left as it was")));
            }
        }
        Ok(Some(ServiceChange { file: self.file.path.clone(), diff }))
    }
}

/// Its process, if that is in this network namespace.
fn main_process() -> Option<Process> {
    let output = Command::new("systemctl").args(["show", "--property=MainPID", "--value", UNIT]).output().ok()?;
    let pid: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
    processes::named("datapath").into_iter().find(|process| process.pid == pid)
}

fn restart() -> Result<()> {
    let status = Command::new("systemctl").args(["restart", UNIT]).status().context("systemctl cannot be run")?;
    ensure!(status.success(), "the datapath's service does not start again; see `journalctl -u {UNIT}`");
    Ok(())
}

/// The configuration with `docker = true`, or without the key; none: it says so already. Everything else stays.
fn with_docker(text: &str, serve: bool) -> Result<Option<String>> {
    let mut document: DocumentMut = text.parse()?;
    let is_off = match document.get("docker") {
        None => true,
        Some(item) => match item.as_value() {
            Some(value) => value.as_bool() == Some(false),
            None => bail!("`docker` is a table; it is true, false, or the path of dockerd's socket"),
        },
    };
    if is_off != serve {
        return Ok(None);
    }
    match document.get_mut("docker").and_then(Item::as_value_mut) {
        Some(value) if serve => {
            // With the comment behind it.
            let decor = value.decor().clone();
            *value = Value::from(true);
            *value.decor_mut() = decor;
        }
        None if serve => document["docker"] = toml_edit::value(true),
        _ => drop(document.remove("docker")),
    }
    Ok(Some(document.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, serve: bool) -> Option<String> {
        with_docker(text, serve).expect("TOML")
    }

    #[test]
    fn on_and_off_again_is_the_identity() {
        let packaged = include_str!("../../../packaging/config.toml");
        for text in ["", "# mine\n", packaged, "mark = 1 # bit\n\n[timeouts]\nudp = 9\n", "# a\nmark = 1\n# b\n"] {
            let on = set(text, true).expect("a change");
            let read: toml::Table = toml::from_str(&on).expect("TOML");
            assert_eq!(read["docker"].as_bool(), Some(true), "{on}");
            assert_eq!(set(&on, true), None, "it is on");
            assert_eq!(set(&on, false).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_set_already_stays() {
        assert_eq!(set("docker = \"/x.sock\"\n", true), None);
        assert_eq!(set("docker = false\n", false), None);
        assert_eq!(set("docker = false # no\n", true).as_deref(), Some("docker = true # no\n"));
        assert_eq!(set("docker = \"/x.sock\"\nmark = 1\n", false).as_deref(), Some("mark = 1\n"));
        assert!(with_docker("[docker]\n", true).is_err() && with_docker("a =", true).is_err());
    }
}
