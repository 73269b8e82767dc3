//! Any translation of any correct packet: it leaves with the addresses and ports asked for, and with right checksums.

#![no_main]

use datapath_common::{
    abi::FlowKey,
    logic::{
        headers::ETHERNET,
        parse::{Parsed, Transport, parse},
        rewrite::rewrite,
    },
    native::{Frame, checksums_are_right, used},
    path::{Readable as _, Scratch},
};
use datapath_fuzz::Wish;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(wish) = Wish::read(input) else { return Corpus::Reject };
    let mut frame = Frame::new(1, wish.packet());
    assert!(checksums_are_right(&frame.bytes), "the packet to begin with: {:02x?}", frame.bytes);
    let mut scratch = used();
    let Some(parsed) = read(&mut frame, &mut scratch) else { return Corpus::Reject };
    let has_ports = matches!(parsed.transport, Transport::Tcp | Transport::Udp);
    let answers = FlowKey {
        source: wish.wanted(2),
        destination: wish.wanted(3),
        source_port: if has_ports { parsed.key.destination_port.rotate_left(3) } else { parsed.key.destination_port },
        destination_port: parsed.key.source_port.wrapping_mul(31),
        ..parsed.key
    };
    if wish.routed && wish.ttl <= 1 {
        return Corpus::Reject;
    }
    rewrite(&mut frame, &mut scratch.headers, &parsed, &answers, wish.routed).expect("refused without need");
    assert!(checksums_are_right(&frame.bytes), "{parsed:?} as the reverse of {answers:?}: {:02x?}", frame.bytes);
    let after = read(&mut frame, &mut used()).expect("a translated packet is still a packet");
    assert_eq!((after.key.source, after.key.destination), (answers.destination, answers.source));
    assert_eq!(after.ttl, parsed.ttl - u8::from(wish.routed));
    if has_ports {
        let ports = (after.key.source_port, after.key.destination_port);
        assert_eq!(ports, (answers.destination_port, answers.source_port));
    }
    Corpus::Keep
});

fn read(frame: &mut Frame, scratch: &mut Scratch) -> Option<Parsed> {
    if !frame.read_headers(ETHERNET, &mut scratch.headers) {
        return None;
    }
    parse(frame, &scratch.headers, &mut scratch.parsed).ok()?;
    Some(scratch.parsed)
}
