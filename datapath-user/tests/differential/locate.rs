//! Where the headers of a frame are: a reader of its own, so that no mistake of the datapath's parser is made twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lab::Mac;
use lab::frame::{ethertype, internet_checksum};

pub const ETHERNET: usize = 14;
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;

/// Headers of an IP packet in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located {
    pub v4: bool,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub fragment: bool,
    /// Whether it has an IPv6 fragment header, be it of a fragment or not (RFC 6946).
    pub fragment_header: bool,
    /// Where the transport header begins.
    pub transport: usize,
    /// Where the packet ends, by its own length field; never beyond the frame.
    pub end: usize,
}

/// Finds them; `None` where there is no whole IP header.
pub fn locate(frame: &[u8]) -> Option<Located> {
    match word(frame, 12)? {
        ethertype::IPV4 => {
            let header = usize::from(frame.get(ETHERNET)? & 0xf) * 4;
            let end = (ETHERNET + usize::from(word(frame, 16)?)).min(frame.len());
            let octets = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?).into());
            let fragment = word(frame, 20)? & 0x3fff != 0;
            let (source, destination) = (octets(26)?, octets(30)?);
            let transport = ETHERNET + header.max(20);
            Some(Located {
                v4: true,
                source,
                destination,
                protocol: frame[23],
                fragment,
                fragment_header: false,
                transport,
                end,
            })
        }
        ethertype::IPV6 => {
            let octets = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?).into());
            let (source, destination) = (octets(22)?, octets(38)?);
            let end = (ETHERNET + 40 + usize::from(word(frame, 18)?)).min(frame.len());
            let (mut protocol, mut transport, mut fragment) = (frame[20], ETHERNET + 40, false);
            let mut fragment_header = false;
            while let (0 | 43 | 44 | 60, Some(&[next, length])) = (protocol, frame.get(transport..transport + 2)) {
                fragment_header |= protocol == 44;
                fragment |= protocol == 44 && word(frame, transport + 2).is_some_and(|field| field & 0xfff9 != 0);
                transport += match protocol {
                    44 => 8,
                    _ => (usize::from(length) + 1) * 8,
                };
                protocol = next;
            }
            Some(Located { v4: false, source, destination, protocol, fragment, fragment_header, transport, end })
        }
        _ => None,
    }
}

impl Located {
    /// Offset of IPv4's identification, or of the lower part of IPv6's flow label, where the test has one.
    pub fn identification(&self) -> usize {
        if self.v4 { 18 } else { 16 }
    }

    /// Whether the IP header has options, or extension headers behind it.
    pub fn has_options(&self) -> bool {
        self.transport > ETHERNET + if self.v4 { 20 } else { 40 }
    }

    /// Offsets of source and destination port; an echo message has its identifier in place of one of them.
    pub fn ports(&self, frame: &[u8]) -> Option<(usize, usize)> {
        if self.fragment || self.transport + 8 > self.end {
            return None;
        }
        let at = self.transport;
        match self.protocol {
            TCP | UDP => Some((at, at + 2)),
            ICMP | ICMPV6 if matches!(frame[at], 0 | 8 | 128 | 129) => Some((at + 4, at + 4)),
            _ => None,
        }
    }

    /// Offset of the transport checksum, where there is one that can be judged.
    pub fn checksum(&self) -> Option<usize> {
        let at = self.transport
            + match self.protocol {
                TCP => 16,
                UDP => 6,
                ICMP | ICMPV6 => 2,
                _ => return None,
            };
        (!self.fragment && at + 2 <= self.end).then_some(at)
    }
}

/// Whether an IPv4 header's checksum is right.
pub fn has_right_header(frame: &[u8]) -> bool {
    locate(frame)
        .filter(|ip| ip.v4)
        .and_then(|ip| frame.get(ETHERNET..ip.transport))
        .is_some_and(|header| internet_checksum(header) == 0)
}

/// Whether a length field says what cannot be: of the IP packet, of its headers, of a UDP datagram or of a TCP header.
pub fn lies(frame: &[u8]) -> bool {
    let Some(ip) = locate(frame) else { return true };
    let (header, total) = if ip.v4 {
        (usize::from(frame[ETHERNET] & 0xf) * 4, word(frame, 16).map_or(0, usize::from))
    } else {
        (40, 40 + word(frame, 18).map_or(0, usize::from))
    };
    let version = frame[ETHERNET] >> 4;
    if version != if ip.v4 { 4 } else { 6 }
        || header < 20
        || total < header
        || ETHERNET + total > frame.len()
        || ip.transport > ip.end
    {
        return true;
    }
    let available = ip.end.saturating_sub(ip.transport);
    match ip.protocol {
        _ if ip.fragment => false,
        UDP => word(frame, ip.transport + 4).is_none_or(|length| !(8..=available).contains(&usize::from(length))),
        TCP => {
            frame.get(ip.transport + 12).is_none_or(|byte| !(20..=available).contains(&(usize::from(byte >> 4) * 4)))
        }
        ICMP | ICMPV6 => available < 8,
        _ => false,
    }
}

/// Both ends of a packet as the frame has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    pub source_mac: Mac,
    pub destination_mac: Mac,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl Ends {
    /// Those of a frame; ports are 0 where it has none.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let located = locate(frame)?;
        let (source, destination) = match located.ports(frame) {
            Some((source, destination)) => (word(frame, source)?, word(frame, destination)?),
            None => (0, 0),
        };
        Some(Self {
            destination_mac: Mac(frame.get(..6)?.try_into().ok()?),
            source_mac: Mac(frame.get(6..12)?.try_into().ok()?),
            source: SocketAddr::new(located.source, source),
            destination: SocketAddr::new(located.destination, destination),
        })
    }

    /// Those of the answer.
    pub fn reversed(self) -> Self {
        Self {
            source_mac: self.destination_mac,
            destination_mac: self.source_mac,
            source: self.destination,
            destination: self.source,
        }
    }
}

/// A number of 16 bits at this offset.
pub fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number of 32 bits at this offset.
pub fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Writes a number of 16 bits at this offset.
pub fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
