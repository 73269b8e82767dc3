//! ARP (RFC 826) and neighbour discovery (RFC 4861).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Ethernet, Mac, ethertype};

/// An ARP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Who sends it.
    pub sender: (Mac, Ipv4Addr),
    /// Whom it asks for, or answers.
    pub target: (Mac, Ipv4Addr),
}

impl Arp {
    /// A request of `sender` for the MAC of `target`.
    #[must_use]
    pub fn request(sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Self {
        Self { operation: 1, sender, target: (Mac([0; 6]), target) }
    }

    /// A reply of `sender` to `target`.
    #[must_use]
    pub fn reply(sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Self {
        Self { operation: 2, sender, target }
    }

    /// The frame that carries it.
    #[must_use]
    pub fn frame(&self, source: Mac, destination: Mac) -> Vec<u8> {
        let mut body = vec![0, 1, 8, 0, 6, 4];
        body.extend(self.operation.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            body.extend(mac.0);
            body.extend(address.octets());
        }
        Ethernet::new(source, destination).payload(ethertype::ARP, &body)
    }
}

/// A message of IPv6 neighbour discovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourMessage {
    /// Who has `target`?
    Solicitation {
        /// The address asked for.
        target: Ipv6Addr,
    },
    /// `mac` has `target`.
    Advertisement {
        /// The address claimed.
        target: Ipv6Addr,
        /// Who claims it.
        mac: Mac,
    },
    /// A router is here.
    RouterAdvertisement {
        /// Its MAC.
        mac: Mac,
    },
    /// `destination` is better reached by `target`.
    Redirect {
        /// The better next hop.
        target: Ipv6Addr,
        /// What for.
        destination: Ipv6Addr,
    },
}

impl NeighbourMessage {
    /// The frame that carries it, with the hop limit of 255 that receivers insist on.
    #[must_use]
    pub fn frame(&self, source: (Mac, Ipv6Addr), destination: (Mac, Ipv6Addr)) -> Vec<u8> {
        let (kind, body) = self.message(source.0);
        Ethernet::new(source.0, destination.0).ip(source.1.into(), destination.1.into()).ttl(255).icmp(kind, 0, &body)
    }

    /// The frame in which `source` asks everybody for `target`.
    #[must_use]
    pub fn solicit(source: (Mac, Ipv6Addr), target: Ipv6Addr) -> Vec<u8> {
        let group = solicited_node(target);
        Self::Solicitation { target }.frame(source, (Mac::multicast_of(group.into()), group))
    }

    fn message(&self, source: Mac) -> (u8, Vec<u8>) {
        const SOURCE_LINK: [u8; 2] = [1, 1];
        const TARGET_LINK: [u8; 2] = [2, 1];
        match self {
            Self::Solicitation { target } => (135, [&[0; 4], &target.octets()[..], &SOURCE_LINK, &source.0].concat()),
            Self::Advertisement { target, mac } => {
                const SOLICITED_OVERRIDE: [u8; 4] = [0x60, 0, 0, 0];
                (136, [&SOLICITED_OVERRIDE, &target.octets()[..], &TARGET_LINK, &mac.0].concat())
            }
            Self::RouterAdvertisement { mac } => {
                let lifetime = 1800u16.to_be_bytes();
                let fixed = [64, 0, lifetime[0], lifetime[1], 0, 0, 0, 0, 0, 0, 0, 0];
                (134, [&fixed[..], &SOURCE_LINK, &mac.0].concat())
            }
            Self::Redirect { target, destination } => {
                (137, [&[0; 4][..], &target.octets(), &destination.octets()].concat())
            }
        }
    }
}

/// The solicited-node multicast address (RFC 4291 section 2.7.1).
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let o = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, o[13], o[14], o[15]])
}
