//! Networks, their subnets, and the uplinks.

use super::Address;

/// Bits of [`Network::flags`].
pub mod network_flags {
    /// Endpoints of the network may talk to each other.
    pub const ICC: u32 = 1;
    /// Nothing in or out but the endpoints themselves and the host's address on the network.
    pub const INTERNAL: u32 = 1 << 1;
    /// What leaves by an uplink takes an address of the uplink.
    pub const MASQUERADE: u32 = 1 << 2;
    /// Gateway mode routed: published ports are reached at the container's own address, untranslated.
    pub const ROUTED: u32 = 1 << 3;
    /// The network has an IPv4 subnet.
    pub const IPV4: u32 = 1 << 4;
    /// The network has an IPv6 subnet.
    pub const IPV6: u32 = 1 << 5;
}

/// Endpoints that a network may have: flooding reaches no more.
pub const NETWORK_ENDPOINTS: u32 = 1_024;

/// One network, found by its id (1 and up).
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Network {
    /// [`network_flags`]; 0: no such network (every network has a family).
    pub flags: u32,
    /// The gateway device, on the host.
    pub gateway_ifindex: u32,
    /// MAC address of the gateway device.
    pub gateway_mac: [u8; 6],
    /// Zero.
    pub padding: [u8; 2],
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// How many members [`super::map::NETWORK_MEMBERS`] has.
    pub members: u32,
    /// The (first) IPv4 gateway address, or [`Address::NONE`]. Clients that have no address of their own a server
    /// could answer to (loopback, the server itself) appear with it.
    pub gateway_ipv4: Address,
    /// The same for IPv6.
    pub gateway_ipv6: Address,
}

/// What a subnet belongs to.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Subnet {
    /// Id of the network.
    pub network: u32,
    /// Zero.
    pub padding: u32,
}

/// An interface towards the outside.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Uplink {
    /// Bytes of link header in its packets: 14, or 0 for tunnels.
    pub link_header: u32,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// The IPv4 address masqueraded packets take where the route names none, or [`Address::NONE`].
    pub ipv4: Address,
    /// The same for IPv6.
    pub ipv6: Address,
}
