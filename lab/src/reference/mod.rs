//! The topologies that the datapath is measured against.
//!
//! | | |
//! |---|---|
//! | L  | two namespaces joined by one veth pair: the wire |
//! | R  | a host that routes between two veth pairs, no netfilter |
//! | B0 | two containers on a Linux bridge, no rules |
//! | B1n, B1l | the same with Docker 28's rules by iptables-nft or iptables-legacy, and bridge-nf-call-iptables |
//! | B2n, B2l | a client outside and a container whose port is published by DNAT, with N ports, the measured one last |

mod docker_rules;

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

pub use docker_rules::Backend;

use crate::lan::address;
use crate::link::Link;
use crate::load::{Path, prepare};
use crate::namespace::Namespace;

/// The port that the server of every reference binds.
const SERVICE: u16 = 80;
/// The first published host port of B2; the last one is measured.
const FIRST_PUBLISHED: u16 = 10_000;

/// One reference topology.
#[derive(Debug)]
pub struct Reference {
    /// Where the client runs.
    pub client: Namespace,
    /// Where the server runs.
    pub server: Namespace,
    /// What lies between them.
    pub host: Option<Namespace>,
    target: SocketAddr,
    server_address: IpAddr,
    client_address: IpAddr,
}

impl Reference {
    /// L: the wire.
    pub fn wire() -> Result<Self> {
        let (client, server) = ends()?;
        let link = Link { namespace: &client, name: "eth0", addresses: &["10.50.0.2/24"] };
        link.join(&Link { namespace: &server, name: "eth0", addresses: &["10.50.0.3/24"] })?;
        Ok(Self::new(client, server, None, "10.50.0.3"))
    }

    /// R: a router without netfilter.
    pub fn routed() -> Result<Self> {
        let (client, server) = ends()?;
        let host = Namespace::new("router")?;
        host.forward()?;
        join_outside(&host, &client)?;
        let inside = Link { namespace: &host, name: "port0", addresses: &["10.50.0.1/24"] };
        inside.join(&Link { namespace: &server, name: "eth0", addresses: &["10.50.0.3/24"] })?;
        server.ip("route add default via 10.50.0.1")?;
        Ok(Self { client_address: address("192.0.2.10"), ..Self::new(client, server, Some(host), "10.50.0.3") })
    }

    /// B0, B1n, B1l: two containers on a bridge; `rules` are Docker's, by one of the two iptables.
    pub fn bridge(rules: Option<Backend>) -> Result<Self> {
        let (client, server) = ends()?;
        let host = bridge_host()?;
        join_bridge(&host, &client, "port0", "10.50.0.2/24")?;
        join_bridge(&host, &server, "port1", "10.50.0.3/24")?;
        if let Some(backend) = rules {
            host.forward()?;
            host.sysctl("bridge/bridge-nf-call-iptables", "1")?;
            backend.load(&host, address("10.50.0.3"), SERVICE, FIRST_PUBLISHED, 1)?;
        } else {
            host.sysctl("bridge/bridge-nf-call-iptables", "0")?;
        }
        Ok(Self::new(client, server, Some(host), "10.50.0.3"))
    }

    /// B2n, B2l: a published port, the last of `ports`; and masquerade the other way.
    pub fn published(backend: Backend, ports: u16) -> Result<Self> {
        let (client, server) = ends()?;
        let host = bridge_host()?;
        host.forward()?;
        host.sysctl("bridge/bridge-nf-call-iptables", "1")?;
        join_outside(&host, &client)?;
        join_bridge(&host, &server, "port0", "10.50.0.3/24")?;
        backend.load(&host, address("10.50.0.3"), SERVICE, FIRST_PUBLISHED, ports)?;
        let target = SocketAddr::new(address("192.0.2.1"), FIRST_PUBLISHED + ports - 1);
        let reference = Self::new(client, server, Some(host), "10.50.0.3");
        Ok(Self { target, client_address: address("192.0.2.10"), ..reference })
    }

