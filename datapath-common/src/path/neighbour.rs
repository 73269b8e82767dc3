//! IPv6 neighbour discovery (RFC 4861), answered in place like ARP (B3).

use super::{
    Decision, Outcome, Packed, Packet, Tables, Verdict,
    arp::{mac_of, unheard},
    forward,
    from_container::CONSUMED,
    port::{NOBODY, Port, owner},
    switch,
};
use crate::{
    abi::{Address, AddressKey, DropReason, HOST, Mutant, Network},
    logic::{
        checksum::Sum,
        headers::{Headers, ethertype},
        parse::{Fragment, Parsed, TRANSPORT_V6, Transport, icmp},
    },
};

/// Bytes of an advertisement: Ethernet, IPv6, the message, and the target link-layer address option.
const ADVERTISEMENT: u32 = 14 + 40 + 24 + 8;
/// Flags of an advertisement (RFC 4861 section 4.4).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Whether it is a message that a host without an address yet sends from `::`: duplicate address detection, router solicitation and
/// multicast listener reports (RFC 4861 sections 4.1 and 4.3, RFC 3810 section 5.2.13).
#[inline(always)]
pub(super) fn may_be_unspecified(parsed: &Parsed) -> bool {
    parsed.key.source.is_none()
        && parsed.transport == Transport::Icmp
        && parsed.ethertype == ethertype::IPV6
        && matches!(
            parsed.flags,
            icmp::NEIGHBOUR_SOLICITATION | icmp::ROUTER_SOLICITATION | icmp::MLD2_REPORT | 131 | 132
        )
}

/// Neighbour discovery from a container; `None` for other messages.
#[inline(always)]
pub(super) fn from_endpoint<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
    parsed: &Parsed,
) -> Option<Outcome> {
    if parsed.ethertype != ethertype::IPV6 {
        return None;
    }
    match parsed.flags {
        icmp::ROUTER_ADVERTISEMENT | icmp::V6_REDIRECT => Some(Err(DropReason::RogueRouter)),
        icmp::ROUTER_SOLICITATION => Some(CONSUMED),
        icmp::NEIGHBOUR_ADVERTISEMENT => Some(advertised(packet, tables, port, headers, parsed)),
        icmp::NEIGHBOUR_SOLICITATION => Some(solicited(packet, tables, port, headers, parsed)),
        _ => None,
    }
}

/// Judges neighbour discovery on a network that learns: open when it is answered here, [`Verdict::Pass`] when it is
/// switched, being about stations; `None` for what other packets are asked.
#[inline(always)]
pub(super) fn judge<T: Tables>(
    tables: &T,
    port: &Port<'_>,
    headers: &Headers,
    parsed: &Parsed,
    own: bool,
) -> Option<Result<Decision, DropReason>> {
    if parsed.ethertype != ethertype::IPV6 || parsed.transport != Transport::Icmp {
        return None;
    }
    let target = headers.ipv6(62);
    let given = owner(tables, port.endpoint.network, &target) != NOBODY;
    match parsed.flags {
        icmp::ROUTER_ADVERTISEMENT | icmp::V6_REDIRECT => Some(Err(DropReason::RogueRouter)),
        icmp::NEIGHBOUR_SOLICITATION | icmp::NEIGHBOUR_ADVERTISEMENT if !is_valid(headers, parsed) => {
            Some(Err(DropReason::Malformed))
        }
        icmp::NEIGHBOUR_SOLICITATION if given => Some(Ok(Decision::Open)),
        icmp::NEIGHBOUR_SOLICITATION => Some(Ok(Decision::Verdict(Verdict::Pass))),
        icmp::NEIGHBOUR_ADVERTISEMENT if given && !(own && port.endpoint.owns(&target)) => {
            Some(Err(DropReason::ForgedNeighbour))
        }
        _ => None,
    }
}

/// Whether the message is where and how RFC 4861 section 7.1 wants it.
#[inline(always)]
fn is_valid(headers: &Headers, parsed: &Parsed) -> bool {
    parsed.ttl == 255
        && parsed.fragment == Fragment::Whole
        && parsed.transport_offset == TRANSPORT_V6
        && headers.length >= 78
}

/// Solicitations are answered here, so nobody waits for an advertisement; an unsolicited one tells siblings of a new
/// owner (RFC 4861 section 7.2.6), and a forged one is worth knowing of.
#[inline(always)]
fn advertised<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &Headers,
    parsed: &Parsed,
) -> Outcome {
    if !is_valid(headers, parsed) || !port.endpoint.owns(&headers.ipv6(62)) {
        return Err(DropReason::ForgedNeighbour);
    }
    // An option with another MAC address than its own (type 2, target link-layer address) is a forgery too.
    let option: Option<[u8; 8]> = packet.load(TRANSPORT_V6 as u32 + 24);
    if let Some([2, 1, a, b, c, d, e, f]) = option
        && [a, b, c, d, e, f] != port.endpoint.mac
    {
        return Err(DropReason::ForgedNeighbour);
    }
    if headers.to_group() { switch::flood_frame(packet, tables, port, true) } else { CONSUMED }
}

