//! The packet that an ICMP error quotes: the beginning of the one it is about (RFC 792, RFC 1812 section 4.3.2.3,
//! RFC 4443 section 2.4).

use super::{
    checksum::{self, Sum},
    extensions::follow_extension_headers,
    headers::{ETHERNET, Headers, ethertype},
    parse::{Fragment, Parsed, TRANSPORT_V6, Transport, icmp, transport},
    rewrite::{address_difference, port_difference},
};
use crate::{
    abi::{Address, DropReason, FlowKey},
    path::{Checksum, Packet},
};

/// Bytes of an ICMP error in front of the packet it quotes.
const ERROR_HEADER: u16 = 8;
/// Bytes of the transport header that every error quotes: ports, or the identifier of a query.
const PORTS: u32 = 8;
/// More than any transport header. How long the one was that is quoted here in part, its receiver has judged.
const ANY_LENGTH: u32 = u32::MAX;
/// Stands for the part of a TCP header that is not quoted: no options, no flags.
const UNSEEN: [u8; 2] = [5 << 4, 0];

/// Whether the packet is an error about another packet: destination unreachable, packet too big, time exceeded or
/// parameter problem. Source quench is none any more (RFC 6633), and a redirect is for a host on the link.
#[inline(always)]
#[must_use]
pub fn is_error(parsed: &Parsed) -> bool {
    parsed.transport == Transport::Icmp
        && if parsed.ethertype == ethertype::IPV4 {
            matches!(parsed.flags, icmp::UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM)
        } else {
            matches!(parsed.flags, icmp::V6_UNREACHABLE..=icmp::V6_PARAMETER_PROBLEM)
        }
}

/// Reads the packet that an error quotes; `None` when its ports cannot be told. A first fragment has them. The key is that
/// of the answers to the packet, which arrive where the error does.
#[inline(never)]
pub fn parse_quoted<P: Packet>(packet: &P, headers: &Headers, error: &Parsed, quoted: &mut Parsed) -> Option<()> {
    quoted.ethertype = error.ethertype;
    quoted.transport = Transport::Other;
    quoted.fragment = Fragment::Whole;
    quoted.key.source_port = 0;
    quoted.key.destination_port = 0;
    quoted.key.scope = error.key.scope;
    quoted.key.padding = 0;
    quoted.transport_offset = error.transport_offset + ERROR_HEADER;
    if error.ethertype == ethertype::IPV4 {
        parse_v4(packet, quoted)?
    } else {
        parse_v6(packet, quoted)?
    }
    let at = quoted.transport_offset as u32;
    if at + PORTS > headers.packet_end() {
        return None;
    }
    transport(&packet.load(at)?, UNSEEN, ANY_LENGTH, ANY_LENGTH, quoted).ok()?;
    let (source, destination) = (quoted.key.source_port, quoted.key.destination_port);
    quoted.key.source_port = destination;
    quoted.key.destination_port = source;
    // Nobody reports an error about an error (RFC 1122 section 3.2.2).
    if quoted.transport == Transport::Icmp { None } else { Some(()) }
}

#[inline(always)]
fn parse_v4<P: Packet>(packet: &P, quoted: &mut Parsed) -> Option<()> {
    let ip: [u8; 20] = packet.load(quoted.transport_offset as u32)?;
    let header_length = (ip[0] & 0xf) as u16 * 4;
    let later = u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff != 0;
    if ip[0] >> 4 != 4 || header_length < 20 || later {
        return None;
    }
    quoted.key.protocol = ip[9];
    quoted.key.destination = Address::v4([ip[12], ip[13], ip[14], ip[15]]);
    quoted.key.source = Address::v4([ip[16], ip[17], ip[18], ip[19]]);
    quoted.transport_offset += header_length;
    Some(())
}

#[inline(always)]
fn parse_v6<P: Packet>(packet: &P, quoted: &mut Parsed) -> Option<()> {
    let at = quoted.transport_offset as u32;
    let [version, _, _, _, _, _, next, _] = packet.load(at)?;
    quoted.key.destination = Address::v6(packet.load(at + 8)?);
    quoted.key.source = Address::v6(packet.load(at + 24)?);
    // An IPv4-mapped address would meet the flows of the IPv4 address.
    if version >> 4 != 6 || quoted.key.source.is_v4() || quoted.key.destination.is_v4() {
        return None;
    }
    quoted.key.protocol = next;
    quoted.transport_offset += TRANSPORT_V6 - ETHERNET as u16;
    follow_extension_headers(packet, quoted).ok()?;
    if quoted.fragment == Fragment::Later { None } else { Some(()) }
}

