//! From the host to containers, by a network's gateway device.

use super::{Outcome, Packet, Scratch, Tables, Verdict, arp, forward, from_container::CONSUMED, neighbour, switch};
use crate::{
    abi::{AddressKey, DropReason, HOST},
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
    if packet.entered_by() != 0 {
        return Err(DropReason::Forwarded);
    }
    let Scratch { headers, parsed } = scratch;
    if !packet.read_headers(ETHERNET, headers) {
        return Err(DropReason::Malformed);
    }
    parsed.ethertype = headers.ethertype();
    match parsed.ethertype {
        ethertype::ARP => return arp::from_host(packet, tables, network_id, headers),
        ethertype::IPV4 | ethertype::IPV6 => parse(packet, headers, parsed)?,
        _ => return Err(DropReason::UnknownDestination),
    }
    if parsed.ethertype == ethertype::IPV6
        && parsed.transport == Transport::Icmp
        && let Some(outcome) = neighbour::from_host(packet, tables, network_id, headers, parsed)
    {
        return outcome;
    }
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
    forward::check_size(packet, headers, network.mtu)?;
    forward::address_frame(headers, endpoint, network);
    packet.store_headers(headers, ETHERNET)?;
    Ok(Verdict::ToEndpoint(endpoint.ifindex))
}
