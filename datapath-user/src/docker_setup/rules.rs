//! Rules of packet filters that dockerd makes, in iptables' two kinds and in nftables, and the commands that remove them.
//!
//! dockerd does not remove them when it is restarted with `"iptables": false` (moby, `removeIPChains` is only called
//! where iptables is on), so they stay until the next boot.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// What an `…-save` program prints, and the program that changes it.
const FILTERS: [(&str, &str); 4] = [
    ("iptables-legacy-save", "iptables-legacy"),
    ("iptables-nft-save", "iptables-nft"),
    ("ip6tables-legacy-save", "ip6tables-legacy"),
    ("ip6tables-nft-save", "ip6tables-nft"),
];

/// Where there is only one kind, its programs have no other name.
const PLAIN: [(&str, &str); 2] = [("iptables-save", "iptables"), ("ip6tables-save", "ip6tables")];

/// Tables of dockerd's own nftables backend (moby, `daemon/libnetwork/drivers/bridge/internal/nftabler`).
const NFT_TABLE: &str = "docker-bridges";

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// One line for each place that has some: `iptables-nft: 12 rules`.
    pub places: Vec<String>,
    /// Commands that remove them, in order.
    pub removal: Vec<Vec<String>>,
    /// Programs whose FORWARD chain drops what no rule accepts.
    pub forward_drops: Vec<&'static str>,
}

impl Rules {
    /// Whether dockerd has left any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removal.is_empty()
    }

    /// The commands as one line for a shell.
    #[must_use]
    pub fn removal_line(&self) -> String {
        let commands: Vec<_> = self.removal.iter().map(|command| command.join(" ")).collect();
        commands.join(" && ")
    }

    /// Removes them. What another has removed in between is no error.
    ///
    /// # Errors
    /// When some are still there afterwards.
    pub fn remove(&self) -> Result<()> {
        let mut failures = Vec::new();
        for command in &self.removal {
            if let Err(error) = run(&command[0], &command[1..]) {
                failures.push(format!("{error:#}"));
            }
        }
        if find().is_empty() {
            return Ok(());
        }
        bail!("rules of the earlier dockerd are still there ({}); remove them, or reboot", failures.join("; "))
    }
}

/// Looks into the packet filters of this network namespace. Changes nothing: a `…-save` shows the tables that exist.
#[must_use]
pub fn find() -> Rules {
    let mut rules = Rules::default();
    let both_kinds = FILTERS.iter().any(|(save, _)| program_path(save).is_some());
    let programs = if both_kinds { &FILTERS[..] } else { &PLAIN[..] };
    for (save, change) in programs {
        if let Some(text) = program_path(save).and_then(|_| run(save, &[]).ok()) {
            rules.add_tables(change, &text);
        }
    }
    if program_path("nft").is_some()
        && let Ok(tables) = run("nft", &["list".to_owned(), "tables".to_owned()])
    {
        rules.add_nft(&tables);
    }
    rules
}

