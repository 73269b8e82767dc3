//! What a container sends to its gateway: to the host, to published ports, and to the outside.

use super::{
    Decision, Packed, Tables, forward,
    port::{NOBODY, Port, owner},
    publish,
};
use crate::{
    abi::{DropReason, FlowEnd, HOST, Mutant, network_flags},
    logic::parse::{Parsed, Transport},
};

/// Decides about an IP packet of no flow yet whose destination MAC address is the gateway's; [`Packed::BEGUN`] when it
/// met a published port, [`Packed::NONE`] when it goes outside.
#[inline(never)]
pub(super) fn from_endpoint<T: Tables>(tables: &T, port: &Port<'_>, parsed: &Parsed) -> Packed {
    Packed::of(decide(tables, port, parsed))
}

#[inline(always)]
fn decide<T: Tables>(tables: &T, port: &Port<'_>, parsed: &Parsed) -> Result<Decision, DropReason> {
    // Up into the host: the frame is addressed to the gateway device already.
    let to_host = Ok(Decision::Verdict(forward::to_host(port.network)));
    let destination = &parsed.key.destination;
    let owner = owner(tables, port.endpoint.network, destination);
    let to_own_gateway = owner == HOST;
    let enclosed = port.has(network_flags::INTERNAL) || port.network.gateway(destination.is_v4()).is_none();
    if enclosed && !tables.mutant(Mutant::InternalIgnored) {
        return if to_own_gateway { to_host } else { Err(DropReason::InternalNetwork) };
    }
    if owner != HOST && owner != NOBODY {
        // A sibling is reached by its own MAC address; by the gateway's, ICC would not be asked.
        return Err(DropReason::WrongDestination);
    }
    if parsed.key.source.is_link_local_v6() {
        // Valid on this link only (RFC 4291 section 2.5.6).
        return if to_own_gateway { to_host } else { Err(DropReason::WrongDestination) };
    }
    let local = tables.is_host_address(destination);
    if local || tables.mutant(Mutant::AnyDestinationPublished) {
        if let Some(index) = publish::find(tables, &parsed.key) {
            // A segment of no connection goes to the host, which answers it with a RST.
            let reachable = to_own_gateway || tables.subnet(destination).is_none();
            if local && reachable && parsed.transport == Transport::Tcp && !publish::begins(parsed) {
                return to_host;
            }
            let sender = FlowEnd { endpoint: port.index, generation: port.endpoint.generation };
            publish::begin(tables, parsed, index, sender)?;
            return Ok(Decision::Begun);
        }
        if to_own_gateway {
            return to_host;
        }
    }
    if destination.is_multicast() || destination.is_link_local_v6() && !to_own_gateway {
        return Err(DropReason::WrongDestination);
    }
    if tables.subnet(destination).is_some() && !to_own_gateway {
        if tables.mutant(Mutant::IsolationIgnored) {
            return to_host;
        }
        return Err(DropReason::NetworkIsolation);
    }
    if local || to_own_gateway {
        return to_host;
    }
    // Outside.
    Ok(Decision::Open)
}
