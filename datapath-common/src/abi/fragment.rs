//! Datagrams whose fragments are on their way.
//!
//! All datagrams of one sender are in one set of `FRAGMENTS`, which one CPU at a time may use. A sender may use half of
//! its set, so that one that floods does not disturb those that share it.

use super::Address;

/// Sets: a power of two.
pub const FRAGMENT_SETS: u32 = 32;
/// Datagrams of a set: a power of two.
pub const FRAGMENT_WAYS: usize = 16;
/// Pieces of a datagram with gaps between them. 65,535 bytes in fragments of 1,280 bytes, the smallest MTU of IPv6, have
/// 26 such pieces when they arrive in the worst order.
pub const FRAGMENT_PIECES: usize = 32;
/// Places where a set holds fragments until the first of their datagram arrives: a power of two. The largest datagram in
/// reverse order, in packets of 1,280 bytes, takes 53.
pub const FRAGMENTS_HELD: usize = 128;
/// Bytes of a place. A larger packet takes several, one behind the other.
pub const FRAGMENT_PLACE: usize = 2_048;
/// The largest packet that is held: an MTU of 9,000 bytes and some are usual.
pub const FRAGMENT_ROOM: usize = 9_216;

/// What the fragments of one datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FragmentKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification, wire order; of IPv4 in the lower half of the bytes on the wire.
    pub identification: u32,
    /// [`super::scope`] the fragments come from.
    pub scope: u16,
    /// IP protocol number; of IPv6, where only the first fragment's counts, that of the fragment header.
    pub protocol: u8,
    /// Zero.
    pub padding: u8,
}

/// States of [`Datagram::state`].
pub mod datagram {
    /// The first fragment has not come yet: others are held.
    pub const WAITING: u8 = 0;
    /// It has: others pass.
    pub const KNOWN: u8 = 1;
    /// It is refused as a whole.
    pub const REFUSED: u8 = 2;
}

/// Adjacent bytes of a datagram's payload that have passed.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Piece {
    /// Its first byte.
    pub start: u16,
    /// The byte behind its last.
    pub end: u16,
}

/// One datagram.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// What its fragments have in common.
    pub key: FragmentKey,
    /// Forgotten after this time; 0, nobody's.
    pub deadline: u64,
    /// Distinguishes it from those that were in its place before; never 0.
    pub serial: u32,
    /// The identification its fragments leave with, wire order, so that those of two containers are never mixed behind
    /// one address.
    pub identification: u32,
    /// Source port that its first fragment has, as in a flow's key.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol number that the first fragment has.
    pub protocol: u8,
    /// [`datagram`].
    pub state: u8,
    /// Bytes of its payload; 0 until its last fragment has come.
    pub length: u16,
    /// How many pieces there are.
    pub pieces_used: u32,
    /// Places of the fragments that are held.
    pub held: u32,
    /// The pieces that have passed.
    pub pieces: [Piece; FRAGMENT_PIECES],
}

/// What is held in a place.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldFragment {
    /// [`Datagram::serial`] of what it belongs to; 0, nothing.
    pub serial: u32,
    /// Bytes of the packet, from its IP header on; 0 where one goes on that begins in an earlier place.
    pub length: u32,
    /// Since when.
    pub since: u64,
}

/// What a walk over the datagrams or places of a set comes to. It is in the map because the verifier follows every value that it
/// can see on the stack through every round.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentSearch {
    /// Deadline of the datagram at [`Self::oldest`].
    pub oldest_deadline: u64,
    /// Deadline of the datagram at [`Self::senders_oldest`].
    pub senders_oldest_deadline: u64,
    /// The place looked at next.
    pub position: u32,
    /// Where what is looked for is; `u32::MAX`, nowhere.
    pub found: u32,
    /// A free place, else that of the oldest datagram.
    pub oldest: u32,
    /// The place of the sender's oldest datagram.
    pub senders_oldest: u32,
    /// How many datagrams the sender has,
    pub ways: u32,
    /// of how many fragments are held, for not long yet,
    pub waiting: u32,
    /// and how many places these take.
    pub held: u32,
    /// Free places one behind the other.
    pub free: u32,
}

/// One value of `FRAGMENTS`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct FragmentSet {
    /// 1 while a CPU uses the set.
    pub lock: u32,
    /// [`Datagram::serial`] that was given last.
    pub serial: u32,
    /// The set's own number.
    pub number: u32,
    /// Zero.
    pub padding: u32,
    /// The latest walk.
    pub search: FragmentSearch,
    /// The datagrams.
    pub datagrams: [Datagram; FRAGMENT_WAYS],
    /// What is held in each place.
    pub held: [HeldFragment; FRAGMENTS_HELD],
    /// The places, and as much behind the last as may be written from its beginning.
    pub bytes: [u8; FRAGMENTS_HELD * FRAGMENT_PLACE + FRAGMENT_ROOM],
}
