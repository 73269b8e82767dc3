//! Translation of addresses and ports, and the hop count.

use super::{
    checksum::{self, Sum},
    headers::{Headers, ethertype},
    parse::{Fragment, Parsed, TRANSPORT_V4, TRANSPORT_V6, Transport},
};
use crate::{
    abi::{DropReason, FlowKey},
    path::{Checksum, Packet},
};

/// Makes the packet leave as the reverse of `answers`, with one hop less when `routed`, and with the MAC addresses that
/// `headers` has by now; it has a hop left then. Everything is written in one go; checksums are mended by difference.
///
/// # Errors
/// [`DropReason::WriteFailed`].
#[inline(always)]
pub fn rewrite<P: Packet>(
    packet: &mut P,
    headers: &mut Headers,
    parsed: &Parsed,
    answers: &FlowKey,
    routed: bool,
) -> Result<(), DropReason> {
    mend_transport(packet, parsed, answers)?;
    if parsed.ethertype == ethertype::IPV4 {
        rewrite_v4(packet, headers, parsed, answers, routed)
    } else {
        rewrite_v6(packet, headers, parsed, answers, routed)
    }
}

/// What the new addresses change in a sum.
#[inline(always)]
pub(super) fn address_difference(parsed: &Parsed, answers: &FlowKey) -> Sum {
    Sum::ZERO
        .subtract_address(&parsed.key.source)
        .add_address(&answers.destination)
        .subtract_address(&parsed.key.destination)
        .add_address(&answers.source)
}

/// What the new ports change in a sum.
#[inline(always)]
pub(super) fn port_difference(parsed: &Parsed, answers: &FlowKey) -> Sum {
    Sum::ZERO
        .subtract16(parsed.key.source_port)
        .add16(answers.destination_port)
        .subtract16(parsed.key.destination_port)
        .add16(answers.source_port)
}

/// Mends the transport checksum: addresses are in it by the pseudo-header, but not in ICMP's for IPv4.
#[inline(always)]
fn mend_transport<P: Packet>(packet: &mut P, parsed: &Parsed, answers: &FlowKey) -> Result<(), DropReason> {
    let (addresses, ports) = (address_difference(parsed, answers), port_difference(parsed, answers));
    let (at, zero_is_none, pseudo) = match parsed.transport {
        Transport::Tcp => (16, false, true),
        Transport::Udp => (6, true, true),
        Transport::EchoRequest | Transport::EchoReply | Transport::Icmp => {
            (2, false, parsed.ethertype != ethertype::IPV4)
        }
        // SCTP's checksum does not cover addresses, and its ports stay.
        Transport::Sctp | Transport::Other => return Ok(()),
    };
    let offset = parsed.transport_offset as u32 + at;
    let ipv6 = parsed.ethertype != ethertype::IPV4;
    if pseudo && addresses != Sum::ZERO {
        packet.mend_checksum(&Checksum { offset, difference: addresses, pseudo: true, zero_is_none, ipv6 })?;
    }
    if !ports.is_zero() {
        packet.mend_checksum(&Checksum { offset, difference: ports, pseudo: false, zero_is_none, ipv6 })?;
    }
    Ok(())
}

#[inline(always)]
fn rewrite_v4<P: Packet>(
    packet: &mut P,
    headers: &mut Headers,
    parsed: &Parsed,
    answers: &FlowKey,
    routed: bool,
) -> Result<(), DropReason> {
    let mut difference = address_difference(parsed, answers);
    if routed {
        let before = headers.wire16(22);
        headers.bytes[22] -= 1;
        difference = difference.subtract16(before).add16(headers.wire16(22));
    }
    if parsed.fragment != Fragment::Whole {
        difference = difference.subtract16(headers.wire16(18)).add16(parsed.identification as u16);
        headers.put16(18, parsed.identification as u16);
    }
    let header_checksum = checksum::updated(headers.wire16(24), difference);
    headers.put16(24, header_checksum);
    headers.put_ipv4(26, &answers.destination);
    headers.put_ipv4(30, &answers.source);
    if parsed.transport_offset == TRANSPORT_V4 && has_ports(parsed) {
        headers.put16(34, answers.destination_port);
        headers.put16(36, answers.source_port);
        packet.store_headers(headers, 38)
    } else {
        packet.store_headers(headers, 34)?;
        write_ports(packet, parsed, answers)
    }
}

#[inline(always)]
fn rewrite_v6<P: Packet>(
    packet: &mut P,
    headers: &mut Headers,
    parsed: &Parsed,
    answers: &FlowKey,
    routed: bool,
) -> Result<(), DropReason> {
    if routed {
        headers.bytes[21] -= 1;
    }
    if parsed.fragment != Fragment::Whole {
        packet.store(parsed.fragment_header as u32 + 4, &parsed.identification.to_ne_bytes())?;
    }
    headers.put_ipv6(22, &answers.destination);
    headers.put_ipv6(38, &answers.source);
    if parsed.transport_offset == TRANSPORT_V6 && has_ports(parsed) {
        headers.put16(54, answers.destination_port);
        headers.put16(56, answers.source_port);
        packet.store_headers(headers, 58)
    } else {
        packet.store_headers(headers, 54)?;
        write_ports(packet, parsed, answers)
    }
}

#[inline(always)]
fn has_ports(parsed: &Parsed) -> bool {
    matches!(parsed.transport, Transport::Tcp | Transport::Udp)
}

/// Writes ports behind options or extension headers, and the identifier of ICMP queries.
#[inline(always)]
fn write_ports<P: Packet>(packet: &mut P, parsed: &Parsed, answers: &FlowKey) -> Result<(), DropReason> {
    let at = parsed.transport_offset as u32;
    match parsed.transport {
        Transport::Tcp | Transport::Udp => {
            let [a, b] = answers.destination_port.to_ne_bytes();
            let [c, d] = answers.source_port.to_ne_bytes();
            packet.store(at, &[a, b, c, d])
        }
        Transport::EchoRequest => packet.store(at + 4, &answers.destination_port.to_ne_bytes()),
        Transport::EchoReply => packet.store(at + 4, &answers.source_port.to_ne_bytes()),
        Transport::Icmp | Transport::Sctp | Transport::Other => Ok(()),
    }
}
