//! The usual picture: internet, LAN, and a host with the daemon.

use std::path::Path;

use anyhow::Result;

use crate::daemon::DaemonOptions;
use crate::host::Host;
use crate::lan::Lan;

/// A host on a LAN that leads to the internet.
#[derive(Debug)]
pub struct World {
    /// The host; first, so that it goes first.
    pub host: Host,
    /// What is around it.
    pub lan: Lan,
}

impl World {
    /// Builds it and starts the daemon.
    pub fn start(binary: &Path, options: DaemonOptions) -> Result<Self> {
        let lan = Lan::new()?;
        let host = Host::start(binary, &lan, options)?;
        Ok(Self { host, lan })
    }
}
