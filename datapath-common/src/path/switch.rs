//! Switching inside one network: unicast by MAC address, groups by flooding.

use core::mem::offset_of;

use super::{
    Outcome, Packed, Packet, Tables, Verdict, forward,
    from_container::CONSUMED,
    port::{NOBODY, Port, owner},
};
use crate::{
    abi::{AddressKey, DropReason, HOST, MacKey, Mutant, NETWORK_ENDPOINTS, Settings, network_flags},
    logic::{headers::Headers, parse::Parsed},
};

/// A unicast IP packet to a sibling's MAC address. No state is kept of it: the MAC and the IP address must be the
/// present owner's (B5), and that is looked up for every packet anyway.
#[inline(always)]
pub(super) fn unicast<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
    parsed: &Parsed,
) -> Outcome {
    unicast_packed(packet, tables, port, headers, parsed).unwrap()
}

#[inline(never)]
fn unicast_packed<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
    parsed: &Parsed,
) -> Packed {
    Packed::new(unicast_inline(packet, tables, port, headers, parsed))
}

#[inline(always)]
fn unicast_inline<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
    parsed: &Parsed,
) -> Outcome {
    let key = AddressKey::new(port.endpoint.network, parsed.key.destination);
    let index = tables.endpoint_by_address(&key).ok_or(DropReason::UnknownDestination)?;
    let target = tables.endpoint(index).ok_or(DropReason::UnknownDestination)?;
    if index == HOST || target.mac != headers.destination_mac() {
        return Err(DropReason::WrongDestination);
    }
    if !port.has(network_flags::ICC) && !tables.mutant(Mutant::IccIgnored) {
        return Err(DropReason::IccDisabled);
    }
    forward::check_size(packet, tables, headers, parsed, port.network.mtu)?;
    Ok(Verdict::ToEndpoint(target.ifindex))
}

/// A frame of another protocol than IP and ARP.
#[inline(always)]
pub(super) fn other_protocol<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &Headers,
) -> Outcome {
    other_protocol_packed(packet, tables, port, headers).unwrap()
}

#[inline(never)]
fn other_protocol_packed<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &Headers,
) -> Packed {
    Packed::new(other_protocol_inline(packet, tables, port, headers))
}

#[inline(always)]
fn other_protocol_inline<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &Headers,
) -> Outcome {
    if headers.to_group() {
        return flood_frame(packet, tables, port, true);
    }
    let key = MacKey::new(port.endpoint.network, headers.destination_mac());
    let index = tables.endpoint_by_mac(&key).ok_or(DropReason::UnknownDestination)?;
    if index == HOST {
        return if port.network.has_host() {
            Ok(forward::to_host(port.network))
        } else {
            Err(DropReason::UnknownDestination)
        };
    }
    if !port.has(network_flags::ICC) && !tables.mutant(Mutant::IccIgnored) {
        return Err(DropReason::IccDisabled);
    }
    let target = tables.endpoint(index).ok_or(DropReason::UnknownDestination)?;
    Ok(Verdict::ToEndpoint(target.ifindex))
}

/// An IP packet to a group. A unicast IP address inside a group frame is a trick, not traffic (RFC 1122 section 3.3.6).
#[inline(always)]
pub(super) fn flood<P: Packet, T: Tables>(packet: &mut P, tables: &T, port: &Port<'_>, parsed: &Parsed) -> Outcome {
    if !is_for_group(tables, port, parsed) {
        return Err(DropReason::WrongDestination);
    }
    flood_frame(packet, tables, port, true)
}

/// Whether a packet in a group frame is for a group.
#[inline(always)]
pub(super) fn is_for_group<T: Tables>(tables: &T, port: &Port<'_>, parsed: &Parsed) -> bool {
    let network = port.endpoint.network;
    let destination = &parsed.key.destination;
    // The broadcast address of the network's own subnet is one that nobody has.
    destination.is_multicast()
        || tables.subnet(destination).unwrap_or(0) == network && owner(tables, network, destination) == NOBODY
}

/// Sends a container's frame to every other endpoint and to the host, if `to_host`, as fast as its tokens allow (B2, S3).
#[inline(always)]
pub(super) fn flood_frame<P: Packet, T: Tables>(packet: &mut P, tables: &T, port: &Port<'_>, to_host: bool) -> Outcome {
    flood_frame_packed(packet, tables, port, to_host).unwrap()
}

#[inline(never)]
fn flood_frame_packed<P: Packet, T: Tables>(packet: &mut P, tables: &T, port: &Port<'_>, to_host: bool) -> Packed {
    Packed::new(flood_frame_inline(packet, tables, port, to_host))
}

#[inline(always)]
fn flood_frame_inline<P: Packet, T: Tables>(packet: &mut P, tables: &T, port: &Port<'_>, to_host: bool) -> Outcome {
    let rate = tables.setting32(offset_of!(Settings, flood_rate));
    let usage = tables.usage(port.index).ok_or(DropReason::UnknownPort)?;
    if !usage.take_flood_token(rate, tables.now()) {
        return Err(DropReason::FloodLimit);
    }
    if port.has(network_flags::ICC) || tables.mutant(Mutant::IccIgnored) {
        let sender = if tables.mutant(Mutant::FloodToSender) { 0 } else { port.endpoint.ifindex };
        copy_to_members(packet, tables, port.endpoint.network, port.network.members, sender);
    }
    if to_host && port.network.has_host() {
        packet.copy_to_host(port.network.gateway_ifindex, port.has(network_flags::ADOPTED));
    }
    CONSUMED
}

/// Sends a copy to every member of the network but the one behind `sender`.
#[inline(never)]
pub(super) fn copy_to_members<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    network_id: u32,
    members: u32,
    sender: u32,
) {
    let mut copying = Copying { packet, tables, network_id, position: 0, sender };
    tables.repeat(if members > NETWORK_ENDPOINTS { NETWORK_ENDPOINTS } else { members }, &mut copying, copy_to_member);
}

/// Copies on their way to the members of a network.
struct Copying<'a, P, T> {
    packet: &'a mut P,
    tables: &'a T,
    network_id: u32,
    position: u32,
    sender: u32,
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn copy_to_member<P: Packet, T: Tables>(_: u64, copying: *mut Copying<'_, P, T>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let copying = unsafe { &mut *copying };
    match copying.tables.member(copying.network_id, copying.position) {
        Some(ifindex) if ifindex != copying.sender => copying.packet.copy_to_endpoint(ifindex),
        _ => {}
    }
    copying.position += 1;
    0
}
