//! Reading captured frames.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::{internet_checksum, transport_checksum};
use super::{Mac, ethertype};

/// What of a transport header the tests look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP ports and flags.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// [`super::tcp_flags`].
        flags: u8,
    },
    /// UDP ports.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// The checksum field.
        checksum: u16,
    },
    /// ICMP or ICMPv6 type and code, and the identifier of echo messages.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Identifier.
        identifier: u16,
    },
    /// Anything else, or no IP at all.
    Other,
}

/// A captured frame, parsed as far as it goes.
#[derive(Clone)]
pub struct View {
    /// Destination MAC.
    pub destination_mac: Mac,
    /// Source MAC.
    pub source_mac: Mac,
    /// The VLAN tag, wherever it was.
    pub vlan: Option<u16>,
    /// Ethertype after the tag.
    pub ethertype: u16,
    /// IP source, or the sender's address of ARP.
    pub source: Option<IpAddr>,
    /// IP destination, or the target's address of ARP.
    pub destination: Option<IpAddr>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What the IP packet carries.
    pub transport: Transport,
    /// Everything after the last header that was understood.
    pub payload: Vec<u8>,
    /// Everything after the IP header.
    segment: Vec<u8>,
    protocol: u8,
}

impl View {
    /// Parses a frame; `vlan` is the tag that the kernel had already taken out.
    #[must_use]
    pub fn of(frame: &[u8], vlan: Option<u16>) -> Option<Self> {
        let mut rest = frame.get(12..)?;
        let (mut kind, mut vlan) = (word(rest, 0)?, vlan);
        while kind == ethertype::VLAN || kind == ethertype::QINQ {
            vlan = Some(word(rest, 2)? & 0xfff);
            rest = rest.get(4..)?;
            kind = word(rest, 0)?;
        }
        let mut view = Self {
            destination_mac: Mac(frame.get(..6)?.try_into().ok()?),
            source_mac: Mac(frame.get(6..12)?.try_into().ok()?),
            vlan,
            ethertype: kind,
            source: None,
            destination: None,
            ttl: 0,
            transport: Transport::Other,
            payload: rest.get(2..)?.to_vec(),
            segment: Vec::new(),
            protocol: 0,
        };
        // What cannot be parsed further keeps the layers that were.
        let _ = match kind {
            ethertype::IPV4 => view.parse_ipv4(),
            ethertype::IPV6 => view.parse_ipv6(),
            ethertype::ARP => view.parse_arp(),
            _ => None,
        };
        Some(view)
    }

    /// Whether source or destination, of IP or ARP, is this address.
    #[must_use]
    pub fn mentions(&self, address: IpAddr) -> bool {
        self.source == Some(address) || self.destination == Some(address)
    }

    /// Whether this is neighbour discovery or ARP.
    #[must_use]
    pub fn is_neighbour_discovery(&self) -> bool {
        self.ethertype == ethertype::ARP
            || matches!(self.transport, Transport::Icmp { kind: 133..=137, .. } if self.protocol == 58)
    }

    /// Whether the transport checksum is right; frames that never left the machine may still lack it.
    #[must_use]
    pub fn checksum_is_right(&self) -> bool {
        let (Some(source), Some(destination)) = (self.source, self.destination) else { return false };
        // That of ICMP for IPv4 covers no addresses.
        if self.protocol == 1 {
            return internet_checksum(&self.segment) == 0;
        }
        transport_checksum(source, destination, self.protocol, &self.segment) == 0
    }

    fn parse_ipv4(&mut self) -> Option<()> {
        let header = usize::from(*self.payload.first()? & 0xf) * 4;
        let total = usize::from(word(&self.payload, 2)?);
        self.ttl = *self.payload.get(8)?;
        self.source = Some(v4(&self.payload, 12)?.into());
        self.destination = Some(v4(&self.payload, 16)?.into());
        let protocol = *self.payload.get(9)?;
        // Beyond the total length there may be Ethernet's padding.
        self.segment = self.payload.get(header..total.min(self.payload.len()))?.to_vec();
        self.parse_transport(protocol)
    }

    fn parse_ipv6(&mut self) -> Option<()> {
        self.ttl = *self.payload.get(7)?;
        self.source = Some(v6(&self.payload, 8)?.into());
        self.destination = Some(v6(&self.payload, 24)?.into());
        let protocol = *self.payload.get(6)?;
        let end = 40 + usize::from(word(&self.payload, 4)?);
        self.segment = self.payload.get(40..end.min(self.payload.len()))?.to_vec();
        self.parse_transport(protocol)
    }

    fn parse_arp(&mut self) -> Option<()> {
        self.source = Some(v4(&self.payload, 14)?.into());
        self.destination = Some(v4(&self.payload, 24)?.into());
        Some(())
    }

    fn parse_transport(&mut self, protocol: u8) -> Option<()> {
        self.protocol = protocol;
        let segment = &self.segment;
        let (transport, header) = match protocol {
            6 => {
                let header = usize::from(*segment.get(12)? >> 4) * 4;
                let flags = *segment.get(13)?;
                (Transport::Tcp { source: word(segment, 0)?, destination: word(segment, 2)?, flags }, header)
            }
            17 => {
                let checksum = word(segment, 6)?;
                (Transport::Udp { source: word(segment, 0)?, destination: word(segment, 2)?, checksum }, 8)
            }
            1 | 58 => {
                let identifier = word(segment, 4).unwrap_or(0);
                (Transport::Icmp { kind: *segment.first()?, code: *segment.get(1)?, identifier }, 8)
            }
            _ => (Transport::Other, 0),
        };
        self.transport = transport;
        self.payload = segment.get(header..).unwrap_or(&[]).to_vec();
        Some(())
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} {:#06x}", self.source_mac, self.destination_mac, self.ethertype)?;
        if let Some(vlan) = self.vlan {
            write!(f, " vlan {vlan}")?;
        }
        if let (Some(source), Some(destination)) = (self.source, self.destination) {
            write!(f, " {source} > {destination} ttl {}", self.ttl)?;
        }
        write!(f, " {:?}, {} bytes", self.transport, self.payload.len())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    use super::super::{Ethernet, Mac};
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let (source, destination) = ("fd00::1".parse().expect("a literal"), "fd00::2".parse().expect("a literal"));
        let frame = Ethernet::new(Mac([2; 6]), Mac([4; 6]))
            .tag(ethertype::VLAN, 7)
            .ip(source, destination)
            .ttl(9)
            .udp(1000, 53, b"name?");
        let view = View::of(&frame, None).expect("a frame");
        assert_eq!((view.source, view.destination, view.ttl, view.vlan), (Some(source), Some(destination), 9, Some(7)));
        assert!(matches!(view.transport, Transport::Udp { source: 1000, destination: 53, checksum: 1.. }));
        assert_eq!(view.payload, b"name?");
        assert!(view.checksum_is_right());
    }

    #[test]
    fn short_frames_are_no_frames() {
        for length in 0..14 {
            assert!(View::of(&vec![0; length], None).is_none());
        }
    }
}
