//! Published ports: finding the publication, and beginning the flow to its endpoint.

use super::{
    Inserted, Tables, flow_slots, forward,
    port::{self, Port},
    slot::Beginning,
};
use crate::{
    abi::{Address, AddressKey, DropReason, FlowEnd, FlowKey, Mutant, PublishedKey, flow_flags, network_flags},
    logic::{
        parse::{Fragment, Parsed, Transport, protocol},
        tcp_state,
    },
};

/// Source ports tried for a client that appears as the gateway.
const PORTS_TRIED: u32 = 16;

/// The publication that a packet to a host address meets: the address's own, else the wildcard's (P5).
#[inline(always)]
pub(super) fn find<T: Tables>(tables: &T, key: &FlowKey) -> Option<u32> {
    let exact = PublishedKey::new(key.destination, key.destination_port, key.protocol);
    let any = if key.destination.is_v4() { Address::ANY_V4 } else { Address::NONE };
    let wildcard = PublishedKey::new(any, key.destination_port, key.protocol);
    if tables.mutant(Mutant::WildcardFirst) {
        return tables.published(&wildcard).or_else(|| tables.published(&exact));
    }
    tables.published(&exact).or_else(|| tables.published(&wildcard))
}

/// Whether packets with this destination meet a publication at its exact address (gateway mode routed).
#[inline(always)]
pub(super) fn find_exact<T: Tables>(tables: &T, key: &FlowKey) -> Option<u32> {
    tables.published(&PublishedKey::new(key.destination, key.destination_port, key.protocol))
}

/// Whether the packet can begin a flow. TCP needs its first segment: a later one belongs to a connection we never had.
#[inline(always)]
pub(super) fn begins(parsed: &Parsed) -> bool {
    match parsed.transport {
        Transport::Tcp => tcp_state::begins(parsed.flags),
        Transport::Udp | Transport::Sctp | Transport::EchoRequest | Transport::Other => true,
        Transport::EchoReply | Transport::Icmp => false,
    }
}

/// Begins the flow of a packet that met publication `index`.
#[inline(never)]
pub(super) fn begin<T: Tables>(tables: &T, parsed: &Parsed, index: u32, client: FlowEnd) -> Result<(), DropReason> {
    if !begins(parsed) {
        return Err(DropReason::OutOfState);
    }
    if parsed.fragment == Fragment::Later {
        return Err(DropReason::Fragment);
    }
    let publication = tables.publication(index).ok_or(DropReason::EndpointGone)?;
    let Some(target) = port::port(tables, publication.endpoint) else {
        return Err(DropReason::EndpointGone);
    };
    forward::check_hops(parsed, target.endpoint.network as u16)?;
    if publication.generation == 0 || target.endpoint.generation != publication.endpoint_generation {
        return Err(DropReason::EndpointGone);
    }
    let address = target.endpoint.address_like(&parsed.key.destination);
    if address.is_none() || !target.network.speaks(address.is_v4()) {
        return Err(DropReason::FamilyDisabled);
    }
    let port = if address == parsed.key.destination {
        // Met at the container's own address, where nothing is translated (gateway mode routed).
        parsed.key.destination_port
    } else {
        let offset = u16::from_be(parsed.key.destination_port).wrapping_sub(publication.host_port);
        publication.container_port.wrapping_add(offset).to_be()
    };
    let beginning = Beginning {
        initiator: client,
        responder: FlowEnd { endpoint: publication.endpoint, generation: publication.endpoint_generation },
        publication: index,
        publication_generation: publication.generation,
        flags: flow_flags::PUBLISHED,
    };
    let begun = flow_slots::begin(tables, &parsed.key, &beginning)?;
    begun.slot.set_reply(target.endpoint.network as u16);
    begun.slot.set_reply_source(address, port);
    if let Err(reason) = introduce(tables, &target, &begun) {
        flow_slots::abandon(tables, &begun);
        return Err(reason);
    }
    tables.count_publication_hit(index);
    flow_slots::complete(tables, &begun)
}

