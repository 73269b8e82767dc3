//! Next hops by number: a flow has no room for their addresses.

use super::Address;

/// Not known: the kernel asks its routes for each packet.
pub const UNKNOWN: u8 = 0;
/// The packet's destination itself.
pub const ON_LINK: u8 = 1;
/// How many numbers there are. The first two have no place in `NEXT_HOPS`.
pub const NUMBERS: u32 = 1 << 8;

/// The address of a gateway. Once it is there it never changes, so a number means the same for ever.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NextHop {
    /// [`super::claim`].
    pub claim: u32,
    /// Zero.
    pub padding: u32,
    /// The address. Packets of IPv4 may have a gateway of IPv6 (RFC 8950).
    pub address: Address,
}
