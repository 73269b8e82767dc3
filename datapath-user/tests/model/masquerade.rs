//! Masquerade (N1, N2, N4, N10, N13, B5).

use std::collections::HashMap;

use datapath_common::{
    abi::{DropReason, PublishedKey, Settings, claim},
    logic::parse::protocol,
    native::{self, Frame, NativeTables, checksums_are_right},
    path::{self, Route, Verdict},
};
use lab::frame::{IpBuilder, View};
use proptest::prelude::*;

use super::{GATEWAY_MAC, ROUTER_MAC, SECOND, UPLINK, UPLINK_MAC, ethernet, external, inside, mac, outside};

/// As many as all sources, targets and protocols of the strategy can make at once.
const SLOTS: u32 = 256;
const QUOTA: u32 = 20;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Udp,
    Echo,
}

/// One conversation, as its initiator sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Conversation {
    kind: Kind,
    v6: bool,
    endpoint: u8,
    port: u16,
    target: u8,
}

#[derive(Clone, Debug)]
enum Step {
    /// The initiator sends.
    Send(Conversation),
    /// The target answers the conversation's last packet.
    Answer(usize),
    /// Somebody else sends to where the conversation's last packet came from.
    Intrude(usize),
    /// Seconds pass.
    Wait(u64),
    /// An endpoint is detached, and another attached with the same index and address.
    Replace(u8),
    /// A socket of the host takes a port.
    Listen(u16),
}

fn conversation() -> impl Strategy<Value = Conversation> {
    (prop_oneof![Just(Kind::Udp), Just(Kind::Echo)], any::<bool>(), 1..=2u8, 4_000..4_004u16, 1..=3u8)
        .prop_map(|(kind, v6, endpoint, port, target)| Conversation { kind, v6, endpoint, port, target })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => conversation().prop_map(Step::Send),
        6 => any::<usize>().prop_map(Step::Answer),
        2 => any::<usize>().prop_map(Step::Intrude),
        2 => (1..400u64).prop_map(Step::Wait),
        1 => (1..=2u8).prop_map(Step::Replace),
        1 => (4_000..4_004u16).prop_map(Step::Listen),
    ]
}

/// What the model knows of a living conversation.
#[derive(Clone, Copy, Debug)]
struct Known {
    external_port: u16,
    until: u64,
}

struct World {
    tables: NativeTables,
    sockets: Vec<PublishedKey>,
    known: HashMap<Conversation, Known>,
    /// Conversations of endpoints that have been replaced, with their external ports.
    gone: HashMap<Conversation, u16>,
    /// Conversations that have sent, in order.
    sent: Vec<Conversation>,
}

impl World {
    fn new() -> Self {
        let state = super::state(QUOTA);
        Self {
            tables: NativeTables::new(state, SLOTS),
            sockets: Vec::new(),
            known: HashMap::new(),
            gone: HashMap::new(),
            sent: Vec::new(),
        }
    }

    fn frame(&self, ifindex: u32, bytes: Vec<u8>) -> Frame {
        let mut frame = Frame::new(ifindex, bytes);
        frame.route = Route::new(UPLINK, 0);
        frame.host_sockets = self.sockets.clone();
        frame
    }

