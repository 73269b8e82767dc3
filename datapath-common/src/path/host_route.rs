//! What the host's routes say about a destination.

use crate::abi::Uplink;

/// Where the host's routes lead. One word, for a BPF stack is small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route(u64);

impl Route {
    /// To nowhere.
    pub const NONE: Self = Self(0);

    /// By this device, for packets of at most `mtu` bytes, of which 24 bits count; 0 where the kernel does not tell.
    #[inline(always)]
    #[must_use]
    pub const fn new(ifindex: u32, mtu: u32) -> Self {
        Self((ifindex as u64) << 32 | mtu as u64 & 0xff_ffff)
    }

    /// The route, to the next hop with this number.
    #[inline(always)]
    #[must_use]
    pub const fn by(self, next_hop: u8) -> Self {
        Self(self.0 & !(0xff << 24) | (next_hop as u64) << 24)
    }

    /// [`crate::abi::next_hop`].
    #[inline(always)]
    #[must_use]
    pub const fn next_hop(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// The device; 0 for none.
    #[inline(always)]
    #[must_use]
    pub const fn ifindex(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Largest IP packet that the route takes, in bytes, or 0.
    #[inline(always)]
    #[must_use]
    pub const fn mtu(self) -> u32 {
        self.0 as u32 & 0xff_ffff
    }

    /// The route with an MTU, which is at most that of the uplink it leads to.
    #[inline(always)]
    #[must_use]
    pub const fn bounded_by(self, uplink: &Uplink) -> Self {
        let known = self.mtu() != 0 && self.mtu() < uplink.mtu;
        Self::new(self.ifindex(), if known { self.mtu() } else { uplink.mtu }).by(self.next_hop())
    }
}
