//! What dockerd has: networks on Linux bridges, the containers on them, and their published ports. It is desired state
//! like any other, only that dockerd owns the devices and gives out the addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{GatewayMode, Mac, PortRange, Protocol};

/// All that dockerd has at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Networks of the bridge driver, the default one included.
    pub networks: Vec<DockerNetwork>,
    /// Containers' interfaces on them.
    pub endpoints: Vec<DockerEndpoint>,
    /// Published ports of running containers.
    pub ports: Vec<DockerPort>,
}

/// One network of the bridge driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerNetwork {
    /// dockerd's id: 64 hexadecimal digits.
    pub id: String,
    /// Its name. dockerd allows nearly every character in it.
    pub name: String,
    /// Name of the Linux bridge.
    pub bridge: String,
    /// At most one subnet of each IP version.
    pub subnets: Vec<IpNet>,
    /// The host's addresses on the bridge; none where the gateway mode is isolated.
    pub gateways: Vec<IpAddr>,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Containers may talk to each other.
    pub icc: bool,
    /// Nothing in or out.
    pub internal: bool,
    /// What leaves by an uplink takes an address of the uplink.
    pub masquerade: bool,
    /// How containers are reached by IPv4.
    pub gateway_mode: GatewayMode,
    /// How containers are reached by IPv6.
    pub gateway_mode_ipv6: GatewayMode,
}

/// A container's interface on one network. dockerd makes it known before the container's first process starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerEndpoint {
    /// dockerd's id of the endpoint, never used twice: 64 hexadecimal digits.
    pub id: String,
    /// Id of the container.
    pub container: String,
    /// Name of the container.
    pub name: String,
    /// Further names on this network.
    pub aliases: Vec<String>,
    /// Id of the network.
    pub network: String,
    /// MAC address of the interface.
    pub mac: Mac,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

/// A published port, or several in a row, as dockerd resolved them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerPort {
    /// Id of the container.
    pub container: String,
    /// Id of the network it is reached by.
    pub network: String,
    /// The host address; none: all of both IP versions. `0.0.0.0` and `::` stand for all of one.
    pub host_ip: Option<IpAddr>,
    /// The host ports.
    pub host: PortRange,
    /// The container's ports, as many.
    pub target: PortRange,
    /// The protocol.
    pub protocol: Protocol,
}
