//! One flow: who talks to whom, and what is still to be said.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use lab::frame::tcp_flags;
use lab::{Lan, Mac, lan::address};

use super::{Grammar, Renamed, script, single};
use crate::locate::Ends;
use crate::twins::{HOST, LAN, MEMBERS};

/// What a flow is meant to try.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// From an endpoint to the outside.
    Outbound,
    /// From outside to a published port.
    Published,
    /// From an endpoint to a published port.
    Hairpin,
    /// Between endpoints of one network.
    Sibling,
    /// From one network to another.
    Isolation,
    /// To the host itself, from inside or outside.
    ToHost,
    /// From the host itself: to endpoints, to published ports, and to the outside.
    FromHost,
    /// From outside to an endpoint's own address.
    Direct,
    /// One packet by itself.
    Single,
}

impl Kind {
    /// With how often each is drawn.
    const ALL: [(Self, u32); 9] = [
        (Self::Outbound, 22),
        (Self::Published, 18),
        (Self::Hairpin, 10),
        (Self::Sibling, 14),
        (Self::Isolation, 6),
        (Self::ToHost, 8),
        (Self::FromHost, 10),
        (Self::Direct, 4),
        (Self::Single, 18),
    ];

    /// What comes alone has its own faults.
    pub fn may_be_damaged(self) -> bool {
        self != Self::Single
    }
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Who began.
    Initiator,
    /// Who was asked.
    Responder,
}

/// One packet to come.
#[derive(Clone, Debug)]
pub enum Move {
    /// A TCP segment with these flags and about so many bytes.
    Tcp { from: Side, flags: u8, payload: bool },
    /// A UDP datagram.
    Udp { from: Side },
    /// A UDP datagram of somebody else, to where the responder sends its answers.
    Stranger,
    /// An echo request of the initiator, or the reply.
    Echo { from: Side, sequence: u16 },
    /// An ICMP error about the last packet that this side saw, with so much of it; of the side itself or of a router
    /// before it.
    Quote { from: Side, kind: u8, code: u8, length: usize, router: bool },
    /// Frames that are made already.
    Frames(&'static str, Vec<Vec<u8>>),
}

impl Move {
    pub fn side(&self) -> Side {
        match self {
            Self::Tcp { from, .. } | Self::Udp { from } | Self::Echo { from, .. } | Self::Quote { from, .. } => *from,
            Self::Stranger => Side::Responder,
            Self::Frames(..) => Side::Initiator,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "tcp",
            Self::Udp { .. } => "udp",
            Self::Stranger => "udp of a stranger",
            Self::Echo { .. } => "echo",
            Self::Quote { .. } => "icmp error",
            Self::Frames(what, _) => what,
        }
    }

    /// For reports.
    pub fn told(&self) -> String {
        match self {
            Self::Tcp { flags, .. } => {
                let names = [(2, "SYN"), (16, "ACK"), (8, "PSH"), (1, "FIN"), (4, "RST")];
                names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
            }
            Self::Quote { kind, code, length, router, .. } => {
                let who = if *router { " of a router" } else { "" };
                format!("error {kind}/{code} with {length} bytes{who}")
            }
            _ => self.name().to_owned(),
        }
    }

    /// Whether the packet has more than headers.
    pub fn payload(&self) -> bool {
        !matches!(self, Self::Tcp { payload: false, .. })
    }
}

/// A flow and its state.
#[derive(Clone, Debug)]
pub struct Flow {
    pub id: u32,
    pub kind: Kind,
    /// As the initiator sends it.
    pub initial: Ends,
    /// Whether another endpoint has used its source port towards the outside, so that it may be translated to any other.
    pub collides: bool,
    /// Next sequence numbers of initiator and responder.
    pub sequence: [u32; 2],
    /// Whether a packet of it may have been lost on the way.
    pub disturbed: bool,
    /// Whether it was reset.
    pub reset: bool,
    /// Whether it begins with a TCP segment that begins nothing.
    pub stray: bool,
    /// What has been sent so far.
    pub history: Vec<String>,
    ports: [Option<usize>; 2],
    script: VecDeque<Move>,
    /// What the responder saw last, in each world.
    seen: [Option<(Ends, Vec<u8>)>; 2],
    /// What came back to the initiator last, in each world.
    answered: [Option<Vec<u8>>; 2],
}

impl Flow {
    /// Draws a flow of any kind.
    pub fn draw(grammar: &mut Grammar, id: u32) -> Self {
        let total: u32 = Kind::ALL.iter().map(|(_, weight)| weight).sum();
        let mut drawn = grammar.random.u32(..total);
        let kind = Kind::ALL.iter().find(|(_, weight)| {
            let here = drawn < *weight;
            drawn = drawn.wrapping_sub(*weight);
            here
        });
        let kind = kind.expect("the weights add up").0;
        if kind == Kind::Single {
            let (port, what, frames) = single::draw(grammar);
            let none = SocketAddr::new(address("0.0.0.0"), 0);
            let ends = Ends { source_mac: Mac([0; 6]), destination_mac: Mac([0; 6]), source: none, destination: none };
            return Self::new(id, kind, ends, [Some(port), None], [Move::Frames(what, frames)].into());
        }
        let (mut ends, mut ports) = between(grammar, kind);
        let collides = kind == Kind::Outbound && share(grammar, id, &mut ends, &mut ports);
        let echoes = kind != Kind::Published || grammar.random.u32(..8) == 0;
        let script = script::draw(&mut grammar.random, ends.source.is_ipv4(), echoes);
        Self { collides, ..Self::new(id, kind, ends, ports, script) }
    }

