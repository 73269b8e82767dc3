//! What the host's routes say about a destination.

use crate::abi::{Uplink, next_hop};

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

    /// The route with an MTU, which is at most that of the uplink it leads to; and with no next hop into a tunnel.
    #[inline(always)]
    #[must_use]
    pub const fn bounded_by(self, uplink: &Uplink) -> Self {
        let known = self.mtu() != 0 && self.mtu() < uplink.mtu;
        let next_hop = if uplink.tunnel != 0 { next_hop::UNKNOWN } else { self.next_hop() };
        Self::new(self.ifindex(), if known { self.mtu() } else { uplink.mtu }).by(next_hop)
    }
}

#[cfg(test)]
mod tests {
    use super::{Route, Uplink, next_hop};

    #[test]
    fn a_route_is_bounded_by_its_uplink_and_has_no_next_hop_into_a_tunnel() {
        let card = Uplink { mtu: 1_500, ..Uplink::default() };
        let route = Route::new(7, 1_400).by(next_hop::ON_LINK);
        assert_eq!(route.bounded_by(&card), route);
        assert_eq!(Route::new(7, 9_000).by(9).bounded_by(&card), Route::new(7, 1_500).by(9));
        assert_eq!(Route::new(7, 0).bounded_by(&card).mtu(), 1_500);
        let tunnel = Uplink { tunnel: 1, ..card };
        assert_eq!(route.bounded_by(&tunnel), Route::new(7, 1_400).by(next_hop::UNKNOWN));
    }
}
