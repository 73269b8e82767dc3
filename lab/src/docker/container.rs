//! A container that runs under dockerd, seen from outside: its process and its namespace.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cli::Docker;
use crate::namespace::Namespace;

/// A listening socket, in /proc/net/tcp.
const LISTEN: &str = "0A";

/// A running container, until it is stopped or restarted: then it is another process in another namespace.
#[derive(Debug)]
pub struct DockerContainer {
    /// Its name.
    pub name: String,
    /// Its process 1, as the machine numbers it.
    pub pid: u32,
    /// Its network namespace, for clients, servers and captures of the lab.
    pub namespace: Namespace,
    networks: Value,
}

impl DockerContainer {
    pub(super) fn of(docker: &Docker, name: &str) -> Result<Self> {
        let container = docker.inspect("container", name)?;
        let pid = container["State"]["Pid"].as_u64().filter(|pid| *pid > 0);
        let pid = pid.with_context(|| format!("{name} does not run: {:#}", container["State"]))?;
        let pid = u32::try_from(pid).context("a pid is small")?;
        let namespace = Namespace::of_process(name, pid)?;
        let networks = container["NetworkSettings"]["Networks"].clone();
        Ok(Self { name: name.to_owned(), pid, namespace, networks })
    }

    /// Its addresses on this network, IPv4 first; as they were when this value was made.
    #[must_use]
    pub fn addresses(&self, network: &str) -> Vec<IpAddr> {
        let fields = ["IPAddress", "GlobalIPv6Address"].map(|field| &self.networks[network][field]);
        fields.iter().filter_map(|value| value.as_str()?.parse().ok()).collect()
    }

    /// Waits until something in the container listens on this TCP port, without a packet.
    pub fn wait_until_listening(&self, port: u16) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.listens(port) {
            if Instant::now() > end {
                bail!("{} does not listen on port {port}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
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