    fn new(id: u32, kind: Kind, initial: Ends, ports: [Option<usize>; 2], script: VecDeque<Move>) -> Self {
        let sequence = [id << SEQUENCE_SHIFT, id << SEQUENCE_SHIFT | 1 << (SEQUENCE_SHIFT - 1)];
        Self {
            id,
            kind,
            initial,
            collides: false,
            sequence,
            disturbed: false,
            reset: false,
            stray: matches!(script.front(), Some(Move::Tcp { flags, .. }) if *flags != tcp_flags::SYN),
            history: Vec::new(),
            ports,
            script,
            seen: [None, None],
            answered: [None, None],
        }
    }

    /// Where its ports may differ from world to world.
    pub fn renamed(&self) -> Option<Renamed> {
        let at = self.port(Side::Responder).filter(|_| self.collides)?;
        Some(Renamed { at, from: self.initial.source.port() })
    }

    pub fn is_over(&self) -> bool {
        self.script.is_empty()
    }

    pub fn end(&mut self) {
        self.script.clear();
    }

    /// The next move; what nobody of ours has to say (the host answers by itself) is left out.
    pub fn advance(&mut self) -> Option<Move> {
        while let Some(next) = self.script.pop_front() {
            if self.port(next.side()).is_some() {
                return Some(next);
            }
        }
        None
    }

    /// The port that this side sends from.
    pub fn port(&self, side: Side) -> Option<usize> {
        self.ports[side as usize]
    }

    /// Source and destination of this side's packets, in each world; `None` when one of them has not seen any to answer.
    pub fn ends(&self, side: Side) -> Option<[Ends; 2]> {
        match side {
            Side::Initiator => Some([self.initial; 2]),
            Side::Responder => {
                let [ours, oracle] = &self.seen;
                Some([ours.as_ref()?.0.reversed(), oracle.as_ref()?.0.reversed()])
            }
        }
    }

    /// The last frame that this side saw in this world.
    pub fn last(&self, side: Side, world: usize) -> Option<&[u8]> {
        match side {
            Side::Initiator => self.answered[world].as_deref(),
            Side::Responder => self.seen[world].as_ref().map(|(_, frame)| frame.as_slice()),
        }
    }

