//! Any translation of any correct packet: it leaves with the addresses and ports asked for, and with right checksums.

#![no_main]

use datapath_common::{
    abi::{Address, FlowKey},
    logic::{
        headers::ETHERNET,
        parse::{Parsed, Transport, parse, protocol},
        rewrite::rewrite,
    },
    native::{Frame, checksums_are_right},
    path::{Packet as _, Scratch},
};
use libfuzzer_sys::{Corpus, fuzz_target};

/// What the input asks for, before the payload.
struct Wish<'a> {
    ipv6: bool,
    protocol: u8,
    routed: bool,
    ttl: u8,
    /// IPv4 options, in words of four bytes.
    options: usize,
    addresses: &'a [u8; 64],
    ports: [u8; 4],
    payload: &'a [u8],
}

impl<'a> Wish<'a> {
    fn read(input: &'a [u8]) -> Option<Self> {
        let ([choice, ttl], rest) = input.split_first_chunk()?;
        let (addresses, rest) = rest.split_first_chunk()?;
        let (ports, payload) = rest.split_first_chunk()?;
        let ipv6 = choice & 1 == 1;
        let icmp = if ipv6 { protocol::ICMPV6 } else { protocol::ICMP };
        Some(Self {
            ipv6,
            protocol: [protocol::TCP, protocol::UDP, icmp, protocol::SCTP][usize::from(choice >> 1 & 3)],
            routed: choice >> 3 & 1 == 1,
            ttl: *ttl,
            options: if ipv6 { 0 } else { usize::from(choice >> 4 & 3) },
            addresses,
            ports: *ports,
            payload: &payload[..payload.len().min(1400)],
        })
    }

    fn address(&self, index: usize) -> [u8; 16] {
        let mut bytes: [u8; 16] = self.addresses[index * 16..][..16].try_into().expect("sixteen bytes");
        // An IPv4-mapped address is never on the wire.
        bytes[0] |= 0x20;
        bytes
    }

    fn wanted(&self, index: usize) -> Address {
        let [a, b, c, d, ..] = self.address(index);
        if self.ipv6 { Address::v6(self.address(index)) } else { Address::v4([a, b, c, d]) }
    }

    /// The packet, with right lengths and checksums.
    fn packet(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if self.ipv6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((transport.len() as u16).to_be_bytes());
            frame.extend([self.protocol, self.ttl]);
            frame.extend(self.address(0));
            frame.extend(self.address(1));
        } else {
            let header = 20 + self.options * 4;
            let mut ip = vec![0x40 | (header / 4) as u8, 0];
            ip.extend(((header + transport.len()) as u16).to_be_bytes());
            ip.extend([0, 7, 0, 0, self.ttl, self.protocol, 0, 0]);
            ip.extend(&self.address(0)[..4]);
            ip.extend(&self.address(1)[..4]);
            // Option 1 does nothing (RFC 791).
            ip.resize(header, 1);
            let sum = checksum(&[&ip]);
            ip[10..12].copy_from_slice(&sum);
            frame.extend([0x08, 0x00]);
            frame.extend(ip);
        }
        frame.extend(transport);
        frame
    }

    fn transport(&self) -> Vec<u8> {
        let (head, at) = match self.protocol {
            protocol::TCP => ([&self.ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0]].concat(), 16),
            protocol::UDP => {
                let length = (8 + self.payload.len() as u16).to_be_bytes();
                ([&self.ports[..], &length, &[0, 0]].concat(), 6)
            }
            protocol::ICMP => ([&[8, 0, 0, 0], &self.ports[..]].concat(), 2),
            protocol::ICMPV6 => ([&[128, 0, 0, 0], &self.ports[..]].concat(), 2),
            _ => return [&self.ports[..], self.payload].concat(),
        };
        let mut transport = [&head[..], self.payload].concat();
        let length = (transport.len() as u32).to_be_bytes();
        let size = if self.ipv6 { 16 } else { 4 };
        let pseudo = [&self.address(0)[..size], &self.address(1)[..size], &length, &[0, 0, 0, self.protocol]].concat();
        let pseudo: &[u8] = if self.protocol == protocol::ICMP { &[] } else { &pseudo };
        let sum = match checksum(&[pseudo, &transport]) {
            // Zero would mean none (RFC 768).
            [0, 0] if self.protocol == protocol::UDP => [0xff, 0xff],
            sum => sum,
        };
        transport[at..at + 2].copy_from_slice(&sum);
        transport
    }
}

/// RFC 1071's, apart from the code under test. All parts but the last have an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 = words.map(|word| u64::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(wish) = Wish::read(input) else { return Corpus::Reject };
    let mut frame = Frame::new(1, wish.packet());
    assert!(checksums_are_right(&frame.bytes), "the packet to begin with: {:02x?}", frame.bytes);
    let mut scratch = Scratch::EMPTY;
    let Some(parsed) = read(&mut frame, &mut scratch) else { return Corpus::Reject };
    let has_ports = matches!(parsed.transport, Transport::Tcp | Transport::Udp);
    let answers = FlowKey {
        source: wish.wanted(2),
        destination: wish.wanted(3),
        source_port: if has_ports { parsed.key.destination_port.rotate_left(3) } else { parsed.key.destination_port },
        destination_port: parsed.key.source_port.wrapping_mul(31),
        ..parsed.key
    };
    if rewrite(&mut frame, &mut scratch.headers, &parsed, &answers, wish.routed).is_err() {
        assert!(wish.routed && wish.ttl <= 1, "refused without need: {parsed:?}");
        return Corpus::Keep;
    }
    assert!(checksums_are_right(&frame.bytes), "{parsed:?} as the reverse of {answers:?}: {:02x?}", frame.bytes);
    let after = read(&mut frame, &mut Scratch::EMPTY.clone()).expect("a translated packet is still a packet");
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
