//! Conversations with the outside, and their packets.

use datapath_common::{abi::FlowKey, logic::parse::protocol};
use lab::frame::IpBuilder;
use proptest::prelude::*;

use crate::{daemon::ENDPOINTS, inside, network_of, outside};

/// The first of the ports that initiators send from.
pub const FIRST_PORT: u16 = 4_000;
/// What is answered comes from here.
const TARGET_PORT: u16 = 53;

/// What is said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Udp,
    Echo,
}

/// One conversation, as its initiator sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conversation {
    pub kind: Kind,
    pub v6: bool,
    pub endpoint: u8,
    pub port: u16,
    pub target: u8,
}

impl Conversation {
    /// The key of the initiator's packets.
    pub fn key(&self) -> FlowKey {
        let (protocol, target_port) = match (self.kind, self.v6) {
            (Kind::Udp, _) => (protocol::UDP, TARGET_PORT),
            (Kind::Echo, false) => (protocol::ICMP, 0),
            (Kind::Echo, true) => (protocol::ICMPV6, 0),
        };
        FlowKey {
            source: inside(self.v6, self.endpoint).into(),
            destination: outside(self.v6, self.target).into(),
            source_port: self.port.to_be(),
            destination_port: target_port.to_be(),
            scope: if network_of(self.endpoint) == network_of(1) { 1 } else { 2 },
            protocol,
            padding: 0,
        }
    }

    /// Whether both would be told apart by their external port alone: of UDP all are, as far as their sources differ.
    pub fn competes_with(&self, other: &Self) -> bool {
        let same_target = self.kind == Kind::Udp || self.target == other.target;
        (self.kind, self.v6) == (other.kind, other.v6) && same_target
    }

    pub fn has_source_of(&self, other: &Self) -> bool {
        (self.kind, self.v6, self.endpoint, self.port) == (other.kind, other.v6, other.endpoint, other.port)
    }
}

/// Any of 144.
pub fn conversation() -> impl Strategy<Value = Conversation> {
    let kind = prop_oneof![Just(Kind::Udp), Just(Kind::Echo)];
    (kind, any::<bool>(), 1..=ENDPOINTS, FIRST_PORT..FIRST_PORT + 4, 1..=3u8)
        .prop_map(|(kind, v6, endpoint, port, target)| Conversation { kind, v6, endpoint, port, target })
}

/// What the initiator sends.
pub fn question(builder: IpBuilder, kind: Kind, port: u16) -> Vec<u8> {
    match kind {
        Kind::Udp => builder.udp(port, TARGET_PORT, b"question"),
        Kind::Echo => builder.echo_request(port, 1),
    }
}

/// What the target answers to this port.
pub fn reply(builder: IpBuilder, kind: Kind, v6: bool, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    match kind {
        Kind::Udp => builder.udp(TARGET_PORT, port, b"answer"),
        Kind::Echo => builder.icmp(if v6 { 129 } else { 0 }, 0, &[high, low, 0, 1]),
    }
}

/// The initiator's port, or the identifier, in a packet of either direction.
pub fn port_of(bytes: &[u8], kind: Kind, v6: bool, outwards: bool) -> u16 {
    let transport = if v6 { 54 } else { 34 };
    let at = match (kind, outwards) {
        (Kind::Echo, _) => transport + 4,
        (Kind::Udp, true) => transport,
        (Kind::Udp, false) => transport + 2,
    };
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