    fn alive(&self) -> impl Iterator<Item = (&Conversation, &Known)> {
        let now = self.tables.now.get();
        self.known.iter().filter(move |(_, known)| known.until >= now)
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Send(conversation) => self.send(*conversation),
            Step::Answer(which) => self.answer(*which, false),
            Step::Intrude(which) => self.answer(*which, true),
            Step::Wait(seconds) => {
                self.tables.now.set(self.tables.now.get() + seconds * SECOND);
                Ok(())
            }
            Step::Replace(index) => {
                let owner = self.tables.state.endpoints.get_mut(&u32::from(*index)).expect("two endpoints");
                owner.generation += 10;
                let gone = self.known.extract_if(|conversation, _| conversation.endpoint == *index);
                self.gone.extend(gone.map(|(conversation, known)| (conversation, known.external_port)));
                Ok(())
            }
            Step::Listen(port) => {
                for v6 in [false, true] {
                    self.sockets.push(PublishedKey::new(external(v6).into(), port.to_be(), protocol::UDP));
                }
                Ok(())
            }
        }
    }

    fn send(&mut self, conversation: Conversation) -> Result<(), TestCaseError> {
        let Conversation { kind, v6, endpoint, port, target } = conversation;
        let builder = ethernet(mac(endpoint), GATEWAY_MAC, inside(v6, endpoint), outside(v6, target));
        let mut frame = self.frame(10 + u32::from(endpoint), question(builder, kind, port));
        let length = frame.bytes.len();
        let before = self.alive().find(|(other, _)| **other == conversation).map(|(_, known)| *known);
        let charged = self.alive().filter(|(other, _)| other.endpoint == endpoint).count();
        let outcome = native::run(path::from_container, &mut frame, &self.tables);
        if let Err(reason) = outcome {
            // Anything else would be a world in which nothing is translated, and nothing tested.
            let full = [DropReason::EndpointQuota, DropReason::FlowTableFull, DropReason::PortsExhausted];
            prop_assert!(full.contains(&reason), "{conversation:?} is refused: {reason:?}");
            // Expired flows may still be charged, so the quota is reached early at the most; never late.
            prop_assert!(before.is_none(), "{conversation:?} lives and is refused: {outcome:?}");
            return Ok(());
        }
        prop_assert!(before.is_some() || charged < QUOTA as usize, "{conversation:?} is over the quota");
        prop_assert_eq!(outcome, Ok(Verdict::ToUplink(UPLINK)));
        let view = View::of(&frame.bytes, None).expect("a packet");
        prop_assert_eq!(view.source, Some(external(v6)), "an address of ours leaves");
        prop_assert!(checksums_are_right(&frame.bytes), "{conversation:?}");
        prop_assert_eq!(frame.bytes.len(), length);
        let external_port = port_of(&frame.bytes, kind, v6, true);
        if let Some(before) = before {
            prop_assert_eq!(before.external_port, external_port, "a living flow moves");
        }
        // In its last seconds a flow may live longer than the model promises.
        let now = self.tables.now.get();
        let old = self.known.get(&conversation).is_some_and(|known| known.until + 3 * SECOND >= now);
        for (other, known) in self.alive().filter(|(other, _)| **other != conversation) {
            let clash =
                (other.kind, other.v6, other.target) == (kind, v6, target) && known.external_port == external_port;
            prop_assert!(!clash, "{other:?} and {conversation:?} share port {external_port}");
            let same_source = (other.kind, other.v6, other.endpoint, other.port) == (kind, v6, endpoint, port);
            // A port that the host has come to use is left to it.
            let kept = !self.host_has(known.external_port);
            if same_source && kept && kind == Kind::Udp && !old {
                prop_assert_eq!(known.external_port, external_port, "the mapping depends on the target");
            }
        }
        let taken = kind == Kind::Udp && self.host_has(external_port);
        prop_assert!(old || !taken, "{conversation:?} takes the host's port");
        let settings = Settings::DEFAULT;
        let idle = if kind == Kind::Udp { settings.udp_timeout } else { settings.icmp_timeout };
        // The deadline is moved when it is a second off, so the last second of the idle time is not promised.
        let until = self.tables.now.get() + idle - 2 * SECOND;
        self.known.insert(conversation, Known { external_port, until });
        self.sent.push(conversation);
        Ok(())
    }

    /// Whether a socket of the host has the UDP port.
    fn host_has(&self, port: u16) -> bool {
        self.sockets.iter().any(|socket| u16::from_be(socket.port) == port)
    }

    fn answer(&mut self, which: usize, intruder: bool) -> Result<(), TestCaseError> {
        if self.sent.is_empty() {
            return Ok(());
        }
        let conversation = self.sent[which % self.sent.len()];
        let Some(known) = self.known.get(&conversation).copied() else {
            return self.answer_gone(&conversation);
        };
        let Conversation { kind, v6, endpoint, port, target } = conversation;
        let from = if intruder { outside(v6, 9) } else { outside(v6, target) };
        let builder = ethernet(ROUTER_MAC, UPLINK_MAC, from, external(v6));
        let mut frame = self.frame(UPLINK, reply(builder, kind, v6, known.external_port));
        let outcome = native::run(path::from_uplink, &mut frame, &self.tables);
        if intruder {
            prop_assert_eq!(outcome, Ok(Verdict::Pass), "filtering is by address and port");
            return Ok(());
        }
        if known.until < self.tables.now.get() {
            return Ok(());
        }
        prop_assert_eq!(outcome, Ok(Verdict::ToEndpoint(10 + u32::from(endpoint))));
        let view = View::of(&frame.bytes, None).expect("a packet");
        prop_assert_eq!((view.source, view.destination), (Some(from), Some(inside(v6, endpoint))));
        prop_assert_eq!(port_of(&frame.bytes, kind, v6, false), port);
        prop_assert!(checksums_are_right(&frame.bytes));
        Ok(())
    }

    /// An answer to somebody who has been replaced reaches nobody (B5).
    fn answer_gone(&mut self, conversation: &Conversation) -> Result<(), TestCaseError> {
        let Conversation { kind, v6, target, .. } = *conversation;
        let Some(port) = self.gone.get(conversation).copied() else {
            return Ok(());
        };
        let same = |other: &Conversation| (other.kind, other.v6, other.target) == (kind, v6, target);
        if self.known.iter().any(|(other, known)| same(other) && known.external_port == port) {
            return Ok(());
        }
        let builder = ethernet(ROUTER_MAC, UPLINK_MAC, outside(v6, target), external(v6));
        let mut frame = self.frame(UPLINK, reply(builder, kind, v6, port));
        let outcome = native::run(path::from_uplink, &mut frame, &self.tables);
        prop_assert_eq!(outcome, Ok(Verdict::Pass), "{:?} is answered after its end", conversation);
        Ok(())
    }

    /// What must hold of the tables after every step.
    fn check(&self) -> Result<(), TestCaseError> {
        let live: Vec<_> = self.tables.flows().filter(|flow| flow.claim == claim::LIVE).collect();
        prop_assert_eq!(self.tables.keys.borrow().len(), 2 * live.len(), "a key without its flow, or the reverse");
        prop_assert!(self.tables.flows().all(|flow| flow.claim != claim::BUSY), "a slot is left busy");
        for index in 1..=2u32 {
            let charged = self.tables.usage_of(index).flows;
            prop_assert!(charged <= QUOTA, "endpoint {index} has {charged} flows");
        }
        Ok(())
    }
}

fn question(builder: IpBuilder, kind: Kind, port: u16) -> Vec<u8> {
    match kind {
        Kind::Udp => builder.udp(port, 53, b"question"),
        Kind::Echo => builder.echo_request(port, 1),
    }
}

fn reply(builder: IpBuilder, kind: Kind, v6: bool, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    match kind {
        Kind::Udp => builder.udp(53, port, b"answer"),
        Kind::Echo => builder.icmp(if v6 { 129 } else { 0 }, 0, &[high, low, 0, 1]),
    }
}

/// The initiator's port, or the identifier, in a packet of either direction.
fn port_of(bytes: &[u8], kind: Kind, v6: bool, outwards: bool) -> u16 {
    let transport = if v6 { 54 } else { 34 };
    let at = match (kind, outwards) {
        (Kind::Echo, _) => transport + 4,
        (Kind::Udp, true) => transport,
        (Kind::Udp, false) => transport + 2,
    };
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

proptest! {
    // Not persisted: mutation runs fail on purpose. A failure prints its steps, which become a test of their own.
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn masquerade_agrees_with_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
            world.check()?;
        }
    }
}
