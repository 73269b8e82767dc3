//! Masquerade (N1, N2, N4, N10, N13, B5, I2), while endpoints are replaced and the daemon is killed and started again (F1).

mod conversation;

use std::{cell::Cell, collections::HashMap};

use conversation::{
    Conversation, ESTABLISHED, FIRST_PORT, Kind, Stage, TRANSITORY, conversation, port_of, question, reply,
};

use datapath_common::{
    abi::{DropReason, PublishedKey, Settings, claim},
    logic::parse::protocol,
    native::{Frame, NativeTables},
    path::{self, Route, Tables, Verdict},
};
use lab::frame::View;
use proptest::prelude::*;

use super::{
    DOUBT, ROUTER_MAC, SECOND, UPLINK, UPLINK_MAC,
    daemon::{Daemon, ENDPOINTS},
    ethernet, external, inside, network_of, outside, rules, sequences, tables,
};

/// How much there is of all that flows need.
#[derive(Clone, Copy, Debug)]
struct Limits {
    slots: u32,
    quota: u32,
    /// The last port of those that masquerade may take.
    last_port: u16,
    /// Seconds.
    longest_wait: u64,
}

/// As many slots as all sources, targets and protocols of the strategy can take at once.
const PLENTY: Limits = Limits { slots: 256, quota: 30, last_port: 65_535, longest_wait: 400 };
/// Each of them is used up now and then.
const SCARCE: Limits = Limits { slots: 16, quota: 7, last_port: FIRST_PORT + 4, longest_wait: 80 };

#[derive(Clone, Debug)]
enum Step {
    /// The initiator sends.
    Send(Conversation),
    /// The initiator of a conversation sends again.
    Continue(usize),
    /// The target answers the conversation's last packet.
    Answer(usize),
    /// The target resets the connection.
    Reset(usize),
    /// Somebody else sends to where the conversation's last packet came from.
    Intrude(usize),
    /// An endpoint sends to one of another network, to its own MAC address or to the gateway's.
    Trespass(Conversation, u8, bool),
    /// Seconds pass.
    Wait(u64),
    /// Time passes until the last moment of a conversation, whose target answers then.
    AnswerAtLast(usize),
    /// An endpoint is detached, and another attached with the same index and address; the daemon may be killed meanwhile, after
    /// so many changes of maps. While it is dead, the container ends.
    Replace(u8, Option<usize>),
    /// A socket of the host takes a port.
    Listen(u16),
    Kill,
    /// The daemon is started, or killed and started.
    Start,
    /// The daemon looks for what is over.
    Sweep,
}

fn step(limits: Limits) -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => conversation().prop_map(Step::Send),
        8 => any::<usize>().prop_map(Step::Continue),
        12 => any::<usize>().prop_map(Step::Answer),
        2 => any::<usize>().prop_map(Step::Reset),
        4 => any::<usize>().prop_map(Step::Intrude),
        2 => (conversation(), 1..=ENDPOINTS, any::<bool>()).prop_map(|(from, to, direct)| Step::Trespass(from, to, direct)),
        4 => (1..limits.longest_wait).prop_map(Step::Wait),
        2 => Just(Step::Wait(1)),
        2 => any::<usize>().prop_map(Step::AnswerAtLast),
        2 => (1..=ENDPOINTS, prop::option::of(0..12usize)).prop_map(|(endpoint, after)| Step::Replace(endpoint, after)),
        1 => (FIRST_PORT..FIRST_PORT + 3).prop_map(Step::Listen),
        1 => Just(Step::Kill),
        2 => Just(Step::Start),
        2 => Just(Step::Sweep),
    ]
}

/// What the model knows of a conversation.
#[derive(Clone, Copy, Debug)]
struct Known {
    external_port: u16,
    stage: Stage,
    /// It lives at least until then, and at most [`DOUBT`] longer.
    until: u64,
}

/// How often there was what the tests are about.
#[derive(Default, Debug)]
struct Seen {
    over_quota: Cell<u32>,
    table_full: Cell<u32>,
    ports_exhausted: Cell<u32>,
    outlived_a_daemon: Cell<u32>,
    opened: Cell<u32>,
    answered_at_last: Cell<u32>,
    reset: Cell<u32>,
}

