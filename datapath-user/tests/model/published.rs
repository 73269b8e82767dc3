//! Published ports (P2, P8, B5, N3): who is met by what comes from outside, while ports are published, taken back and given to
//! others, endpoints are replaced, and connections open, half close, close and are reset.

use std::collections::HashMap;

use datapath_common::{
    abi::{Address, DropReason, Publication, PublishedKey, Settings, claim},
    logic::parse::protocol,
    native::{self, Frame, NativeTables, checksums_are_right},
    path::{self, Outcome, Route, Verdict},
};
use lab::frame::{TcpSegment, Transport, View, tcp_flags};
use proptest::prelude::*;

use super::{GATEWAY_MAC, ROUTER_MAC, SECOND, UPLINK, UPLINK_MAC, ethernet, external, inside, mac, outside};

/// Room for every conversation there can be.
const SLOTS: u32 = 512;
const FIRST_PORT: u16 = 8_000;

const SYN: u8 = tcp_flags::SYN;
const ACK: u8 = tcp_flags::ACK;
const FIN: u8 = tcp_flags::FIN;
const RST: u8 = tcp_flags::RST;

/// A client outside and the port of the host that it speaks to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Conversation {
    tcp: bool,
    v6: bool,
    client: u8,
    port: u16,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The client begins, or a datagram.
    Begin(Conversation),
    /// The next segment of a connection: from the client or the server, with these flags besides ACK.
    Segment(Conversation, bool, u8),
    /// A reset with a number that is not the connection's.
    Forged(Conversation, u32),
    Publish(u16, u8),
    Unpublish(u16),
    Replace(u8),
    Wait(u64),
}

fn conversation() -> impl Strategy<Value = Conversation> {
    (any::<bool>(), any::<bool>(), 1..=2u8, FIRST_PORT..FIRST_PORT + 2)
        .prop_map(|(tcp, v6, client, port)| Conversation { tcp, v6, client, port })
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![6 => Just(0), 2 => Just(FIN), 1 => Just(RST)];
    let port = FIRST_PORT..FIRST_PORT + 2;
    prop_oneof![
        6 => conversation().prop_map(Step::Begin),
        12 => (conversation(), any::<bool>(), flags).prop_map(|(conversation, client, flags)| Step::Segment(conversation, client, flags)),
        2 => (conversation(), any::<u32>()).prop_map(|(conversation, guess)| Step::Forged(conversation, guess)),
        3 => (port.clone(), 1..=2u8).prop_map(|(port, endpoint)| Step::Publish(port, endpoint)),
        1 => port.prop_map(Step::Unpublish),
        1 => (1..=2u8).prop_map(Step::Replace),
        1 => (1..10_000u64).prop_map(Step::Wait),
    ]
}

/// What the model knows of a conversation: whom it has met, and how far it has come.
#[derive(Clone, Copy, Debug)]
struct Known {
    endpoint: u8,
    generation: u32,
    publication: u32,
    /// The numbers that client and server send next.
    next: [u32; 2],
    answered: bool,
    established: bool,
    finished: [bool; 2],
    reset: bool,
    until: u64,
}

impl Known {
    const fn over(&self) -> bool {
        self.reset || self.finished[0] && self.finished[1]
    }
}

struct World {
    tables: NativeTables,
    known: HashMap<Conversation, Known>,
    /// Endpoint and generation behind each port.
    published: HashMap<u16, (u8, u32)>,
    generations: u32,
}

impl World {
    fn new() -> Self {
        let tables = NativeTables::new(super::state(10_000), SLOTS);
        Self { tables, known: HashMap::new(), published: HashMap::new(), generations: 100 }
    }

    fn now(&self) -> u64 {
        self.tables.now.get()
    }

    fn generation_of(&self, endpoint: u8) -> u32 {
        self.tables.state.endpoints[&u32::from(endpoint)].generation
    }

    /// The conversation, if it lives and both ends are who they were.
    fn living(&self, conversation: Conversation) -> Option<Known> {
        let known = self.known.get(&conversation)?;
        (known.until >= self.now() && known.generation == self.generation_of(known.endpoint)).then_some(*known)
    }

