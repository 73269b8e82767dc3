//! IPv4 and IPv6 headers and what they carry.

use std::net::IpAddr;

use super::checksum::{internet_checksum, transport_checksum};
use super::{Ethernet, ethertype};

/// Flags of a TCP segment (RFC 9293 section 3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 1 << 1;
    /// Reset the connection.
    pub const RST: u8 = 1 << 2;
    /// Push.
    pub const PSH: u8 = 1 << 3;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 1 << 4;
}

/// The variable parts of a TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TcpSegment {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// [`tcp_flags`].
    pub flags: u8,
}

/// A frame up to its IP header.
#[derive(Clone, Debug)]
pub struct IpBuilder {
    ethernet: Ethernet,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    identification: u16,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

impl IpBuilder {
    pub(crate) fn new(ethernet: Ethernet, source: IpAddr, destination: IpAddr) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "{source} and {destination} are of one family");
        Self { ethernet, source, destination, ttl: 64, identification: 0, options: Vec::new(), extensions: Vec::new() }
    }

    /// Whether the packet is one of IPv4.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// Another TTL or hop limit than 64.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Another IPv4 identification, or IPv6 flow label, than 0.
    #[must_use]
    pub fn identification(mut self, identification: u16) -> Self {
        self.identification = identification;
        self
    }

    /// IPv4 options (RFC 791 section 3.1), padded to whole words. IPv6 has none.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// One more IPv6 extension header (RFC 8200 section 4); `body` is what follows its first byte. IPv4 has none.
    #[must_use]
    pub fn extension(mut self, kind: u8, body: &[u8]) -> Self {
        self.extensions.push((kind, body.to_vec()));
        self
    }

    /// Ends the frame with a UDP datagram.
    #[must_use]
    pub fn udp(self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = udp_header(source, destination, payload);
        // A computed zero is sent as its other form: zero means "none" (RFC 768).
        let checksum = match transport_checksum(self.source, self.destination, UDP, &datagram) {
            0 => 0xffff,
            other => other,
        };
        datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
        self.protocol(UDP, &datagram)
    }

    /// Ends the frame with a UDP datagram that carries no checksum.
    #[must_use]
    pub fn udp_without_checksum(self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let datagram = udp_header(source, destination, payload);
        self.protocol(UDP, &datagram)
    }

    /// Ends the frame with a TCP segment.
    #[must_use]
    pub fn tcp(self, header: TcpSegment, payload: &[u8]) -> Vec<u8> {
        let mut segment = Vec::with_capacity(20 + payload.len());
        segment.extend(header.source.to_be_bytes());
        segment.extend(header.destination.to_be_bytes());
        segment.extend(header.sequence.to_be_bytes());
        segment.extend(header.acknowledgement.to_be_bytes());
        segment.extend([5 << 4, header.flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(payload);
        let checksum = transport_checksum(self.source, self.destination, TCP, &segment);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        self.protocol(TCP, &segment)
    }

    /// Ends the frame with an ICMP or ICMPv6 message; `body` is what follows the checksum.
    #[must_use]
    pub fn icmp(self, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend(body);
        let (protocol, checksum) = if self.source.is_ipv4() {
            (ICMP, internet_checksum(&message))
        } else {
            (ICMPV6, transport_checksum(self.source, self.destination, ICMPV6, &message))
        };
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        self.protocol(protocol, &message)
    }

    /// Ends the frame with an echo request.
    #[must_use]
    pub fn echo_request(self, identifier: u16, sequence: u16) -> Vec<u8> {
        let kind = if self.source.is_ipv4() { 8 } else { 128 };
        let body = [identifier.to_be_bytes(), sequence.to_be_bytes()].concat();
        self.icmp(kind, 0, &body)
    }

    /// Ends the frame with any protocol and payload.
    #[must_use]
    pub fn protocol(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let (kind, mut packet) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let words = u8::try_from(self.options.len() / 4).expect("options are short");
                let total = u16::try_from(20 + self.options.len() + payload.len()).expect("a packet is short");
                let mut header = vec![0x45 + words, 0];
                header.extend(total.to_be_bytes());
                header.extend(self.identification.to_be_bytes());
                header.extend([0, 0, self.ttl, protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(&self.options);
                let checksum = internet_checksum(&header);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                (ethertype::IPV4, header)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (first, chain) = chained(&self.extensions, protocol);
                let length = u16::try_from(chain.len() + payload.len()).expect("a packet is short");
                let [high, low] = self.identification.to_be_bytes();
                let mut header = vec![0x60, 0, high, low];
                header.extend(length.to_be_bytes());
                header.extend([first, self.ttl]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(chain);
                (ethertype::IPV6, header)
            }
            _ => unreachable!("`new` asserts one family"),
        };
        packet.extend(payload);
        self.ethernet.payload(kind, &packet)
    }
}

/// The first header's number, and the extension headers, each with the number of the next.
fn chained(extensions: &[(u8, Vec<u8>)], protocol: u8) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    for (position, (_, body)) in extensions.iter().enumerate() {
        bytes.push(extensions.get(position + 1).map_or(protocol, |(kind, _)| *kind));
        bytes.extend(body);
    }
    (extensions.first().map_or(protocol, |(kind, _)| *kind), bytes)
}

fn udp_header(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a datagram is short");
    let mut datagram = Vec::with_capacity(usize::from(length));
    datagram.extend(source.to_be_bytes());
    datagram.extend(destination.to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

#[cfg(test)]
mod tests {
    use super::super::Mac;
    use super::*;

    fn builder(source: &str, destination: &str) -> IpBuilder {
        let ends = (source.parse().expect("a literal"), destination.parse().expect("a literal"));
        Ethernet::new(Mac([2; 6]), Mac([4; 6])).ip(ends.0, ends.1)
    }

    #[test]
    fn checksums_sum_to_nothing() {
        let frame = builder("10.0.0.1", "10.0.0.2").udp(1, 2, b"odd");
        assert_eq!(internet_checksum(&frame[14..34]), 0);
        let ends = ("10.0.0.1".parse().expect("a literal"), "10.0.0.2".parse().expect("a literal"));
        assert_eq!(transport_checksum(ends.0, ends.1, UDP, &frame[34..]), 0);
        let echo = builder("10.0.0.1", "10.0.0.2").echo_request(7, 1);
        assert_eq!(internet_checksum(&echo[34..]), 0);
    }

    #[test]
    fn options_and_extension_headers_are_counted() {
        let frame = builder("10.0.0.1", "10.0.0.2").options(&[148, 4, 0, 0, 1]).udp(1, 2, b"x");
        assert_eq!((frame[14], internet_checksum(&frame[14..42])), (0x47, 0));
        let padding = [0, 1, 4, 0, 0, 0, 0];
        let frame = builder("fd00::1", "fd00::2").extension(0, &padding).extension(60, &padding).udp(1, 2, b"x");
        assert_eq!((frame[20], frame[54], frame[62], frame[19]), (0, 60, 17, 16 + 9));
    }

    #[test]
    fn lengths_are_of_what_follows() {
        let frame =
            builder("fd00::1", "fd00::2").tcp(TcpSegment { flags: tcp_flags::SYN, ..TcpSegment::default() }, b"x");
        assert_eq!(frame.len(), 14 + 40 + 21);
        assert_eq!(frame[18..20], 21u16.to_be_bytes());
    }
}