    /// From the client to the server.
    #[must_use]
    pub fn path(&self) -> Path<'_> {
        let bind = SocketAddr::new(self.server_address, SERVICE);
        Path { client: &self.client, server: &self.server, bind, target: self.target }
    }

    /// The other way round: from the container out, masqueraded where the topology does that.
    #[must_use]
    pub fn outward(&self) -> Path<'_> {
        let bind = SocketAddr::new(self.client_address, SERVICE);
        Path { client: &self.server, server: &self.client, bind, target: bind }
    }

    /// Forgets the connections that netfilter tracks, as before every connection-rate run.
    pub fn flush_conntrack(&self) -> Result<()> {
        match &self.host {
            Some(host) => host.run("conntrack", ["-F"]).map(drop),
            None => Ok(()),
        }
    }

    fn new(client: Namespace, server: Namespace, host: Option<Namespace>, server_address: &str) -> Self {
        let server_address = address(server_address);
        let target = SocketAddr::new(server_address, SERVICE);
        Self { client, server, host, target, server_address, client_address: address("10.50.0.2") }
    }
}

fn ends() -> Result<(Namespace, Namespace)> {
    let (client, server) = (Namespace::new("client")?, Namespace::new("server")?);
    prepare(&client)?;
    prepare(&server)?;
    Ok((client, server))
}

fn bridge_host() -> Result<Namespace> {
    let host = Namespace::new("bridge")?;
    host.ip("link add docker0 type bridge\naddr add 10.50.0.1/24 dev docker0\nlink set docker0 up")?;
    Ok(host)
}

fn join_bridge(host: &Namespace, container: &Namespace, port: &str, address: &str) -> Result<()> {
    let link = Link { namespace: host, name: port, addresses: &[] };
    link.join(&Link { namespace: container, name: "eth0", addresses: &[address] })?;
    host.ip(&format!("link set {port} master docker0"))?;
    container.ip("route add default via 10.50.0.1")
}

fn join_outside(host: &Namespace, client: &Namespace) -> Result<()> {
    let outside = Link { namespace: client, name: "eth0", addresses: &["192.0.2.10/24"] };
    outside.join(&Link { namespace: host, name: "up0", addresses: &["192.0.2.1/24"] })?;
    client.ip("route add default via 192.0.2.1")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::{Placement, connect_rate, datagram_rate, request_response, stream_rate};

    /// Every reference carries every kind of load.
    #[test]
    fn references_carry_load() {
        let references = [
            ("L", Reference::wire()),
            ("R", Reference::routed()),
            ("B0", Reference::bridge(None)),
            ("B1n", Reference::bridge(Some(Backend::Nft))),
            ("B1l", Reference::bridge(Some(Backend::Legacy))),
            ("B2n", Reference::published(Backend::Nft, 100)),
            ("B2l", Reference::published(Backend::Legacy, 100)),
        ];
        for (name, reference) in references {
            let reference = reference.unwrap_or_else(|error| panic!("{name}: {error:#}"));
            let (path, brief) = (reference.path(), Duration::from_millis(60));
            let latency = request_response(path, Placement::Same, brief).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            let connections = connect_rate(path, Placement::Same, brief).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            let stream = stream_rate(path, Placement::Across, brief).unwrap_or_else(|e| panic!("{name}: {e:#}"));
            let published = name.starts_with("B2");
            // Docker publishes TCP here, so UDP has nowhere to go.
            let datagrams = if published { 1.0 } else { datagram_rate(path, Placement::Across, brief).expect(name) };
            println!("{name:4} {latency:?} {connections:.0}/s {stream:.2} Gbit/s {datagrams:.0}/s");
            for rate in [latency.rate, connections, stream, datagrams] {
                assert!(rate > 0.0, "{name}");
            }
        }
    }

    /// The rules are in the path: the published port is reached, and without forwarding it is not.
    #[test]
    fn published_reference_goes_through_its_rules() {
        let reference = Reference::published(Backend::Nft, 10).expect("stands");
        let path = reference.path();
        connect_rate(path, Placement::Same, Duration::from_millis(20)).expect("reached");
        connect_rate(reference.outward(), Placement::Same, Duration::from_millis(20)).expect("masqueraded");
        let beyond = Path { target: SocketAddr::new(path.target.ip(), path.target.port() + 1), ..path };
        assert!(connect_rate(beyond, Placement::Same, Duration::from_millis(20)).is_err());
    }
}
