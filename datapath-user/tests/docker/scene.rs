//! A host on a LAN with dockerd in it, and with the datapath or without.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Deref;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use lab::client::Client;
use lab::docker::{DockerHost, DockerdOptions, Inspected, Rules};
use lab::{Family, Lan, Namespace, Server};

use crate::attempt::{Place, Port, Seen, Target};

/// The daemon under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_datapath");

/// Second addresses of the host on the LAN.
pub const SECOND: [&str; 2] = ["192.0.2.9", "2001:db8:2::9"];
/// All addresses that dockerd of the lab gives to containers.
const INSIDE: [&str; 2] = ["172.16.0.0/12", "fd00::/16"];
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

/// A host with dockerd, and what is around it.
pub struct Scene {
    host: DockerHost,
    pub rules: Rules,
    containers: Mutex<HashMap<String, Inspected>>,
    addresses: Mutex<HashMap<(String, String), Vec<IpAddr>>>,
    gateways: Mutex<HashMap<String, Vec<IpAddr>>>,
    _servers: Vec<Server>,
    pub lan: Lan,
}

impl Deref for Scene {
    type Target = DockerHost;

    fn deref(&self) -> &DockerHost {
        &self.host
    }
}

impl Scene {
    /// Builds it. With the datapath, our daemon comes first and finds no dockerd yet, as on a host that boots.
    pub fn start(rules: Rules) -> Result<Self> {
        Self::with(DockerdOptions::new(rules))
    }

    pub fn with(options: DockerdOptions) -> Result<Self> {
        let daemon = options.rules == Rules::Datapath;
        Self::build(options, daemon)
    }

    /// dockerd as for the datapath, and nobody who does what it leaves undone.
    pub fn without_daemon() -> Result<Self> {
        Self::build(DockerdOptions::new(Rules::Datapath), false)
    }

    fn build(options: DockerdOptions, daemon: bool) -> Result<Self> {
        let rules = options.rules;
        let lan = Lan::new()?;
        let namespace = Namespace::new("host")?;
        lan.join(&namespace)?;
        // The host's own connections use the first ones, which IPv6 must be told.
        namespace.ip(&format!(
            "addr add {}/24 dev up0\naddr add {}/64 dev up0 nodad preferred_lft 0",
            SECOND[0], SECOND[1]
        ))?;
        // The LAN knows the way to containers: that they are not reached must be the host's doing.
        lan.machine.ip(&format!(
            "route add {} via {}\nroute add {} via {}",
            INSIDE[0],
            Lan::HOST[0],
            INSIDE[1],
            Lan::HOST[1]
        ))?;
        let servers = vec![
            Server::start(&lan.internet, "far", 80)?,
            Server::start(&lan.internet, "far", 8080)?,
            Server::start(&namespace, "host", 8000)?,
        ];
        let host = DockerHost::start_in(namespace, options, daemon.then(|| Path::new(BINARY)))?;
        let (containers, addresses, gateways) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Self { host, rules, containers, addresses, gateways, _servers: servers, lan })
    }

    /// Looks which containers run, where and with which addresses, and waits until they serve.
    pub fn refresh(&self) -> Result<()> {
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut containers = HashMap::new();
        for container in self.docker.running()? {
            container.wait_until_listening()?;
            for network in container.networks() {
                known.insert((container.name.clone(), network.clone()), container.addresses(&network));
            }
            containers.insert(container.name.clone(), container);
        }
        *self.containers.lock().unwrap_or_else(PoisonError::into_inner) = containers;
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// The gateway addresses of a network: those of its bridge, for Docker does not tell the IPv6 one of the default
    /// bridge.
    fn gateways(&self, network: &str) -> Result<Vec<IpAddr>> {
        let mut known = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(addresses) = known.get(network) {
            return Ok(addresses.clone());
        }
        let addresses = self.namespace().addresses(&self.docker.bridge(network)?)?;
        known.insert(network.to_owned(), addresses.clone());
        Ok(addresses)
    }

    /// Runs `work` with the namespace of a place.
    pub fn at<T>(&self, place: Place, work: impl FnOnce(&Namespace) -> T) -> Result<T> {
        match place {
            Place::Lan => Ok(work(&self.lan.machine)),
            Place::Internet => Ok(work(&self.lan.internet)),
            Place::Host => Ok(work(self.namespace())),
            Place::In(name) => {
                // Under another name, so that attempts from one container run beside those of others.
                let path = {
                    let containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
                    let container = containers.get(name).with_context(|| format!("{name} does not run"))?;
                    Namespace::of_process(name, container.pid)?
                };
                Ok(work(&path))
            }
        }
    }

    /// The address of a target, if it has one of this family.
    pub fn address(&self, target: Target, family: Family) -> Result<Option<IpAddr>> {
        let of =
            |addresses: Vec<IpAddr>| addresses.into_iter().find(|address| address.is_ipv6() == (family == Family::V6));
        Ok(match target {
            Target::Loopback => Some(family.of(LOOPBACK)),
            Target::Host => Some(family.of(Lan::HOST)),
            Target::Second => Some(family.of(SECOND)),
            Target::Internet => Some(family.of(Lan::INTERNET)),
            Target::Gateway(network) => of(self.gateways(network)?),
            Target::Container(name, network) => {
                let known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
                let addresses = known.get(&(name.to_owned(), network.to_owned()));
                of(addresses.with_context(|| format!("{name} was never on {network}"))?.clone())
            }
        })
    }

    /// The number of a port.
    pub fn port(&self, port: Port, protocol: lab::Protocol) -> Result<u16> {
        match port {
            Port::Number(number) => Ok(number),
            Port::Published(name, private) => {
                let protocol = if protocol == lab::Protocol::Tcp { "tcp" } else { "udp" };
                let text = self.docker.line(&format!("port {name} {private}/{protocol}"))?;
                let port = text.lines().next().and_then(|line| line.rsplit(':').next()?.parse().ok());
                port.with_context(|| format!("docker port {name} printed {text:?}"))
            }
        }
    }

    /// The address that a server must see.
    pub fn seen(&self, seen: Seen, from: &Namespace, target: SocketAddr) -> Result<IpAddr> {
        let family = if target.is_ipv4() { Family::V4 } else { Family::V6 };
        let gateway = |network, family| {
            self.address(Target::Gateway(network), family)?.with_context(|| format!("{network} has no gateway"))
        };
        match seen {
            Seen::Client => source_towards(from, target),
            Seen::Uplink => Ok(family.of(Lan::HOST)),
            Seen::Gateway(network) => gateway(network, family),
            Seen::GatewayV4(network) => gateway(network, Family::V4),
        }
    }
}

/// The address that a client here uses for this target.
fn source_towards(from: &Namespace, target: SocketAddr) -> Result<IpAddr> {
    let socket: UdpSocket = Client::new(from).datagrams(target)?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

/// Whether this address is one of a container or of Docker's gateways.
pub fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 172 && v4.octets()[1] & 0xf0 == 16,
        IpAddr::V6(v6) => v6.segments()[0] == 0xfd00,
    }
}
