//! What arrived, without what may differ between two right hosts: ports allocated where two flows collide, the host's own
//! IP identifications, padding, the forms of a right checksum, and IPv4's record route, which the datapath does not fill in.

use std::collections::{HashMap, HashSet};

use lab::frame::{ethertype, internet_checksum, transport_checksum};

use crate::grammar::{Kind, SEQUENCE_SHIFT, Step, Traits, identification, read_tag};
use crate::locate::{ETHERNET, ICMP, ICMPV6, Located, SCTP, TCP, UDP, has_right_header, lies, locate, long, put, word};
use crate::quotation::{blank_quoted, blank_quoted_checksum};
use crate::twins::{Arrival, HOST, MEMBERS};

/// A frame that two worlds must agree on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Canonical {
    pub port: usize,
    pub vlan: Option<u16>,
    pub frame: Vec<u8>,
}

/// Stands for a right checksum; anything else is how wrong it is.
pub const RIGHT: u16 = 0;
/// Stands for UDP's "none": no packet with an address in it is as wrong as that.
const NONE: u16 = 0xffff;

/// The bit of the byte in which it is (RFC 791 section 3.1). What has no identification has it (RFC 6864); the host's own
/// errors have neither.
const DONT_FRAGMENT: u8 = 0x40;

/// ICMP's answer with the time of day (RFC 792).
const TIMESTAMP_REPLY: u8 = 14;

/// What a batch has to do with a frame.
pub struct Context<'a> {
    /// Packets by identification.
    steps: HashMap<u16, &'a Step>,
    /// Packets by flow.
    flows: HashMap<u32, &'a Step>,
    /// Who asks for a neighbour.
    askers: Vec<&'a Step>,
    /// Packets that may arrive without a trace of themselves: ICMP errors, fragments and damaged ones.
    suspects: Vec<&'a Step>,
}

impl<'a> Context<'a> {
    pub fn of(steps: &'a [Step]) -> Self {
        let suspects = steps.iter().filter(|step| {
            let Traits { quotes, damage, decoration, .. } = &step.traits;
            *quotes || damage.is_some() || decoration.fragments.is_some()
        });
        Self {
            steps: steps.iter().map(|step| (identification(step.number), step)).collect(),
            flows: steps.iter().map(|step| (step.flow, step)).collect(),
            askers: steps.iter().filter(|step| step.traits.asks_neighbour()).collect(),
            suspects: suspects.collect(),
        }
    }

    /// The flow whose packet caused this frame: that which it says; else, of an answer about a neighbour, that of who
    /// asked; else that of a suspect.
    pub fn origin(&self, arrival: &Arrival) -> Option<u32> {
        if let Some(flow) = self.caused_by(&arrival.frame) {
            return Some(flow);
        }
        let asked = |step: &&&Step| step.port == arrival.port && answers(&arrival.frame, &step.frames[0][0]);
        if is_about_links(arrival)
            && let Some(step) = self.askers.iter().find(asked)
        {
            return Some(step.flow);
        }
        let located = locate(&arrival.frame)?;
        let error = is_error(&arrival.frame, &located);
        let suspects = self.suspects.iter().filter(|step| {
            let Traits { damage, decoration, .. } = &step.traits;
            let cut = located.fragment && decoration.is_broken();
            let possible = step.traits.kind == Kind::FromHost || shares_address(&located, step);
            possible && (arrival.port == HOST || error || cut || damage.is_some())
        });
        let likeness = |step: &Step| {
            let body = arrival.frame.get(located.transport..).unwrap_or(&[]);
            let alike = step.frames[0].iter().map(|frame| in_common(body, frame)).max();
            let Traits { damage, quotes, .. } = step.traits;
            (alike, shares_address(&located, step), damage.is_some(), quotes == error, lies(&step.frames[0][0]))
        };
        suspects.max_by_key(|step| likeness(step)).map(|step| step.flow)
    }

    /// By the tag, by the identification or flow label, by TCP's numbers, or by what an ICMP error quotes. Where they do
    /// not agree, one of them was damaged.
    fn caused_by(&self, frame: &[u8]) -> Option<u32> {
        let sent = |(number, flow): &(u32, u32)| self.flows.get(flow).is_some_and(|step| step.number == *number);
        let tagged = read_tag(frame).filter(sent).map(|(_, flow)| flow);
        let located = locate(frame);
        let identified = located.and_then(|ip| self.identified(frame, &ip));
        let numbered = located.and_then(|ip| self.numbered(frame, &ip));
        let named = [tagged, identified, numbered].into_iter().flatten();
        let mut steps = named.filter_map(|flow| self.flows.get(&flow)).copied();
        let damaged = steps.clone().find(|step| step.traits.damage.is_some());
        let step = damaged.or_else(|| steps.next());
        step.map(|step| step.flow).or_else(|| self.quoted(frame, &located?))
    }

