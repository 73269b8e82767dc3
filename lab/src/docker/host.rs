//! A host with dockerd in it, and with the datapath or without.

use std::path::Path;

use anyhow::Result;

use super::{Docker, Dockerd, DockerdOptions, image};
use crate::daemon::DaemonOptions;
use crate::host::Host;
use crate::namespace::Namespace;

/// Where dockerd runs. The order is that of dropping: dockerd before the namespace that it is in.
#[derive(Debug)]
pub struct DockerHost {
    /// dockerd.
    pub dockerd: Dockerd,
    /// Its client.
    pub docker: Docker,
    side: Side,
}

#[derive(Debug)]
enum Side {
    Plain(Namespace),
    Datapath(Box<Host>),
}

impl DockerHost {
    /// Starts dockerd in the namespace of a host, with [`image::NAME`] ready to run. With a binary of the datapath, its
    /// daemon comes first and finds no dockerd yet, as on a host that boots.
    pub fn start_in(namespace: Namespace, options: DockerdOptions, datapath: Option<&Path>) -> Result<Self> {
        let dockerd = Dockerd::prepare(&namespace, options)?;
        let side = match datapath {
            Some(binary) => {
                let argument = format!("--docker={}", dockerd.socket().display());
                let options = DaemonOptions { arguments: vec![argument], config: String::new() };
                Side::Datapath(Box::new(Host::start_in(namespace, binary, options)?))
            }
            None => Side::Plain(namespace),
        };
        dockerd.start_again()?;
        let docker = dockerd.docker();
        image::import(&docker)?;
        Ok(Self { dockerd, docker, side })
    }

    /// The host's namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        match &self.side {
            Side::Plain(namespace) => namespace,
            Side::Datapath(host) => &host.namespace,
        }
    }

    /// The host with our daemon, where it runs.
    #[must_use]
    pub fn datapath(&self) -> Option<&Host> {
        match &self.side {
            Side::Plain(_) => None,
            Side::Datapath(host) => Some(host),
        }
    }
}
