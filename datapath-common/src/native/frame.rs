//! A packet in memory.

use std::{cell::Cell, vec::Vec};

use crate::{
    abi::{Address, DropReason, FRAGMENT_ROOM, FlowKey, PublishedKey},
    logic::{
        checksum,
        headers::{ETHERNET, Headers, Lead, ROOM},
        message::Message,
        parse::Parsed,
    },
    path::{Bare, Checksum, Packet, Readable, Repeat, Route, Scratch},
};

/// Where a copy of a packet went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopiedTo {
    /// To the endpoint behind this host-side veth.
    Endpoint(u32),
    /// Up into the host by this device.
    Host(u32),
    /// Up into the host by this adopted bridge, marked.
    Bridge(u32),
}

/// Bytes that are read of an IPv4 packet in pieces.
const SHORT: usize = 54;

/// A packet in memory.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The bytes, from the Ethernet header on, or from the IP header where [`Self::bare`] is set.
    pub bytes: Vec<u8>,
    /// The device it came in by or leaves by.
    pub ifindex: u32,
    /// The device it entered the host by, 0 for the host's own.
    pub entered_by: u32,
    /// Its outer VLAN tag.
    pub vlan: Option<u16>,
    /// Whether the device took it as sent to itself.
    pub for_host: bool,
    /// Bytes per segment, 0 for a packet that is not segmented.
    pub segment_size: u32,
    /// Its mark.
    pub mark: u32,
    /// Whether it is the host's copy for itself of what it sent.
    pub looped_back: bool,
    /// Copies made of it.
    pub copies: Vec<CopiedTo>,
    /// What is to come in again, as the device had it.
    pub again: Vec<Vec<u8>>,
    /// Whether it has no Ethernet header.
    pub bare: bool,
    /// Whether only the headers lie in one piece, as those of TCP's segments do: then the programs read 54 bytes of an IPv4 packet.
    pub in_pieces: bool,
    /// What the host's routes say.
    pub route: Route,
    /// How often they were asked.
    pub routes_asked: Cell<u32>,
    /// Local keys that a socket of the host would take: protocol, address and port (wire order).
    pub host_sockets: Vec<PublishedKey>,
}

impl Frame {
    /// A frame on a device, sent to the device's own MAC address.
    #[must_use]
    pub fn new(ifindex: u32, bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ifindex,
            entered_by: 0,
            vlan: None,
            for_host: true,
            segment_size: 0,
            mark: 0,
            looped_back: false,
            copies: Vec::new(),
            again: Vec::new(),
            bare: false,
            in_pieces: false,
            route: Route::NONE,
            routes_asked: Cell::new(0),
            host_sockets: Vec::new(),
        }
    }

    fn link_header(&self) -> usize {
        if self.bare { 0 } else { ETHERNET as usize }
    }

    fn at(&self, offset: u32) -> Option<usize> {
        offset.checked_sub(if self.bare { ETHERNET } else { 0 }).map(|offset| offset as usize)
    }
}

impl Repeat for Frame {}

impl Readable for Frame {
    fn read_headers(&mut self, link_header: u32, headers: &mut Headers) -> bool {
        self.bare = link_header == 0;
        let before = (ETHERNET - link_header) as usize;
        let is_short = self.in_pieces && !self.bare && self.bytes.get(12..14) == Some(&[8, 0]);
        let available = self.bytes.len().min(if is_short { SHORT } else { ROOM - before });
        if available < link_header as usize || available == 0 {
            return false;
        }
        if self.bare {
            let kind: u16 = if self.bytes[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
            headers.lack_link_header(kind.to_be());
        }
        headers.bytes[before..before + available].copy_from_slice(&self.bytes[..available]);
        headers.length = (available + before) as u32;
        headers.packet_length = (self.bytes.len() + before) as u32;
        true
    }

    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let at = self.at(offset)?;
        self.bytes.get(at..at + N)?.try_into().ok()
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn segment_size(&self) -> u32 {
        self.segment_size
    }
}

impl Bare for Frame {
    fn destination(&self) -> u64 {
        self.load(0).map_or(0, |[a, b, c, d, e, f]: [u8; 6]| u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]))
    }

    fn lead(&self) -> Lead {
        let mut headers = Scratch::EMPTY.headers;
        if self.clone().read_headers(ETHERNET, &mut headers) { headers.lead() } else { Lead::Other }
    }

    fn whole_length(&self) -> u32 {
        self.bytes.len() as u32
    }
}

