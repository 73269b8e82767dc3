//! The topologies that the datapath is measured against.
//!
//! | | |
//! |---|---|
//! | L  | two namespaces joined by one veth pair: the wire |
//! | R  | a host that routes between two veth pairs, no netfilter |
//! | B0 | two containers on a Linux bridge, no rules |
//! | B1n, B1l | the same with Docker 28's rules by iptables-nft or iptables-legacy, and bridge-nf-call-iptables |
//! | B2n, B2l | a client outside and a container whose port is published by DNAT, with N ports, the measured one last |

mod conntrack;
mod docker_rules;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

pub use docker_rules::Backend;

use crate::host::Family;
use crate::link::Link;
use crate::load::{self, prepare};
use crate::namespace::Namespace;

/// The port that the server of every reference binds.
const SERVICE: u16 = 80;
/// The first published host port of B2; the last one is measured.
const FIRST_PUBLISHED: u16 = 10_000;

/// The network that server, bridge and (but for R and B2) client are on: IPv4 and IPv6.
const BRIDGE_SUBNET: [&str; 2] = ["10.50.0.0/24", "fd00:50::/64"];
const GATEWAY: [&str; 2] = ["10.50.0.1", "fd00:50::1"];
const CLIENT: [&str; 2] = ["10.50.0.2", "fd00:50::2"];
const SERVER: [&str; 2] = ["10.50.0.3", "fd00:50::3"];
/// The network that the client of R and B2 is on.
const OUTSIDE_HOST: [&str; 2] = ["192.0.2.1", "2001:db8:2::1"];
const OUTSIDE_CLIENT: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];

/// Whether packets that a bridge forwards between its ports pass the rules of iptables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BridgeCalls {
    /// They do (bridge-nf-call-iptables and -ip6tables): dockerd asks for that where it needs it.
    Iptables,
    /// They do not. The module for it, br_netfilter, need not be there.
    Nothing,
}

/// One reference topology, for IPv4 and IPv6.
#[derive(Debug)]
pub struct Reference {
    /// Where the client runs.
    pub client: Namespace,
    /// Where the server runs.
    pub server: Namespace,
    /// What lies between them.
    pub host: Option<Namespace>,
    client_addresses: [&'static str; 2],
    /// What the client connects to; the server's own if it is not published.
    published: Option<u16>,
    /// Netfilter tracks connections: there are rules that ask for it.
    tracked: bool,
}

impl Reference {
    /// L: the wire.
    pub fn wire() -> Result<Self> {
        let (client, server) = ends()?;
        join((&client, "eth0", &CLIENT), (&server, "eth0", &SERVER))?;
        Ok(Self::new(client, server, None))
    }

    /// R: a router without netfilter.
    pub fn routed() -> Result<Self> {
        let (client, server) = ends()?;
        let host = Namespace::new("router")?;
        host.forward()?;
        join_outside(&host, &client)?;
        join((&host, "port0", &GATEWAY), (&server, "eth0", &SERVER))?;
        route_by(&server, GATEWAY)?;
        Ok(Self { client_addresses: OUTSIDE_CLIENT, ..Self::new(client, server, Some(host)) })
    }

    /// B0, B1n, B1l: two containers on a bridge; `rules` are Docker's, by one of the two iptables.
    pub fn bridge(rules: Option<Backend>, calls: BridgeCalls) -> Result<Self> {
        let (client, server) = ends()?;
        let host = bridge_host(rules.map(|_| calls))?;
        join_bridge(&host, &client, "port0", &CLIENT)?;
        join_bridge(&host, &server, "port1", &SERVER)?;
        if let Some(backend) = rules {
            backend.load(&host, FIRST_PUBLISHED, 1)?;
        }
        Ok(Self { tracked: rules.is_some(), ..Self::new(client, server, Some(host)) })
    }

