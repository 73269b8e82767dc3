//! iptables rules in the shape that Docker 28 gives them, for IPv4 and IPv6.

use std::fmt::{self, Write as _};

use anyhow::Result;

use super::{BRIDGE_SUBNET, SERVER, SERVICE};
use crate::host::Family;
use crate::namespace::Namespace;

/// Which iptables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Backend {
    /// iptables-nft.
    Nft,
    /// iptables-legacy.
    Legacy,
}

impl Backend {
    /// What loads its rules, of IPv4 and of IPv6.
    #[must_use]
    pub const fn programs(self) -> [&'static str; 2] {
        match self {
            Self::Nft => ["iptables-nft-restore", "ip6tables-nft-restore"],
            Self::Legacy => ["iptables-legacy-restore", "ip6tables-legacy-restore"],
        }
    }

    /// Loads Docker's rules for one container on `docker0` with `count` published TCP ports from `first` on, the last of
    /// which leads to [`SERVICE`]; behind them, that port of UDP.
    pub(super) fn load(self, host: &Namespace, first: u16, count: u16) -> Result<()> {
        for family in Family::ALL {
            let [v4, v6] = self.programs();
            let restore = if family == Family::V4 { v4 } else { v6 };
            host.run_with_input(restore, ["-w"], &rules(family, first, count))?;
        }
        Ok(())
    }
}

/// As it is called.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "iptables-nft",
            Self::Legacy => "iptables-legacy",
        })
    }
}

const FILTER_HEAD: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-USER -j RETURN
";

const NAT_HEAD: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
";

fn rules(family: Family, first: u16, count: u16) -> String {
    let (container, subnet) = (family.of(SERVER), BRIDGE_SUBNET[usize::from(family == Family::V6)]);
    let (length, loopback) = if family == Family::V4 { (32, "127.0.0.0/8") } else { (128, "::1/128") };
    let mut text = format!(
        "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         -A PREROUTING -d {container}/{length} ! -i docker0 -j DROP\nCOMMIT\n"
    );
    text += FILTER_HEAD;
    // One accept a published container port, as Docker writes them.
    for (protocol, _, port) in published(first, count) {
        let _ = writeln!(
            text,
            "-A DOCKER -d {container}/{length} ! -i docker0 -o docker0 -p {protocol} -m {protocol} --dport {port} -j ACCEPT"
        );
    }
    text += "-A DOCKER ! -i docker0 -o docker0 -j DROP\nCOMMIT\n";
    text += NAT_HEAD;
    let _ = writeln!(text, "-A OUTPUT ! -d {loopback} -m addrtype --dst-type LOCAL -j DOCKER");
    let _ = writeln!(text, "-A POSTROUTING -s {subnet} ! -o docker0 -j MASQUERADE");
    let target = if family == Family::V4 { container.to_string() } else { format!("[{container}]") };
    for (protocol, host_port, port) in published(first, count) {
        let _ = writeln!(
            text,
            "-A DOCKER ! -i docker0 -p {protocol} -m {protocol} --dport {host_port} -j DNAT --to-destination {target}:{port}"
        );
    }
    text + "COMMIT\n"
}

/// Protocol, host port and container port of each published port. The measured one is the last of TCP.
fn published(first: u16, count: u16) -> impl Iterator<Item = (&'static str, u16, u16)> {
    let others = (0..count - 1).map(move |offset| ("tcp", first + offset, 20_000 + offset));
    others.chain(["tcp", "udp"].map(|protocol| (protocol, first + (count - 1), SERVICE)))
}
