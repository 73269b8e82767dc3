//! From the host to containers, by a network's gateway device.

use super::{
    Outcome, Packet, Scratch, Tables, Verdict, arp, forward, from_container::CONSUMED, icmp_answer, learning,
    neighbour, switch,
};
use crate::{
    abi::{Address, AddressKey, DropReason, HOST, Network, network_flags},
    logic::{
        headers::{ETHERNET, ethertype},
        parse::{Transport, parse},
    },
};

/// The path of a packet that the host sends on a gateway device. Nothing passes: what has no owner is dropped.
///
/// # Errors
/// Why it is dropped.
#[inline(always)]
pub fn from_host<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Outcome {
    let network_id = tables.network_by_gateway(packet.ifindex()).ok_or(DropReason::UnknownPort)?;
    let network = tables.network(network_id).ok_or(DropReason::UnknownPort)?;
    let outcome = match decide(packet, tables, scratch, (network_id, network)) {
        // What no endpoint has, a station may have.
        Err(DropReason::UnknownNeighbour | DropReason::UnknownDestination)
            if network.has(network_flags::LEARNING) && packet.entered_by() == 0 =>
        {
            learning::from_host(packet, tables, network_id, network, scratch).unwrap()
        }
        outcome => outcome,
    };
    // The host's stack keeps to the MTU of the gateway device, which is the network's unless somebody changed it. There is
    // no router on this way: for the host it is as if the endpoint had told it.
    let name_endpoint = |scratch: &mut Scratch| {
        let Scratch { headers, parsed, message, .. } = scratch;
        message.sender = parsed.key.destination;
        message.sender_mac = headers.destination_mac();
    };
    match icmp_answer::or_answer(outcome, packet, tables, scratch, HOST, name_endpoint) {
        Ok(Verdict::Reflected) => Ok(forward::to_host(network)),
        outcome => outcome,
    }
}

#[inline(always)]
fn decide<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    (network_id, network): (u32, &Network),
) -> Outcome {
    if packet.entered_by() != 0 {
        return Err(DropReason::Forwarded);
    }
    let Scratch { headers, parsed, .. } = scratch;
    if !packet.read_headers(ETHERNET, headers) {
        return Err(DropReason::Malformed);
    }
    parsed.ethertype = headers.ethertype();
    let v4 = match parsed.ethertype {
        ethertype::ARP | ethertype::IPV4 => true,
        ethertype::IPV6 => false,
        _ => return Err(DropReason::UnknownDestination),
    };
    if !network.speaks(v4) {
        return Err(DropReason::FamilyDisabled);
    }
    if network.gateway(v4).is_none() {
        return Err(DropReason::InternalNetwork);
    }
    if parsed.ethertype == ethertype::ARP {
        return arp::from_host(packet, tables, (network_id, network), headers);
    }
    parse(packet, headers, parsed)?;
    if parsed.ethertype == ethertype::IPV6
        && parsed.transport == Transport::Icmp
        && let Some(outcome) = neighbour::from_host(packet, tables, (network_id, network), headers, parsed)
    {
        return outcome;
    }
    guard_source(tables, &parsed.key.source)?;
    if headers.to_group() {
        switch::copy_to_members(packet, tables, network_id, network.members, 0);
        return CONSUMED;
    }
    let key = AddressKey::new(network_id, parsed.key.destination);
    let index = tables.endpoint_by_address(&key).ok_or(DropReason::UnknownDestination)?;
    let endpoint = tables.endpoint(index).ok_or(DropReason::UnknownDestination)?;
    if index == HOST || endpoint.generation == 0 {
        return Err(DropReason::UnknownDestination);
    }
    forward::check_size(packet, tables, headers, parsed, network.mtu)?;
    forward::address_frame(headers, endpoint, network);
    packet.store_headers(headers, ETHERNET)?;
    Ok(Verdict::ToEndpoint(endpoint.ifindex))
}

/// What the host sends, it sends from an address of its own. Anything else it carries for others, by a process or by a
/// device whose packets do not say where they entered, past the rules (I2, P10).
#[inline(always)]
fn guard_source<T: Tables>(tables: &T, source: &Address) -> Result<(), DropReason> {
    if source.is_loopback() {
        return Err(DropReason::LoopbackAddress);
    }
    // Before it has an address, and on this link only: neither is ever forwarded (RFC 4291 section 2.5).
    if source.is_unspecified() || source.is_link_local_v6() || tables.is_host_address(source) {
        return Ok(());
    }
    Err(DropReason::Forwarded)
}