    /// B2n, B2l: a published port (TCP and UDP), the last of `ports`; and masquerade the other way.
    pub fn published(backend: Backend, ports: u16, calls: BridgeCalls) -> Result<Self> {
        let (client, server) = ends()?;
        let host = bridge_host(Some(calls))?;
        join_outside(&host, &client)?;
        join_bridge(&host, &server, "port0", &SERVER)?;
        backend.load(&host, FIRST_PUBLISHED, ports)?;
        let published = Some(FIRST_PUBLISHED + (ports - 1));
        let client_addresses = OUTSIDE_CLIENT;
        Ok(Self { published, client_addresses, tracked: true, ..Self::new(client, server, Some(host)) })
    }

    /// From the client to the server.
    #[must_use]
    pub fn path(&self, family: Family) -> load::Path<'_> {
        let bind = SocketAddr::new(family.of(SERVER), SERVICE);
        let target = self.published.map_or(bind, |port| SocketAddr::new(family.of(OUTSIDE_HOST), port));
        load::Path { client: &self.client, server: &self.server, bind, target }
    }

    /// The other way round: from the container out, masqueraded where the topology does that.
    #[must_use]
    pub fn outward(&self, family: Family) -> load::Path<'_> {
        let bind = SocketAddr::new(family.of(self.client_addresses), SERVICE);
        load::Path { client: &self.server, server: &self.client, bind, target: bind }
    }

    /// Forgets the connections that netfilter tracks, as before every connection-rate run.
    pub fn flush_conntrack(&self) -> Result<()> {
        match &self.host {
            Some(host) if self.tracked => conntrack::flush(host),
            _ => Ok(()),
        }
    }

    fn new(client: Namespace, server: Namespace, host: Option<Namespace>) -> Self {
        Self { client, server, host, client_addresses: CLIENT, published: None, tracked: false }
    }
}

fn ends() -> Result<(Namespace, Namespace)> {
    let (client, server) = (Namespace::new("client")?, Namespace::new("server")?);
    prepare(&client)?;
    prepare(&server)?;
    Ok((client, server))
}

/// A host with a bridge; with what its bridge calls if it is to have rules.
fn bridge_host(rules: Option<BridgeCalls>) -> Result<Namespace> {
    let host = Namespace::new("bridge")?;
    host.ip("link add docker0 type bridge\nlink set docker0 up")?;
    for (address, length) in GATEWAY.into_iter().zip([24, 64]) {
        host.ip(&format!("addr add {address}/{length} dev docker0"))?;
    }
    if rules.is_some() {
        host.forward()?;
    }
    let called = rules == Some(BridgeCalls::Iptables);
    for setting in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
        // Without the module, which has the settings, nothing is called.
        if called || Path::new("/proc/sys/net").join(setting).exists() {
            host.sysctl(setting, if called { "1" } else { "0" })?;
        }
    }
    Ok(host)
}

