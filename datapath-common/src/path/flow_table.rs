//! Connection tracking: the packets of the flows that exist.

use core::mem::offset_of;

use super::{
    Outcome, Packed, Packet, Tables, Verdict,
    flow_slots::{end, uncharge},
    forward,
    slot::FlowSlot,
};
use crate::{
    abi::{DropReason, Flow, FlowEnd, FlowKey, HOST, Mutant, PublishedKey, Settings, claim, flow_flags, scope, tcp},
    logic::{
        headers::{ETHERNET, Headers},
        parse::{Fragment, Parsed, Transport, protocol},
        rewrite::rewrite,
        tcp_state::{self, Direction, flag},
    },
};

/// A deadline is only moved when it is off by more than this (2^30 ns), so that a busy flow's slot is rarely written.
const DEADLINE_SLACK: u64 = 1 << 30;

/// Sends a packet of an existing flow on its way; `None` when it belongs to none.
#[inline(always)]
pub(super) fn follow<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &mut Headers,
    parsed: &Parsed,
    sender: FlowEnd,
) -> Option<Outcome> {
    follow_packed(packet, tables, headers, parsed, sender).outcome()
}

#[inline(never)]
fn follow_packed<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &mut Headers,
    parsed: &Parsed,
    sender: FlowEnd,
) -> Packed {
    find_and_send(packet, tables, headers, parsed, sender).map_or(Packed::NONE, Packed::new)
}

#[inline(always)]
fn find_and_send<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &mut Headers,
    parsed: &Parsed,
    sender: FlowEnd,
) -> Option<Outcome> {
    // Errors have no ports, and would pass for queries with identifier 0.
    if parsed.fragment == Fragment::Later || parsed.transport == Transport::Icmp {
        return None;
    }
    let index = tables.flow_index(&parsed.key)?;
    let slot = tables.flow(index.slot)?;
    let flow = slot.get();
    if flow.serial != index.serial || flow.claim != claim::LIVE {
        return None;
    }
    let direction = if parsed.key == flow.original {
        Direction::Original
    } else if parsed.key == flow.reply {
        Direction::Reply
    } else {
        // The slot went to another flow just now.
        return None;
    };
    let now = tables.now();
    if now > flow.deadline || !is_current(tables, flow, direction, parsed, sender) {
        end(tables, slot);
        return None;
    }
    if parsed.fragment != Fragment::Whole {
        return Some(Err(DropReason::Fragment));
    }
    Some(send(packet, tables, headers, parsed, &Step { slot, direction, now }).unwrap())
}

/// Whether the flow is still between the same owners, and this packet belongs to it rather than begins another.
#[inline(always)]
fn is_current<T: Tables>(tables: &T, flow: &Flow, direction: Direction, parsed: &Parsed, sender: FlowEnd) -> bool {
    if tables.mutant(Mutant::GenerationIgnored) {
        return true;
    }
    let (from, to) = match direction {
        Direction::Original => (flow.initiator, flow.responder),
        Direction::Reply => (flow.responder, flow.initiator),
    };
    if from != sender {
        return false;
    }
    if to.endpoint != HOST && tables.endpoint(to.endpoint).is_none_or(|owner| owner.generation != to.generation) {
        return false;
    }
    if parsed.transport == Transport::Tcp && !tcp_state::begins(parsed.flags) {
        return true;
    }
    if tcp_state::is_closing(flow.tcp) {
        return false;
    }
    // A new connection, and the next packet of a connectionless client, meet what is published now (P8).
    flow.flags & flow_flags::PUBLISHED == 0
        || direction == Direction::Reply
        || tables.mutant(Mutant::PublicationGenerationIgnored)
        || tables.publication(flow.publication).is_some_and(|now| now.generation == flow.publication_generation)
}

/// A packet of a flow.
struct Step {
    slot: FlowSlot,
    direction: Direction,
    now: u64,
}

/// Advances the flow and sends the packet: out as the reverse of what the other side sends in.
#[inline(never)]
fn send<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &mut Headers,
    parsed: &Parsed,
    step: &Step,
) -> Packed {
    Packed::new(advance_and_send(packet, tables, headers, parsed, step))
}

#[inline(always)]
fn advance_and_send<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &mut Headers,
    parsed: &Parsed,
    step: &Step,
) -> Outcome {
    let Step { slot, direction, now } = *step;
    let flow = slot.get();
    let (answers, to) = match direction {
        Direction::Original => (&flow.reply, flow.responder),
        Direction::Reply => (&flow.original, flow.initiator),
    };
    advance(tables, slot, parsed, direction, now);
    let routed = parsed.key.scope != scope::LOOPBACK && answers.scope != scope::LOOPBACK;
    let verdict = match answers.scope {
        scope::LOOPBACK => {
            headers.set_macs([0; 6], [0; 6]);
            Verdict::ToLoopback(tables.setting32(offset_of!(Settings, loopback_ifindex)))
        }
        scope::UPLINK => Verdict::ToUplink(uplink_of(packet, tables, step, answers, parsed.key.scope)?),
        _ => {
            let endpoint = tables.endpoint(to.endpoint).ok_or(DropReason::EndpointGone)?;
            let network = tables.network(endpoint.network).ok_or(DropReason::EndpointGone)?;
            forward::check_size(packet, headers, network.mtu)?;
            forward::address_frame(headers, endpoint, network);
            packet.add_link_header()?;
            Verdict::ToEndpoint(endpoint.ifindex)
        }
    };
    rewrite(packet, headers, parsed, answers, routed)?;
    slot.count(direction == Direction::Reply, headers.packet_length - ETHERNET);
    Ok(verdict)
}