    /// Whether the path may know the conversation longer than the model promises.
    fn is_doubtful(&self, conversation: Conversation) -> bool {
        self.known
            .get(&conversation)
            .is_some_and(|known| known.until < self.now() && known.until + 3 * SECOND >= self.now())
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Begin(conversation) => self.begin(conversation),
            Step::Segment(conversation, client, flags) if conversation.tcp => self.segment(conversation, client, flags),
            Step::Segment(conversation, true, _) => self.begin(conversation),
            Step::Segment(conversation, false, _) => self.answer(conversation),
            Step::Forged(conversation, guess) => self.forge(conversation, guess),
            Step::Publish(port, endpoint) => {
                self.publish(port, Some(endpoint));
                Ok(())
            }
            Step::Unpublish(port) => {
                self.publish(port, None);
                Ok(())
            }
            Step::Replace(endpoint) => {
                self.generations += 1;
                let owner = self.tables.state.endpoints.get_mut(&u32::from(endpoint)).expect("two endpoints");
                owner.generation = self.generations;
                // What it had published goes with it.
                let ports: Vec<_> =
                    self.published.iter().filter(|(_, (owner, _))| *owner == endpoint).map(|(port, _)| *port).collect();
                ports.into_iter().for_each(|port| self.publish(port, None));
                Ok(())
            }
            Step::Wait(seconds) => {
                self.tables.now.set(self.now() + seconds * SECOND);
                Ok(())
            }
        }
    }

    fn publish(&mut self, port: u16, endpoint: Option<u8>) {
        self.generations += 1;
        let index = u32::from(port - FIRST_PORT) + 1;
        let state = &mut self.tables.state;
        let mut value = Publication { generation: self.generations, ..Publication::default() };
        if let Some(endpoint) = endpoint {
            let number = u32::from(endpoint);
            value.endpoint = number;
            value.endpoint_generation = state.endpoints[&number].generation;
            value.host_port = port;
            value.container_port = port + 100;
            value.count = 1;
            state.endpoints.get_mut(&number).expect("two endpoints").publications += 1;
            self.published.insert(port, (endpoint, self.generations));
        } else {
            self.published.remove(&port);
        }
        state.publications.insert(index, value);
        for protocol in [protocol::TCP, protocol::UDP] {
            for address in [Address::ANY_V4, Address::NONE] {
                let key = PublishedKey::new(address, port.to_be(), protocol);
                if endpoint.is_some() {
                    state.published.insert(key, index);
                } else {
                    state.published.remove(&key);
                }
            }
        }
    }

    /// A SYN or a datagram of the client.
    fn begin(&mut self, conversation: Conversation) -> Result<(), TestCaseError> {
        let living = self.living(conversation);
        let doubtful = self.is_doubtful(conversation);
        let met = self.published.get(&conversation.port).copied();
        let outcome = self.client_sends(conversation, SYN, 1_000, 0)?;
        if conversation.tcp
            && let Some(known) = living.filter(|known| !known.over())
        {
            // A SYN again is the server's to judge, while the port leads to it or the connection is open.
            if known.established || met.is_some_and(|(_, generation)| generation == known.publication) {
                prop_assert_eq!(outcome, Ok(Verdict::ToEndpoint(10 + u32::from(known.endpoint))));
                return Ok(());
            }
        }
        if doubtful {
            return Ok(());
        }
        let Some((endpoint, publication)) = met else {
            prop_assert_eq!(outcome, Ok(Verdict::Pass), "{:?} is the host's", conversation);
            self.known.remove(&conversation);
            return Ok(());
        };
        prop_assert_eq!(outcome, Ok(Verdict::ToEndpoint(10 + u32::from(endpoint))), "{:?}", conversation);
        let mut known = Known {
            endpoint,
            generation: self.generation_of(endpoint),
            publication,
            next: [1_001, 500_000],
            answered: false,
            established: false,
            finished: [false; 2],
            reset: false,
            until: 0,
        };
        known.until = self.deadline(conversation, &known);
        self.known.insert(conversation, known);
        Ok(())
    }

    /// The next segment of a connection, or the server's first.
    fn segment(&mut self, conversation: Conversation, client: bool, more: u8) -> Result<(), TestCaseError> {
        let Some(mut known) = self.living(conversation) else { return Ok(()) };
        if known.over() || client && !known.answered {
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
            if client { Verdict::ToEndpoint(10 + u32::from(known.endpoint)) } else { Verdict::ToUplink(UPLINK) };
        prop_assert_eq!(outcome, Ok(wanted), "{:?} {:?}", conversation, known);
        known.next[from] += u32::from(flags & (SYN | FIN) != 0);
        known.answered |= opens;
        known.established |= client && known.answered;
        known.finished[from] |= flags & FIN != 0;
        known.reset |= flags & RST != 0;
        known.until = self.deadline(conversation, &known);
        self.known.insert(conversation, known);
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
        let Some(known) = self.living(conversation) else { return Ok(()) };
        let outcome = self.server_sends(conversation, &known, 0, 0, 0)?;
        prop_assert_eq!(outcome, Ok(Verdict::ToUplink(UPLINK)), "{:?}", conversation);
        Ok(())
    }

    /// Until when the conversation lives at least; deadlines are moved when they are a second off.
    fn deadline(&self, conversation: Conversation, known: &Known) -> u64 {
        let settings = Settings::DEFAULT;
        let idle = match conversation.tcp {
            false => settings.udp_timeout,
            true if known.established && !known.finished.contains(&true) && !known.reset => {
                settings.tcp_established_timeout
            }
            true => settings.tcp_transitory_timeout,
        };
        self.now() + idle - 2 * SECOND
    }

    fn client_sends(
        &self,
        conversation: Conversation,
        flags: u8,
        sequence: u32,
        acknowledgement: u32,
    ) -> Result<Outcome, TestCaseError> {
        let Conversation { tcp, v6, client, port } = conversation;
        let builder = ethernet(ROUTER_MAC, UPLINK_MAC, outside(v6, client), external(v6));
        let source = 30_000 + u16::from(client);
        let bytes = if tcp {
            builder.tcp(TcpSegment { source, destination: port, sequence, acknowledgement, flags }, b"")
        } else {
            builder.udp(source, port, b"question")
        };
        let mut frame = self.frame(UPLINK, bytes);
        let outcome = native::run(path::from_uplink, &mut frame, &self.tables);
        if let Ok(Verdict::ToEndpoint(ifindex)) = outcome {
            let view = View::of(&frame.bytes, None).expect("a packet");
            let endpoint = (ifindex - 10) as u8;
            prop_assert_eq!((view.source, view.destination), (Some(outside(v6, client)), Some(inside(v6, endpoint))));
            prop_assert_eq!(ports(&view), (source, port + 100));
            prop_assert!(checksums_are_right(&frame.bytes));
        }
        Ok(outcome)
    }

    fn server_sends(
        &self,
        conversation: Conversation,
        known: &Known,
        flags: u8,
        sequence: u32,
        acknowledgement: u32,
    ) -> Result<Outcome, TestCaseError> {
        let Conversation { tcp, v6, client, port } = conversation;
        let builder = ethernet(mac(known.endpoint), GATEWAY_MAC, inside(v6, known.endpoint), outside(v6, client));
        let (source, destination) = (port + 100, 30_000 + u16::from(client));
        let bytes = if tcp {
            builder.tcp(TcpSegment { source, destination, sequence, acknowledgement, flags }, b"")
        } else {
            builder.udp(source, destination, b"answer")
        };
        let mut frame = self.frame(10 + u32::from(known.endpoint), bytes);
        let outcome = native::run(path::from_container, &mut frame, &self.tables);
        if outcome.is_ok() {
            let view = View::of(&frame.bytes, None).expect("a packet");
            prop_assert_eq!((view.source, view.destination), (Some(external(v6)), Some(outside(v6, client))));
            prop_assert_eq!(ports(&view), (port, destination), "it comes from the port that was asked");
            prop_assert!(checksums_are_right(&frame.bytes));
        }
        Ok(outcome)
    }

    fn frame(&self, ifindex: u32, bytes: Vec<u8>) -> Frame {
        let mut frame = Frame::new(ifindex, bytes);
        frame.route = Route::new(UPLINK, 0);
        frame.for_host = ifindex == UPLINK;
        frame
    }

    /// What must hold of the tables after every step.
    fn check(&self) -> Result<(), TestCaseError> {
        let live = self.tables.flows().filter(|flow| flow.claim == claim::LIVE).count();
        prop_assert_eq!(self.tables.keys.borrow().len(), 2 * live, "a key without its flow, or the reverse");
        prop_assert!(self.tables.flows().all(|flow| flow.claim != claim::BUSY), "a slot is left busy");
        Ok(())
    }
}

/// Source and destination port.
fn ports(view: &View) -> (u16, u16) {
    match view.transport {
        Transport::Tcp { source, destination, .. } | Transport::Udp { source, destination, .. } => {
            (source, destination)
        }
        other => panic!("{other:?} has no ports"),
    }
}

proptest! {
    // Not persisted: mutation runs fail on purpose. A failure prints its steps, which become a test of their own.
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn published_ports_agree_with_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(*step)?;
            world.check()?;
        }
    }
}
