//! What the targets share: correct packets of any kind, made without the code under test.

use datapath_common::{abi::Address, logic::parse::protocol};

/// A packet as the input asks for it.
pub struct Wish<'a> {
    /// Which IP version.
    pub ipv6: bool,
    /// IP protocol number.
    pub protocol: u8,
    /// Whether it loses a hop.
    pub routed: bool,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 options, in words of four bytes, or IPv6 extension headers.
    options: usize,
    addresses: &'a [u8; 64],
    ports: [u8; 4],
    payload: &'a [u8],
}

impl<'a> Wish<'a> {
    /// Reads it; `None` when the input is too short.
    pub fn read(input: &'a [u8]) -> Option<Self> {
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
            options: usize::from(choice >> 4 & 3),
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

    /// The address of this number: the packet's source and destination are 0 and 1, and there are two more.
    pub fn wanted(&self, index: usize) -> Address {
        let [a, b, c, d, ..] = self.address(index);
        if self.ipv6 { Address::v6(self.address(index)) } else { Address::v4([a, b, c, d]) }
    }

    /// The packet, with right lengths and checksums.
    pub fn packet(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if self.ipv6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            let (first, extensions) = self.extensions();
            frame.extend(((extensions.len() + transport.len()) as u16).to_be_bytes());
            frame.extend([first, self.ttl]);
            frame.extend(self.address(0));
            frame.extend(self.address(1));
            frame.extend(extensions);
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

    /// IPv6 extension headers of padding, 8, 16 and 8 bytes long, and the number of the first header (RFC 8200 section 4).
    fn extensions(&self) -> (u8, Vec<u8>) {
        let all = [(0, 8), (60, 16), (60, 8)];
        let wanted = &all[all.len() - self.options..];
        let mut bytes = Vec::new();
        for (index, (_, length)) in wanted.iter().enumerate() {
            let next = wanted.get(index + 1).map_or(self.protocol, |(number, _)| *number);
            bytes.extend([next, (length / 8 - 1) as u8, 1, (length - 4) as u8]);
            bytes.resize(bytes.len() + length - 4, 0);
        }
        (wanted.first().map_or(self.protocol, |(number, _)| *number), bytes)
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
pub fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 = words.map(|word| u64::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}