/// Gives the client the address it appears with: its own, or the gateway's where the server could not answer that.
#[inline(never)]
fn introduce<T: Tables>(tables: &T, target: &Port<'_>, begun: &flow_slots::Begun) -> Result<(), DropReason> {
    let slot = begun.slot;
    let client = slot.get().original.source;
    if target.endpoint.owns(&client) || client.is_loopback() || tables.mutant(Mutant::ClientHidden) {
        let gateway = if client.is_v4() { target.network.gateway_ipv4 } else { target.network.gateway_ipv6 };
        if gateway.is_none() {
            return Err(DropReason::FamilyDisabled);
        }
        slot.set_reply_destination(gateway);
    }
    let mut tried = 0;
    while tried < PORTS_TRIED {
        match flow_slots::offer_reply(tables, begun) {
            Inserted::Yes => return Ok(()),
            Inserted::Full => return Err(DropReason::FlowTableFull),
            Inserted::Exists if slot.get().reply.protocol == protocol::SCTP => break,
            // Two clients that appear alike (both as the gateway, or a host process and a flow of its port).
            Inserted::Exists => slot.set_reply_port(another_port(tables)),
        }
        tried += 1;
    }
    Err(DropReason::PortsExhausted)
}

/// A random port above 1023, wire order.
#[inline(always)]
fn another_port<T: Tables>(tables: &T) -> u16 {
    ((tables.random() as u16) | 0x400).to_be()
}

/// Begins the flow of a packet from outside that is addressed to a container itself. Networks of gateway mode routed let
/// ICMP queries in, and published ports; open ones let all in.
#[inline(always)]
pub(super) fn begin_routed<T: Tables>(tables: &T, parsed: &Parsed, network_id: u32) -> Result<(), DropReason> {
    let Some(network) = tables.network(network_id) else {
        return Err(DropReason::DirectRouting);
    };
    let v4 = parsed.key.destination.is_v4();
    let reachable = network.speaks(v4) && !network.has(network_flags::INTERNAL);
    let mutant = tables.mutant(Mutant::DirectRoutingAllowed);
    if reachable && network.is_open(v4) {
        may_enter(parsed)?;
        return begin_untranslated(tables, parsed, network_id);
    }
    if !(reachable && network.is_routed(v4) || mutant) {
        return Err(DropReason::DirectRouting);
    }
    if let Some(index) = find_exact(tables, &parsed.key) {
        return begin(tables, parsed, index, FlowEnd::default());
    }
    if parsed.transport != Transport::EchoRequest && !mutant {
        return Err(DropReason::DirectRouting);
    }
    begin_untranslated(tables, parsed, network_id)
}

/// Whether the packet can begin a flow from outside to an open network.
#[inline(always)]
fn may_enter(parsed: &Parsed) -> Result<(), DropReason> {
    if parsed.fragment == Fragment::Later {
        return Err(DropReason::Fragment);
    }
    match parsed.transport {
        Transport::EchoReply | Transport::Icmp => Err(DropReason::IcmpUnmatched),
        _ if !begins(parsed) => Err(DropReason::OutOfState),
        _ => Ok(()),
    }
}

/// Begins a flow from outside to a container's own address.
#[inline(never)]
fn begin_untranslated<T: Tables>(tables: &T, parsed: &Parsed, network_id: u32) -> Result<(), DropReason> {
    forward::check_hops(parsed, network_id as u16)?;
    let key = AddressKey::new(network_id, parsed.key.destination);
    let index = tables.endpoint_by_address(&key).ok_or(DropReason::UnknownDestination)?;
    let Some(target) = port::port(tables, index) else {
        return Err(DropReason::DirectRouting);
    };
    let beginning = Beginning {
        initiator: FlowEnd::default(),
        responder: FlowEnd { endpoint: index, generation: target.endpoint.generation },
        publication: 0,
        publication_generation: 0,
        flags: 0,
    };
    let begun = flow_slots::begin(tables, &parsed.key, &beginning)?;
    begun.slot.set_reply(network_id as u16);
    if flow_slots::offer_reply(tables, &begun) != Inserted::Yes {
        flow_slots::abandon(tables, &begun);
        return Err(DropReason::Contended);
    }
    flow_slots::complete(tables, &begun)
}
