//! Published ports (P2, P8, B5, N3, N10): who is met by what comes from outside, while ports are published, taken back and given
//! to others, endpoints are replaced, connections open, half close, close and are reset, and the daemon is killed and started
//! again (F1).

mod conversation;
mod packets;

use std::{cell::Cell, collections::HashMap};

use conversation::{ACK, Conversation, FIN, FIRST_PORT, Known, RST, SYN, conversation};
use datapath_common::{
    abi::{DropReason, Settings, claim},
    native::NativeTables,
    path::{Outcome, Tables, Verdict},
};
use proptest::prelude::*;

use super::{
    DOUBT, SECOND, UPLINK,
    daemon::{Daemon, ENDPOINTS, name},
    inside, rules, sequences, tables,
};

/// Slots, and how many flows an endpoint may have: room for every conversation there can be.
const PLENTY: (u32, u32) = (512, 100);
/// Room for a part of them.
const SCARCE: (u32, u32) = (4, 3);

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client begins, or a datagram.
    Begin(Conversation),
    /// The next segment of a connection: from the client or the server, with these flags besides ACK.
    Segment(Conversation, bool, u8),
    /// A connection is opened, and closed by both ends.
    Close(Conversation),
    /// A reset with a number that is not the connection's.
    Forged(Conversation, u32),
    /// A port leads to an endpoint: of TCP or UDP. The daemon may be killed meanwhile, after so many changes of maps.
    Publish(u16, bool, u8, Option<usize>),
    Unpublish(u16, bool, Option<usize>),
    /// An endpoint is detached, and another attached with its name; while no daemon is there, its container ends.
    Replace(u8, Option<usize>),
    Wait(u64),
    Kill,
    /// The daemon is started, or killed and started.
    Start,
    /// The daemon looks for what is over.
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![6 => Just(0), 2 => Just(FIN), 1 => Just(RST)];
    let port = || (FIRST_PORT..FIRST_PORT + 2, any::<bool>());
    let killed = || prop::option::of(0..12usize);
    prop_oneof![
        12 => conversation().prop_map(Step::Begin),
        24 => (conversation(), any::<bool>(), flags).prop_map(|(conversation, client, flags)| Step::Segment(conversation, client, flags)),
        4 => conversation().prop_map(Step::Close),
        4 => (conversation(), any::<u32>()).prop_map(|(conversation, guess)| Step::Forged(conversation, guess)),
        8 => (port(), 1..=ENDPOINTS, killed()).prop_map(|((port, tcp), to, after)| Step::Publish(port, tcp, to, after)),
        2 => (port(), killed()).prop_map(|((port, tcp), after)| Step::Unpublish(port, tcp, after)),
        2 => (1..=ENDPOINTS, killed()).prop_map(|(endpoint, after)| Step::Replace(endpoint, after)),
        2 => (1..10_000u64).prop_map(Step::Wait),
        1 => Just(Step::Kill),
        2 => Just(Step::Start),
        1 => Just(Step::Sweep),
    ]
}

/// How often there was what the tests are about.
#[derive(Default, Debug)]
struct Seen {
    over_quota: Cell<u32>,
    table_full: Cell<u32>,
    made_room: Cell<u32>,
    outlived_a_daemon: Cell<u32>,
}

struct World<'a> {
    slots: u32,
    quota: u32,
    seen: &'a Seen,
    tables: NativeTables,
    daemon: Daemon,
    known: HashMap<Conversation, Known>,
    /// The endpoint that each port of TCP and UDP leads to, and which leading of the port this is.
    published: HashMap<(u16, bool), (u8, u32)>,
    /// How often the port of anything has come to lead elsewhere.
    leadings: u32,
    /// How often each endpoint was replaced.
    owners: [u32; ENDPOINTS as usize + 1],
}

