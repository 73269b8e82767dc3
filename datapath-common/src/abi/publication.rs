//! Published ports.

use super::Address;

/// Where a packet must be going to meet a publication.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct PublishedKey {
    /// A host address; [`Address::ANY_V4`] or [`Address::NONE`] (`::`) for every host address of the family.
    pub address: Address,
    /// Host port, wire order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub padding: u8,
    /// Zero.
    pub padding2: u32,
}

impl PublishedKey {
    /// The key of `port` (wire order) on `address`.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Address, port: u16, protocol: u8) -> Self {
        Self { address, port, protocol, padding: 0, padding2: 0 }
    }
}

/// One publication: a port or a range of ports of one endpoint. Its keys in `PUBLISHED` point here.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Publication {
    /// Which owner of this index this is; never used twice on a host. 0: nobody.
    pub generation: u32,
    /// The endpoint it leads to.
    pub endpoint: u32,
    /// Generation of that endpoint.
    pub endpoint_generation: u32,
    /// First host port, host order.
    pub host_port: u16,
    /// First container port, host order.
    pub container_port: u16,
    /// How many ports.
    pub count: u32,
    /// IP protocol number.
    pub protocol: u32,
}
