//! Which rules of iptables there are to compare with: those that dockerd would write on this host.

use std::fs;
use std::process::Command;

use anyhow::Error;
use clap::ValueEnum;
use lab::reference::{Backend, BridgeCalls};

use super::requirements::in_path;

const CALLS: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Which iptables is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Wanted {
    /// The one that `iptables` is on this host.
    Auto,
    /// iptables-nft.
    Nft,
    /// iptables-legacy.
    Legacy,
    /// One after the other.
    Both,
}

/// What is compared with, and why other things are not.
#[derive(Debug)]
pub struct Rules {
    /// By these.
    pub backends: Vec<Backend>,
    /// As it is in this network namespace.
    pub calls: BridgeCalls,
    /// What is not measured, or otherwise than one might think: a sentence each.
    pub left_out: Vec<String>,
}

impl Rules {
    /// Looks at what is installed, and how bridges of this host are set. No module is loaded for it: br_netfilter would change how
    /// the bridges of the host work.
    pub fn find(wanted: Wanted) -> Self {
        let mut rules = Self { backends: Vec::new(), calls: BridgeCalls::Nothing, left_out: Vec::new() };
        let backends = match wanted {
            Wanted::Auto => match in_path("iptables").map(|_| of_host()) {
                Some(backend) => vec![backend],
                None => {
                    rules.left_out.push("iptables is left out: it is not installed, or not in PATH".to_owned());
                    Vec::new()
                }
            },
            Wanted::Nft => vec![Backend::Nft],
            Wanted::Legacy => vec![Backend::Legacy],
            Wanted::Both => vec![Backend::Nft, Backend::Legacy],
        };
        for backend in backends {
            match backend.programs().into_iter().find(|program| in_path(program).is_none()) {
                Some(program) => rules.left_out.push(format!("{backend} is left out: {program} is not installed")),
                None => rules.backends.push(backend),
            }
        }
        if !rules.backends.is_empty() {
            rules.look_at_bridges(fs::read_to_string(CALLS).ok().as_deref());
        }
        rules
    }

    fn look_at_bridges(&mut self, setting: Option<&str>) {
        let why = match setting.map(str::trim) {
            Some("0") => "bridge-nf-call-iptables is 0",
            Some(_) => {
                self.calls = BridgeCalls::Iptables;
                return;
            }
            None => "br_netfilter is not loaded",
        };
        self.left_out.push(format!(
            "rules for packets between containers are left out: {why} here, so a bridge asks none (dockerd sets that where it \
             needs it)"
        ));
    }

    /// Says why nothing can be compared with it after all.
    pub fn leave_out(&mut self, backend: Backend, error: &Error) {
        let told = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
        self.left_out.push(format!("{backend} is left out: {told}"));
    }
}

/// What `iptables` is here. Before 1.8 there was but one, and it did not say.
fn of_host() -> Backend {
    let version = Command::new("iptables").arg("--version").output();
    let told = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if told.contains("nf_tables") { Backend::Nft } else { Backend::Legacy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_are_as_the_host_has_them() {
        let look = |setting| {
            let mut rules = Rules { backends: Vec::new(), calls: BridgeCalls::Nothing, left_out: Vec::new() };
            rules.look_at_bridges(setting);
            (rules.calls, rules.left_out.concat())
        };
        assert_eq!(look(Some("1\n")), (BridgeCalls::Iptables, String::new()));
        let (calls, told) = look(Some("0\n"));
        assert!(calls == BridgeCalls::Nothing && told.contains("is 0 here"), "{told}");
        let (calls, told) = look(None);
        assert!(calls == BridgeCalls::Nothing && told.contains("br_netfilter is not loaded here"), "{told}");
    }
}