#[inline(always)]
fn solicited<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
    parsed: &Parsed,
) -> Outcome {
    solicited_packed(packet, tables, port, headers, parsed).unwrap()
}

#[inline(never)]
fn solicited_packed<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
    parsed: &Parsed,
) -> Packed {
    Packed::new(solicited_inline(packet, tables, port, headers, parsed))
}

#[inline(always)]
fn solicited_inline<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
    parsed: &Parsed,
) -> Outcome {
    if !is_valid(headers, parsed) {
        return Err(DropReason::Malformed);
    }
    let target = headers.ipv6(62);
    if port.endpoint.owns(&target) {
        // Duplicate address detection: an answer would be a conflict.
        return CONSUMED;
    }
    if tables.mutant(Mutant::NeighboursUnanswered) {
        return switch::flood_frame(packet, tables, port, true);
    }
    let owner = tables
        .endpoint_by_address(&AddressKey::new(port.endpoint.network, target))
        .ok_or(DropReason::UnknownNeighbour)?;
    let mac = mac_of(tables, port.network, owner)?;
    let router = if owner == HOST { ROUTER } else { 0 };
    advertise(packet, headers, &parsed.key.source, &target, mac, router)?;
    Ok(Verdict::Reflected)
}

/// A solicitation from the host, on a gateway device; `None` for other messages.
#[inline(always)]
pub(super) fn from_host<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    (network_id, network): (u32, &Network),
    headers: &mut Headers,
    parsed: &Parsed,
) -> Option<Outcome> {
    match parsed.flags {
        icmp::NEIGHBOUR_SOLICITATION if is_valid(headers, parsed) => {}
        icmp::NEIGHBOUR_ADVERTISEMENT => return Some(unheard(network)),
        icmp::NEIGHBOUR_SOLICITATION | icmp::ROUTER_SOLICITATION => return Some(CONSUMED),
        _ => return None,
    }
    let target = headers.ipv6(62);
    let Some(owner) = tables.endpoint_by_address(&AddressKey::new(network_id, target)) else {
        // Duplicate address detection of an address that the daemon has not seen yet: silence is the answer.
        return Some(if parsed.key.source.is_none() { unheard(network) } else { Err(DropReason::UnknownNeighbour) });
    };
    if owner == HOST {
        return Some(CONSUMED);
    }
    let Some(endpoint) = tables.endpoint(owner) else {
        return Some(Err(DropReason::UnknownNeighbour));
    };
    match advertise(packet, headers, &parsed.key.source, &target, endpoint.mac, 0) {
        Ok(()) => Some(Ok(forward::to_host(network))),
        Err(reason) => Some(Err(reason)),
    }
}

/// Turns the solicitation into the advertisement of `target` at `mac`.
#[inline(always)]
fn advertise<P: Packet>(
    packet: &mut P,
    headers: &mut Headers,
    asker: &Address,
    target: &Address,
    mac: [u8; 6],
    router: u8,
) -> Result<(), DropReason> {
    // An asker without an address is answered by the all-nodes group, unsolicited (RFC 4861 section 7.2.4).
    let all_nodes = Address::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let (destination, solicited) = if asker.is_none() { (all_nodes, 0) } else { (*asker, SOLICITED) };
    let asker_mac = headers.source_mac();
    headers.set_macs(asker_mac, mac);
    headers.put(18, 32u16.to_be_bytes());
    headers.put(22, target.bytes());
    headers.put(38, destination.bytes());
    let message = [icmp::NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, router | solicited | OVERRIDE, 0, 0, 0];
    let option = [2, 1, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]];
    let sum = Sum::ZERO
        .add_address(target)
        .add_address(&destination)
        .add16(32u16.to_be())
        .add16((crate::logic::parse::protocol::ICMPV6 as u16).to_be())
        .add_address(target)
        .add16(u16::from_ne_bytes([message[0], message[1]]))
        .add16(u16::from_ne_bytes([message[4], message[5]]))
        .add16(u16::from_ne_bytes([option[0], option[1]]))
        .add16(u16::from_ne_bytes([option[2], option[3]]))
        .add16(u16::from_ne_bytes([option[4], option[5]]))
        .add16(u16::from_ne_bytes([option[6], option[7]]));
    headers.put(54, message);
    headers.put(56, sum.checksum().to_ne_bytes());
    packet.resize(ADVERTISEMENT)?;
    packet.store_headers(headers, 78)?;
    packet.store(78, &option)
}