fn run(program: &str, arguments: &[String]) -> Result<String> {
    let path = program_path(program).unwrap_or_else(|| program.into());
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("`{program} {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where a program is; the commands of a user may not have the places of system programs on their path.
fn program_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    places.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

impl Rules {
    /// The output of an `…-save`.
    fn add_tables(&mut self, program: &'static str, text: &str) {
        let mut count = 0;
        for table in format!("\n{text}").split("\n*").skip(1) {
            let (name, lines) = table.split_once('\n').unwrap_or((table, ""));
            if name == "filter" && lines.contains(":FORWARD DROP") {
                self.forward_drops.push(program);
            }
            let (rules, removal) = of_table(lines);
            count += rules;
            let command = |words: Vec<&str>| -> Vec<String> {
                [program, "-t", name].into_iter().chain(words).map(str::to_owned).collect()
            };
            self.removal.extend(removal.into_iter().map(command));
        }
        if count > 0 {
            self.places.push(format!("{count} rules and chains in {program}"));
        }
    }

    /// The output of `nft list tables`.
    fn add_nft(&mut self, tables: &str) {
        for table in tables.lines() {
            let words: Vec<_> = table.split_whitespace().collect();
            if let ["table", family, name] = words[..]
                && name == NFT_TABLE
            {
                self.places.push(format!("table {family} {name} in nft"));
                self.removal.push(["nft", "delete", "table", family, name].map(str::to_owned).to_vec());
            }
        }
    }
}

/// How many rules and chains of one table are dockerd's, and the ends of the commands that remove them.
fn of_table(lines: &str) -> (usize, Vec<Vec<&str>>) {
    let rules: Vec<Vec<&str>> =
        lines.lines().filter(|line| line.starts_with("-A ")).map(|line| line.split_whitespace().collect()).collect();
    let in_user_chain = rules.iter().filter(|rule| rule[1] == "DOCKER-USER" && rule[2..] != ["-j", "RETURN"]).count();
    // What a user has put there stays, and so does the way to it.
    let ours = |chain: &str| is_dockers(chain) && (chain != "DOCKER-USER" || in_user_chain == 0);
    let chains: Vec<&str> = lines
        .lines()
        .filter_map(|line| line.strip_prefix(':')?.split_whitespace().next())
        .filter(|chain| ours(chain))
        .collect();
    let bridges: BTreeSet<&str> = rules.iter().filter_map(|rule| bridge_of(rule)).collect();
    let (mut count, mut removal) = (chains.len(), Vec::new());
    for rule in &rules {
        let inside = ours(rule[1]);
        let outside = !is_dockers(rule[1]) && (target(rule).is_some_and(ours) || is_for_bridge(rule, &bridges));
        count += usize::from(inside || outside);
        if outside && !rule.iter().any(|word| word.contains('"')) {
            removal.push([&["-D"], &rule[1..]].concat());
        }
    }
    removal.extend(chains.iter().map(|chain| vec!["-F", *chain]));
    removal.extend(chains.iter().map(|chain| vec!["-X", *chain]));
    (count, removal)
}

fn is_dockers(chain: &str) -> bool {
    chain == "DOCKER" || chain.starts_with("DOCKER-")
}

fn after<'a>(rule: &[&'a str], option: &str) -> Option<&'a str> {
    let at = rule.iter().position(|word| *word == option)?;
    rule.get(at + 1).copied()
}

fn target<'a>(rule: &[&'a str]) -> Option<&'a str> {
    after(rule, "-j")
}

/// The bridge that dockerd makes this rule for, if it is of a kind that only dockerd makes.
fn bridge_of<'a>(rule: &[&'a str]) -> Option<&'a str> {
    match rule[1..] {
        ["FORWARD" | "DOCKER-FORWARD" | "DOCKER-BRIDGE", "-o", bridge, "-j", "DOCKER"] => Some(bridge),
        ["DOCKER-ISOLATION-STAGE-1", "-i", bridge, ..] => Some(bridge),
        _ => None,
    }
}

/// Rules of the kinds dockerd makes in the chains of the system for a bridge of its own (moby, `setup_ip_tables.go`).
fn is_for_bridge(rule: &[&str], bridges: &BTreeSet<&str>) -> bool {
    let device = |option| after(rule, option).is_some_and(|device| bridges.contains(device) || device == "docker0");
    match (rule[1], target(rule)) {
        ("FORWARD", Some("ACCEPT" | "DROP")) => device("-o") || device("-i"),
        ("POSTROUTING", Some("MASQUERADE")) => device("-o") || is_of_one_container(rule),
        // Since moby 28: nobody but the bridge reaches a container's address.
        ("PREROUTING", Some("DROP")) => device("-i") && after(rule, "-d").is_some(),
        _ => false,
    }
}

/// The hairpin of a published port: a container that reaches itself.
fn is_of_one_container(rule: &[&str]) -> bool {
    after(rule, "-s").is_some_and(|source| source.ends_with("/32") || source.ends_with("/128"))
        && after(rule, "-s") == after(rule, "-d")
        && after(rule, "--dport").is_some()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