fn count(counter: &Cell<u32>) {
    counter.set(counter.get() + 1);
}

struct World<'a> {
    limits: Limits,
    seen: &'a Seen,
    tables: NativeTables,
    daemon: Daemon,
    sockets: Vec<PublishedKey>,
    known: HashMap<Conversation, Known>,
    /// Conversations of endpoints that have been replaced, latest last.
    gone: Vec<(Conversation, Known)>,
    /// Conversations that have sent, in order.
    sent: Vec<Conversation>,
}

impl<'a> World<'a> {
    fn new(limits: Limits, seen: &'a Seen) -> Self {
        let settings = Settings {
            flow_quota: limits.quota,
            masquerade_port_first: FIRST_PORT.into(),
            masquerade_port_last: limits.last_port.into(),
            tcp_established_timeout: ESTABLISHED,
            tcp_transitory_timeout: TRANSITORY,
            ..Settings::DEFAULT
        };
        let mut tables = tables(settings, limits.slots);
        let daemon = Daemon::new(&mut tables);
        let (known, gone) = (HashMap::new(), Vec::new());
        Self { limits, seen, tables, daemon, sockets: Vec::new(), known, gone, sent: Vec::new() }
    }

    fn frame(&self, ifindex: u32, bytes: Vec<u8>) -> Frame {
        let mut frame = Frame::new(ifindex, bytes);
        frame.route = Route::new(UPLINK, 0);
        frame.host_sockets = self.sockets.clone();
        frame
    }

    fn now(&self) -> u64 {
        self.tables.now.get()
    }

    /// The conversations that live. The clock never stands where that is in doubt.
    fn alive(&self) -> impl Iterator<Item = (&Conversation, &Known)> {
        let now = self.now();
        self.known.iter().filter(move |(_, known)| known.until >= now)
    }

