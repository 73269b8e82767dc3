//! A container that runs under dockerd, seen from outside: its process and its namespace.

use std::net::IpAddr;
use std::ops::Deref;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::namespace::Namespace;

/// A listening socket, in /proc/net/tcp.
const LISTEN: &str = "0A";

/// A running container, until it is stopped or restarted: then it is another process in another namespace.
#[derive(Debug)]
pub struct DockerContainer {
    inspected: Inspected,
    /// Its network namespace, for clients, servers and captures of the lab.
    pub namespace: Namespace,
}

impl DockerContainer {
    /// Finds the way into an inspected container.
    pub fn enter(inspected: Inspected) -> Result<Self> {
        let namespace = Namespace::of_process(&inspected.name, inspected.pid)?;
        Ok(Self { inspected, namespace })
    }
}

impl Deref for DockerContainer {
    type Target = Inspected;

    fn deref(&self) -> &Inspected {
        &self.inspected
    }
}

/// A published port of a container.
#[derive(Clone, Debug)]
pub struct PublishedPort {
    /// The addresses of the host that it is published on: all of one IP version, or one.
    pub address: IpAddr,
    /// Its number on the host; none where nothing is translated (gateway mode routed, since 28).
    pub host: Option<u16>,
    /// Its number in the container.
    pub private: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// What `docker inspect` said of a running container.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// Its name.
    pub name: String,
    /// Its process 1, as the machine numbers it.
    pub pid: u32,
    state: Value,
}

impl Inspected {
    pub(super) fn of(state: Value) -> Result<Self> {
        let name = state["Name"].as_str().context("a container has a name")?.trim_start_matches('/').to_owned();
        let pid = state["State"]["Pid"].as_u64().filter(|pid| *pid > 0);
        let pid = pid.with_context(|| format!("{name} does not run: {:#}", state["State"]))?;
        Ok(Self { name, pid: u32::try_from(pid).context("a pid is small")?, state })
    }

    /// Its networks by name.
    #[must_use]
    pub fn networks(&self) -> Vec<String> {
        let networks = self.state["NetworkSettings"]["Networks"].as_object();
        networks.into_iter().flat_map(|networks| networks.keys().cloned()).collect()
    }

    /// Its addresses on this network, IPv4 first; as they were when this value was made.
    #[must_use]
    pub fn addresses(&self, network: &str) -> Vec<IpAddr> {
        let network = &self.state["NetworkSettings"]["Networks"][network];
        let fields = ["IPAddress", "GlobalIPv6Address"].map(|field| &network[field]);
        fields.iter().filter_map(|value| value.as_str()?.parse().ok()).collect()
    }

    /// Whether it is on this network.
    #[must_use]
    pub fn is_on(&self, network: &str) -> bool {
        self.state["NetworkSettings"]["Networks"].get(network).is_some()
    }

    /// Its published ports, as Docker resolved them.
    pub fn published(&self) -> Result<Vec<PublishedPort>> {
        let ports = self.state["NetworkSettings"]["Ports"].as_object();
        let mut found = Vec::new();
        for (name, bindings) in ports.into_iter().flatten() {
            let (private, protocol) =
                name.split_once('/').with_context(|| format!("{name} is a port and a protocol"))?;
            for binding in bindings.as_array().into_iter().flatten() {
                let text = |key: &str| binding[key].as_str().with_context(|| format!("{name}: {binding}"));
                let host = Some(text("HostPort")?).filter(|number| !number.is_empty());
                let host = host.map(str::parse).transpose()?;
                let (address, private) = (text("HostIp")?.parse()?, private.parse()?);
                found.push(PublishedPort { address, host, private, protocol: protocol.to_owned() });
            }
        }
        Ok(found)
    }

    /// Waits until the echo server that is its program listens on all its ports, without a packet. Containers with
    /// another program are ready at once, and so are those that are paused.
    pub fn wait_until_listening(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        for port in self.ports() {
            while !self.listens(port) {
                if Instant::now() > end {
                    bail!("{} does not listen on port {port}", self.name);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// The ports that its program was told to serve.
    fn ports(&self) -> Vec<u16> {
        let words = self.state["Config"]["Cmd"].as_array().into_iter().flatten();
        let words: Vec<_> = words.filter_map(Value::as_str).collect();
        match words.as_slice() {
            ["serve", _name, ports @ ..] if self.state["State"]["Paused"] == false => {
                ports.iter().filter_map(|port| port.parse().ok()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn listens(&self, port: u16) -> bool {
        let suffix = format!(":{port:04X}");
        ["tcp", "tcp6"].iter().any(|table| {
            // The process may have ended; then nothing listens.
            let text = std::fs::read_to_string(format!("/proc/{}/net/{table}", self.pid)).unwrap_or_default();
            text.lines().any(|line| {
                let mut fields = line.split_whitespace().skip(1);
                fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some(LISTEN)
            })
        })
    }
}
