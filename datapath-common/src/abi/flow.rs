//! Tracked flows.
//!
//! `FLOW_BY_KEY` has two keys for a flow, one for each direction as its packets *arrive*; both lead to one slot of
//! `FLOWS`, where all state of the flow is, so both directions live and die together. A packet that arrives with one
//! key leaves as the reverse of the other: that is the whole translation.

use super::Address;

/// Where a packet comes from, as part of a [`FlowKey`].
pub mod scope {
    /// From an uplink. Network ids (1 and up) stand for the ports of that network.
    pub const UPLINK: u16 = 0;
    /// From the host itself, over its loopback device.
    pub const LOOPBACK: u16 = u16::MAX;
}

/// States of [`Flow::claim`].
pub mod claim {
    /// Nobody's.
    pub const FREE: u32 = 0;
    /// Being built or taken down by one CPU.
    pub const BUSY: u32 = 1;
    /// In use.
    pub const LIVE: u32 = 2;
}

/// Bits of [`Flow::flags`].
pub mod flow_flags {
    /// Entered by a published port; [`super::Flow::publication`] is set.
    pub const PUBLISHED: u32 = 1;
    /// The initiator's address is translated to the host's.
    pub const MASQUERADED: u32 = 1 << 1;
    /// A packet of the reply direction was seen.
    pub const REPLIED: u32 = 1 << 2;
    /// Both ends have closed the TCP connection: no endpoint is charged with it, and a new flow may take its slot.
    pub const CLOSED: u32 = 1 << 3;
    /// Its target is an external port that an endpoint's UDP mapping has: what the initiator sends goes on by that endpoint's
    /// own flow.
    pub const HAIRPIN: u32 = 1 << 4;
}

/// Bits of [`Flow::tcp`]: what was seen so far. Bits are added, so that both CPUs of a flow may do it at once; only a connection
/// that begins once more loses its own, and a RST is taken back.
pub mod tcp {
    /// SYN of the initiator.
    pub const SYN: u32 = 1;
    /// SYN of the responder, with or without ACK (simultaneous open, RFC 9293 section 3.5).
    pub const REPLY_SYN: u32 = 1 << 1;
    /// An ACK of the initiator after both SYNs: established.
    pub const ACKED: u32 = 1 << 2;
    /// FIN of the initiator.
    pub const FIN: u32 = 1 << 3;
    /// FIN of the responder.
    pub const REPLY_FIN: u32 = 1 << 4;
    /// RST of either. Taken back by a later packet without RST (RFC 7857 section 2.2).
    pub const RST: u32 = 1 << 5;
    /// Another SYN of the initiator, with another number, after the connection was open.
    pub const REOPENED: u32 = 1 << 6;
}

/// Sequence numbers of a TCP connection, host order. Of the pairs, the initiator's is the first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sequences {
    /// The number behind all that each side has sent.
    pub next: [u32; 2],
    /// The number that each side expects next, as it said last.
    pub acknowledged: [u32; 2],
    /// The number behind the latest SYN of the initiator, be it of the connection or [`tcp::REOPENED`].
    pub reopened: u32,
}

/// A packet's addresses as it arrives.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct FlowKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, wire order; of ICMP echo requests the identifier, of replies 0.
    pub source_port: u16,
    /// Destination port, wire order; of ICMP echo replies the identifier, of requests 0.
    pub destination_port: u16,
    /// [`scope`].
    pub scope: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub padding: u8,
}

impl FlowKey {
    /// The key of packets that answer these, arriving in `scope`.
    #[inline(always)]
    #[must_use]
    pub const fn reverse(&self, scope: u16) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            scope,
            protocol: self.protocol,
            padding: 0,
        }
    }
}

/// Which slot a key leads to.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FlowIndex {
    /// Slot of `FLOWS`.
    pub slot: u32,
    /// Must equal [`Flow::serial`], or the slot has gone to another flow.
    pub serial: u32,
}

/// One end of a flow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FlowEnd {
    /// Endpoint index, or [`super::HOST`] when this end is not an endpoint.
    pub endpoint: u32,
    /// Its generation: another one means the flow is not the present owner's.
    pub generation: u32,
}

/// One flow, both directions.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flow {
    /// [`claim`].
    pub claim: u32,
    /// Raised each time the slot is claimed.
    pub serial: u32,
    /// The initiator's packets as they arrive.
    pub original: FlowKey,
    /// The responder's packets as they arrive.
    pub reply: FlowKey,
    /// Who began.
    pub initiator: FlowEnd,
    /// Who answers.
    pub responder: FlowEnd,
    /// Index of the publication it entered by.
    pub publication: u32,
    /// Generation of that publication.
    pub publication_generation: u32,
    /// [`tcp`] bits.
    pub tcp: u32,
    /// [`flow_flags`].
    pub flags: u32,
    /// Expired after this time.
    pub deadline: u64,
    /// When it began, in seconds of CLOCK_MONOTONIC.
    pub created: u32,
    /// The uplink its packets leave by; 0: not looked up yet.
    pub route_ifindex: u32,
    /// Largest IP packet that the route takes, in bytes; 0: not looked up yet. None is longer than 65,535 (RFC 791 section 3.1;
    /// RFC 8200 section 3).
    pub route_mtu: u16,
    /// 1 as long as the route need not be looked up again: until the deadline is moved, later than in the second in which the flow began.
    pub route_known: u8,
    /// [`super::next_hop`]: the number of the next hop.
    pub next_hop: u8,
    /// Of TCP. Each number is written by packets of one direction, but in the handshake.
    pub sequences: Sequences,
    /// Packets of the initiator and of the responder.
    pub packets: [u64; 2],
    /// Bytes of the initiator and of the responder, from the IP header on.
    pub bytes: [u64; 2],
}

/// The inside of a UDP mapping: one source on one network, as seen from one external address (RFC 4787 REQ-1).
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct UdpMapping {
    /// The container's address.
    pub source: Address,
    /// The host's address it is translated to.
    pub external: Address,
    /// Generation of the endpoint, so that a successor with the same address gets a mapping of its own.
    pub generation: u32,
    /// The container's port, wire order.
    pub source_port: u16,
    /// Zero.
    pub padding: u16,
}

/// Who has an external UDP port. A mapping whose deadline has passed is nobody's.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct UdpMapped {
    /// The container's address.
    pub source: Address,
    /// Expired after this time.
    pub deadline: u64,
    /// Generation of the endpoint.
    pub generation: u32,
    /// The container's port, wire order.
    pub source_port: u16,
    /// Zero.
    pub padding: u16,
}