/// The uplink the flow leaves by. The route is asked for again once a second, so that a change of the host's routes
/// is followed without the daemon.
#[inline(always)]
fn uplink_of<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    step: &Step,
    answers: &FlowKey,
    network_id: u16,
) -> Result<u32, DropReason> {
    let Step { slot, now, .. } = *step;
    let flow = slot.get();
    let (known, checked) = (flow.route_ifindex, flow.route_checked);
    if known != 0 && checked == (now >> 30) as u32 {
        return Ok(known);
    }
    let network = tables.network(network_id as u32).ok_or(DropReason::UnknownPort)?;
    let route = packet.route(answers, network.gateway_ifindex, false)?;
    if tables.uplink(route.ifindex).is_none() {
        return Err(DropReason::NotAnUplink);
    }
    if known != 0 && known != route.ifindex && flow.flags & flow_flags::MASQUERADED != 0 {
        // Its address belongs to the other uplink; a new flow takes the right one (as nf_nat_oif_changed does).
        end(tables, slot);
        return Err(DropReason::OutOfState);
    }
    if flow.flags & flow_flags::MASQUERADED != 0 && !tables.is_host_address(&flow.reply.destination) {
        // The host has lost the address.
        end(tables, slot);
        return Err(DropReason::OutOfState);
    }
    slot.set_route(route.ifindex, now);
    Ok(route.ifindex)
}

/// Moves the connection state and the deadline on.
#[inline(always)]
fn advance<T: Tables>(tables: &T, slot: FlowSlot, parsed: &Parsed, direction: Direction, now: u64) {
    let flow = slot.get();
    let state = if parsed.transport == Transport::Tcp { advance_tcp(tables, slot, parsed, direction) } else { 0 };
    let from_inside = match direction {
        Direction::Original => true,
        Direction::Reply => {
            if flow.flags & flow_flags::REPLIED == 0 {
                slot.add_flag(flow_flags::REPLIED);
            }
            // Only the inside keeps a masqueraded mapping open (RFC 4787 REQ-6).
            parsed.transport == Transport::Tcp || flow.flags & flow_flags::MASQUERADED == 0
        }
    };
    let deadline = now + timeout(tables, parsed.key.protocol, state);
    let known = flow.deadline;
    if from_inside && (deadline > known + DEADLINE_SLACK || known > deadline + DEADLINE_SLACK) {
        slot.set_deadline(deadline);
        if parsed.transport == Transport::Udp && flow.flags & flow_flags::MASQUERADED != 0 {
            extend_mapping(tables, flow, deadline);
        }
    }
}

/// Adds what the segment says, and returns the state. A connection that both ends have closed is charged to nobody.
#[inline(always)]
fn advance_tcp<T: Tables>(tables: &T, slot: FlowSlot, parsed: &Parsed, direction: Direction) -> u32 {
    let before = slot.get().tcp;
    let seen = tcp_state::seen(before, direction, parsed.flags);
    let mut state = before | seen;
    if seen & !before != 0 {
        slot.add_tcp(seen);
        if tcp_state::is_closed(state) && slot.add_flag(flow_flags::CLOSED) {
            uncharge(tables, slot.get());
        }
    }
    if before & tcp::RST != 0 && parsed.flags & flag::RST == 0 {
        slot.clear_tcp(tcp::RST);
        state &= !tcp::RST;
    }
    state
}

/// A UDP mapping lives as long as its longest flow.
#[inline(always)]
fn extend_mapping<T: Tables>(tables: &T, flow: &Flow, deadline: u64) {
    let external = PublishedKey::new(flow.reply.destination, flow.reply.destination_port, protocol::UDP);
    if let Some(mut mapped) = tables.udp_mapped(&external) {
        mapped.deadline = deadline;
        tables.set_udp_mapped(&external, &mapped);
    }
}

/// How long a flow may be idle (N2, N3, N4).
#[inline(always)]
fn timeout<T: Tables>(tables: &T, protocol: u8, state: u32) -> u64 {
    match protocol {
        protocol::TCP if tcp_state::is_established(state) => {
            tables.setting64(offset_of!(Settings, tcp_established_timeout))
        }
        protocol::TCP => tables.setting64(offset_of!(Settings, tcp_transitory_timeout)),
        protocol::UDP => tables.setting64(offset_of!(Settings, udp_timeout)),
        protocol::ICMP | protocol::ICMPV6 => tables.setting64(offset_of!(Settings, icmp_timeout)),
        _ => tables.setting64(offset_of!(Settings, other_timeout)),
    }
}

/// Sends the packet that began a flow on its way, like any other of the flow.
#[inline(always)]
pub(super) fn follow_begun<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &mut Headers,
    parsed: &Parsed,
    sender: FlowEnd,
) -> Outcome {
    follow(packet, tables, headers, parsed, sender).unwrap_or(Err(DropReason::Contended))
}
