//! ICMP errors about packets of flows (N5): found by the packet they quote, which left by where they arrive, and
//! translated with it. They change nothing of the flow.

use super::{
    Outcome, Packed, Packet, Scratch, Tables, Verdict,
    flow_table::{self, Found},
    forward, from_uplink,
};
use crate::{
    abi::{DropReason, FlowEnd, FlowKey, Mutant, flow_flags, scope},
    logic::{
        parse::Fragment,
        quoted::{is_error, parse_quoted, rewrite_quoted},
        rewrite::rewrite,
    },
};

/// Sends an error to the end of the flow that sent the packet quoted; [`Packed::NONE`] when it is about no flow.
#[inline(always)]
pub fn follow<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, sender: FlowEnd) -> Packed {
    find_and_send(packet, tables, scratch, sender).map_or(Packed::NONE, Packed::new)
}

#[inline(always)]
fn find_and_send<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    sender: FlowEnd,
) -> Option<Outcome> {
    let Scratch { headers, parsed: error, quoted, .. } = scratch;
    if error.fragment != Fragment::Whole || !is_error(error) {
        return None;
    }
    parse_quoted(packet, headers, error, quoted)?;
    // The sender of a packet is told of it, and nobody else (as nf_conntrack_inet_error wants it).
    if error.key.destination != quoted.key.destination {
        return None;
    }
    let found = flow_table::find(tables, &quoted.key)?;
    let flow = found.slot.get();
    if tables.now() > flow.deadline || !flow_table::is_between(tables, flow, found.direction, sender) {
        return None;
    }
    if flow.flags & flow_flags::HAIRPIN != 0 {
        // Its packets never leave the host, so nobody outside can know of one.
        return None;
    }
    if error.key.source != quoted.key.source {
        // Not the other end, but a router on the way there. Those are outside.
        if error.key.scope != scope::UPLINK {
            return None;
        }
        if let Err(reason) = from_uplink::guard_source(tables, error) {
            return Some(Err(reason));
        }
    }
    Some(send(packet, tables, scratch, &found).unwrap())
}

/// Translates the error and sends it.
#[inline(never)]
fn send<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, found: &Found) -> Packed {
    Packed::new(translate_and_send(packet, tables, scratch, found))
}

#[inline(always)]
fn translate_and_send<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    found: &Found,
) -> Outcome {
    let Scratch { headers, parsed: error, quoted, .. } = scratch;
    let flow = found.slot.get();
    // What the quoted packet was as it arrived, before it was translated.
    let (sent, to) = flow_table::other_side(flow, found.direction);
    forward::check_hops(error, sent.scope)?;
    let verdict = match sent.scope {
        scope::LOOPBACK => forward::to_loopback(tables, headers),
        scope::UPLINK => {
            let route = flow_table::route(packet, tables, sent, error.key.scope)?;
            if flow_table::has_moved(tables, flow, route.ifindex()) {
                return Err(DropReason::OutOfState);
            }
            headers.next_hop = route.next_hop() as u32;
            Verdict::ToUplink(route.ifindex())
        }
        _ => forward::to_endpoint(packet, tables, headers, error, to.endpoint)?,
    };
    let by_other_end = error.key.source == quoted.key.source;
    let answers = FlowKey {
        source: sent.source,
        destination: if by_other_end { sent.destination } else { error.key.source },
        ..FlowKey::default()
    };
    rewrite(packet, headers, error, &answers, forward::is_routed(error.key.scope, sent.scope))?;
    if !tables.mutant(Mutant::QuotedUntranslated) {
        rewrite_quoted(packet, headers, error, quoted, sent)?;
    }
    Ok(verdict)
}
