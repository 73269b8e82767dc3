//! From a move to frames.

use fastrand::Rng;
use lab::frame::{Ethernet, TcpSegment, fragments, internet_checksum, tcp_flags};

use super::decoration::{Checksum, Decoration};
use super::flow::{Flow, Move, Side};
use crate::locate::{ETHERNET, Ends, has_right_header, locate, put, word};
use crate::reassembly::FRAGMENT;

/// What tagged payloads begin with; the numbers of packet and flow follow.
pub const MAGIC: [u8; 4] = *b"\xd1ff\x7e";
/// Bytes of a tag.
pub const TAG: usize = 12;

/// What follows the IP header.
pub enum Segment {
    /// TCP; the ports are those of the ends.
    Tcp(TcpSegment),
    /// UDP.
    Udp,
    /// ICMP echo, request or reply.
    Echo { reply: bool, sequence: u16 },
}

impl Segment {
    /// What a move says now; sequence numbers go on.
    pub fn of(next: &Move, flow: &mut Flow, payload: usize) -> Self {
        match *next {
            Move::Tcp { from, flags, .. } => {
                let (own, other) = (from as usize, 1 - from as usize);
                let acknowledgement = if flags & tcp_flags::ACK != 0 { flow.sequence[other] } else { 0 };
                let segment = TcpSegment { sequence: flow.sequence[own], acknowledgement, flags, ..Default::default() };
                let phantom = u32::from(flags & tcp_flags::SYN != 0) + u32::from(flags & tcp_flags::FIN != 0);
                flow.sequence[own] = flow.sequence[own].wrapping_add(payload as u32 + phantom);
                Self::Tcp(segment)
            }
            Move::Echo { from, sequence } => Self::Echo { reply: from == Side::Responder, sequence },
            _ => Self::Udp,
        }
    }
}

/// A tagged payload, or none.
pub fn payload(random: &mut Rng, number: u32, flow: u32, wanted: bool) -> Vec<u8> {
    if !wanted {
        return Vec::new();
    }
    let mut bytes = tag(number, flow);
    let length = if random.u32(..20) == 0 { random.usize(1000..1350) } else { random.usize(..40) };
    bytes.extend((0..length).map(|_| random.u8(..)));
    bytes
}

fn tag(number: u32, flow: u32) -> Vec<u8> {
    [&MAGIC[..], &number.to_be_bytes(), &flow.to_be_bytes()].concat()
}

/// Puts the numbers into a frame that was built with a blank tag ([`blank_tag`]) or none.
pub fn tagged(mut frame: Vec<u8>, number: u32, flow: u32) -> Vec<u8> {
    let Some(at) = frame.windows(TAG).rposition(|window| window == blank_tag()) else { return frame };
    frame[at..at + TAG].copy_from_slice(&tag(number, flow));
    mend(&mut frame);
    frame
}

/// The place of a tag in frames that are built before they have a number.
pub fn blank_tag() -> [u8; TAG] {
    let mut blank = [0; TAG];
    blank[..4].copy_from_slice(&MAGIC);
    blank
}

/// Makes the transport checksum right after a change of the payload.
fn mend(frame: &mut [u8]) {
    let Some(located) = locate(frame) else { return };
    let Some(at) = located.checksum() else { return };
    put(frame, at, 0);
    let segment = &frame[located.transport..located.end];
    let sum = if located.v4 && located.protocol == crate::locate::ICMP {
        lab::frame::internet_checksum(segment)
    } else {
        lab::frame::transport_checksum(located.source, located.destination, located.protocol, segment)
    };
    put(frame, at, if sum == 0 { 0xffff } else { sum });
}

/// The number and the flow in a frame's tag, wherever it is.
pub fn read_tag(frame: &[u8]) -> Option<(u32, u32)> {
    let at = frame.windows(MAGIC.len()).position(|window| window == MAGIC)? + MAGIC.len();
    Some((crate::locate::long(frame, at)?, crate::locate::long(frame, at + 4)?))
}

