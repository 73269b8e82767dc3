//! A host of ours: two endpoints on a network, published ports, and a machine on the LAN.

use std::net::SocketAddr;
use std::path::Path as FilePath;

use anyhow::{Context as _, Result};
use lab::{
    Container, DaemonOptions, Family, Host, Lan, World,
    load::{Path, prepare},
};

/// Room for 1,000 endpoints and more.
const NETWORK: [&str; 2] = ["10.60.0.0/20", "fd00:60::/64"];
/// The endpoint that serves.
pub const SERVER_NAME: &str = "server";
const CLIENT: [&str; 2] = ["10.60.0.10", "fd00:60::10"];
const SERVER: [&str; 2] = ["10.60.0.11", "fd00:60::11"];
/// Of the server, for everybody but those who come by the published port.
const SERVICE: u16 = 80;
/// The first published port of an address; the last of them all is measured.
const FIRST_PUBLISHED: u16 = 10_000;
/// A published port leads to that of the server which is so much lower, but for SCTP, whose ports are not translated.
const LOWER: u16 = 5_000;
/// Ports of one address.
const ROOM: u32 = 50_000;
/// The host's second addresses on the LAN, for more ports than one address has.
const SECOND: [&str; 2] = ["192.0.2.2", "2001:db8:2::2"];
/// So many ports of an address are TCP, the others SCTP: the daemon holds a socket on each port of TCP and of UDP, and may not
/// have more open files than the machine grants. In the table that a packet's port is looked up in, they are alike.
const TCP_PORTS: u32 = 4_000;

/// A host of ours. The order is that of dropping.
pub struct Own {
    client: Container,
    server: Container,
    others: Vec<Container>,
    world: World,
    published: u16,
}

impl Own {
    /// With so many ports published on each of IPv4 and IPv6, one of them UDP's too.
    pub fn publishing(daemon: &FilePath, ports: u32) -> Result<Self> {
        let own = Self::start(daemon, ports, &[])?;
        own.publish(ports)?;
        Ok(own)
    }

    /// With so many endpoints, and no ports.
    pub fn crowded(daemon: &FilePath, endpoints: u32) -> Result<Self> {
        let mut own = Self::start(daemon, 1, &[])?;
        for number in 2..endpoints {
            own.others.push(own.world.host.container(&format!("other{number}"), "app", &[])?);
        }
        Ok(own)
    }

    /// On a network with `--big-tcp`, and no ports.
    pub fn with_big_tcp(daemon: &FilePath) -> Result<Self> {
        Self::start(daemon, 1, &["--big-tcp"])
    }

    fn start(daemon: &FilePath, ports: u32, options: &[&str]) -> Result<Self> {
        let world = World::start(daemon, DaemonOptions::default())?;
        let host = &world.host;
        let network = ["network", "create", "app", "--subnet", NETWORK[0], "--subnet", NETWORK[1]];
        host.datapath(network.into_iter().chain(options.iter().copied()))?;
        let server = host.container(SERVER_NAME, "app", &SERVER)?;
        let client = host.container("client", "app", &CLIENT)?;
        for namespace in [&client.namespace, &server.namespace, &world.lan.machine] {
            prepare(namespace)?;
        }
        for (address, length) in SECOND.into_iter().zip([24, 64]) {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            host.namespace.ip(&format!("addr add {address}/{length} dev {}{nodad}", Host::UPLINK))?;
        }
        let published =
            FIRST_PUBLISHED + u16::try_from(ports.min(ROOM) - 1).context("one address has no more ports")?;
        // The server's own connections (out) would take it now and then, and keep it in TIME_WAIT.
        server.namespace.sysctl("ipv4/ip_local_reserved_ports", &(published - LOWER).to_string())?;
        Ok(Self { client, server, others: Vec::new(), world, published })
    }

    /// The measured port is the last; it is on the first addresses, so those come last.
    fn publish(&self, ports: u32) -> Result<()> {
        for addresses in [SECOND, Lan::HOST] {
            let count = if addresses == SECOND { ports.saturating_sub(ROOM) } else { ports.min(ROOM) };
            for address in addresses {
                self.publish_on(address, count)?;
            }
        }
        Ok(())
    }

    fn publish_on(&self, address: &str, count: u32) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let first = u32::from(FIRST_PUBLISHED);
        let (end, tcp) = (first + count, first + count.saturating_sub(TCP_PORTS));
        for (from, to, protocol) in [(first, tcp, "sctp"), (tcp, end, "tcp"), (end - 1, end, "udp")] {
            if from < to {
                let lower = if protocol == "sctp" { 0 } else { u32::from(LOWER) };
                let ports = format!("{from}-{}:{}-{}", to - 1, from - lower, to - 1 - lower);
                self.world.host.datapath(["publish", &format!("{address}:{ports}/{protocol}"), SERVER_NAME])?;
            }
        }
        Ok(())
    }

    /// Endpoints that neither serve nor ask.
    pub fn others(&self) -> &[Container] {
        &self.others
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.world.host
    }

    /// From one endpoint to the other.
    pub fn across(&self, family: Family) -> Path<'_> {
        let target = SocketAddr::new(family.of(SERVER), SERVICE);
        Path { client: &self.client.namespace, server: &self.server.namespace, bind: target, target }
    }

    /// From the LAN to the last published port.
    pub fn inward(&self, family: Family) -> Path<'_> {
        let bind = SocketAddr::new(family.of(SERVER), self.published - LOWER);
        let target = SocketAddr::new(family.of(Lan::HOST), self.published);
        Path { client: &self.world.lan.machine, server: &self.server.namespace, bind, target }
    }

    /// From an endpoint to the LAN.
    pub fn outward(&self, family: Family) -> Path<'_> {
        let target = SocketAddr::new(family.of(Lan::MACHINE), SERVICE);
        Path { client: &self.server.namespace, server: &self.world.lan.machine, bind: target, target }
    }
}