impl<'a> World<'a> {
    fn new((slots, quota): (u32, u32), seen: &'a Seen) -> Self {
        let mut tables = tables(Settings { flow_quota: quota, ..Settings::DEFAULT }, slots);
        let daemon = Daemon::new(&mut tables);
        let (known, published) = (HashMap::new(), HashMap::new());
        let owners = [0; ENDPOINTS as usize + 1];
        Self { slots, quota, seen, tables, daemon, known, published, leadings: 0, owners }
    }

    fn now(&self) -> u64 {
        self.tables.now.get()
    }

    fn is_living(&self, known: &Known) -> bool {
        known.until >= self.now() && known.owner == self.owners[usize::from(known.endpoint)]
    }

    /// The conversation, if it lives and both ends are who they were. The clock never stands where that is in doubt.
    fn living(&self, conversation: Conversation) -> Option<Known> {
        self.known.get(&conversation).filter(|known| self.is_living(known)).copied()
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Begin(conversation) => self.begin(conversation),
            Step::Segment(conversation, client, flags) if conversation.tcp => self.segment(conversation, client, flags),
            Step::Segment(conversation, true, _) => self.begin(conversation),
            Step::Segment(conversation, false, _) => self.answer(conversation),
            Step::Close(conversation) if conversation.tcp => {
                self.begin(conversation)?;
                let segments = [(false, 0), (true, 0), (true, FIN), (false, FIN)];
                segments.into_iter().try_for_each(|(client, flags)| self.segment(conversation, client, flags))
            }
            Step::Forged(conversation, guess) => self.forge(conversation, guess),
            other => {
                self.change(other);
                Ok(())
            }
        }
    }

    /// All that is no packet.
    fn change(&mut self, step: Step) {
        match step {
            Step::Publish(port, tcp, endpoint, after) if self.daemon.is_running() => {
                self.unpublish(port, tcp, after);
                let spec = format!("{port}:{}/{}", port + 100, protocol(tcp)).parse().expect("a form");
                self.daemon.request(&mut self.tables, after, |model| {
                    // Indices go round: here it comes to the one before at once.
                    model.counters.publication = 0;
                    model.publish(&spec, &name(endpoint), None, &[])
                });
                self.leadings += 1;
                self.published.insert((port, tcp), (endpoint, self.leadings));
            }
            Step::Unpublish(port, tcp, after) if self.daemon.is_running() => self.unpublish(port, tcp, after),
            Step::Replace(endpoint, after) => {
                if self.daemon.is_running() {
                    self.pass_on(endpoint);
                }
                self.daemon.replace(&mut self.tables, endpoint, after);
            }
            Step::Wait(seconds) => self.wait(seconds),
            Step::Kill => self.daemon.kill(),
            Step::Start => {
                let ended: Vec<u8> = (1..=ENDPOINTS).filter(|endpoint| !self.daemon.has(*endpoint)).collect();
                ended.into_iter().for_each(|endpoint| self.pass_on(endpoint));
                self.daemon.kill();
                self.daemon.start(&mut self.tables);
                let outlived = self.known.values().filter(|known| self.is_living(known)).count();
                add(&self.seen.outlived_a_daemon, outlived);
            }
            Step::Sweep => self.daemon.sweep(&self.tables),
            _ => {}
        }
    }

    fn unpublish(&mut self, port: u16, tcp: bool, after: Option<usize>) {
        if self.published.remove(&(port, tcp)).is_some() {
            let spec = format!("{port}/{}", protocol(tcp)).parse().expect("a form");
            self.daemon.request(&mut self.tables, after, |model| model.unpublish(&spec));
        }
    }

    /// What the endpoint had published leads to the next one of its name.
    fn pass_on(&mut self, endpoint: u8) {
        self.owners[usize::from(endpoint)] += 1;
        for (_, leading) in self.published.values_mut().filter(|(owner, _)| *owner == endpoint) {
            self.leadings += 1;
            *leading = self.leadings;
        }
    }

    fn wait(&mut self, seconds: u64) {
        let mut now = self.now() + seconds * SECOND;
        let in_doubt = |now| self.known.values().find(|known| known.until < now && now <= known.until + DOUBT);
        while let Some(known) = in_doubt(now) {
            now = known.until + DOUBT + 1;
        }
        self.tables.now.set(now);
    }

    /// A conversation goes on, or begins.
    fn keep(&mut self, conversation: Conversation, known: Known) {
        let until = self.now() + known.idle(conversation.tcp);
        self.known.insert(conversation, Known { until, ..known });
    }

    /// Others that live.
    fn others(&self, conversation: Conversation) -> impl Iterator<Item = &Known> {
        let others = self.known.iter().filter(move |(other, _)| **other != conversation).map(|(_, known)| known);
        others.filter(|known| self.is_living(known))
    }

    /// A SYN or a datagram of the client.
    fn begin(&mut self, conversation: Conversation) -> Result<(), TestCaseError> {
        let living = self.living(conversation);
        let met = self.published.get(&(conversation.port, conversation.tcp)).copied();
        let outcome = self.client_sends(conversation, SYN, 1_000, 0)?;
        if conversation.tcp
            && let Some(known) = living.filter(|known| !known.over())
        {
            // A SYN again is the server's to judge, while the port leads to it or the connection is open.
            if known.established || met.is_some_and(|(_, generation)| generation == known.publication) {
                prop_assert_eq!(outcome, Ok(Verdict::ToEndpoint(self.daemon.port(known.endpoint))));
                self.keep(conversation, known);
                return Ok(());
            }
        }
        let Some((endpoint, publication)) = met else {
            prop_assert_eq!(outcome, Ok(Verdict::Pass), "{:?} is the host's", conversation);
            self.known.remove(&conversation);
            return Ok(());
        };
        let goes_on = !conversation.tcp && living.is_some_and(|known| known.publication == publication);
        if !goes_on && !self.has_room(conversation, endpoint, outcome)? {
            self.known.remove(&conversation);
            return Ok(());
        }
        prop_assert_eq!(outcome, Ok(Verdict::ToEndpoint(self.daemon.port(endpoint))), "{:?}", conversation);
        let known = Known {
            endpoint,
            owner: self.owners[usize::from(endpoint)],
            publication,
            next: [1_001, 500_000],
            answered: false,
            established: false,
            finished: [false; 2],
            reset: false,
            until: 0,
        };
        self.keep(conversation, known);
        Ok(())
    }

    /// Whether there was room for a new flow, and it was right to find it or not (N10).
    fn has_room(&self, conversation: Conversation, endpoint: u8, outcome: Outcome) -> Result<bool, TestCaseError> {
        let open = || self.others(conversation).filter(|known| !known.closed());
        let charged = open().filter(|known| known.endpoint == endpoint).count();
        let within_quota = charged < self.quota as usize;
        let fits = open().count() < self.slots as usize;
        match outcome {
            Err(DropReason::EndpointQuota) => {
                prop_assert!(!within_quota, "{:?} is refused as the {}th of its endpoint", conversation, charged + 1);
                add(&self.seen.over_quota, 1);
            }
            Err(DropReason::FlowTableFull) => {
                prop_assert!(!fits, "{:?} finds no room in {} flows", conversation, open().count());
                add(&self.seen.table_full, 1);
            }
            _ => {
                prop_assert!(
                    within_quota && fits,
                    "{:?} finds room in a full table, or beyond the quota",
                    conversation
                );
                add(&self.seen.made_room, usize::from(self.others(conversation).count() >= self.slots as usize));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next segment of a connection, or the server's first.
    fn segment(&mut self, conversation: Conversation, client: bool, more: u8) -> Result<(), TestCaseError> {
        let Some(mut known) = self.living(conversation) else { return Ok(()) };
        if known.over() || client && !known.answered || !client && !self.daemon.has(known.endpoint) {
            return Ok(());
        }
        let from = usize::from(!client);
        if known.finished[from] {
            return Ok(());
        }
        let opens = !client && !known.answered;
        let flags = if opens { SYN | ACK } else { ACK | more };
        let outcome = if client {
            self.client_sends(conversation, flags, known.next[0], known.next[1])?
        } else {
            self.server_sends(conversation, &known, flags, known.next[1], known.next[0])?
        };
        let wanted =
            if client { Verdict::ToEndpoint(self.daemon.port(known.endpoint)) } else { Verdict::ToUplink(UPLINK) };
        prop_assert_eq!(outcome, Ok(wanted), "{:?} {:?}", conversation, known);
        known.next[from] += u32::from(flags & (SYN | FIN) != 0);
        known.answered |= opens;
        known.established |= client && known.answered;
        known.finished[from] |= flags & FIN != 0;
        known.reset |= flags & RST != 0;
        self.keep(conversation, known);
        Ok(())
    }

    /// A reset far from the connection's numbers changes nothing: neither does it pass, nor does what follows fail.
    fn forge(&mut self, conversation: Conversation, guess: u32) -> Result<(), TestCaseError> {
        let Some(known) =
            self.living(conversation).filter(|known| conversation.tcp && known.established && !known.over())
        else {
            return Ok(());
        };
        let near = guess.wrapping_sub(known.next[0]).wrapping_add(1 << 23) < 1 << 24;
        if near || known.finished.contains(&true) {
            return Ok(());
        }
        let outcome = self.client_sends(conversation, RST, guess, 0)?;
        prop_assert_eq!(outcome, Err(DropReason::TcpInvalid));
        Ok(())
    }

    /// A datagram of the server to a client that it knows.
    fn answer(&mut self, conversation: Conversation) -> Result<(), TestCaseError> {
        let Some(known) = self.living(conversation).filter(|known| self.daemon.has(known.endpoint)) else {
            return Ok(());
        };
        let outcome = self.server_sends(conversation, &known, 0, 0, 0)?;
        prop_assert_eq!(outcome, Ok(Verdict::ToUplink(UPLINK)), "{:?}", conversation);
        self.keep(conversation, known);
        Ok(())
    }

    /// What must hold after every step. Who lives has its flow to its server, whatever became of others and of the daemon.
    fn check(&self) -> Result<(), TestCaseError> {
        rules::check(&self.tables, self.quota)?;
        for (conversation, known) in self.known.iter().filter(|(_, known)| self.is_living(known) && !known.over()) {
            let index = self.tables.flow_index(&conversation.key());
            let flow = index.and_then(|index| self.tables.flow(index.slot)).map(|slot| *slot.get());
            let flow = flow.filter(|flow| flow.claim == claim::LIVE && flow.original == conversation.key());
            let server = (inside(conversation.v6, known.endpoint).into(), conversation.port + 100);
            let answers = flow.map(|flow| (flow.reply.source, u16::from_be(flow.reply.source_port)));
            prop_assert_eq!(answers, Some(server), "{:?} has lost its flow", conversation);
        }
        Ok(())
    }
}

const fn protocol(tcp: bool) -> &'static str {
    if tcp { "tcp" } else { "udp" }
}

fn add(counter: &Cell<u32>, number: usize) {
    counter.set(counter.get() + number as u32);
}

fn agrees(limits: (u32, u32)) -> Seen {
    let seen = Seen::default();
    sequences(step(), |steps| {
        let mut world = World::new(limits, &seen);
        for step in &steps {
            world.take(*step)?;
            world.check()?;
        }
        Ok(())
    });
    assert!(seen.outlived_a_daemon.get() > 1_000, "{seen:?}");
    seen
}

#[test]
fn published_ports_agree_with_the_model() {
    agrees(PLENTY);
}

#[test]
fn published_ports_agree_with_the_model_when_all_is_used_up() {
    let seen = agrees(SCARCE);
    let often = [&seen.over_quota, &seen.table_full, &seen.made_room];
    assert!(often.iter().all(|times| times.get() > 50), "{seen:?}");
}