impl Packet for Frame {
    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> Result<(), DropReason> {
        let at = self.at(offset).ok_or(DropReason::WriteFailed)?;
        self.bytes.get_mut(at..at + N).ok_or(DropReason::WriteFailed)?.copy_from_slice(bytes);
        Ok(())
    }

    fn store_headers(&mut self, headers: &Headers, length: u32) -> Result<(), DropReason> {
        let before = if self.bare { ETHERNET as usize } else { 0 };
        let room = self.bytes.get_mut(..length as usize - before).ok_or(DropReason::WriteFailed)?;
        room.copy_from_slice(&headers.bytes[before..length as usize]);
        Ok(())
    }

    fn mend_checksum(&mut self, checksum: &Checksum) -> Result<(), DropReason> {
        let present = u16::from_ne_bytes(self.load(checksum.offset).ok_or(DropReason::WriteFailed)?);
        if checksum.zero_is_none && present == 0 {
            return Ok(());
        }
        let mended = match checksum::updated(present, checksum.difference) {
            0 if checksum.zero_is_none => 0xffff,
            mended => mended,
        };
        self.store(checksum.offset, &mended.to_ne_bytes())
    }

    fn resize(&mut self, length: u32) -> Result<(), DropReason> {
        self.bytes.resize(length as usize, 0);
        Ok(())
    }

    fn quote(&self, message: &mut Message) -> bool {
        let quoted = message.quoted as usize;
        let bytes = self.at(ETHERNET).and_then(|at| self.bytes.get(at..at + quoted));
        if let Some(bytes) = bytes {
            message.quotation()[..quoted].copy_from_slice(bytes);
        }
        bytes.is_some()
    }

    fn become_message(&mut self, _: &Parsed, headers: &Headers, header_length: u32, message: &Message) -> bool {
        let before = if self.bare { ETHERNET as usize } else { 0 };
        let length = message.length() as usize;
        self.bytes = [&headers.bytes[before..header_length as usize], &message.bytes()[..length]].concat();
        self.segment_size = 0;
        true
    }

    fn add_link_header(&mut self) -> Result<(), DropReason> {
        if self.bare {
            self.bytes.splice(0..0, [0; ETHERNET as usize]);
            self.bare = false;
        }
        Ok(())
    }

    fn save(&self, room: &mut [u8; FRAGMENT_ROOM]) -> u32 {
        let packet = &self.bytes[self.link_header()..];
        let Some(room) = room.get_mut(..packet.len()) else {
            return 0;
        };
        room.copy_from_slice(packet);
        packet.len() as u32
    }

    fn replace(&mut self, saved: &[u8; FRAGMENT_ROOM], length: u32) -> Result<(), DropReason> {
        self.bytes.truncate(self.link_header());
        self.bytes.extend(saved.get(..length as usize).ok_or(DropReason::WriteFailed)?);
        Ok(())
    }

    fn come_in_again(&mut self) {
        self.again.push(self.bytes.clone());
    }

    fn copy_to_endpoint(&mut self, ifindex: u32) {
        self.copies.push(CopiedTo::Endpoint(ifindex));
    }

    fn copy_to_host(&mut self, ifindex: u32, marked: bool) {
        self.copies.push(if marked { CopiedTo::Bridge(ifindex) } else { CopiedTo::Host(ifindex) });
    }

    fn entered_by(&self) -> u32 {
        self.entered_by
    }

    fn vlan(&self) -> Option<u16> {
        self.vlan
    }

    fn remove_tag(&mut self) -> Result<(), DropReason> {
        self.vlan = None;
        Ok(())
    }

    fn is_for_another(&self) -> bool {
        !self.for_host && self.bytes.first().is_none_or(|first| first & 1 == 0)
    }

    fn mark(&self) -> u32 {
        self.mark
    }

    fn set_mark(&mut self, mark: u32) {
        self.mark = mark;
    }

    fn is_looped_back(&self) -> bool {
        self.looped_back
    }

    fn route(&self, _: &FlowKey, _: u32, _: Option<&mut Address>) -> Route {
        self.routes_asked.set(self.routes_asked.get() + 1);
        self.route
    }

    fn host_socket(&self, key: &FlowKey) -> bool {
        self.host_sockets.contains(&PublishedKey::new(key.destination, key.destination_port, key.protocol))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_without_link_header_has_nothing_of_the_one_before() {
        let mut headers =
            Headers { lead: [0; 2], bytes: [0xff; ROOM], length: 0, packet_length: 0, exceeds: 0, next_hop: 0 };
        assert!(headers.to_group());
        assert!(Frame::new(1, [0x45; 20].into()).read_headers(0, &mut headers));
        assert_eq!(headers.at::<14>(0), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
    }
}
