//! Frames built by layers, and a view of captured ones.
//!
//! ```
//! use lab::frame::{Ethernet, Mac};
//! let (me, you) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
//! let frame = Ethernet::new(me, you)
//!     .ip("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
//!     .udp(1234, 53, b"hello");
//! assert_eq!(frame.len(), 14 + 20 + 8 + 5);
//! ```

mod checksum;
mod fragment;
mod ip;
mod neighbour;
mod view;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

pub use checksum::{internet_checksum, transport_checksum};
pub use fragment::fragments;
pub use ip::{IpBuilder, TcpSegment, tcp_flags};
pub use neighbour::{Arp, NeighbourMessage};
pub use view::{Transport, View};

/// Ethertypes (IEEE 802).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// Address resolution of IPv4.
    pub const ARP: u16 = 0x0806;
    /// A VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// An outer VLAN tag (802.1ad).
    pub const QINQ: u16 = 0x88a8;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// LLDP (802.1AB).
    pub const LLDP: u16 = 0x88cc;
    /// For local experiments (802a).
    pub const EXPERIMENT: u16 = 0x88b5;
}

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The multicast MAC of an IP multicast address (RFC 1112 section 6.4, RFC 2464 section 7).
    #[must_use]
    pub fn multicast_of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let [_, b, c, d] = v4.octets();
                Self([0x01, 0, 0x5e, b & 0x7f, c, d])
            }
            IpAddr::V6(v6) => {
                let o = v6.octets();
                Self([0x33, 0x33, o[12], o[13], o[14], o[15]])
            }
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Result<Vec<u8>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
        let bytes = bytes.map_err(|error| format!("{text}: {error}"))?;
        bytes.try_into().map(Self).map_err(|_| format!("{text} has not six bytes"))
    }
}

/// The start of a frame: addresses and tags.
#[derive(Clone, Debug)]
pub struct Ethernet {
    bytes: Vec<u8>,
}

impl Ethernet {
    /// A frame of `source` for `destination`.
    #[must_use]
    pub fn new(source: Mac, destination: Mac) -> Self {
        Self { bytes: [destination.0, source.0].concat() }
    }

    /// Adds a tag of this ethertype ([`ethertype::VLAN`] or [`ethertype::QINQ`]).
    #[must_use]
    pub fn tag(mut self, kind: u16, vlan: u16) -> Self {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(vlan.to_be_bytes());
        self
    }

    /// Ends the frame with this ethertype and payload.
    #[must_use]
    pub fn payload(mut self, kind: u16, payload: &[u8]) -> Vec<u8> {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(payload);
        self.bytes
    }

    /// Ends the frame with an 802.3 length and an LLC payload, as spanning tree is sent.
    #[must_use]
    pub fn llc(self, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("an LLC payload is short");
        self.payload(length, payload)
    }

    /// Goes on with an IP header of the family of the addresses.
    #[must_use]
    pub fn ip(self, source: IpAddr, destination: IpAddr) -> IpBuilder {
        IpBuilder::new(self, source, destination)
    }
}
