//! Published ports: what they lead to, and their keys.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{PortRange, Protocol};

/// One publication: a port or a range of ports of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Its place in the maps, 1 and up.
    pub index: u32,
    /// Raised each time it leads to another endpoint, so that no flow of the old one goes on.
    pub generation: u32,
    /// The host address; none: all of them.
    pub host_ip: Option<IpAddr>,
    /// The host ports.
    pub host: PortRange,
    /// The container's ports.
    pub container: PortRange,
    /// The protocol.
    pub protocol: Protocol,
    /// Name of the endpoint.
    pub endpoint: String,
    /// The network, where one was named.
    pub network: Option<String>,
    /// Where it leads now; none: it waits for an endpoint of that name.
    pub target: Option<Target>,
    /// Id of the container where dockerd published it. Its port is held by dockerd.
    #[serde(default)]
    pub docker: Option<String>,
}

/// Where a publication leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Index of the endpoint.
    pub index: u32,
    /// Its generation.
    pub generation: u32,
    /// Name of the network it is on.
    pub network: String,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The network's gateway mode for it is routed: it is reached at its own addresses and the container's ports.
    pub routed: bool,
}

impl Target {
    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

impl Publication {
    /// The host side as `port ls` shows it and `unpublish` takes it: `127.0.0.1:8080/tcp`.
    #[must_use]
    pub fn describe(&self) -> String {
        describe_host(self.host_ip, self.host, self.protocol)
    }

    /// The host addresses, wildcards included, that it claims on its ports, whether it leads anywhere or not.
    pub fn claimed(&self) -> impl Iterator<Item = IpAddr> + use<> {
        claimed_addresses(self.host_ip)
    }

    /// The addresses at which it answers: of the IP versions that its endpoint has. None while it waits.
    #[must_use]
    pub fn answered(&self) -> Vec<IpAddr> {
        let Some(target) = &self.target else { return Vec::new() };
        if target.routed {
            let asked = |address: &IpAddr| self.host_ip.is_none_or(|ip| ip.is_ipv4() == address.is_ipv4());
            return target.addresses().filter(asked).collect();
        }
        let has = |address: &IpAddr| target.addresses().any(|own| own.is_ipv4() == address.is_ipv4());
        self.claimed().filter(has).collect()
    }

    /// The ports at which it answers there.
    #[must_use]
    pub fn answered_ports(&self) -> PortRange {
        if self.target.as_ref().is_some_and(|target| target.routed) { self.container } else { self.host }
    }
}

/// The host addresses that `[HOSTIP:]` claims.
pub(super) fn claimed_addresses(host_ip: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + use<> {
    let every = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    host_ip.into_iter().chain(every.into_iter().filter(move |_| host_ip.is_none()))
}

/// `127.0.0.1:8080/tcp`
pub(super) fn describe_host(host_ip: Option<IpAddr>, host: PortRange, protocol: Protocol) -> String {
    match host_ip {
        None => format!("{host}/{protocol}"),
        Some(IpAddr::V4(v4)) => format!("{v4}:{host}/{protocol}"),
        Some(IpAddr::V6(v6)) => format!("[{v6}]:{host}/{protocol}"),
    }
}