    fn identified(&self, frame: &[u8], located: &Located) -> Option<u32> {
        // Fragments get identifications of the datapath's own, and a wrong header may have another's.
        if located.v4 && (located.fragment || !has_right_header(frame)) {
            return None;
        }
        let step = *self.steps.get(&identification_of(frame, located))?;
        // The host numbers its own messages as it likes.
        let is_icmp = matches!(located.protocol, ICMP | ICMPV6);
        let is_of_kind = if is_error(frame, located) { step.traits.quotes } else { step.traits.what == "echo" };
        let numbers = !is_icmp || is_of_kind;
        (numbers && (step.traits.kind == Kind::FromHost || shares_address(located, step))).then_some(step.flow)
    }

    fn quoted(&self, frame: &[u8], located: &Located) -> Option<u32> {
        let quoted = frame.get(located.transport + 8..).filter(|_| is_error(frame, located))?;
        self.caused_by(&[&frame[..ETHERNET], quoted].concat())
    }

    fn numbered(&self, frame: &[u8], located: &Located) -> Option<u32> {
        if located.protocol != TCP || located.fragment {
            return None;
        }
        // A quoted segment may end behind the first of them.
        let numbers = [4, 8].into_iter().filter_map(|at| long(frame, located.transport + at));
        numbers.map(|number| number >> SEQUENCE_SHIFT).find(|flow| self.flows.contains_key(flow))
    }

    /// The frame to compare; `None` for what a host says about itself now and then.
    pub fn canonical(&self, world: usize, arrival: &Arrival, step: Option<&Step>) -> Option<Canonical> {
        if is_noise(arrival) {
            return None;
        }
        let mut frame = arrival.frame.clone();
        match locate(&frame) {
            Some(located) => self.ip(&mut frame, &located, arrival, step.map(|step| (world, step))),
            // Padding.
            None if word(&frame, 12) == Some(ethertype::ARP) => frame.truncate(ETHERNET + 28),
            None => {}
        }
        Some(Canonical { port: arrival.port, vlan: arrival.vlan, frame })
    }

    fn ip(&self, frame: &mut Vec<u8>, located: &Located, arrival: &Arrival, step: Option<(usize, &Step)>) {
        if located.end >= located.transport {
            frame.truncate(located.end);
        }
        judge_checksums(frame, located);
        if located.protocol == SCTP && located.transport + 12 <= frame.len() {
            // Nothing changes that it covers, and netfilter makes a wrong one right.
            frame[located.transport + 8..located.transport + 12].fill(0);
        }
        if is_error(frame, located) {
            if located.v4 {
                frame[20] &= !DONT_FRAGMENT;
            }
            blank_quoted(frame, located);
        }
        if located.v4 && located.protocol == ICMP && frame.get(located.transport) == Some(&TIMESTAMP_REPLY) {
            // What the clock says.
            frame[located.transport..].iter_mut().skip(12).take(8).for_each(|byte| *byte = 0);
        }
        if arrival.port == HOST
            && let Some(at) = located.checksum().filter(|_| !located.v4)
        {
            // The raw socket does not tell the destination, which is in the sum.
            put(frame, at, RIGHT);
        }
        if matches!(located.protocol, ICMP | ICMPV6) || !self.steps.contains_key(&identification_of(frame, located)) {
            put(frame, located.identification(), 0);
        }
        let Some((world, step)) = step else { return };
        if step.traits.decoration.fragments.is_some() && located.v4 {
            put(frame, located.identification(), 0);
        }
        if step.traits.decoration.is_filled_in() && located.v4 && located.transport <= frame.len() {
            frame[ETHERNET + 20..located.transport].fill(0);
            put(frame, 24, RIGHT);
        }
        if let Some(renamed) = step.traits.renamed
            && let Some(at) = renamed_port(frame, located, renamed.at == arrival.port)
            && (renamed.at == arrival.port || renamed.at == step.port && arrival.port == HOST)
        {
            put(frame, at, renamed.from);
        }
        if step.traits.renamed.is_some() && is_error(frame, located) {
            blank_quoted_checksum(frame, located);
        }
        if is_translated_within(step, &step.frames[world][0], arrival, located) {
            // Netfilter translates on the bridge what stays within a network: no hop, and the MAC address of the sibling.
            frame[6..12].fill(0);
            frame[if located.v4 { 22 } else { 21 }] = 0;
        }
    }
}

