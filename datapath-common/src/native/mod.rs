//! The world around the path, natively: a packet in memory, and tables in collections with the kernel's semantics.
//!
//! Tests describe a state, run a path, and look at the outcome, the bytes and the tables. The same descriptions are
//! written into real maps and run by BPF_PROG_TEST_RUN, and must come to the same end.

mod frame;
mod state;
mod tables;

pub use frame::{CopiedTo, Frame};
pub use state::State;
pub use tables::NativeTables;

use crate::{
    abi::{Address, FlowKey, FragmentKey, Piece},
    logic::{
        checksum::{self, Sum},
        headers::ROOM,
        parse::{
            Fragment, Parsed, Transport,
            protocol::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING},
        },
    },
    path::{Outcome, Scratch},
};

/// Takes a packet one of the paths.
pub fn run(
    path: impl FnOnce(&mut Frame, &NativeTables, &mut Scratch) -> Outcome,
    frame: &mut Frame,
    tables: &NativeTables,
) -> Outcome {
    path(frame, tables, &mut used())
}

/// Where another packet was before. The programs blank only what was parsed of it; all else is to be written before it is read.
#[must_use]
pub fn used() -> Scratch {
    let anybody = Address::from(core::net::IpAddr::from([0xff; 16]));
    let mut scratch = Scratch::EMPTY;
    let Scratch { headers, quoted, message, fragmented, .. } = &mut scratch;
    headers.bytes = [0xff; ROOM];
    (headers.length, headers.packet_length, headers.exceeds, headers.next_hop) = (1, 1, 1, 0xff);
    quoted.key = FlowKey {
        source: anybody,
        destination: anybody,
        source_port: 0xffff,
        destination_port: 0xffff,
        scope: 0xffff,
        protocol: 0xff,
        padding: 0,
    };
    *quoted = Parsed {
        ethertype: 0xffff,
        transport_offset: 0xff,
        flags: 0xff,
        ttl: 0xff,
        transport: Transport::Tcp,
        fragment: Fragment::Later,
        fragment_header: 0xff,
        identification: u32::MAX,
        ..*quoted
    };
    message.quotation().fill(0xff);
    (message.sender, message.sender_mac, message.quoted) = (anybody, [0xff; 6], 0xff);
    fragmented.key = FragmentKey {
        source: anybody,
        destination: anybody,
        identification: u32::MAX,
        scope: 0xffff,
        protocol: 0xff,
        padding: 0,
    };
    (fragmented.piece, fragmented.last, fragmented.size) = (Piece { start: 0xff, end: 0xff }, true, 0xff);
    scratch
}

/// Whether every checksum of an Ethernet frame with IP inside is right; a UDP checksum of 0 is. A part of an IPv6 packet has none.
#[must_use]
pub fn checksums_are_right(frame: &[u8]) -> bool {
    let word = |at: usize| frame.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]])) as usize;
    let (payload, protocol, pseudo) = match word(12) {
        0x0800 if frame.len() >= 34 => {
            let header = (frame[14] & 0xf) as usize * 4;
            let end = 14 + word(16);
            let (Some(ip), Some(payload)) = (frame.get(14..14 + header), frame.get(14 + header..end)) else {
                return false;
            };
            if checksum::of_bytes(ip).folded() != 0xffff {
                return false;
            }
            (payload, frame[23], checksum::of_bytes(&frame[26..34]))
        }
        0x86dd if frame.len() >= 54 => {
            let Some((payload, protocol)) =
                frame.get(54..54 + word(18)).and_then(|it| behind_extensions(it, frame[20]))
            else {
                return false;
            };
            (payload, protocol, checksum::of_bytes(&frame[22..54]))
        }
        _ => return true,
    };
    let pseudo = if protocol == 1 {
        Sum::ZERO
    } else {
        pseudo.add16(u16::to_be(protocol.into())).add16((payload.len() as u16).to_be())
    };
    match protocol {
        17 if payload.get(6..8) == Some(&[0, 0]) => true,
        1 | 6 | 17 | 58 => {
            let [low, high] = checksum::of_bytes(payload).folded().to_ne_bytes();
            pseudo.add16(u16::from_ne_bytes([low, high])).folded() == 0xffff
        }
        _ => true,
    }
}

/// What is behind the extension headers (RFC 8200 section 4), and its protocol number; `None` where they are cut off.
fn behind_extensions(payload: &[u8], first: u8) -> Option<(&[u8], u8)> {
    match first {
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
            let length = 8 + usize::from(*payload.get(1)?) * 8;
            behind_extensions(payload.get(length..)?, payload[0])
        }
        FRAGMENT if payload.get(2..4)? == [0, 0] => behind_extensions(payload.get(8..)?, payload[0]),
        _ => Some((payload, first)),
    }
}
