//! Any bytes, also more than a length field can count: parsing ends, reads nothing that is not there, and what it says agrees
//! with the bytes.

#![no_main]

use datapath_common::{
    logic::{
        headers::ETHERNET,
        parse::{Fragment, Parsed, Transport, parse},
    },
    native::{Frame, used},
    path::Readable as _,
};
use libfuzzer_sys::{Corpus, fuzz_target};

/// More than 16 bits count.
const BIG: usize = 70_000;

/// The packet that the input asks for: the Ethernet addresses, which nobody parses, say what is not in its bytes.
fn frame(input: &[u8]) -> Option<Frame> {
    let mut bytes = input.to_vec();
    let [cut, long, .., a, b] = bytes.first_chunk_mut::<14>()?;
    // Only the two IP versions are parsed; the path decides about the rest.
    [*a, *b] = if *a & 1 == 0 { [0x08, 0x00] } else { [0x86, 0xdd] };
    let (segment_size, long) = (u32::from(*cut & 1) * 1_400, *long & 7 == 1);
    if long {
        bytes.resize(BIG, 0);
    }
    Some(Frame { segment_size, ..Frame::new(1, bytes) })
}

/// Bytes that the length field is about, and what it says.
fn length(frame: &Frame) -> (usize, usize) {
    let (begin, field) = if frame.bytes[12] == 8 { (14, 16) } else { (54, 18) };
    let said = u16::from_be_bytes([frame.bytes[field], frame.bytes[field + 1]]);
    (frame.bytes.len() - begin, usize::from(said))
}

/// What holds of a packet that is one.
fn check(frame: &Frame, parsed: &Parsed) {
    let (there, said) = length(frame);
    let big = said == 0 && there > usize::from(u16::MAX);
    assert!(said <= there, "it says that it is longer: {parsed:?}");
    let first = parsed.fragment != Fragment::Later;
    let at = usize::from(parsed.transport_offset);
    match parsed.transport {
        _ if !first => assert!(!big, "{parsed:?}"),
        Transport::Tcp | Transport::Udp => {
            assert_eq!(frame.bytes[at..at + 2], parsed.key.source_port.to_ne_bytes(), "{parsed:?}");
            assert_eq!(frame.bytes[at + 2..at + 4], parsed.key.destination_port.to_ne_bytes(), "{parsed:?}");
            let is_tcp = parsed.transport == Transport::Tcp;
            assert!(!big || is_tcp && frame.segment_size > 0, "{parsed:?}");
            let end = frame.bytes.len() - if big { 0 } else { there - said };
            assert!(at + if is_tcp { 20 } else { 8 } <= end, "{parsed:?}");
        }
        _ => assert!(!big, "{parsed:?}"),
    }
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(mut frame) = frame(input) else { return Corpus::Reject };
    let mut scratch = used();
    if frame.read_headers(ETHERNET, &mut scratch.headers)
        && parse(&frame, &scratch.headers, &mut scratch.parsed).is_ok()
    {
        check(&frame, &scratch.parsed);
    }
    Corpus::Keep
});