/// Whether a packet came to its own network's endpoint with another address than it was sent with.
pub fn is_translated_within(step: &Step, sent: &[u8], arrival: &Arrival, located: &Located) -> bool {
    let same_network = step.port < MEMBERS && arrival.port < MEMBERS && step.port / 2 == arrival.port / 2;
    same_network
        && locate(sent).is_some_and(|sent| (sent.source, sent.destination) != (located.source, located.destination))
}

/// Offset of the port of whoever is inside, in a frame that `leaves` or comes: its source or destination, or the other
/// one of what an ICMP error quotes.
fn renamed_port(frame: &[u8], located: &Located, leaves: bool) -> Option<usize> {
    let of = |(source, destination)| if leaves { source } else { destination };
    if !is_error(frame, located) {
        return located.ports(frame).map(of);
    }
    let before = located.transport + 8 - ETHERNET;
    let quoted = [&frame[..ETHERNET], frame.get(before + ETHERNET..)?].concat();
    let (source, destination) = locate(&quoted)?.ports(&quoted)?;
    Some(before + of((destination, source)))
}

fn identification_of(frame: &[u8], located: &Located) -> u16 {
    word(frame, located.identification()).unwrap_or(0)
}

/// Puts in place of each checksum how wrong it is. That is what a translation by differences keeps.
fn judge_checksums(frame: &mut [u8], located: &Located) {
    if located.v4 && located.transport <= frame.len() {
        let sum = internet_checksum(&frame[ETHERNET..located.transport]);
        put(frame, 24, sum);
    }
    let Some(at) = located.checksum().filter(|at| at + 2 <= frame.len()) else { return };
    if located.protocol == UDP && word(frame, at) == Some(0) {
        put(frame, at, NONE);
        return;
    }
    let segment = &frame[located.transport..located.end];
    let sum = if located.v4 && located.protocol == ICMP {
        internet_checksum(segment)
    } else {
        transport_checksum(located.source, located.destination, located.protocol, segment)
    };
    put(frame, at, sum);
}

/// Whether it is an ICMP error.
pub fn is_error(frame: &[u8], located: &Located) -> bool {
    let errors: &[u8] = match located.protocol {
        ICMP => &[3, 5, 11, 12],
        ICMPV6 => &[1, 2, 3, 4],
        _ => &[],
    };
    frame.get(located.transport).is_some_and(|kind| errors.contains(kind))
}

/// Neighbour discovery, router solicitations and group reports.
fn is_about_links(arrival: &Arrival) -> bool {
    let frame = &arrival.frame;
    match locate(frame) {
        Some(ip) if ip.protocol == ICMPV6 => matches!(frame.get(ip.transport), Some(130..=137 | 143)),
        Some(ip) => ip.protocol == 2,
        None => word(frame, 12) == Some(ethertype::ARP),
    }
}

/// Whether an arrival has an address of a packet, which may be another's with a damaged identification otherwise. But what
/// the host begins may be translated at both ends.
fn shares_address(arrived: &Located, step: &Step) -> bool {
    let known = |sent: Located| [sent.source, sent.destination];
    let mut sent = step.frames.iter().flatten().filter_map(|frame| locate(frame)).flat_map(known);
    sent.any(|address| [arrived.source, arrived.destination].contains(&address))
}

/// How much of this is also in that, in pieces of four bytes at any place.
fn in_common(this: &[u8], that: &[u8]) -> usize {
    let pieces: HashSet<_> = that.windows(4).collect();
    this.windows(4).filter(|piece| pieces.contains(piece)).count()
}

/// Whether a neighbour's answer is about the address that the question is about (RFC 826, RFC 4861 sections 4.3 and 4.4).
fn answers(answer: &[u8], question: &[u8]) -> bool {
    let (asked, told) = if word(question, 12) == Some(ethertype::ARP) { (38..42, 28..32) } else { (62..78, 62..78) };
    word(answer, 12) == word(question, 12) && answer.get(told) == question.get(asked)
}

/// What a host says to all about links, and no packet of ours has caused.
fn is_noise(arrival: &Arrival) -> bool {
    let to_all = arrival.port == HOST || arrival.frame[0] & 1 != 0;
    to_all && is_about_links(arrival) && read_tag(&arrival.frame).is_none()
}
