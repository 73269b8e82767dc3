//! The user's rules for what comes in by uplinks: who is denied, and how much of what is taken.

use super::Address;

/// Prefixes of each IP version that can be denied.
pub const DENIED_CAPACITY: u32 = 262_144;

/// What the user's rules ask to look at; bits of [`Guard::checks`].
pub mod guard_checks {
    /// Some IPv4 sources are denied.
    pub const DENY_V4: u32 = 1;
    /// Some IPv6 sources are denied.
    pub const DENY_V6: u32 = 1 << 1;
    /// Packets of each source are limited.
    pub const PACKETS: u32 = 1 << 2;
    /// SYNs of each source to published ports are limited.
    pub const SYNS: u32 = 1 << 3;
    /// SYNs of all sources together to each published port are limited.
    pub const PORT_SYNS: u32 = 1 << 4;
    /// Any of the limits.
    pub const LIMITS: u32 = PACKETS | SYNS | PORT_SYNS;
}

/// How often something may happen. Kept as the generic cell rate algorithm has it (ITU-T I.371 annex A): a bucket is the
/// time at which all that was let through so far would have been sent at the rate.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rate {
    /// Nanoseconds from one to the next.
    pub interval: u64,
    /// How far ahead of the clock a bucket may be for one more to pass, in nanoseconds.
    pub tolerance: u64,
}

impl Rate {
    /// `per_second` in the long run, and at most `burst` at once; both at least 1. The interval is rounded up, so that
    /// it is never more.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let interval = 1_000_000_000_u64.div_ceil(per_second as u64);
        Self { interval, tolerance: interval * (burst as u64 - 1) }
    }
}

/// The one value of `GUARD`. All zeroes where there are no rules.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Guard {
    /// [`guard_checks`].
    pub checks: u32,
    /// Zero.
    pub padding: u32,
    /// Packets of each source.
    pub packets: Rate,
    /// SYNs of each source to published ports.
    pub syns: Rate,
    /// SYNs of all sources together to each published port.
    pub port_syns: Rate,
}

/// Who is one source for a limit: an IPv4 address, or the /64 that an IPv6 one is in, for one machine has all of that.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct GuardSource {
    /// The first eight bytes of an IPv6 address, or the four of an IPv4 one, in wire order.
    pub prefix: u64,
    /// 4 or 6.
    pub version: u32,
    /// Zero.
    pub padding: u32,
}

impl GuardSource {
    /// The source that an address belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn of(address: &Address) -> Self {
        if address.is_v4() {
            Self { prefix: address.v4_word() as u64, version: 4, padding: 0 }
        } else {
            Self { prefix: address.words[0], version: 6, padding: 0 }
        }
    }
}

/// The buckets of one source, each a time as [`Rate`] says.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GuardBuckets {
    /// Of its packets.
    pub packets: u64,
    /// Of its SYNs to published ports.
    pub syns: u64,
}

/// A published port, as the limit for all sources together counts it.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct GuardPort {
    /// Index of the publication.
    pub publication: u32,
    /// The port, in wire order, of those that it has.
    pub port: u32,
}

/// An uplink that the XDP program is on.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GuardDevice {
    /// Its ifindex.
    pub ifindex: u32,
    /// Zero.
    pub padding: u32,
    /// Its MAC address, in the first six bytes: frames to others are for others.
    pub mac: u64,
}

impl GuardDevice {
    /// Places in `GUARD_DEVICES`.
    pub const PLACES: u32 = 4_096;

    /// The place of a device: it is found without a hash, which would take longer than to deny a packet.
    #[inline(always)]
    #[must_use]
    pub const fn place(ifindex: u32) -> u32 {
        ifindex % Self::PLACES
    }

    /// The entry of a device with this MAC address.
    #[must_use]
    pub const fn new(ifindex: u32, [a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self { ifindex, padding: 0, mac: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]) }
    }
}
