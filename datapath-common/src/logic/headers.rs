//! The first bytes of a packet, read in one go.

use super::{extensions::JUMBO, parse::protocol};
use crate::abi::Address;

/// Bytes kept: Ethernet, IPv6 and the TCP header, or a whole neighbour solicitation.
pub const ROOM: usize = 80;

/// Bytes of an Ethernet header.
pub const ETHERNET: u32 = 14;

/// Ethertypes, host order (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad tag.
    pub const QINQ: u16 = 0x88a8;
}

/// The headers of a packet, laid out as Ethernet even where the device has no link header.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// Puts the IP header at a multiple of 16, so that addresses and ports are read as words (as the kernel's
    /// NET_IP_ALIGN does).
    pub lead: [u8; 2],
    /// The bytes; beyond [`Self::length`] they mean nothing.
    pub bytes: [u8; ROOM],
    /// How many bytes were read of the packet: all that there is room for, or that it has, or that is looked at of its kind.
    pub length: u32,
    /// Bytes of the whole packet, laid out the same way.
    pub packet_length: u32,
    /// The MTU that the packet exceeds, once a stage has found that it does.
    pub exceeds: u32,
    /// Where the packet leaves by an uplink, the number of its next hop ([`crate::abi::next_hop`]).
    pub next_hop: u32,
}

/// Who sent the IP packet in a frame, whatever is wrong with the rest: all that it takes to deny it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lead {
    /// An IPv4 packet: the source, as it lies on the wire.
    V4(u32),
    /// An IPv6 packet: the source.
    V6(Address),
    /// Another one, or one that is too short to have a source.
    Other,
}

impl Headers {
    /// Who sent the packet.
    #[inline(always)]
    #[must_use]
    pub fn lead(&self) -> Lead {
        match self.ethertype() {
            ethertype::IPV4 if self.length >= ETHERNET + 20 => Lead::V4(self.word(26)),
            ethertype::IPV6 if self.length >= ETHERNET + 40 => Lead::V6(self.ipv6(22)),
            _ => Lead::Other,
        }
    }

