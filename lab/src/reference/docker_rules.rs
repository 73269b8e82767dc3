//! iptables rules in the shape that Docker 28 gives them.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::Result;

use crate::namespace::Namespace;

/// Which iptables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// iptables-nft.
    Nft,
    /// iptables-legacy.
    Legacy,
}

impl Backend {
    /// Loads Docker's rules for one container on `docker0` with `count` published ports from `first` on, all leading
    /// to its port `service`.
    pub(super) fn load(self, host: &Namespace, container: IpAddr, service: u16, first: u16, count: u16) -> Result<()> {
        let restore = match self {
            Self::Nft => "iptables-nft-restore",
            Self::Legacy => "iptables-legacy-restore",
        };
        host.run_with_input(restore, ["-w"], &rules(container, service, first, count)).map(drop)
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
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.50.0.0/24 ! -o docker0 -j MASQUERADE
";

fn rules(container: IpAddr, service: u16, first: u16, count: u16) -> String {
    let mut text = format!(
        "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING -d {container}/32 ! -i docker0 -j DROP\nCOMMIT\n"
    );
    text += FILTER_HEAD;
    // One accept a published container port, as Docker writes them; the measured one is the last.
    for offset in 0..count {
        let port = if offset + 1 == count { service } else { 20_000 + offset };
        let _ = writeln!(
            text,
            "-A DOCKER -d {container}/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport {port} -j ACCEPT"
        );
    }
    text += "-A DOCKER ! -i docker0 -o docker0 -j DROP\nCOMMIT\n";
    text += NAT_HEAD;
    for offset in 0..count {
        let (host_port, port) = (first + offset, if offset + 1 == count { service } else { 20_000 + offset });
        let _ = writeln!(
            text,
            "-A DOCKER ! -i docker0 -p tcp -m tcp --dport {host_port} -j DNAT --to-destination {container}:{port}"
        );
    }
    text + "COMMIT\n"
}