type End<'a> = (&'a Namespace, &'a str, &'a [&'a str]);

/// Joins two namespaces by a veth pair; addresses are IPv4's, then IPv6's.
fn join(one: End<'_>, other: End<'_>) -> Result<()> {
    let [one_addresses, other_addresses] = [one, other].map(|(.., addresses)| with_lengths(addresses));
    let [one_addresses, other_addresses] =
        [&one_addresses, &other_addresses].map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
    let link = Link { namespace: one.0, name: one.1, addresses: &one_addresses };
    link.join(&Link { namespace: other.0, name: other.1, addresses: &other_addresses })
}

fn with_lengths(addresses: &[&str]) -> Vec<String> {
    addresses.iter().zip(["/24", "/64"]).map(|(address, length)| format!("{address}{length}")).collect()
}

fn route_by(namespace: &Namespace, gateway: [&str; 2]) -> Result<()> {
    namespace.ip(&format!("route add default via {}\nroute add default via {}", gateway[0], gateway[1]))
}

fn join_bridge(host: &Namespace, container: &Namespace, port: &str, addresses: &[&str]) -> Result<()> {
    join((host, port, &[]), (container, "eth0", addresses))?;
    host.ip(&format!("link set {port} master docker0"))?;
    route_by(container, GATEWAY)
}

fn join_outside(host: &Namespace, client: &Namespace) -> Result<()> {
    join((client, "eth0", &OUTSIDE_CLIENT), (host, "up0", &OUTSIDE_HOST))?;
    route_by(client, OUTSIDE_HOST)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        BridgeCalls::{Iptables, Nothing},
        *,
    };
    use crate::load::{Direction, Manner, Path, Placement, connect_rate, datagram_rate, request_response, stream_rate};

    const BRIEF: Duration = Duration::from_millis(60);

    /// Every reference carries every kind of load, by both families.
    #[test]
    fn references_carry_load() {
        let references = [
            ("L", Reference::wire()),
            ("R", Reference::routed()),
            ("B0", Reference::bridge(None, Nothing)),
            ("B1n", Reference::bridge(Some(Backend::Nft), Iptables)),
            ("B1l", Reference::bridge(Some(Backend::Legacy), Nothing)),
            ("B2n", Reference::published(Backend::Nft, 100, Iptables)),
            ("B2l", Reference::published(Backend::Legacy, 100, Nothing)),
        ];
        for (name, reference) in references {
            let reference = reference.unwrap_or_else(|error| panic!("{name}: {error:#}"));
            for family in Family::ALL {
                carries_load(name, reference.path(family));
                carries_load(name, reference.outward(family));
            }
        }
    }

    fn carries_load(name: &str, path: Path<'_>) {
        let single = Manner::single(Placement::Same, BRIEF);
        let latency = request_response(path, single).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        let connections = connect_rate(path, Placement::Same, BRIEF).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        println!("{name:4} {:.0}/s, p50 {:?} p99 {:?}, {connections:.0}/s", latency.rate, latency.p50(), latency.p99());
        assert!(latency.rate > 0.0 && connections > 0.0 && latency.p50() <= latency.p99(), "{name}");
        for direction in [Direction::ToServer, Direction::ToClient] {
            let manner = Manner { flows: 3, ..Manner::single(Placement::Spin, BRIEF) };
            let stream = stream_rate(path, manner, direction).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            let datagrams = datagram_rate(path, manner, direction).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            println!("     {direction:?} {stream:.2} Gbit/s {datagrams:.0}/s");
            assert!(stream > 0.0 && datagrams > 0.0, "{name}");
        }
    }

    /// With several flows, several requests are under way: each waits for those before it.
    #[test]
    fn flows_are_under_way_together() {
        let reference = Reference::wire().expect("stands");
        let latency = |flows| {
            let manner = Manner { flows, ..Manner::single(Placement::Same, BRIEF) };
            request_response(reference.path(Family::V4), manner).expect("answered").p50()
        };
        let (one, many) = (latency(1), latency(32));
        assert!(many > one * 4, "{one:?} {many:?}");
    }

    /// What netfilter tracks is forgotten, so that a connection with the same ports is a new one.
    #[test]
    fn tracked_connections_are_forgotten() {
        let reference = Reference::published(Backend::Nft, 1, Iptables).expect("stands");
        let tracked = || {
            let count = reference.host.as_ref().expect("a host").read_sysctl("netfilter/nf_conntrack_count");
            count.expect("netfilter is there").parse::<u32>().expect("a number")
        };
        connect_rate(reference.path(Family::V4), Placement::Same, Duration::from_millis(20)).expect("reached");
        assert!(tracked() > 0);
        reference.flush_conntrack().expect("forgets");
        assert_eq!(tracked(), 0);
    }

    /// The rules are in the path: the published port is reached, and the one beside it is not.
    #[test]
    fn published_reference_goes_through_its_rules() {
        for backend in [Backend::Nft, Backend::Legacy] {
            let reference = Reference::published(backend, 10, Iptables).expect("stands");
            for family in Family::ALL {
                let path = reference.path(family);
                let connect = |path| connect_rate(path, Placement::Same, Duration::from_millis(20));
                connect(path).expect("reached");
                connect(reference.outward(family)).expect("masqueraded");
                let beyond = Path { target: SocketAddr::new(path.target.ip(), path.target.port() + 1), ..path };
                assert!(connect(beyond).is_err(), "{backend:?} {family:?}");
            }
        }
    }
}
