//! The world outside the host: a LAN machine that is also the router to an internet server.

use std::net::IpAddr;

use anyhow::Result;

use crate::link::Link;
use crate::namespace::Namespace;

/// A LAN machine (192.0.2.10, 2001:db8:2::10) and behind it an internet server (10.99.0.10, fd99::10).
///
/// The LAN machine routes between the two. Its interface towards the host is [`Lan::TO_HOST`].
#[derive(Debug)]
pub struct Lan {
    /// The server far away.
    pub internet: Namespace,
    /// The machine on the host's own LAN.
    pub machine: Namespace,
}

impl Lan {
    /// The LAN machine's interface towards the host.
    pub const TO_HOST: &str = "host0";
    /// Addresses of the LAN machine.
    pub const MACHINE: [&str; 2] = ["192.0.2.10", "2001:db8:2::10"];
    /// Addresses of the host on the LAN.
    pub const HOST: [&str; 2] = ["192.0.2.1", "2001:db8:2::1"];
    /// Addresses of the internet server.
    pub const INTERNET: [&str; 2] = ["10.99.0.10", "fd99::10"];

    /// Builds it, without a host.
    pub fn new() -> Result<Self> {
        let (internet, machine) = (Namespace::new("internet")?, Namespace::new("lan")?);
        machine.forward()?;
        let inside = Link { namespace: &machine, name: "net0", addresses: &["10.99.0.1/24", "fd99::1/64"] };
        inside.join(&Link { namespace: &internet, name: "eth0", addresses: &["10.99.0.10/24", "fd99::10/64"] })?;
        internet.ip("route add default via 10.99.0.1\nroute add default via fd99::1")?;
        Ok(Self { internet, machine })
    }

    /// Joins a host to the LAN by its interface `up0`, with the LAN machine as its default route.
    pub fn join(&self, host: &Namespace) -> Result<()> {
        let lan =
            Link { namespace: &self.machine, name: Self::TO_HOST, addresses: &["192.0.2.10/24", "2001:db8:2::10/64"] };
        lan.join(&Link { namespace: host, name: "up0", addresses: &["192.0.2.1/24", "2001:db8:2::1/64"] })?;
        host.ip("route add default via 192.0.2.10\nroute add default via 2001:db8:2::10")
    }
}

/// A literal address; for constants like [`Lan::HOST`].
///
/// # Panics
/// When the text is no address.
#[must_use]
pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
