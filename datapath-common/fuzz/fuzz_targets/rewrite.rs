//! Any translation of a correct packet: it leaves with the addresses and ports asked for, and with right checksums.

#![no_main]

use datapath_common::{
    abi::{Address, FlowKey},
    logic::{
        headers::ETHERNET,
        parse::{Parsed, Transport, parse},
        rewrite::rewrite,
    },
    native::{Frame, checksums_are_right},
    path::{Packet as _, Scratch},
};
use libfuzzer_sys::{Corpus, fuzz_target};

/// Bytes of the input that say what to translate to: two addresses, two ports, whether a hop is counted.
const WISH: usize = 16 + 16 + 2 + 2 + 1;

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((wish, packet)) = input.split_at_checked(WISH) else { return Corpus::Reject };
    let mut frame = Frame::new(1, packet.to_vec());
    let Some((mut scratch, parsed)) = read(&mut frame) else { return Corpus::Reject };
    if parsed.transport == Transport::Other || !checksums_are_right(&frame.bytes) {
        return Corpus::Reject;
    }
    let answers = wanted(wish, &parsed);
    let routed = wish[36] & 1 == 1;
    let Ok(()) = rewrite(&mut frame, &mut scratch.headers, &parsed, &answers, routed) else { return Corpus::Keep };

    assert!(checksums_are_right(&frame.bytes), "{parsed:?} as the reverse of {answers:?}: {:02x?}", frame.bytes);
    let (_, after) = read(&mut frame).expect("a translated packet is still a packet");
    assert_eq!(after.key.source, answers.destination);
    assert_eq!(after.key.destination, answers.source);
    assert_eq!(after.ttl, parsed.ttl - u8::from(routed));
    if matches!(parsed.transport, Transport::Tcp | Transport::Udp) {
        assert_eq!(after.key.source_port, answers.destination_port);
        assert_eq!(after.key.destination_port, answers.source_port);
    }
    Corpus::Keep
});

fn read(frame: &mut Frame) -> Option<(Scratch, Parsed)> {
    if !matches!(frame.bytes.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd])) {
        return None;
    }
    let mut scratch = Scratch::EMPTY;
    if !frame.read_headers(ETHERNET, &mut scratch.headers) {
        return None;
    }
    parse(frame, &scratch.headers, &mut scratch.parsed).ok()?;
    let parsed = scratch.parsed;
    Some((scratch, parsed))
}

/// The answer's key that the input asks for, of the packet's own family.
fn wanted(wish: &[u8], parsed: &Parsed) -> FlowKey {
    let address = |bytes: &[u8]| {
        if parsed.key.source.is_v4() {
            return Address::v4(bytes[..4].try_into().expect("four bytes"));
        }
        let mut v6: [u8; 16] = bytes.try_into().expect("sixteen bytes");
        // An IPv4-mapped address is never on the wire.
        v6[0] |= 0x20;
        Address::v6(v6)
    };
    FlowKey {
        source: address(&wish[..16]),
        destination: address(&wish[16..32]),
        source_port: u16::from_ne_bytes([wish[32], wish[33]]),
        destination_port: u16::from_ne_bytes([wish[34], wish[35]]),
        ..parsed.key
    }
}
