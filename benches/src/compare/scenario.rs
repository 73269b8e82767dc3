//! What is compared: each a client, a server, and something between them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path as FilePath,
};

use anyhow::Result;
use lab::{
    Container, DaemonOptions, Host, Lan, World,
    load::{Path, prepare},
    reference::{Backend, Reference},
};

use crate::flows;

const NETWORK: [&str; 2] = ["10.60.0.0/24", "fd00:60::/64"];
const CLIENT: &str = "10.60.0.10";
const SERVER: &str = "10.60.0.11";
const SERVICE: u16 = 80;
/// The first published port of a scenario with many; the last is measured.
const FIRST_PUBLISHED: u16 = 10_000;

/// A scenario that stands.
pub struct Scenario {
    name: &'static str,
    what: What,
}

enum What {
    Reference(Reference),
    Datapath(Box<Datapath>),
}

struct Datapath {
    client: Option<Container>,
    server: Container,
    world: World,
    bind: SocketAddr,
    target: SocketAddr,
}

impl Scenario {
    /// L: two namespaces on one wire.
    pub fn wire() -> Result<Self> {
        Ok(Self::reference("L", Reference::wire()?))
    }

    /// R: a host that routes, without netfilter.
    pub fn routed() -> Result<Self> {
        Ok(Self::reference("R", Reference::routed()?))
    }

    /// B1n: a bridge with Docker's rules, by iptables-nft.
    pub fn bridge() -> Result<Self> {
        Ok(Self::reference("B1n", Reference::bridge(Some(Backend::Nft))?))
    }

    /// B2n: a port published by those rules, the last of so many.
    pub fn bridge_published(name: &'static str, ports: u16) -> Result<Self> {
        Ok(Self::reference(name, Reference::published(Backend::Nft, ports)?))
    }

    /// Two endpoints of one of our networks.
    pub fn switched(name: &'static str, daemon: &FilePath) -> Result<Self> {
        let world = World::start(daemon, DaemonOptions::default())?;
        create_network(&world.host)?;
        let server = world.host.container("server", "app", &[SERVER])?;
        let client = world.host.container("client", "app", &[CLIENT])?;
        prepare(&client.namespace)?;
        prepare(&server.namespace)?;
        let bind = SocketAddr::new(address(SERVER), SERVICE);
        let datapath = Datapath { client: Some(client), server, world, bind, target: bind };
        Ok(Self { name, what: What::Datapath(Box::new(datapath)) })
    }

    /// A machine on the LAN and a port that we publish, the last of so many.
    pub fn published(name: &'static str, daemon: &FilePath, ports: u16) -> Result<Self> {
        let world = World::start(daemon, DaemonOptions::default())?;
        create_network(&world.host)?;
        let server = world.host.container("server", "app", &[SERVER])?;
        prepare(&world.lan.machine)?;
        prepare(&server.namespace)?;
        let (last, service) = (FIRST_PUBLISHED + (ports - 1), FIRST_PUBLISHED + ports + (ports - 1));
        // On one address: the daemon holds a socket per port and address, and file descriptors are limited.
        let host = Lan::HOST[0];
        let specification = format!("{host}:{FIRST_PUBLISHED}-{last}:{}-{service}", FIRST_PUBLISHED + ports);
        world.host.datapath(["publish", &specification, "server"])?;
        let bind = SocketAddr::new(address(SERVER), service);
        let target = SocketAddr::new(address(Lan::HOST[0]), last);
        let datapath = Datapath { client: None, server, world, bind, target };
        Ok(Self { name, what: What::Datapath(Box::new(datapath)) })
    }

    fn reference(name: &'static str, reference: Reference) -> Self {
        Self { name, what: What::Reference(reference) }
    }

    /// Its name in tables.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// From where to where its load goes.
    #[must_use]
    pub fn path(&self) -> Path<'_> {
        match &self.what {
            What::Reference(reference) => reference.path(),
            What::Datapath(datapath) => Path {
                client: datapath.client.as_ref().map_or(&datapath.world.lan.machine, |client| &client.namespace),
                server: &datapath.server.namespace,
                bind: datapath.bind,
                target: datapath.target,
            },
        }
    }

    /// What our programs have dropped in it so far, by reason; none of a reference.
    pub fn drops(&self) -> Result<std::collections::BTreeMap<String, u64>> {
        match &self.what {
            What::Reference(_) => Ok(Default::default()),
            What::Datapath(datapath) => {
                let mut drops = datapath.world.host.drops()?;
                drops.retain(|_, count| *count > 0);
                Ok(drops)
            }
        }
    }

    /// Empties whatever table of flows it has.
    pub fn forget_flows(&self) -> Result<()> {
        match &self.what {
            What::Reference(reference) => reference.flush_conntrack(),
            What::Datapath(datapath) => flows::flush(datapath.world.host.pins()),
        }
    }
}

fn create_network(host: &Host) -> Result<()> {
    host.datapath(["network", "create", "app", "--subnet", NETWORK[0], "--subnet", NETWORK[1]]).map(drop)
}

/// A literal IPv4 address.
fn address(text: &str) -> IpAddr {
    IpAddr::V4(text.parse::<Ipv4Addr>().unwrap_or_else(|error| panic!("{text}: {error}")))
}
