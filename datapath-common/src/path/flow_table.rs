//! Connection tracking: the packets of the flows that exist.

use core::mem::offset_of;

use super::{
    Outcome, Packed, Packet, Route, Scratch, Tables, Verdict, connection,
    flow_slots::end,
    forward, hairpin, mss_clamp,
    slot::{FlowSlot, seconds},
};
use crate::{
    abi::{DropReason, Flow, FlowEnd, FlowKey, HOST, Mutant, PublishedKey, Settings, Uplink, claim, flow_flags, scope},
    logic::{
        headers::{ETHERNET, Headers},
        parse::{Parsed, Transport, protocol},
        rewrite::rewrite,
        tcp_state::{self, Direction, flag},
    },
};

/// A deadline is only moved when it is off by more than this (2^30 ns), so that a busy flow's slot is rarely written. A flow lives by as
/// much longer than its timeout, and never shorter.
const DEADLINE_SLACK: u64 = 1 << 30;

/// Sends a packet of an existing flow on its way; [`Packed::NONE`] when it belongs to none.
#[inline(always)]
pub fn follow<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, sender: FlowEnd) -> Packed {
    let Scratch { headers, parsed, .. } = scratch;
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
    let Found { slot, direction, .. } = find(tables, &parsed.key)?;
    let flow = slot.get();
    let now = tables.now();
    if now > flow.deadline || !is_current(tables, flow, direction, parsed, sender) {
        end(tables, slot);
        return None;
    }
    if flow.flags & flow_flags::HAIRPIN != 0 && direction == Direction::Reply {
        // What goes this way comes by the other endpoint's flow. By the key of this one only a forgery can come.
        return Some(Err(DropReason::SpoofedSource));
    }
    if let Err(reason) = forward::check_hops(parsed, other_side(flow, direction).0.scope) {
        return Some(Err(reason));
    }
    Some(send(packet, tables, headers, parsed, &Step { slot, direction, now }))
}

/// A flow, and the direction whose packets arrive with the key it was found by.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub number: u32,
    pub slot: FlowSlot,
    pub direction: Direction,
}

/// The flow whose packets arrive with this key, expired or not.
#[inline(always)]
pub(super) fn find<T: Tables>(tables: &T, key: &FlowKey) -> Option<Found> {
    let index = tables.flow_index(key)?;
    let slot = tables.flow(index.slot)?;
    let flow = slot.get();
    if flow.serial != index.serial || flow.claim != claim::LIVE {
        return None;
    }
    let direction = if *key == flow.original {
        Direction::Original
    } else if *key == flow.reply {
        Direction::Reply
    } else {
        // The slot went to another flow just now.
        return None;
    };
    Some(Found { number: index.slot, slot, direction })
}

/// The key of the answers to what goes in this direction, which leaves as their reverse, and the end that it goes to.
#[inline(always)]
pub(super) fn other_side(flow: &Flow, direction: Direction) -> (&FlowKey, FlowEnd) {
    match direction {
        Direction::Original => (&flow.reply, flow.responder),
        Direction::Reply => (&flow.original, flow.initiator),
    }
}

/// Whether `sender` sends in this direction, and the other end is still who it was.
#[inline(always)]
pub(super) fn is_between<T: Tables>(tables: &T, flow: &Flow, direction: Direction, sender: FlowEnd) -> bool {
    let (from, to) = match direction {
        Direction::Original => (flow.initiator, flow.responder),
        Direction::Reply => (flow.responder, flow.initiator),
    };
    from == sender
        && (to.endpoint == HOST || tables.endpoint(to.endpoint).is_some_and(|owner| owner.generation == to.generation))
}

/// Whether the flow is still between the same owners, and this packet belongs to it rather than begins another.
#[inline(always)]
fn is_current<T: Tables>(tables: &T, flow: &Flow, direction: Direction, parsed: &Parsed, sender: FlowEnd) -> bool {
    if tables.mutant(Mutant::GenerationIgnored) {
        return true;
    }
    if !is_between(tables, flow, direction, sender) {
        return false;
    }
    let is_tcp = parsed.key.protocol == protocol::TCP;
    if is_tcp && !(parsed.transport == Transport::Tcp && tcp_state::begins(parsed.flags)) {
        return true;
    }
    if tcp_state::is_closing(flow.tcp) {
        return false;
    }
    if is_tcp && tcp_state::is_open(flow.tcp) {
        // A SYN, which may be forged, is judged by who has the connection.
        return true;
    }
    // A new connection, and the next packet of a connectionless client, meet what is published now (P8).
    flow.flags & flow_flags::PUBLISHED == 0
        || direction == Direction::Reply
        || tables.mutant(Mutant::PublicationGenerationIgnored)
        || tables.publication(flow.publication).is_some_and(|now| now.generation == flow.publication_generation)
}

/// A packet of a flow.
pub(super) struct Step {
    pub slot: FlowSlot,
    pub direction: Direction,
    pub now: u64,
}

