//! What the socket answers and the command line shows: plain data with stable names, snake_case, addresses as text.

mod collect;
mod event;
mod fdb;
mod flow;
mod guard;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use collect::{endpoint, flows, network, port, ports, status};
pub use event::{Event, EventKind, Names};
pub use fdb::{FdbEntry, FdbKind, fdb};
pub use flow::Flow;
pub use guard::{Denied, Guard, GuardLimits, GuardUplink, denied, guard, limits};

use crate::docker;
use crate::kernel::probes::Features;
use crate::model::{GatewayMode, Mac, NetnsIdentity};

/// A network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// Subnets.
    pub subnets: Vec<String>,
    /// The host's addresses on them.
    pub gateways: Vec<IpAddr>,
    /// How endpoints are reached by IPv4.
    pub gateway_mode: GatewayMode,
    /// How endpoints are reached by IPv6.
    pub gateway_mode_ipv6: GatewayMode,
    /// Nothing in or out.
    pub internal: bool,
    /// Endpoints may talk to each other.
    pub icc: bool,
    /// Addresses are translated on the way out.
    pub masquerade: bool,
    /// TCP connections that cross an uplink ask for segments that fit the path.
    pub mss_clamp: bool,
    /// It learns which MAC addresses are behind its ports.
    pub learning: bool,
    /// Of a network that learns MAC addresses: seconds after which one is forgotten that was not heard.
    pub ageing: Option<u16>,
    /// Largest IP packet.
    pub mtu: u32,
    /// With BIG TCP: the largest TCP packet, in bytes, that its devices take before it is cut into segments.
    pub big_tcp: Option<BigTcp>,
    /// The gateway device on the host.
    pub device: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Names of the endpoints on it.
    pub endpoints: Vec<String>,
    /// dockerd's id of the network, where it is dockerd's.
    pub docker: Option<String>,
}

/// What BIG TCP comes to on this kernel, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BigTcp {
    /// By IPv4; 65,536, as without BIG TCP, where the kernel has it for IPv6 only.
    pub ipv4: u32,
    /// By IPv6.
    pub ipv6: u32,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// The network.
    pub network: String,
    /// IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// MAC address.
    pub mac: Mac,
    /// The interface in the container.
    pub ifname: String,
    /// The namespace as it was given.
    pub netns: String,
    /// Device and inode of the namespace.
    pub netns_identity: NetnsIdentity,
    /// The host-side veth.
    pub device: String,
    /// Its ifindex.
    pub ifindex: Option<u32>,
    /// Its place in the maps.
    pub index: u32,
    /// Which owner of that place it is.
    pub generation: u32,
    /// Further names.
    pub aliases: Vec<String>,
    /// Published ports that lead to it.
    pub ports: Vec<String>,
    /// Flows charged to it.
    pub flows: u32,
    /// When it was attached, RFC 3339.
    pub attached: String,
    /// Id of the container, where it is dockerd's.
    pub container: Option<String>,
}

/// A publication.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Port {
    /// The host side, as `unpublish` takes it.
    pub published: String,
    /// The host address; none: all.
    pub host_ip: Option<IpAddr>,
    /// The first host port.
    pub host_port: u16,
    /// The last host port.
    pub host_port_end: u16,
    /// The first container port.
    pub container_port: u16,
    /// The last container port.
    pub container_port_end: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The endpoint.
    pub endpoint: String,
    /// The network it is reached on; none while it waits for an endpoint of that name.
    pub network: Option<String>,
    /// Whether it leads anywhere now.
    pub state: PortState,
    /// New flows that came by it.
    pub hits: u64,
    /// Id of the container, where dockerd published it.
    pub container: Option<String>,
}

/// Whether a publication leads anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// It leads to an endpoint.
    Active,
    /// It waits for an endpoint of its name.
    Waiting,
}

/// An uplink.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Its ifindex.
    pub ifindex: u32,
    /// The IPv4 address that masqueraded packets take.
    pub ipv4: Option<IpAddr>,
    /// The IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Largest IP packet.
    pub mtu: u32,
}

/// Fill of a table.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Fill {
    /// Entries in use.
    pub used: u64,
    /// Entries there can be.
    pub capacity: u64,
}

/// How it stands with dockerd.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Docker {
    /// dockerd's socket.
    pub socket: String,
    /// What its connection is like.
    #[serde(flatten)]
    pub connection: docker::Status,
    /// Which of its networks, containers and ports are not followed, and why.
    pub problems: Vec<String>,
}

/// `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Version of the layout of the maps.
    pub abi: u32,
    /// Process id of the daemon.
    pub pid: u32,
    /// When the daemon was started, RFC 3339.
    pub started: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Features of the kernel.
    pub features: Features,
    /// `tcx` or `clsact`.
    pub attach: String,
    /// Where state is kept.
    pub state_dir: String,
    /// Where maps and links are pinned.
    pub pin_dir: String,
    /// dockerd, where it is followed.
    pub docker: Option<Docker>,
    /// Uplinks.
    pub uplinks: Vec<Uplink>,
    /// The guard of uplinks.
    pub guard: Guard,
    /// How many networks.
    pub networks: u32,
    /// How many endpoints.
    pub endpoints: u32,
    /// How many publications.
    pub ports: u32,
    /// The flow table.
    pub flows: Fill,
    /// The other tables, by name.
    pub tables: BTreeMap<String, Fill>,
    /// Dropped packets by reason.
    pub drops: BTreeMap<String, u64>,
    /// Other counters of the programs.
    pub metrics: BTreeMap<String, u64>,
}
