//! `datapath guard`: who is kept out at the uplinks, and how much is let in.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use clap_complete::engine::ArgValueCompleter;

use super::client::{Client, encode};
use super::complete;
use super::run::print;
use crate::api::{DenyRequest, LimitRequest};
use crate::model::LimitKind;
use crate::view::{Denied, Guard, GuardLimits};

/// `datapath guard`
#[derive(Debug, Subcommand)]
pub enum GuardCommand {
    /// Drop what comes from these sources, whatever it is and whatever it is for
    Deny {
        /// An address, or a prefix such as 192.0.2.0/24 or 2001:db8::/32
        #[arg(required_unless_present = "file")]
        cidrs: Vec<String>,
        /// Read more from a file, one a line, `#` begins a comment; - is the standard input
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Let sources in again
    Undeny {
        /// As `guard ls` shows them
        #[arg(required_unless_present = "all", add = ArgValueCompleter::new(complete::denied))]
        cidrs: Vec<String>,
        /// All of them
        #[arg(long, conflicts_with = "cidrs")]
        all: bool,
    },
    /// List denied sources
    Ls,
    /// Show the limits, or set one
    Limit {
        /// What to limit
        #[arg(value_enum)]
        kind: Option<LimitKind>,
        /// How much a second, such as 1000 or 1000/s; off: without limit
        #[arg(requires = "kind", value_name = "RATE[/s]|off")]
        rate: Option<RateArgument>,
        /// How much at once [default: as much as in a second]
        #[arg(long, requires = "rate", value_name = "N")]
        burst: Option<u32>,
    },
}

/// Bytes of names in one request: they are in its first line, of which HTTP libraries take 64 KiB.
const MOST_NAMED: usize = 60_000;

/// `1000`, `1000/s`, `1000/second`, `off`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateArgument {
    /// No limit.
    Off,
    /// So many a second.
    PerSecond(u32),
}

impl FromStr for RateArgument {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let number = ["/second", "/s"].iter().find_map(|unit| text.strip_suffix(unit)).unwrap_or(text);
        match number.parse() {
            Ok(rate) => Ok(Self::PerSecond(rate)),
            Err(_) => bail!("`{text}` is no rate; write a number, such as 1000 or 1000/s, or off"),
        }
    }
}

/// Carries out a command.
pub async fn run(client: &Client, command: GuardCommand, json: bool) -> Result<()> {
    match command {
        GuardCommand::Deny { mut cidrs, file } => {
            if let Some(file) = file {
                cidrs.extend(read(&file)?);
            }
            let asked = cidrs.len();
            let added: Vec<Denied> = client.post("/guard/deny", &DenyRequest { cidrs }).await?;
            print(json, &added, |added| Ok(denied(added, asked)))
        }
        GuardCommand::Undeny { cidrs, all } => {
            let query = if all { "all=true".to_owned() } else { format!("cidrs={}", encode(&cidrs.join(","))) };
            ensure!(query.len() <= MOST_NAMED, "so many cannot be named at once; name fewer, or say --all");
            let removed: Vec<Denied> = client.delete(&format!("/guard/deny?{query}")).await?;
            print(json, &removed, |removed| Ok(listed(removed, "let in again")))
        }
        GuardCommand::Ls => {
            let all: Vec<Denied> = client.get("/guard/deny").await?;
            print(json, &all, |all| Ok(all.iter().map(|denied| format!("{}\n", denied.cidr)).collect()))
        }
        GuardCommand::Limit { kind: Some(kind), rate: Some(rate), burst } => {
            let limits: GuardLimits = match rate {
                RateArgument::PerSecond(rate) => {
                    client.post("/guard/limits", &LimitRequest { kind, rate, burst }).await?
                }
                RateArgument::Off => {
                    ensure!(burst.is_none(), "--burst goes with a rate; leave it out to take the limit off");
                    let kind = serde_json::to_value(kind)?;
                    client.delete(&format!("/guard/limits?kind={}", kind.as_str().unwrap_or_default())).await?
                }
            };
            print(json, &limits, shown_limits)
        }
        GuardCommand::Limit { .. } => print(json, &client.get::<Guard>("/guard").await?.limits, shown_limits),
    }
}

/// One on each line; comments and what blocklists write behind `;` are left out.
fn read(file: &Path) -> Result<Vec<String>> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("the standard input cannot be read")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    }
    let lines = text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default().trim());
    let found: Vec<_> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    ensure!(!found.is_empty(), "{} has no prefixes; write one on each line", file.display());
    Ok(found)
}

/// Few are named, many are counted.
fn listed(denied: &[Denied], what: &str) -> String {
    match denied {
        [] => format!("none {what}\n"),
        few if few.len() <= 10 => few.iter().map(|denied| format!("{} {what}\n", denied.cidr)).collect(),
        many => format!("{} prefixes {what}\n", many.len()),
    }
}

fn denied(added: &[Denied], asked: usize) -> String {
    if added.is_empty() && asked > 0 {
        return "denied already\n".to_owned();
    }
    listed(added, "denied")
}

fn shown_limits(limits: &GuardLimits) -> Result<String> {
    let mut text = String::new();
    for (kind, what, limit) in [
        ("packets", "packets of each source", limits.packets),
        ("syn", "SYNs of each source to published ports", limits.syn),
        ("port-syn", "SYNs of all sources to each published port", limits.port_syn),
    ] {
        match limit {
            Some(limit) => writeln!(text, "{kind:9} {}/s, burst {}  ({what})", limit.rate, limit.burst)?,
            None => writeln!(text, "{kind:9} off  ({what})")?,
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        for (text, rate) in [("1000", 1_000), ("1000/s", 1_000), ("7/second", 7)] {
            assert_eq!(text.parse::<RateArgument>().expect(text), RateArgument::PerSecond(rate));
        }
        assert_eq!("off".parse::<RateArgument>().expect("off"), RateArgument::Off);
        for text in ["", "/s", "10/m", "-1", "1.5", "none"] {
            let error = text.parse::<RateArgument>().expect_err(text).to_string();
            assert!(error.contains("is no rate"), "{error}");
        }
    }

    #[test]
    fn lists_have_comments() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("list");
        std::fs::write(&file, "# ours\n192.0.2.0/24 ; SBL1\n\n  2001:db8::/32 # theirs\n").expect("written");
        assert_eq!(read(&file).expect("read"), ["192.0.2.0/24", "2001:db8::/32"]);
        std::fs::write(&file, "# nothing\n").expect("written");
        assert!(read(&file).is_err());
    }
}