/// Advances the flow and sends the packet: out as the reverse of what the other side sends in.
#[inline(always)]
fn send<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    headers: &mut Headers,
    parsed: &Parsed,
    step: &Step,
) -> Outcome {
    let Step { slot, direction, .. } = *step;
    let flow = slot.get();
    if parsed.transport == Transport::Tcp {
        connection::advance(packet, tables, headers, parsed, step)?;
    }
    let onward;
    let (answers, to) = if flow.flags & flow_flags::HAIRPIN != 0 {
        let number = hairpin::onward(tables, headers, step).ok_or(DropReason::Unsolicited)?;
        onward = tables.flow(number).ok_or(DropReason::Unsolicited)?;
        (&onward.get().original, onward.get().initiator)
    } else {
        other_side(flow, direction)
    };
    advance(tables, slot, parsed, step);
    let verdict = match answers.scope {
        scope::LOOPBACK => forward::to_loopback(tables, headers),
        scope::UPLINK => {
            let route = route_of(packet, tables, step, answers, parsed.key.scope)?;
            forward::check_size(packet, tables, headers, parsed, route.mtu())?;
            debug_assert!(answers.source == parsed.key.destination, "what is on link is where it goes");
            headers.next_hop = route.next_hop() as u32;
            Verdict::ToUplink(route.ifindex())
        }
        _ => forward::to_endpoint(packet, tables, headers, parsed, to.endpoint)?,
    };
    if parsed.transport == Transport::Tcp && parsed.flags & flag::SYN != 0 {
        mss_clamp::clamp(packet, tables, parsed, answers.scope, flow.route_mtu as u32)?;
    }
    rewrite(packet, headers, parsed, answers, forward::is_routed(parsed.key.scope, answers.scope))?;
    slot.count(direction == Direction::Reply, headers.packet_length - ETHERNET);
    Ok(verdict)
}

/// The route the flow leaves by. It is asked for when it is first needed, and again whenever the deadline is moved later than in the second
/// in which the flow began: so a change of the host's routes is followed without the daemon, after a second, or two where a connection has
/// just opened.
#[inline(always)]
fn route_of<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    step: &Step,
    answers: &FlowKey,
    network_id: u16,
) -> Result<Route, DropReason> {
    let slot = step.slot;
    let flow = slot.get();
    if flow.route_known != 0 {
        return Ok(Route::new(flow.route_ifindex, flow.route_mtu as u32).by(flow.next_hop));
    }
    let route = route(packet, tables, answers, network_id)?;
    if has_moved(tables, flow, route.ifindex()) {
        // A new flow takes the right address (as nf_nat_oif_changed does).
        end(tables, slot);
        return Err(DropReason::OutOfState);
    }
    slot.set_route(route);
    Ok(route)
}

/// The way by which the host's routes lead from this network to who sends `answers`.
#[inline(always)]
pub(super) fn route<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    answers: &FlowKey,
    network_id: u16,
) -> Result<Route, DropReason> {
    let network = tables.network(network_id as u32).ok_or(DropReason::UnknownPort)?;
    Ok(by_uplink(tables, packet.route(answers, network.gateway_ifindex, None))?.0)
}

/// The route, as far as its uplink lets it go, and the uplink.
#[inline(always)]
pub(super) fn by_uplink<T: Tables>(tables: &T, route: Route) -> Result<(Route, &Uplink), DropReason> {
    if route == Route::NONE {
        return Err(DropReason::NoRoute);
    }
    let uplink = tables.uplink(route.ifindex()).ok_or(DropReason::NotAnUplink)?;
    Ok((route.bounded_by(uplink), uplink))
}

/// Whether the external address of a masqueraded flow is no longer the one for this uplink: it belongs to the uplink that
/// the flow left by until now, or the host has lost it.
#[inline(always)]
pub(super) fn has_moved<T: Tables>(tables: &T, flow: &Flow, uplink: u32) -> bool {
    let known = flow.route_ifindex;
    flow.flags & flow_flags::MASQUERADED != 0
        && (known != 0 && known != uplink || !tables.is_host_address(&flow.reply.destination))
}

/// Moves the deadline on.
#[inline(always)]
fn advance<T: Tables>(tables: &T, slot: FlowSlot, parsed: &Parsed, step: &Step) {
    let Step { direction, now, .. } = *step;
    let flow = slot.get();
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
    let deadline = deadline(tables, parsed.key.protocol, flow.tcp, now);
    let known = flow.deadline;
    if from_inside && (deadline > known + DEADLINE_SLACK || known > deadline + DEADLINE_SLACK) {
        slot.set_deadline(deadline);
        // A connection that has just opened asked for its route less than a second ago, and may be over before it needs it again.
        if seconds(now) != flow.created {
            slot.forget_route();
        }
        if parsed.transport == Transport::Udp && flow.flags & flow_flags::MASQUERADED != 0 {
            extend_mapping(tables, flow, deadline);
        }
    }
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

/// When a flow that is idle from now on is over.
#[inline(always)]
pub(super) fn deadline<T: Tables>(tables: &T, protocol: u8, state: u32, now: u64) -> u64 {
    now + timeout(tables, protocol, state) + DEADLINE_SLACK
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
