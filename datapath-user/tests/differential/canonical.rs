//! What arrived, without what may differ between two right hosts: allocated ports, the host's own IP identifications,
//! padding, and the forms of a right checksum.

use std::collections::HashSet;

use lab::frame::{ethertype, internet_checksum, transport_checksum};

use crate::grammar::{Grammar, Kind, SEQUENCE_SHIFT, Side, Step, identification, read_tag};
use crate::locate::{ETHERNET, ICMP, ICMPV6, Located, TCP, UDP, locate, long, put, word};
use crate::twins::{Arrival, HOST, MEMBERS};

/// A frame that two worlds must agree on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Canonical {
    pub port: usize,
    pub vlan: Option<u16>,
    pub frame: Vec<u8>,
}

/// Stands for a right checksum; 0 is UDP's "none", and everything else is how wrong it is.
const RIGHT: u16 = 1;

/// The flow whose packet caused this frame.
pub fn origin(arrival: &Arrival, grammar: &Grammar) -> Option<u32> {
    if let Some((_, flow)) = read_tag(&arrival.frame) {
        return Some(flow);
    }
    let located = locate(&arrival.frame)?;
    if located.protocol != TCP || located.fragment {
        return None;
    }
    let numbers = [long(&arrival.frame, located.transport + 4)?, long(&arrival.frame, located.transport + 8)?];
    numbers.map(|number| number >> SEQUENCE_SHIFT).into_iter().find(|flow| *flow != 0 && grammar.flow(*flow).is_some())
}

/// What a batch has to do with a frame.
pub struct Context<'a> {
    pub grammar: &'a Grammar,
    pub identifications: HashSet<u16>,
}

impl<'a> Context<'a> {
    pub fn of(grammar: &'a Grammar, steps: &[Step]) -> Self {
        Self { grammar, identifications: steps.iter().map(|step| identification(step.number)).collect() }
    }

    /// The frame to compare; `None` for what a host says about itself now and then.
    pub fn canonical(&self, arrival: &Arrival, step: Option<&Step>) -> Option<Canonical> {
        if is_noise(arrival) {
            return None;
        }
        let mut frame = arrival.frame.clone();
        match locate(&frame) {
            Some(located) => self.ip(&mut frame, &located, arrival, step),
            // Padding.
            None if word(&frame, 12) == Some(ethertype::ARP) => frame.truncate(ETHERNET + 28),
            None => {}
        }
        Some(Canonical { port: arrival.port, vlan: arrival.vlan, frame })
    }

    fn ip(&self, frame: &mut Vec<u8>, located: &Located, arrival: &Arrival, step: Option<&Step>) {
        if located.end >= located.transport {
            frame.truncate(located.end);
        }
        judge_checksums(frame, located);
        if arrival.port == HOST
            && let Some(at) = located.checksum().filter(|_| !located.v4)
        {
            // The raw socket does not tell the destination, which is in the sum.
            put(frame, at, RIGHT);
        }
        if located.v4 && !self.identifications.contains(&word(frame, 18).unwrap_or(0)) {
            put(frame, 18, 0);
        }
        let Some(flow) = step.filter(|step| step.traits.damage.is_none()).and_then(|s| self.grammar.flow(s.flow))
        else {
            return;
        };
        if flow.collides
            && flow.port(Side::Responder) == Some(arrival.port)
            && let Some((source, _)) = located.ports(frame)
        {
            put(frame, source, flow.initial.source.port());
        }
        let network = |side| flow.port(side).filter(|port| *port < MEMBERS).map(|port| port / 2);
        if flow.kind == Kind::Hairpin && network(Side::Initiator) == network(Side::Responder) {
            // Netfilter translates on the bridge what stays within a network: no hop, and the MAC address of the sibling.
            frame[6..12].fill(0);
            frame[if located.v4 { 22 } else { 21 }] = 0;
        }
    }
}

/// Puts in place of each checksum how wrong it is. That is what a translation by differences keeps.
fn judge_checksums(frame: &mut [u8], located: &Located) {
    if located.v4 && located.transport <= frame.len() {
        let sum = internet_checksum(&frame[ETHERNET..located.transport]);
        put(frame, 24, if sum == 0 { RIGHT } else { sum });
    }
    let Some(at) = located.checksum().filter(|at| at + 2 <= frame.len()) else { return };
    if located.protocol == UDP && word(frame, at) == Some(0) {
        return;
    }
    let segment = &frame[located.transport..located.end];
    let sum = if located.v4 && located.protocol == ICMP {
        internet_checksum(segment)
    } else {
        transport_checksum(located.source, located.destination, located.protocol, segment)
    };
    put(frame, at, if sum == 0 { RIGHT } else { sum });
}

/// Neighbour discovery, router solicitations and group reports that no packet of ours has caused.
fn is_noise(arrival: &Arrival) -> bool {
    let frame = &arrival.frame;
    let about_links = match locate(frame) {
        Some(ip) if ip.protocol == ICMPV6 => matches!(frame.get(ip.transport), Some(130..=137 | 143)),
        Some(ip) => ip.protocol == 2,
        None => word(frame, 12) == Some(ethertype::ARP),
    };
    let to_group = arrival.port != HOST && frame[0] & 1 != 0;
    about_links && (to_group || arrival.port == HOST) && read_tag(frame).is_none()
}