/// Makes the quoted packet the one with key `sent`, and mends its checksums, as far as they are quoted, and that of the
/// error. What else the error says (code, MTU, pointer, extensions by RFC 4884) stays.
///
/// # Errors
/// [`DropReason::WriteFailed`].
#[inline(never)]
pub fn rewrite_quoted<P: Packet>(
    packet: &mut P,
    headers: &Headers,
    error: &Parsed,
    quoted: &Parsed,
    sent: &FlowKey,
) -> Result<(), DropReason> {
    let ipv6 = error.ethertype != ethertype::IPV4;
    let (addresses, ports) = (address_difference(quoted, sent), port_difference(quoted, sent));
    let ip = (error.transport_offset + ERROR_HEADER) as u32;
    let mut changed = ports;
    if ipv6 {
        packet.store(ip + 8, &sent.source.bytes())?;
        packet.store(ip + 24, &sent.destination.bytes())?;
        changed = changed.plus(addresses);
    } else {
        // The header's checksum makes up for its addresses: the error's covers both.
        let before = u16::from_ne_bytes(packet.load(ip + 10).ok_or(DropReason::WriteFailed)?);
        packet.store(ip + 10, &checksum::updated(before, addresses).to_ne_bytes())?;
        packet.store(ip + 12, &sent.source.v4_word().to_ne_bytes())?;
        packet.store(ip + 16, &sent.destination.v4_word().to_ne_bytes())?;
    }
    write_ports(packet, quoted, sent)?;
    if let Some((offset, pseudo)) = checksum_of(quoted)
        && offset + 2 <= headers.packet_end()
    {
        let difference = if pseudo { ports.plus(addresses) } else { ports };
        changed = changed.plus(mend(packet, offset, difference, quoted.transport == Transport::Udp)?);
    }
    packet.mend_checksum(&Checksum {
        offset: error.transport_offset as u32 + 2,
        difference: changed,
        pseudo: false,
        zero_is_none: false,
        ipv6,
    })
}

/// Writes ports, or the identifier of a query.
#[inline(always)]
fn write_ports<P: Packet>(packet: &mut P, quoted: &Parsed, sent: &FlowKey) -> Result<(), DropReason> {
    let at = quoted.transport_offset as u32;
    match quoted.transport {
        Transport::Tcp | Transport::Udp => {
            packet.store(at, &sent.source_port.to_ne_bytes())?;
            packet.store(at + 2, &sent.destination_port.to_ne_bytes())
        }
        Transport::EchoRequest => packet.store(at + 4, &sent.source_port.to_ne_bytes()),
        Transport::EchoReply => packet.store(at + 4, &sent.destination_port.to_ne_bytes()),
        // SCTP's ports are the same on both sides.
        Transport::Sctp | Transport::Icmp | Transport::Other => Ok(()),
    }
}

/// Where the quoted packet's transport checksum would be, and whether it covers addresses.
#[inline(always)]
fn checksum_of(quoted: &Parsed) -> Option<(u32, bool)> {
    let (at, pseudo) = match quoted.transport {
        Transport::Tcp => (16, true),
        Transport::Udp => (6, true),
        Transport::EchoRequest | Transport::EchoReply => (2, quoted.ethertype != ethertype::IPV4),
        Transport::Sctp | Transport::Icmp | Transport::Other => return None,
    };
    Some((quoted.transport_offset as u32 + at, pseudo))
}

/// Mends a checksum inside the quoted packet, and returns by how much. A UDP checksum of 0 is none (RFC 768).
#[inline(always)]
fn mend<P: Packet>(packet: &mut P, offset: u32, difference: Sum, udp: bool) -> Result<Sum, DropReason> {
    let before = u16::from_ne_bytes(packet.load(offset).ok_or(DropReason::WriteFailed)?);
    if udp && before == 0 {
        return Ok(Sum::ZERO);
    }
    let after = match checksum::updated(before, difference) {
        0 if udp => 0xffff,
        after => after,
    };
    packet.store(offset, &after.to_ne_bytes())?;
    Ok(Sum::ZERO.subtract16(before).add16(after))
}
