//! Endpoints: one container interface on one network.

use super::Address;

/// The endpoint index that stands for the host: the gateway of a network. Index 0 is never given to an endpoint.
pub const HOST: u32 = 0;

/// One interface of a container on one network. Found by index; the other tables point here.
///
/// An index is zeroed before it is given to another endpoint, and then has another generation.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Endpoint {
    /// Which owner of this index this is; never used twice on a host. 0: nobody.
    pub generation: u32,
    /// The host-side veth.
    pub ifindex: u32,
    /// Id of the network.
    pub network: u32,
    /// How many ports are published to this endpoint; above 0, its direct replies are looked up as flows.
    pub publications: u32,
    /// MAC address of the container's side.
    pub mac: [u8; 6],
    /// On a network that learns: number of the port's table in [`super::map::STATIONS`]; else 0.
    pub stations: u16,
    /// IPv4 address, or [`Address::NONE`].
    pub ipv4: Address,
    /// IPv6 address, or [`Address::NONE`].
    pub ipv6: Address,
    /// IPv6 link-local address, or [`Address::NONE`] where the network has no IPv6.
    pub link_local: Address,
}

impl Endpoint {
    /// Whether the container may send from this address.
    #[inline(always)]
    #[must_use]
    pub fn owns(&self, address: &Address) -> bool {
        !address.is_none() && (*address == self.ipv4 || *address == self.ipv6 || *address == self.link_local)
    }

    /// The address that publications translate to, of the family of `like`.
    #[inline(always)]
    #[must_use]
    pub fn address_like(&self, like: &Address) -> Address {
        if like.is_v4() { self.ipv4 } else { self.ipv6 }
    }
}

/// What the programs count of an endpoint. The daemon zeroes it when it gives the index to an endpoint.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EndpointUsage {
    /// Flows charged to the endpoint; bounded by [`super::Settings::flow_quota`].
    pub flows: u32,
    /// Zero.
    pub padding: u32,
    /// For broadcast and multicast packets, which [`super::Settings::flood_rate`] bounds.
    pub flood: TokenBucket,
    /// For ICMP errors about what the endpoint sent, which [`super::Settings::icmp_error_rate`] bounds. That at index
    /// [`HOST`] is for what came from outside and from the host.
    pub icmp_errors: TokenBucket,
}

/// What is left of a rate.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TokenBucket {
    /// Tokens left.
    pub tokens: u32,
    /// Zero.
    pub padding: u32,
    /// When they were last refilled.
    pub refilled: u64,
}

/// An address on a network.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct AddressKey {
    /// Id of the network.
    pub network: u32,
    /// Zero.
    pub padding: u32,
    /// The address.
    pub address: Address,
}

impl AddressKey {
    /// The key of `address` on `network`.
    #[inline(always)]
    #[must_use]
    pub const fn new(network: u32, address: Address) -> Self {
        Self { network, padding: 0, address }
    }
}

/// A MAC address on a network.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct MacKey {
    /// Id of the network.
    pub network: u32,
    /// Zero.
    pub padding: u32,
    /// The MAC address.
    pub mac: [u8; 6],
    /// Zero.
    pub padding2: [u8; 2],
}

impl MacKey {
    /// The key of `mac` on `network`.
    #[inline(always)]
    #[must_use]
    pub const fn new(network: u32, mac: [u8; 6]) -> Self {
        Self { network, padding: 0, mac, padding2: [0; 2] }
    }
}