    /// The same, those of earlier endpoints included: their mappings last until they expire.
    fn lasting(&self) -> impl Iterator<Item = (&Conversation, &Known)> {
        let (now, gone) = (self.now(), self.gone.iter().map(|(conversation, known)| (conversation, known)));
        self.known.iter().chain(gone).filter(move |(_, known)| known.until + DOUBT >= now)
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Send(conversation) => return self.send(conversation),
            Step::Continue(which) => {
                let conversation = self.sent.get(which % self.sent.len().max(1)).copied();
                return conversation.map_or(Ok(()), |conversation| self.send(conversation));
            }
            Step::Answer(which) => return self.answer(which, false),
            Step::Reset(which) => return self.reset(which),
            Step::Intrude(which) => return self.answer(which, true),
            Step::Trespass(from, to, direct) => return self.trespass(from, to, direct),
            Step::Wait(seconds) => self.wait(seconds),
            Step::AnswerAtLast(which) => return self.answer_at_last(which),
            Step::Replace(endpoint, after) => {
                if self.daemon.is_running() {
                    self.forget(endpoint);
                }
                self.daemon.replace(&mut self.tables, endpoint, after);
            }
            Step::Listen(port) => {
                for v6 in [false, true] {
                    for protocol in [protocol::TCP, protocol::UDP] {
                        self.sockets.push(PublishedKey::new(external(v6).into(), port.to_be(), protocol));
                    }
                }
            }
            Step::Kill => self.daemon.kill(),
            Step::Start => {
                let ended: Vec<u8> = (1..=ENDPOINTS).filter(|endpoint| !self.daemon.has(*endpoint)).collect();
                ended.into_iter().for_each(|endpoint| self.forget(endpoint));
                self.daemon.kill();
                self.daemon.start(&mut self.tables);
                self.alive().for_each(|_| count(&self.seen.outlived_a_daemon));
            }
            Step::Sweep => self.daemon.sweep(&self.tables),
        }
        Ok(())
    }

    fn wait(&mut self, seconds: u64) {
        let mut now = self.now() + seconds * SECOND;
        let in_doubt = |now| self.known.values().find(|known| known.until < now && now <= known.until + DOUBT);
        while let Some(known) = in_doubt(now) {
            now = known.until + DOUBT + 1;
        }
        self.tables.now.set(now);
    }

    fn answer_at_last(&mut self, which: usize) -> Result<(), TestCaseError> {
        let Some(conversation) = self.sent.get(which % self.sent.len().max(1)) else { return Ok(()) };
        let alive = self.alive().find(|(other, _)| *other == conversation);
        let Some(last) = alive.map(|(_, known)| known.until) else { return Ok(()) };
        if self.known.values().any(|known| known.until < last && last <= known.until + DOUBT) {
            return Ok(());
        }
        self.tables.now.set(last);
        count(&self.seen.answered_at_last);
        self.answer(which, false)
    }

    /// The endpoint goes, and its conversations are over.
    fn forget(&mut self, endpoint: u8) {
        self.gone.extend(self.known.extract_if(|conversation, _| conversation.endpoint == endpoint));
    }

    fn send(&mut self, conversation: Conversation) -> Result<(), TestCaseError> {
        let Conversation { kind, v6, endpoint, port, target } = conversation;
        if !self.daemon.has(endpoint) {
            return Ok(());
        }
        let (from, gateway) = self.daemon.macs(&self.tables, endpoint);
        let builder = ethernet(from, gateway, inside(v6, endpoint), outside(v6, target));
        // What was reset is over with the next SYN.
        self.known.extract_if(|other, known| *other == conversation && known.stage == Stage::Reset).for_each(drop);
        let before = self.alive().find(|(other, _)| **other == conversation).map(|(_, known)| *known);
        let stage = before.map_or(Stage::Begun, |before| before.stage);
        let mut frame = self.frame(self.daemon.port(endpoint), question(builder, kind, port, stage));
        let charged = self.alive().filter(|(other, _)| other.endpoint == endpoint).count();
        let used = self.alive().count();
        match rules::run(path::from_container, &mut frame, &self.tables)? {
            Ok(verdict) => prop_assert_eq!(verdict, Verdict::ToUplink(UPLINK)),
            Err(reason) => {
                prop_assert!(before.is_none(), "{:?} lives and is refused: {:?}", conversation, reason);
                self.known.remove(&conversation);
                return self.refused(&conversation, reason, charged, used);
            }
        }
        if before.is_none() {
            prop_assert!(charged < self.limits.quota as usize, "{:?} is over the quota", conversation);
            prop_assert!(used < self.limits.slots as usize, "{:?} finds room in a full table", conversation);
        }
        let external_port = port_of(&frame.bytes, kind, v6, true);
        match before {
            Some(before) => prop_assert_eq!(before.external_port, external_port, "a living flow moves"),
            None => self.check_choice(&conversation, external_port)?,
        }
        let stage = stage.sent();
        if stage == Stage::Open {
            count(&self.seen.opened);
        }
        let until = self.now() + conversation.idle(stage);
        self.known.insert(conversation, Known { external_port, stage, until });
        self.sent.push(conversation);
        Ok(())
    }

    /// A new conversation is refused only for want of what it needs: who lives is not put out for it (N10).
    fn refused(
        &self,
        conversation: &Conversation,
        reason: DropReason,
        charged: usize,
        used: usize,
    ) -> Result<(), TestCaseError> {
        let (wanting, seen) = match reason {
            DropReason::EndpointQuota => (charged >= self.limits.quota as usize, &self.seen.over_quota),
            DropReason::FlowTableFull => (used >= self.limits.slots as usize, &self.seen.table_full),
            DropReason::PortsExhausted => (self.has_no_port(conversation), &self.seen.ports_exhausted),
            _ => return Err(TestCaseError::fail(format!("{conversation:?} is refused: {reason:?}"))),
        };
        prop_assert!(wanting, "{:?} is refused, {:?}, with {} and {} flows", conversation, reason, charged, used);
        count(seen);
        Ok(())
    }

    /// Whether somebody may have the port.
    fn may_be_taken(&self, conversation: &Conversation, port: u16) -> bool {
        let taken =
            |(other, known): (&Conversation, &Known)| conversation.competes_with(other) && known.external_port == port;
        conversation.kind != Kind::Echo && self.host_has(port) || self.lasting().any(taken)
    }

    /// The external port of the source's mapping, if the host has not come to use it.
    fn mapped(&self, conversation: &Conversation) -> Option<u16> {
        let own = self.alive().filter(|(other, _)| conversation.kind == Kind::Udp && other.has_source_of(conversation));
        own.map(|(_, known)| known.external_port).find(|port| !self.host_has(*port))
    }

    fn has_no_port(&self, conversation: &Conversation) -> bool {
        let mut choice = FIRST_PORT..=self.limits.last_port;
        self.mapped(conversation).is_none() && choice.all(|port| self.may_be_taken(conversation, port))
    }

    /// The external port of a new conversation: its mapping's, else its own where that is free, else a free one (N1, N2).
    fn check_choice(&self, conversation: &Conversation, external_port: u16) -> Result<(), TestCaseError> {
        if let Some(mapped) = self.mapped(conversation) {
            prop_assert_eq!(mapped, external_port, "the mapping depends on the target");
            return Ok(());
        }
        if !self.may_be_taken(conversation, conversation.port) {
            prop_assert_eq!(conversation.port, external_port, "the port is free, and not kept");
        }
        let range = FIRST_PORT..=self.limits.last_port;
        prop_assert!(range.contains(&external_port), "{} is not to be taken", external_port);
        let taken = conversation.kind != Kind::Echo && self.host_has(external_port);
        prop_assert!(!taken, "{:?} takes the host's port", conversation);
        Ok(())
    }

    /// Whether sockets of the host have the TCP and the UDP port.
    fn host_has(&self, port: u16) -> bool {
        self.sockets.iter().any(|socket| u16::from_be(socket.port) == port)
    }

    fn answer(&mut self, which: usize, intruder: bool) -> Result<(), TestCaseError> {
        if self.sent.is_empty() {
            return Ok(());
        }
        let conversation = self.sent[which % self.sent.len()];
        let Conversation { kind, v6, endpoint, port, target } = conversation;
        let gone = || self.gone.iter().rfind(|(other, _)| *other == conversation).map(|(_, known)| *known);
        let Some(known) = self.known.get(&conversation).copied().or_else(gone) else { return Ok(()) };
        let heard = |(other, alive): &(&Conversation, &Known)| {
            (other.kind, other.v6, other.target) == (kind, v6, target) && alive.external_port == known.external_port
        };
        let hearer = self.alive().find(heard).map(|(to, alive)| (*to, *alive));
        if hearer.is_some_and(|(_, alive)| alive.stage == Stage::Reset) {
            // A segment behind the RST would take it back.
            return Ok(());
        }
        let stage = hearer.map_or(known.stage, |(_, alive)| alive.stage);
        let from = if intruder { outside(v6, 9) } else { outside(v6, target) };
        let builder = ethernet(ROUTER_MAC, UPLINK_MAC, from, external(v6));
        let mut frame = self.frame(UPLINK, reply(builder, kind, v6, known.external_port, stage, false));
        let outcome = rules::run(path::from_uplink, &mut frame, &self.tables)?;
        let Some((to, alive)) = hearer.filter(|_| !intruder) else {
            prop_assert_eq!(
                outcome,
                Ok(Verdict::Pass),
                "{:?} is answered by a stranger, or after its end",
                conversation
            );
            return Ok(());
        };
        prop_assert_eq!(outcome, Ok(Verdict::ToEndpoint(self.daemon.port(to.endpoint))));
        let view = View::of(&frame.bytes, None).expect("a packet");
        prop_assert_eq!((view.source, view.destination), (Some(from), Some(inside(v6, to.endpoint))));
        prop_assert_eq!(port_of(&frame.bytes, kind, v6, false), to.port);
        prop_assert!(to != conversation || (endpoint, port) == (to.endpoint, to.port));
        if kind == Kind::Tcp {
            // What comes in keeps a connection open, and nothing else (RFC 4787 REQ-6).
            let stage = alive.stage.answered();
            let until = self.now() + to.idle(stage);
            self.known.insert(to, Known { stage, until, ..alive });
        }
        Ok(())
    }

    fn reset(&mut self, which: usize) -> Result<(), TestCaseError> {
        if self.sent.is_empty() {
            return Ok(());
        }
        let conversation = self.sent[which % self.sent.len()];
        let Conversation { kind, v6, endpoint, target, .. } = conversation;
        let alive = self.alive().find(|(other, _)| **other == conversation).map(|(_, known)| *known);
        let Some(known) = alive.filter(|known| kind == Kind::Tcp && known.stage != Stage::Reset) else { return Ok(()) };
        let builder = ethernet(ROUTER_MAC, UPLINK_MAC, outside(v6, target), external(v6));
        let mut frame = self.frame(UPLINK, reply(builder, kind, v6, known.external_port, known.stage, true));
        let outcome = rules::run(path::from_uplink, &mut frame, &self.tables)?;
        prop_assert_eq!(outcome, Ok(Verdict::ToEndpoint(self.daemon.port(endpoint))));
        count(&self.seen.reset);
        let until = self.now() + conversation.idle(Stage::Reset);
        self.known.insert(conversation, Known { stage: Stage::Reset, until, ..known });
        Ok(())
    }

    /// Networks do not reach each other (I2).
    fn trespass(&self, from: Conversation, to: u8, direct: bool) -> Result<(), TestCaseError> {
        let Conversation { kind, v6, endpoint, port, .. } = from;
        if network_of(endpoint) == network_of(to) || !self.daemon.has(endpoint) {
            return Ok(());
        }
        let (own, gateway) = self.daemon.macs(&self.tables, endpoint);
        let mac = if direct { self.daemon.macs(&self.tables, to).0 } else { gateway };
        let builder = ethernet(own, mac, inside(v6, endpoint), inside(v6, to));
        let mut frame = self.frame(self.daemon.port(endpoint), question(builder, kind, port, Stage::Begun));
        let outcome = rules::run(path::from_container, &mut frame, &self.tables)?;
        let wanted = if direct { DropReason::UnknownDestination } else { DropReason::NetworkIsolation };
        prop_assert_eq!(outcome, Err(wanted));
        Ok(())
    }

    /// What must hold after every step. Who lives has its flow and its external port, whatever became of others and of the daemon.
    fn check(&self) -> Result<(), TestCaseError> {
        rules::check(&self.tables, self.limits.quota)?;
        for (conversation, known) in self.alive() {
            let index = self.tables.flow_index(&conversation.key());
            let flow = index.and_then(|index| self.tables.flow(index.slot)).map(|slot| *slot.get());
            let flow = flow.filter(|flow| flow.claim == claim::LIVE && flow.original == conversation.key());
            let port = flow.map(|flow| u16::from_be(flow.reply.destination_port));
            prop_assert_eq!(port, Some(known.external_port), "{:?} has lost its flow", conversation);
        }
        Ok(())
    }
}

fn agrees(limits: Limits) -> Seen {
    let seen = Seen::default();
    sequences(step(limits), |steps| {
        let mut world = World::new(limits, &seen);
        for step in &steps {
            world.take(step)?;
            world.check()?;
        }
        Ok(())
    });
    let often = [&seen.outlived_a_daemon, &seen.opened, &seen.answered_at_last, &seen.reset];
    assert!(often.iter().all(|often| often.get() > 300), "{seen:?}");
    seen
}

#[test]
fn masquerade_agrees_with_the_model() {
    agrees(PLENTY);
}

#[test]
fn masquerade_agrees_with_the_model_when_all_is_used_up() {
    let seen = agrees(SCARCE);
    let refusals = [&seen.over_quota, &seen.table_full, &seen.ports_exhausted];
    assert!(refusals.iter().all(|refusals| refusals.get() > 200), "{seen:?}");
}
