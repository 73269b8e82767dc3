//! Any part of any correct packet, or any bytes, quoted by an error: what is read of it agrees with the bytes, and translated it
//! is what was asked for, with right checksums, and otherwise as it was.

#![no_main]

use datapath_common::{
    abi::FlowKey,
    logic::{
        headers::ETHERNET,
        parse::{Fragment, Parsed, Transport, parse},
        quoted::{is_error, parse_quoted, rewrite_quoted},
    },
    native::{Frame, checksums_are_right, used},
    path::{Readable as _, Scratch},
};
use datapath_fuzz::{Wish, checksum};
use libfuzzer_sys::{Corpus, fuzz_target};

/// Where the quoted packet begins, behind Ethernet, IP and the error.
const fn quoted_at(ipv6: bool) -> usize {
    if ipv6 { 14 + 40 + 8 } else { 14 + 20 + 8 }
}

/// An error that quotes these bytes.
fn error(ipv6: bool, quoted: &[u8]) -> Vec<u8> {
    let mut message = [&[if ipv6 { 3 } else { 11 }, 0, 0, 0, 0, 0, 0, 0], quoted].concat();
    let (source, destination): ([u8; 16], [u8; 16]) = ([0x20; 16], [0x21; 16]);
    let length = (message.len() as u32).to_be_bytes();
    let pseudo = [&source[..], &destination, &length, &[0, 0, 0, 58]].concat();
    let sum = checksum(&[if ipv6 { &pseudo } else { &[] }, &message]);
    message[2..4].copy_from_slice(&sum);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if ipv6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((message.len() as u16).to_be_bytes());
        frame.extend([58, 64]);
        frame.extend([source, destination].concat());
    } else {
        let mut ip = vec![0x45, 0];
        ip.extend((20 + message.len() as u16).to_be_bytes());
        ip.extend([0, 7, 0, 0, 64, 1, 0, 0, 32, 32, 32, 32, 33, 33, 33, 33]);
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum);
        frame.extend([0x08, 0x00]);
        frame.extend(ip);
    }
    frame.extend(message);
    frame
}

/// The quoted packet as a frame of its own.
fn quoted_frame(frame: &[u8], ipv6: bool) -> Vec<u8> {
    [&[0; 12], &frame[12..14], &frame[quoted_at(ipv6)..]].concat()
}

/// Whether these bytes are a packet, and not the broken beginning of one.
fn is_packet(bytes: &[u8]) -> bool {
    let (mut frame, mut scratch) = (Frame::new(1, bytes.to_vec()), used());
    frame.read_headers(ETHERNET, &mut scratch.headers) && parse(&frame, &scratch.headers, &mut scratch.parsed).is_ok()
}

/// The bytes that a translation may change: the error's checksum, and of the quoted packet addresses, ports and checksums.
fn may_change(at: usize, ipv6: bool, quoted: &Parsed) -> bool {
    let ip = quoted_at(ipv6);
    let error_checksum = ip - 6..ip - 4;
    let addresses = if ipv6 { ip + 8..ip + 40 } else { ip + 12..ip + 20 };
    let header_checksum = if ipv6 { 0..0 } else { ip + 10..ip + 12 };
    let transport = usize::from(quoted.transport_offset);
    let (ports, transport_checksum) = match quoted.transport {
        Transport::Tcp => (0..4, 16..18),
        Transport::Udp => (0..4, 6..8),
        Transport::EchoRequest | Transport::EchoReply => (4..6, 2..4),
        _ => (0..0, 0..0),
    };
    error_checksum.contains(&at)
        || addresses.contains(&at)
        || header_checksum.contains(&at)
        || at >= transport && (ports.contains(&(at - transport)) || transport_checksum.contains(&(at - transport)))
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((choice, rest)) = input.split_first() else { return Corpus::Reject };
    let Some(wish) = Wish::read(rest) else { return Corpus::Reject };
    let mut quoted = wish.packet().split_off(14);
    match choice & 3 {
        // Cut off somewhere, as errors are.
        0 => quoted.truncate(usize::from(choice >> 2)),
        // Broken somewhere.
        1 => {
            let at = usize::from(choice >> 2) % quoted.len();
            quoted[at] ^= wish.ttl;
        }
        _ => {}
    }
    let mut frame = Frame::new(1, error(wish.ipv6, &quoted));
    assert!(checksums_are_right(&frame.bytes), "the error to begin with: {:02x?}", frame.bytes);
    let mut scratch = used();
    assert!(frame.read_headers(ETHERNET, &mut scratch.headers));
    parse(&frame, &scratch.headers, &mut scratch.parsed).expect("the error is a packet");
    assert!(is_error(&scratch.parsed));
    let Scratch { headers, parsed, quoted, .. } = &mut scratch;
    if parse_quoted(&frame, headers, parsed, quoted).is_none() {
        return Corpus::Keep;
    }
    assert!(quoted.fragment != Fragment::Later && quoted.transport != Transport::Icmp, "{quoted:?}");
    let has_ports = matches!(quoted.transport, Transport::Tcp | Transport::Udp);
    let key = quoted.key;
    let changed = |port: u16| if has_ports { port.rotate_left(3) ^ 77 } else { port };
    let (mut source_port, mut destination_port) = (changed(key.destination_port), changed(key.source_port));
    match quoted.transport {
        Transport::EchoRequest => source_port = source_port.wrapping_mul(31),
        Transport::EchoReply => destination_port = destination_port.wrapping_mul(31),
        _ => {}
    }
    let sent = FlowKey { source: wish.wanted(2), destination: wish.wanted(3), source_port, destination_port, ..key };
    let before = frame.bytes.clone();
    rewrite_quoted(&mut frame, headers, parsed, quoted, &sent).expect("it is all there");
    assert!(checksums_are_right(&frame.bytes), "{quoted:?} as {sent:?}: {:02x?}", frame.bytes);
    // Of a packet that says it is shorter than its headers, no checksum can be told.
    let inner = quoted_frame(&before, wish.ipv6);
    let inner_was_right = is_packet(&inner) && checksums_are_right(&inner);
    assert!(!inner_was_right || checksums_are_right(&quoted_frame(&frame.bytes, wish.ipv6)), "{quoted:?} as {sent:?}");
    assert_eq!(frame.bytes.len(), before.len());
    for (at, (before, after)) in before.iter().zip(&frame.bytes).enumerate() {
        assert!(before == after || may_change(at, wish.ipv6, quoted), "byte {at} of {quoted:?} as {sent:?}");
    }
    let mut again = Parsed::EMPTY;
    parse_quoted(&frame, headers, parsed, &mut again).expect("a translated packet is still one");
    assert_eq!(again.key, sent.reverse(key.scope));
    Corpus::Keep
});
