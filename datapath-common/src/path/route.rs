//! What a container sends to its gateway: to the host, to published ports, and to the outside.

use super::{Outcome, Packet, Tables, Verdict, masquerade, port::Port, publish};
use crate::{
    abi::{AddressKey, DropReason, FlowEnd, HOST, Mutant, network_flags},
    logic::{headers::Headers, parse::Parsed},
};

/// An IP packet of no flow yet whose destination MAC address is the gateway's.
#[inline(always)]
pub(super) fn from_endpoint<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    port: &Port<'_>,
    headers: &mut Headers,
    parsed: &Parsed,
    sender: FlowEnd,
) -> Outcome {
    let destination = &parsed.key.destination;
    let owner = tables.endpoint_by_address(&AddressKey::new(port.endpoint.network, *destination));
    let to_own_gateway = owner == Some(HOST);
    if port.has(network_flags::INTERNAL) && !tables.mutant(Mutant::InternalIgnored) {
        return if to_own_gateway { to_host(port) } else { Err(DropReason::InternalNetwork) };
    }
    if owner.is_some_and(|owner| owner != HOST) {
        // A sibling is reached by its own MAC address; by the gateway's, ICC would not be asked.
        return Err(DropReason::WrongDestination);
    }
    let local = tables.is_host_address(destination);
    if local || tables.mutant(Mutant::AnyDestinationPublished) {
        if let Some(index) = publish::find(tables, &parsed.key) {
            if !publish::begins(parsed) {
                return Err(DropReason::OutOfState);
            }
            return publish::enter(packet, tables, headers, parsed, index, sender);
        }
        if to_own_gateway {
            return to_host(port);
        }
    }
    if destination.is_multicast() || destination.is_link_local_v6() && !to_own_gateway {
        return Err(DropReason::WrongDestination);
    }
    if tables.subnet(destination).is_some() && !to_own_gateway {
        if tables.mutant(Mutant::IsolationIgnored) {
            return to_host(port);
        }
        return Err(DropReason::NetworkIsolation);
    }
    if local || to_own_gateway {
        return to_host(port);
    }
    masquerade::leave(packet, tables, port, headers, parsed)
}

/// Up into the host: the frame is addressed to the gateway device already.
#[inline(always)]
fn to_host(port: &Port<'_>) -> Outcome {
    Ok(Verdict::ToHost(port.network.gateway_ifindex))
}