    /// `N` bytes at a constant offset. The offset must be within the room: it is a constant at every caller.
    #[inline(always)]
    #[must_use]
    pub fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        let mut i = 0;
        while i < N {
            bytes[i] = self.bytes[offset + i];
            i += 1;
        }
        bytes
    }

    /// Writes `N` bytes at a constant offset.
    #[inline(always)]
    pub fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        let mut i = 0;
        while i < N {
            self.bytes[offset + i] = bytes[i];
            i += 1;
        }
    }

    /// A word at a constant offset that is a multiple of its size, less the two bytes of [`Self::lead`].
    #[expect(unsafe_code, reason = "the compiler makes one load of it, and one for each byte of an array")]
    #[inline(always)]
    fn word<T: Copy>(&self, offset: usize) -> T {
        debug_assert!(offset + size_of::<T>() <= ROOM && (offset + 2).is_multiple_of(size_of::<T>()));
        // SAFETY: inside the room, and aligned, as the structure is to 8; both by constants at every caller.
        unsafe { self.bytes.as_ptr().add(offset).cast::<T>().read() }
    }

    /// Writes such a word.
    #[expect(unsafe_code, reason = "as in `word`")]
    #[inline(always)]
    fn set_word<T: Copy>(&mut self, offset: usize, value: T) {
        debug_assert!(offset + size_of::<T>() <= ROOM && (offset + 2).is_multiple_of(size_of::<T>()));
        // SAFETY: as in `word`.
        unsafe { self.bytes.as_mut_ptr().add(offset).cast::<T>().write(value) }
    }

    /// A 16-bit field as it lies on the wire.
    #[inline(always)]
    #[must_use]
    pub fn wire16(&self, offset: usize) -> u16 {
        self.word(offset)
    }

    /// Writes a 16-bit field as it is to lie on the wire.
    #[inline(always)]
    pub fn put16(&mut self, offset: usize, value: u16) {
        self.set_word(offset, value);
    }

    /// A 16-bit field as a number.
    #[inline(always)]
    #[must_use]
    pub fn number16(&self, offset: usize) -> u16 {
        u16::from_be(self.word(offset))
    }

    /// A 32-bit field as a number.
    #[inline(always)]
    #[must_use]
    pub fn number32(&self, offset: usize) -> u32 {
        u32::from_be(self.word(offset))
    }

    /// The IPv4 address at a constant offset.
    #[inline(always)]
    #[must_use]
    pub fn ipv4(&self, offset: usize) -> Address {
        Address::from_v4_word(self.word(offset))
    }

    /// The IPv6 address at a constant offset.
    #[inline(always)]
    #[must_use]
    pub fn ipv6(&self, offset: usize) -> Address {
        Address { words: [self.word(offset), self.word(offset + 8)] }
    }

    /// Writes an IPv4 address at a constant offset.
    #[inline(always)]
    pub fn put_ipv4(&mut self, offset: usize, address: &Address) {
        self.set_word(offset, address.v4_word());
    }

    /// Writes an IPv6 address at a constant offset.
    #[inline(always)]
    pub fn put_ipv6(&mut self, offset: usize, address: &Address) {
        self.set_word(offset, address.words[0]);
        self.set_word(offset + 8, address.words[1]);
    }

    /// Where the IP packet ends, counted from the Ethernet header; padding of the frame is behind that. A length field of 0
    /// is that of a packet above 64 KiB between devices of one host (Linux b1a78b9b9886, RFC 2675 section 3).
    #[inline(always)]
    #[must_use]
    pub fn packet_end(&self) -> u32 {
        let (before, length) = if self.ethertype() == ethertype::IPV4 {
            (ETHERNET, self.number16(16))
        } else {
            (ETHERNET + 40, self.number16(18))
        };
        if length == 0 { self.packet_length } else { before + length as u32 }
    }

    /// Bytes of the header that a parsed packet above 64 KiB has and its segments have not (see
    /// [`JUMBO`]). To be asked of one that will be segmented.
    #[inline(always)]
    #[must_use]
    pub fn jumbo_header(&self) -> u32 {
        let jumbo =
            self.ethertype() == ethertype::IPV6 && self.number16(18) == 0 && self.bytes[20] == protocol::HOP_BY_HOP;
        if jumbo { JUMBO } else { 0 }
    }

    /// Destination MAC address.
    #[inline(always)]
    #[must_use]
    pub fn destination_mac(&self) -> [u8; 6] {
        self.at(0)
    }

    /// Source MAC address.
    #[inline(always)]
    #[must_use]
    pub fn source_mac(&self) -> [u8; 6] {
        self.at(6)
    }

    /// Ethertype, host order.
    #[inline(always)]
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        self.number16(12)
    }

    /// Gives the frame these MAC addresses.
    #[inline(always)]
    pub fn set_macs(&mut self, destination: [u8; 6], source: [u8; 6]) {
        self.put(0, destination);
        self.put(6, source);
    }

    /// Lays out a packet of this ethertype, as it lies on the wire, whose device has no link header: from nobody to nobody.
    #[inline(always)]
    pub fn lack_link_header(&mut self, ethertype: u16) {
        self.set_macs([0; 6], [0; 6]);
        self.put16(12, ethertype);
    }

    /// Whether the frame goes to a group: broadcast or multicast (IEEE 802.3 section 3.2.3).
    #[inline(always)]
    #[must_use]
    pub fn to_group(&self) -> bool {
        self.bytes[0] & 1 != 0
    }

    /// Whether the frame is to be kept on its link: 01-80-c2-00-00-00 to -0f (IEEE 802.1Q table 8-1).
    #[inline(always)]
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.at::<5>(0) == [0x01, 0x80, 0xc2, 0, 0] && self.bytes[5] & 0xf0 == 0
    }
}
