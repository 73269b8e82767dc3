//! Who is behind a port of the switch.

use super::{Packet, Tables};
use crate::{
    abi::{Address, AddressKey, Endpoint, Network},
    logic::{headers::ethertype, parse::Parsed},
};

/// An endpoint and its network.
#[derive(Clone, Copy)]
pub(super) struct Port<'a> {
    pub index: u32,
    pub endpoint: &'a Endpoint,
    pub network: &'a Network,
}

impl Port<'_> {
    #[inline(always)]
    pub fn has(&self, flag: u32) -> bool {
        self.network.has(flag)
    }

    /// Whether the network has the packet's IP version (N12).
    #[inline(always)]
    pub fn speaks(&self, parsed: &Parsed) -> bool {
        self.network.speaks(parsed.ethertype == ethertype::IPV4)
    }
}

/// No endpoint has this index.
pub(super) const NOBODY: u32 = u32::MAX;

/// Who has the address: the index of an endpoint, [`crate::abi::HOST`], or [`NOBODY`].
///
/// A number, and from a function of its own: the compiler would join the two halves of an `Option` by a bitwise and, of
/// which one has no value where there is no owner, and the verifier refuses to read that (Linux 6.18).
#[inline(never)]
pub(super) fn owner<T: Tables>(tables: &T, network: u32, address: &Address) -> u32 {
    tables.endpoint_by_address(&AddressKey::new(network, *address)).unwrap_or(NOBODY)
}

/// The endpoint whose host-side veth the packet came in by.
#[inline(always)]
pub(super) fn sender<'a, P: Packet, T: Tables>(packet: &P, tables: &'a T) -> Option<Port<'a>> {
    port(tables, tables.endpoint_by_ifindex(packet.ifindex())?)
}

/// The endpoint at this index.
#[inline(always)]
pub(super) fn port<T: Tables>(tables: &T, index: u32) -> Option<Port<'_>> {
    // An `Option`, not a `Result`: the reason would share a word with a pointer, and the verifier refuses to see a
    // pointer written in halves (Linux 6.18).
    let endpoint = tables.endpoint(index)?;
    let network = tables.network(endpoint.network)?;
    if endpoint.generation == 0 {
        return None;
    }
    Some(Port { index, endpoint, network })
}
