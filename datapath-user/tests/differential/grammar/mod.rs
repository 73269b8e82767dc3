//! What is sent: flows between the ports of a host, each a script of packets of both sides, many of them at a time.
//!
//! Everything is drawn from one seed. Most packets are right and come from whom they say; some are decorated (options,
//! fragments, short TTLs), some are damaged. To answer a translated packet, a side turns round what it saw itself, in
//! each world what it saw there.

mod decoration;
mod flow;
mod mutation;
mod packet;
mod script;
mod single;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use fastrand::Rng;
use lab::frame::tcp_flags;
use lab::oracle::Plan;

pub use decoration::{Decoration, Order};
pub use flow::{Flow, Kind, SEQUENCE_SHIFT, Side};
pub use packet::{identification, read_tag};

use crate::locate::Ends;
use crate::twins::{HOST, HOST_PORTS, LAN, MEMBERS};
use flow::Move;
use packet::Segment;

/// Flows that take part in one batch; each sends one packet.
const BATCH: usize = 64;
/// One packet in so many is damaged.
const DAMAGED: u32 = 10;

/// One packet on its way into both worlds; more than one frame where it is fragmented.
#[derive(Clone, Debug)]
pub struct Step {
    pub number: u32,
    pub flow: u32,
    pub port: usize,
    pub frames: [Vec<Vec<u8>>; 2],
    pub traits: Traits,
}

/// What is special about a packet.
#[derive(Clone, Debug)]
pub struct Traits {
    pub kind: Kind,
    pub what: &'static str,
    pub damage: Option<&'static str>,
    pub decoration: Decoration,
    /// An ICMP error that quotes a packet of a flow.
    pub quotes: bool,
    /// It quotes so much of what follows the IP header.
    pub quoted: usize,
    /// Where its flow may be translated to any port.
    pub renamed: Option<Renamed>,
    /// An earlier packet of its flow was one that may be lost on the way: what comes now need not fit.
    pub disturbed: bool,
    /// Its flow has been reset before.
    pub reset: bool,
    /// Its flow is no connection: it began with something else than a SYN.
    pub stray: bool,
}

/// Two right hosts may give a flow different ports where another flow has the one that it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Renamed {
    /// The port of the host behind which the translation is seen.
    pub at: usize,
    /// What it is translated from.
    pub from: u16,
}

impl Traits {
    /// Of a packet of a fixture: nothing is known of it, but that it may leave no trace.
    pub fn saved() -> Self {
        Self {
            kind: Kind::Single,
            what: "saved",
            damage: Some("unknown"),
            decoration: Decoration::plain(),
            quotes: false,
            quoted: 0,
            renamed: None,
            disturbed: false,
            reset: false,
            stray: false,
        }
    }

    /// Whether it asks for a neighbour's MAC address.
    pub fn asks_neighbour(&self) -> bool {
        self.what.starts_with("arp ") || self.what.starts_with("solicitation ")
    }

    /// For reports.
    pub fn told(&self) -> String {
        let Self { damage, decoration, .. } = self;
        format!("{}, {}", decoration.name(), damage.unwrap_or("undamaged"))
    }
}

/// The source of all packets.
pub struct Grammar {
    pub random: Rng,
    pub plan: Plan,
    flows: HashMap<u32, Flow>,
    active: Vec<u32>,
    next_flow: u32,
    next_step: u32,
    next_port: u16,
    next_host_port: u16,
    /// Source ports that have been taken by chance: by a damaged packet, or one with a port that its host has chosen. No flow
    /// begins from one, or to one of the host that is not published.
    pub avoided: HashSet<u16>,
    /// The last flow to the outside, whose source port another may have too.
    outbound: Option<u32>,
}

impl Grammar {
    pub fn new(seed: u64, plan: &Plan) -> Self {
        Self {
            random: Rng::with_seed(seed),
            plan: plan.clone(),
            flows: HashMap::new(),
            active: Vec::new(),
            next_flow: 1,
            next_step: 1,
            next_port: 1024,
            next_host_port: *HOST_PORTS.start(),
            avoided: HashSet::new(),
            outbound: None,
        }
    }

    /// The flow of this number, while one of its packets may still be on its way.
    pub fn flow(&self, id: u32) -> Option<&Flow> {
        self.flows.get(&id)
    }

    /// One packet of each of [`BATCH`] flows; flows that are over make room for new ones.
    pub fn batch(&mut self) -> Vec<Step> {
        self.active.retain(|id| self.flows.get(id).is_some_and(|flow| !flow.is_over()));
        let active = &self.active;
        self.flows.retain(|id, _| active.contains(id));
        while self.active.len() < BATCH {
            let flow = Flow::draw(self, self.next_flow);
            self.active.push(flow.id);
            self.flows.insert(flow.id, flow);
            self.next_flow += 1;
        }
        let mut order = self.active.clone();
        self.random.shuffle(&mut order);
        order.into_iter().filter_map(|id| self.step(id)).collect()
    }

    /// The next packet of a flow.
    fn step(&mut self, id: u32) -> Option<Step> {
        let mut flow = self.flows.remove(&id)?;
        let number = self.next_step;
        let step = flow.advance().and_then(|next| self.packet(&mut flow, number, next));
        if step.is_some() {
            self.next_step += 1;
        } else {
            flow.end();
        }
        self.flows.insert(id, flow);
        step
    }

