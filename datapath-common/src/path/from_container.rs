//! Everything a container sends.

use super::{
    Decision, Outcome, Packed, Packet, Scratch, Tables, Verdict, arp, fragments, icmp_answer, learning, masquerade,
    neighbour, port, port::Port, route, stages, switch,
};
use crate::{
    abi::{DropReason, FlowEnd, Mutant, network_flags},
    logic::{
        headers::{ETHERNET, Headers, ethertype},
        parse::{Fragment, Parsed, Transport, icmp, parse},
    },
};

/// The path of a packet that comes in by an endpoint's host-side veth: what needs no flow is decided at once, then a flow
/// is followed, then one is begun. Each step is a function of its own, so that their stacks are not one upon the other.
///
/// # Errors
/// Why it is dropped.
#[inline(always)]
pub fn from_container<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Outcome {
    let Some(port) = port::sender(packet, tables) else {
        return Err(DropReason::UnknownPort);
    };
    let outcome = decide(packet, tables, &port, scratch);
    icmp_answer::or_answer(outcome, packet, tables, scratch, port.index, |scratch| name_router(&port, scratch))
}

/// Whoever answers what the endpoint sent is its gateway, or where it has none, whom it was sent to.
#[inline(always)]
fn name_router(port: &Port<'_>, scratch: &mut Scratch) {
    let Scratch { headers, parsed, message, .. } = scratch;
    let gateway = port.network.gateway(parsed.ethertype == ethertype::IPV4);
    if gateway.is_none() {
        message.sender = parsed.key.destination;
        message.sender_mac = headers.destination_mac();
    } else {
        message.sender = *gateway;
        message.sender_mac = port.network.gateway_mac;
    }
}

#[inline(always)]
fn decide<P: Packet, T: Tables>(packet: &mut P, tables: &T, port: &Port<'_>, scratch: &mut Scratch) -> Outcome {
    if let Some(outcome) = admit(packet, tables, port, scratch).outcome() {
        return outcome;
    }
    let sender = FlowEnd { endpoint: port.index, generation: port.endpoint.generation };
    if let Some(outcome) = stages::follow(packet, tables, scratch, sender).outcome() {
        return outcome;
    }
    let Scratch { headers, parsed, .. } = scratch;
    if headers.destination_mac() != port.network.gateway_mac {
        return switch::unicast(packet, tables, port, headers, parsed);
    }
    let way = route::from_endpoint(tables, port, parsed);
    let comes_back = way.is_to_host() && masquerade::meets_mapping(packet, tables, port, parsed);
    if let Some(outcome) = way.outcome()
        && !comes_back
    {
        return outcome;
    }
    if comes_back || way == Packed::NONE {
        masquerade::begin(packet, tables, port, parsed)?;
    }
    stages::follow(packet, tables, scratch, sender).or_contended()
}

/// Guards, and decides about everything that no flow could change.
#[inline(never)]
fn admit<P: Packet, T: Tables>(packet: &mut P, tables: &T, port: &Port<'_>, scratch: &mut Scratch) -> Packed {
    Packed::of(admitted(packet, tables, port, scratch))
}

#[inline(always)]
fn admitted<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    scratch: &mut Scratch,
) -> Result<Decision, DropReason> {
    let headers = &mut scratch.headers;
    if !packet.read_headers(ETHERNET, headers) {
        return Err(DropReason::Malformed);
    }
    if !port.has(network_flags::LEARNING) {
        guard_frame(packet, tables, port, headers)?;
    } else if let Some(outcome) = learning::admit(packet, tables, port, scratch).outcome() {
        return outcome.map(Decision::Verdict);
    }
    let Scratch { headers, parsed, .. } = scratch;
    parsed.ethertype = headers.ethertype();
    match parsed.ethertype {
        ethertype::IPV4 | ethertype::IPV6 => {
            parse(packet, headers, parsed)?;
            parsed.key.scope = port.endpoint.network as u16;
            ip(packet, tables, port, scratch)
        }
        ethertype::ARP => arp::from_endpoint(packet, tables, port, headers).map(Decision::Verdict),
        _ => switch::other_protocol(packet, tables, port, headers).map(Decision::Verdict),
    }
}

/// What no container may send, whatever is inside (S1).
#[inline(always)]
fn guard_frame<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    port: &Port<'_>,
    headers: &Headers,
) -> Result<(), DropReason> {
    if packet.vlan().is_some() || matches!(headers.ethertype(), ethertype::VLAN | ethertype::QINQ) {
        return Err(DropReason::VlanTagged);
    }
    if headers.source_mac() != port.endpoint.mac && !tables.mutant(Mutant::SourceGuardSkipped) {
        return Err(DropReason::ForgedMac);
    }
    if headers.is_reserved() {
        return Err(DropReason::ReservedFrame);
    }
    Ok(())
}

#[inline(always)]
fn ip<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    scratch: &mut Scratch,
) -> Result<Decision, DropReason> {
    let Scratch { headers, parsed, fragmented, .. } = scratch;
    if !port.speaks(parsed) && !tables.mutant(Mutant::Ipv6Unguarded) {
        return Err(DropReason::FamilyDisabled);
    }
    let may_send = port.endpoint.owns(&parsed.key.source) || neighbour::may_be_unspecified(parsed);
    // On a network that learns it is known whose it is.
    if !may_send && !port.has(network_flags::LEARNING) && !tables.mutant(Mutant::SourceGuardSkipped) {
        return Err(DropReason::ForgedAddress);
    }
    guard_packet(parsed)?;
    if parsed.transport == Transport::Icmp
        && let Some(outcome) = neighbour::from_endpoint(packet, tables, port, headers, parsed)
    {
        return outcome.map(Decision::Verdict);
    }
    if headers.to_group() {
        return switch::flood(packet, tables, port, parsed).map(Decision::Verdict);
    }
    // Among siblings only an endpoint with published ports has flows: it answers clients of its own network that took
    // the way by the host (N8).
    let answers_siblings = port.endpoint.publications != 0 && !tables.mutant(Mutant::HairpinUntranslated);
    if answers_siblings || headers.destination_mac() == port.network.gateway_mac {
        return if parsed.fragment == Fragment::Whole {
            Ok(Decision::Open)
        } else {
            fragments::gather(packet, tables, headers, parsed, fragmented).decision()
        };
    }
    switch::unicast(packet, tables, port, headers, parsed).map(Decision::Verdict)
}

/// What no container may send, whatever its address (S1).
#[inline(always)]
pub(super) fn guard_packet(parsed: &Parsed) -> Result<(), DropReason> {
    if parsed.key.source == parsed.key.destination {
        return Err(DropReason::Land);
    }
    if parsed.key.destination.is_loopback() {
        return Err(DropReason::LoopbackAddress);
    }
    if parsed.transport == Transport::Icmp && parsed.ethertype == ethertype::IPV4 && parsed.flags == icmp::REDIRECT {
        return Err(DropReason::RogueRouter);
    }
    if parsed.transport == Transport::Udp && is_dhcp_server(parsed) {
        return Err(DropReason::RogueDhcp);
    }
    Ok(())
}

/// UDP from port 67 (RFC 2131 section 4.1) or 547 (RFC 8415 section 7.2).
#[inline(always)]
fn is_dhcp_server(parsed: &Parsed) -> bool {
    let server = if parsed.ethertype == ethertype::IPV4 { 67u16 } else { 547 };
    parsed.key.source_port == server.to_be()
}

/// Nothing else to be done with the packet.
pub(super) const CONSUMED: Outcome = Ok(Verdict::Consumed);
