//! Conversations with the outside, and their packets.

use datapath_common::{
    abi::{FlowKey, Settings},
    logic::parse::protocol,
};
use lab::frame::{IpBuilder, TcpSegment, tcp_flags};
use proptest::prelude::*;

use crate::{SECOND, daemon::ENDPOINTS, inside, network_of, outside};

/// The first of the ports that initiators send from.
pub const FIRST_PORT: u16 = 4_000;
/// What is answered comes from here.
const TARGET_PORT: u16 = 53;
/// The first numbers of both ends of a connection, which send nothing but flags.
const SEQUENCES: [u32; 2] = [1_000, 500_000];
/// Timeouts of connections, short beside what is waited.
pub const ESTABLISHED: u64 = 600 * SECOND;
pub const TRANSITORY: u64 = 120 * SECOND;

/// What is said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Udp,
    Tcp,
    Echo,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The initiator has sent SYN; so has everybody who knows no connections.
    Begun,
    /// The target has sent SYN and ACK.
    Answered,
    /// The initiator has acknowledged that.
    Open,
    /// The target has sent RST.
    Reset,
}

impl Stage {
    /// Behind another packet of the initiator.
    pub const fn sent(self) -> Self {
        if matches!(self, Self::Begun) { self } else { Self::Open }
    }

    /// Behind another packet of the target.
    pub const fn answered(self) -> Self {
        if matches!(self, Self::Begun) { Self::Answered } else { self }
    }
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
            (Kind::Tcp, _) => (protocol::TCP, TARGET_PORT),
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

    /// How long it may be idle.
    pub fn idle(&self, stage: Stage) -> u64 {
        match self.kind {
            Kind::Udp => Settings::DEFAULT.udp_timeout,
            Kind::Echo => Settings::DEFAULT.icmp_timeout,
            Kind::Tcp if stage == Stage::Open => ESTABLISHED,
            Kind::Tcp => TRANSITORY,
        }
    }

    pub fn has_source_of(&self, other: &Self) -> bool {
        (self.kind, self.v6, self.endpoint, self.port) == (other.kind, other.v6, other.endpoint, other.port)
    }
}

/// Any of 216.
pub fn conversation() -> impl Strategy<Value = Conversation> {
    let kind = prop_oneof![Just(Kind::Udp), Just(Kind::Tcp), Just(Kind::Echo)];
    (kind, any::<bool>(), 1..=ENDPOINTS, FIRST_PORT..FIRST_PORT + 4, 1..=3u8)
        .prop_map(|(kind, v6, endpoint, port, target)| Conversation { kind, v6, endpoint, port, target })
}

/// What the initiator sends, when it has come so far.
pub fn question(builder: IpBuilder, kind: Kind, port: u16, stage: Stage) -> Vec<u8> {
    let [own, target] = SEQUENCES;
    let segment = |flags, sequence, acknowledgement| TcpSegment {
        source: port,
        destination: TARGET_PORT,
        sequence,
        acknowledgement,
        flags,
    };
    match kind {
        Kind::Udp => builder.udp(port, TARGET_PORT, b"question"),
        Kind::Tcp if stage == Stage::Begun => builder.tcp(segment(tcp_flags::SYN, own, 0), b""),
        Kind::Tcp => builder.tcp(segment(tcp_flags::ACK, own + 1, target + 1), b""),
        Kind::Echo => builder.echo_request(port, 1),
    }
}

/// What the target answers to this port, when the initiator has come so far; with RST, that it wants no more.
pub fn reply(builder: IpBuilder, kind: Kind, v6: bool, port: u16, stage: Stage, reset: bool) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let [client, own] = SEQUENCES;
    let segment = |flags, sequence| TcpSegment {
        source: TARGET_PORT,
        destination: port,
        sequence,
        acknowledgement: client + 1,
        flags,
    };
    match kind {
        Kind::Udp => builder.udp(TARGET_PORT, port, b"answer"),
        Kind::Tcp if reset => {
            let sequence = if stage == Stage::Begun { 0 } else { own + 1 };
            builder.tcp(segment(tcp_flags::RST | tcp_flags::ACK, sequence), b"")
        }
        Kind::Tcp if stage == Stage::Open => builder.tcp(segment(tcp_flags::ACK, own + 1), b""),
        Kind::Tcp => builder.tcp(segment(tcp_flags::SYN | tcp_flags::ACK, own), b""),
        Kind::Echo => builder.icmp(if v6 { 129 } else { 0 }, 0, &[high, low, 0, 1]),
    }
}

/// The initiator's port, or the identifier, in a packet of either direction.
pub fn port_of(bytes: &[u8], kind: Kind, v6: bool, outwards: bool) -> u16 {
    let transport = if v6 { 54 } else { 34 };
    let at = match (kind, outwards) {
        (Kind::Echo, _) => transport + 4,
        (Kind::Udp | Kind::Tcp, true) => transport,
        (Kind::Udp | Kind::Tcp, false) => transport + 2,
    };
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