    fn packet(&mut self, flow: &mut Flow, number: u32, next: Move) -> Option<Step> {
        let mut traits = Traits {
            kind: flow.kind,
            what: next.name(),
            damage: None,
            decoration: Decoration::plain(),
            quotes: false,
            quoted: 0,
            renamed: None,
            disturbed: flow.disturbed,
            reset: flow.reset,
            stray: flow.stray,
        };
        let said = next.told();
        let from = next.side();
        let port = flow.port(from)?;
        let resets = matches!(next, Move::Tcp { flags, .. } if flags & tcp_flags::RST != 0);
        let is_stranger = matches!(next, Move::Stranger);
        let stranger = match flow.renamed() {
            Some(_) => Some(flow.initial.destination.port() ^ 1),
            None => flow.ends(from).map(|ends| ends[0].source.port() ^ 1),
        };
        let mut frames = match next {
            Move::Frames(what, frames) => {
                traits.what = what;
                let frames: Vec<_> = frames.into_iter().map(|frame| packet::tagged(frame, number, flow.id)).collect();
                [frames.clone(), frames]
            }
            Move::Quote { kind, code, length, router, .. } => {
                (traits.quotes, traits.quoted) = (true, length);
                let last = [flow.last(from, 0)?, flow.last(from, 1)?];
                let mut ends = self.ends(flow, from, port).filter(|_| packet::is_same(last))?;
                // Inside, nobody speaks for another.
                if router && port == LAN {
                    ends.iter_mut().for_each(|ends| ends.source.set_ip(router_before(ends.source.ip())));
                }
                let worlds =
                    [0, 1].map(|world| packet::quoting(&ends[world], last[world], (kind, code), length, number));
                let [Some(ours), Some(oracle)] = worlds else { return None };
                [vec![ours], vec![oracle]]
            }
            Move::Tcp { .. } | Move::Udp { .. } | Move::Stranger | Move::Echo { .. } => {
                let mut ends = self.ends(flow, from, port)?;
                if let Some(port) = stranger.filter(|_| is_stranger) {
                    ends.iter_mut().for_each(|ends| ends.source.set_port(port));
                }
                let payload = packet::payload(&mut self.random, number, flow.id, next.payload());
                let segment = Segment::of(&next, flow, payload.len());
                traits.decoration = Decoration::draw(&mut self.random, flow.initial.source.is_ipv4(), &segment);
                ends.map(|ends| packet::frames(&ends, &segment, &payload, &traits.decoration, number))
            }
        };
        if flow.kind.may_be_damaged() && port != HOST && self.random.u32(..DAMAGED) == 0 {
            let draw = self.random.fork();
            for frame in frames.iter_mut().flatten() {
                traits.damage = Some(mutation::damage(&mut draw.clone(), frame));
            }
        }
        // Mappings are independent of the target (N2): the port may be another endpoint's.
        traits.renamed =
            if is_stranger && port < MEMBERS { stranger.map(|from| Renamed { at: LAN, from }) } else { flow.renamed() };
        flow.reset |= resets;
        flow.disturbed |= traits.damage.is_some() || traits.decoration.may_be_lost();
        flow.history.push(format!("{number} {from:?}: {said}, {}", traits.told()));
        Some(Step { number, flow: flow.id, port, frames, traits })
    }

    /// Both ends of what a side sends, in each world. An answer goes where the neighbour table of its sender leads: to a
    /// sibling, or to the gateway.
    fn ends(&self, flow: &Flow, from: Side, port: usize) -> Option<[Ends; 2]> {
        let ends = flow.ends(from)?;
        if from == Side::Initiator || port >= LAN {
            return Some(ends);
        }
        let network = &self.plan.networks[port / 2];
        Some(ends.map(|ends| {
            let sibling = network.members.iter().find(|member| member.addresses.contains(&ends.destination.ip()));
            let destination_mac = sibling.map_or(network.gateway_mac, |sibling| sibling.mac);
            Ends { source_mac: network.members[port % 2].mac, destination_mac, ..ends }
        }))
    }

    /// Ends a flow: the worlds took a packet of it differently, so that its state may differ too.
    pub fn end(&mut self, id: u32) {
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.end();
        }
    }

    /// Tells a flow what arrived at a port of its in one of the worlds.
    pub fn saw(&mut self, id: u32, world: usize, port: usize, frame: &[u8]) {
        if let Some(flow) = self.flows.get_mut(&id)
            && let Some(ends) = Ends::of(frame)
        {
            flow.saw(world, port, ends, frame);
        }
    }

    /// A source port of the host that no flow has had for long.
    fn fresh_host_port(&mut self) -> u16 {
        let may_be_used = |port| !self.avoided.contains(&port);
        self.next_host_port = next_port(self.next_host_port, HOST_PORTS, may_be_used);
        self.next_host_port
    }

    /// A source port that no flow has had for long. Published ports are the host's: a container's flow from one is
    /// translated to another in one world only.
    fn fresh_port(&mut self) -> u16 {
        let may_be_used = |port| !(8080..8090).contains(&port) && !self.avoided.contains(&port);
        self.next_port = next_port(self.next_port, 1024..=60_000, may_be_used);
        self.next_port
    }
}

/// The port after this one that may be used. All have an even number of ones, so that a flipped bit never makes another
/// flow's port of it.
fn next_port(port: u16, range: RangeInclusive<u16>, may_be_used: impl Fn(u16) -> bool) -> u16 {
    let fits = |port: &u16| port.count_ones().is_multiple_of(2) && may_be_used(*port);
    let (after, again) = (port + 1..=*range.end(), range);
    after.chain(again).find(fits).expect("there are many")
}

/// A router on the way to this address of the outside.
fn router_before(address: IpAddr) -> IpAddr {
    lab::lan::address(if address.is_ipv4() { "10.99.0.1" } else { "fd99::1" })
}
