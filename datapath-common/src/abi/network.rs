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
    /// Gateway mode routed for IPv4: nothing is translated, and published ports are reached at the container's own
    /// address.
    pub const ROUTED_IPV4: u32 = 1 << 3;
    /// The network has an IPv4 subnet.
    pub const IPV4: u32 = 1 << 4;
    /// The network has an IPv6 subnet.
    pub const IPV6: u32 = 1 << 5;
    /// [`ROUTED_IPV4`] for IPv6.
    pub const ROUTED_IPV6: u32 = 1 << 6;
    /// The outside reaches every port of the containers at their own IPv4 addresses, published or not (Docker's gateway
    /// mode nat-unprotected). What the containers begin is masqueraded all the same.
    pub const OPEN_IPV4: u32 = 1 << 7;
    /// [`OPEN_IPV4`] for IPv6.
    pub const OPEN_IPV6: u32 = 1 << 8;
    /// The gateway device is a Linux bridge that somebody else made. Our programs on its ports and on itself do all
    /// the forwarding; the bridge does none.
    pub const ADOPTED: u32 = 1 << 9;
    /// TCP connections that cross an uplink ask for segments that fit the path.
    pub const MSS_CLAMP: u32 = 1 << 10;
    /// The network learns which MAC addresses are behind its ports, and switches by them (B4).
    pub const LEARNING: u32 = 1 << 11;
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
    /// Of a network that learns: seconds after which a station is forgotten that was not heard.
    pub ageing: u16,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// How many members [`super::map::NETWORK_MEMBERS`] has.
    pub members: u32,
    /// The (first) IPv4 gateway address, or [`Address::NONE`]: then the host neither reaches the network by this IP
    /// version nor is reached from it, nor is anything beyond the host (Docker's gateway mode isolated). Clients that have no address of their own a server
    /// could answer to (loopback, the server itself) appear with it.
    pub gateway_ipv4: Address,
    /// The same for IPv6.
    pub gateway_ipv6: Address,
}

impl Network {
    /// Whether this bit of [`network_flags`] is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether the network has this IP version (N12).
    #[inline(always)]
    #[must_use]
    pub const fn speaks(&self, v4: bool) -> bool {
        self.has(if v4 { network_flags::IPV4 } else { network_flags::IPV6 })
    }

    /// Whether its gateway mode for this IP version is routed.
    #[inline(always)]
    #[must_use]
    pub const fn is_routed(&self, v4: bool) -> bool {
        self.has(if v4 { network_flags::ROUTED_IPV4 } else { network_flags::ROUTED_IPV6 })
    }

    /// Whether the outside reaches every port of its containers by this IP version.
    #[inline(always)]
    #[must_use]
    pub const fn is_open(&self, v4: bool) -> bool {
        self.has(if v4 { network_flags::OPEN_IPV4 } else { network_flags::OPEN_IPV6 })
    }

    /// The gateway address of an IP version.
    #[inline(always)]
    #[must_use]
    pub const fn gateway(&self, v4: bool) -> &Address {
        if v4 { &self.gateway_ipv4 } else { &self.gateway_ipv6 }
    }

    /// Whether the host is on the network.
    #[inline(always)]
    #[must_use]
    pub const fn has_host(&self) -> bool {
        !self.gateway_ipv4.is_none() || !self.gateway_ipv6.is_none()
    }
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
    /// 1 where the XDP program holds the user's rules, so that `from_uplink` need not.
    pub guarded: u32,
    /// 1 for a tunnel: the kernel looks up the route of each packet that leaves by it. The tunnel's driver may ask the packet's
    /// route for the other end, and tells it the MTU of the path.
    pub tunnel: u32,
}