/// The identification (IPv4) or flow label (IPv6) of a packet: never 0, so that it is told from the host's own.
pub fn identification(number: u32) -> u16 {
    (number % 0xffff) as u16 + 1
}

/// The frame or the fragments of a packet.
pub fn frames(ends: &Ends, segment: &Segment, payload: &[u8], decoration: &Decoration, number: u32) -> Vec<Vec<u8>> {
    let mut builder = Ethernet::new(ends.source_mac, ends.destination_mac)
        .ip(ends.source.ip(), ends.destination.ip())
        .ttl(decoration.ttl)
        .identification(identification(number));
    if let Some((_, options)) = decoration.options {
        builder = builder.options(options);
    }
    for (kind, body) in decoration.extensions.iter().flat_map(|(_, headers)| *headers) {
        let mut body = body.to_vec();
        if *kind == FRAGMENT {
            // Its own identification, so that it is not taken for a part of another one that never gets whole.
            body[3..7].copy_from_slice(&number.to_be_bytes());
        }
        builder = builder.extension(*kind, &body);
    }
    let (source, destination) = (ends.source.port(), ends.destination.port());
    let mut frame = match segment {
        Segment::Tcp(segment) => builder.tcp(TcpSegment { source, destination, ..*segment }, payload),
        Segment::Udp if decoration.checksum == Checksum::None => {
            builder.udp_without_checksum(source, destination, payload)
        }
        Segment::Udp => builder.udp(source, destination, payload),
        Segment::Echo { reply, sequence } => {
            let kinds = if ends.source.is_ipv4() { [8, 0] } else { [128, 129] };
            let body = [&source.to_be_bytes(), &sequence.to_be_bytes(), payload].concat();
            builder.icmp(kinds[usize::from(*reply)], 0, &body)
        }
    };
    if decoration.checksum == Checksum::Wrong
        && let Some(at) = locate(&frame).and_then(|located| located.checksum())
    {
        // By the same difference in both worlds, whatever the ports are (one's complement, RFC 1071).
        let (sum, carry) = word(&frame, at).expect("it is in the frame").overflowing_add(0x1234);
        put(&mut frame, at, sum + u16::from(carry));
    }
    match decoration.fragments {
        Some((size, order)) => order.of(fragments(&frame, size.max(frame.len() / 10).next_multiple_of(8), number)),
        None => vec![frame],
    }
}

const NEXT_HOP_MTU: u32 = 1_492;

/// Whether both worlds saw the same packet, by its length and its identification.
pub fn is_same([ours, oracle]: [&[u8]; 2]) -> bool {
    let identification = |frame: &[u8]| locate(frame).and_then(|ip| word(frame, ip.identification()));
    ours.len() == oracle.len() && identification(ours) == identification(oracle)
}

/// An ICMP error about a frame, quoting so much of what follows the IP header.
pub fn quoting(ends: &Ends, quoted: &[u8], (kind, code): (u8, u8), length: usize, number: u32) -> Option<Vec<u8>> {
    let located = locate(quoted)?;
    let end = located.end.min(located.transport + length);
    // The way to the worlds' endpoints may not be equally long; and damage may hide from the judge what is quoted.
    let mut quoted = quoted.to_vec();
    if located.v4 {
        let is_right = has_right_header(&quoted);
        quoted[22] = 64;
        if is_right {
            put(&mut quoted, 24, 0);
            let sum = internet_checksum(&quoted[ETHERNET..located.transport]);
            put(&mut quoted, 24, sum);
        }
    } else {
        quoted[21] = 64;
    }
    // The mean field is the next hop's MTU where there is one (RFC 1191, RFC 4443 section 3.2): more than any packet here,
    // for what each host learns of it, and when, is not what is compared.
    let body = [&NEXT_HOP_MTU.to_be_bytes()[..], quoted.get(ETHERNET..end)?].concat();
    let ip = Ethernet::new(ends.source_mac, ends.destination_mac).ip(ends.source.ip(), ends.destination.ip());
    Some(ip.identification(identification(number)).icmp(kind, code, &body))
}
