//! A host of ours with a dockerd: two containers on its own bridge, and a published port.

use std::net::{IpAddr, SocketAddr};
use std::path::Path as FilePath;

use anyhow::Result;
use comparison::{Place, Subject};
use lab::docker::{DockerContainer, DockerHost, DockerdOptions, Rules};
use lab::{
    Family, Host, Lan, Namespace,
    load::{Path, prepare},
};

/// Of the server; the container's own program has another one.
const SERVICE: u16 = 80;
const PUBLISHED: u16 = 10_000;
const OWN_PROGRAM: u16 = 81;
const BRIDGE: &str = "bridge";

/// A host of ours with a dockerd. The order is that of dropping.
pub struct Adopted {
    client: DockerContainer,
    server: DockerContainer,
    addresses: Vec<IpAddr>,
    docker: DockerHost,
    lan: Lan,
}

impl Adopted {
    /// Starts it, and waits until the published port is served.
    pub fn start(daemon: &FilePath) -> Result<Self> {
        let lan = Lan::new()?;
        prepare(&lan.machine)?;
        let namespace = Namespace::new("host")?;
        lan.join(&namespace)?;
        let docker = DockerHost::start_in(namespace, DockerdOptions::new(Rules::Datapath), Some(daemon))?;
        let publish = format!("--publish {PUBLISHED}:{SERVICE}/tcp --publish {PUBLISHED}:{SERVICE}/udp");
        let server = docker.docker.serve("server", &publish, &[OWN_PROGRAM])?;
        let client = docker.docker.serve("client", "", &[OWN_PROGRAM])?;
        for container in [&client, &server] {
            prepare(&container.namespace)?;
        }
        let addresses = server.addresses(BRIDGE);
        Ok(Self { client, server, addresses, docker, lan })
    }

    fn server_address(&self, family: Family) -> IpAddr {
        let found = self.addresses.iter().find(|address| address.is_ipv4() == (family == Family::V4));
        *found.expect("dockerd gives both, as it is configured")
    }

    /// From one container to the other.
    fn across(&self, family: Family) -> Path<'_> {
        let target = SocketAddr::new(self.server_address(family), SERVICE);
        Path { client: &self.client.namespace, server: &self.server.namespace, bind: target, target }
    }

    /// From the LAN to the published port.
    fn inward(&self, family: Family) -> Path<'_> {
        let bind = SocketAddr::new(self.server_address(family), SERVICE);
        let target = SocketAddr::new(family.of(Lan::HOST), PUBLISHED);
        Path { client: &self.lan.machine, server: &self.server.namespace, bind, target }
    }

    /// From a container to the LAN.
    fn outward(&self, family: Family) -> Path<'_> {
        let target = SocketAddr::new(family.of(Lan::MACHINE), SERVICE);
        Path { client: &self.server.namespace, server: &self.lan.machine, bind: target, target }
    }
}

impl Place for Adopted {
    fn path(&self, subject: Subject, family: Family) -> Path<'_> {
        match subject {
            Subject::AdoptedPublished => self.inward(family),
            Subject::AdoptedOut => self.outward(family),
            _ => self.across(family),
        }
    }

    fn host(&self) -> Option<&Host> {
        self.docker.datapath()
    }
}