    /// Remembers a frame of the flow that arrived.
    pub fn saw(&mut self, world: usize, port: usize, ends: Ends, frame: &[u8]) {
        // Errors and fragments have no ports, and are not what is answered.
        if ends.source.port() == 0 {
            return;
        }
        // The initiator may be the responder too: then it is the destination that tells.
        let is_answer = self.ports[0] == Some(port) && ends.destination == self.initial.source;
        if self.ports[1] == Some(port) && !is_answer {
            self.seen[world] = Some((ends, frame.to_vec()));
        } else if is_answer {
            self.answered[world] = Some(frame.to_vec());
        }
    }
}

/// Sequence numbers begin with the flow's number, so that segments without payload are known too. What is left has room for
/// all that each side sends.
pub const SEQUENCE_SHIFT: u32 = 14;

/// Gives a flow to the outside, now and then, the port of the one before it: that of another endpoint towards the same
/// target, where one of the two has to take another port, or that of the same endpoint towards another target. Says
/// whether they collide.
fn share(grammar: &mut Grammar, id: u32, ends: &mut Ends, ports: &mut [Option<usize>; 2]) -> bool {
    let before = grammar.outbound.take().and_then(|before| grammar.flows.get_mut(&before));
    let before = before.filter(|before| before.initial.source.is_ipv4() == ends.source.is_ipv4());
    match (grammar.random.u32(..8), before) {
        (0, Some(before)) if before.initial.source.ip() != ends.source.ip() => {
            ends.source.set_port(before.initial.source.port());
            ends.destination = before.initial.destination;
            // Whichever sends first keeps the port.
            before.collides = true;
            true
        }
        (1, Some(before)) if before.initial.destination.ip() != ends.destination.ip() => {
            *ends = Ends { destination: ends.destination, ..before.initial };
            ports[0] = before.ports[0];
            false
        }
        _ => {
            grammar.outbound = Some(id);
            false
        }
    }
}

/// A port of the host that is neither published nor, as far as can be told, the external one of an endpoint's UDP mapping:
/// endpoints send from ports with an even number of ones, and answer from those of services.
fn unmapped_port(avoided: &HashSet<u16>) -> u16 {
    let is_quiet = |port: &u16| !port.count_ones().is_multiple_of(2) && !avoided.contains(port);
    (8090..u16::MAX).find(is_quiet).expect("few packets are damaged")
}

/// Both ends of a flow of this kind, and the ports where they are.
fn between(grammar: &mut Grammar, kind: Kind) -> (Ends, [Option<usize>; 2]) {
    let family = usize::from(grammar.random.u32(..5) < 2);
    let port = if kind == Kind::FromHost { grammar.fresh_host_port() } else { grammar.fresh_port() };
    let (random, plan) = (&mut grammar.random, &grammar.plan);
    let member = random.usize(..MEMBERS);
    let sibling = member ^ 1;
    let inside = |member: usize| &plan.networks[member / 2].members[member % 2];
    let gateway = |member: usize| &plan.networks[member / 2];
    let from_member = |destination: IpAddr, port: u16, far: u16| {
        let source = SocketAddr::new(inside(member).addresses[family], port);
        let destination_mac = gateway(member).gateway_mac;
        let source_mac = inside(member).mac;
        Ends { source_mac, destination_mac, source, destination: SocketAddr::new(destination, far) }
    };
    let from_lan = |source: IpAddr, destination: IpAddr, far: u16| Ends {
        source_mac: plan.uplink[1],
        destination_mac: plan.uplink[0],
        source: SocketAddr::new(source, port),
        destination: SocketAddr::new(destination, far),
    };
    let outside = [[Lan::MACHINE[0], "10.99.0.10", "10.99.7.7"], [Lan::MACHINE[1], "fd99::10", "fd99::7:7"]][family];
    let outside = address(outside[random.usize(..3)]);
    let host = address(Lan::HOST[family]);
    let services = [80, 443, 53, 8080, 33_434, random.u16(1024..)];
    let far = services[random.usize(..services.len())];
    // What is published is tried by kinds of its own.
    let unpublished = unmapped_port(&grammar.avoided);
    let publication = &plan.publications[random.usize(..plan.publications.len())];
    let serving = publication.target.0 * 2 + publication.target.1;
    match kind {
        Kind::Outbound => (from_member(outside, port, far), [Some(member), Some(LAN)]),
        Kind::Published => {
            // P4, P5: the specific address decides, and who serves is seen by who gets it.
            let serving = if publication.port == 8082 && family == 0 { 1 } else { serving };
            (from_lan(outside, host, publication.port), [Some(LAN), Some(serving)])
        }
        Kind::Hairpin => {
            let target = [host, gateway(member).gateways[family], gateway((member + 2) % MEMBERS).gateways[family]];
            let target = target[random.usize(..8).saturating_sub(5)];
            let specific = publication.port == 8082 && target == host && family == 0;
            let serving = if specific { 1 } else { serving };
            (from_member(target, port, publication.port), [Some(member), Some(serving)])
        }
        Kind::Sibling => {
            let ends = from_member(inside(sibling).addresses[family], port, far);
            (Ends { destination_mac: inside(sibling).mac, ..ends }, [Some(member), Some(sibling)])
        }
        Kind::Isolation => {
            let other = (member + 2 * random.usize(1..MEMBERS / 2) + random.usize(..2) * (1 - member % 2)) % MEMBERS;
            let target = if random.u32(..4) == 0 { gateway(other).gateways } else { inside(other).addresses };
            let ends =
                from_member(target[family], port, if target == gateway(other).gateways { unpublished } else { far });
            let macs = [gateway(member).gateway_mac, inside(other).mac, inside(sibling).mac];
            let destination_mac = macs[random.usize(..6).saturating_sub(3)];
            (Ends { destination_mac, ..ends }, [Some(member), Some(other)])
        }
        Kind::ToHost if random.bool() => (from_lan(outside, host, unpublished), [Some(LAN), None]),
        Kind::ToHost => {
            let target = if random.bool() { host } else { gateway(member).gateways[family] };
            (from_member(target, port, unpublished), [Some(member), None])
        }
        Kind::FromHost => {
            let host_to = |source: IpAddr, destination: IpAddr, far: u16| {
                let [source, destination] = [(source, port), (destination, far)].map(SocketAddr::from);
                Ends { source_mac: Mac([0; 6]), destination_mac: Mac([0; 6]), source, destination }
            };
            let specific = publication.port == 8082 && family == 0;
            let serving = if specific { 1 } else { serving };
            let (ends, responder) = match random.u32(..8) {
                0..=2 => {
                    let family = if gateway(member).ipv6 { family } else { 0 };
                    let sources = [gateway(member).gateways[family], address(Lan::HOST[family])];
                    let source = sources[usize::from(random.u32(..4) == 0)];
                    (host_to(source, inside(member).addresses[family], far), member)
                }
                3 | 4 => (host_to(host, host, publication.port), serving),
                5 if family == 0 => {
                    let loopback = address("127.0.0.1");
                    let serving = if publication.port == 8082 { 0 } else { serving };
                    (host_to(loopback, loopback, publication.port), serving)
                }
                _ => (host_to(host, outside, far), LAN),
            };
            (ends, [Some(HOST), Some(responder)])
        }
        Kind::Direct => {
            let target = if random.u32(..4) == 0 { gateway(member).gateways } else { inside(member).addresses };
            (from_lan(outside, target[family], far), [Some(LAN), Some(member)])
        }
        Kind::Single => unreachable!("drawn elsewhere"),
    }
}
