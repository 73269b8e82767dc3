//! What comes in from the outside. The host's own traffic passes untouched.

use super::{Decision, Outcome, Packed, Packet, Scratch, Tables, Verdict, fragments, icmp_answer, publish, stages};
use crate::{
    abi::{DropReason, FlowEnd, HOST, Mutant, Uplink, scope},
    logic::{
        headers::ethertype,
        parse::{Fragment, Parsed, Transport, parse},
    },
};

/// The path of a packet that comes in by an uplink.
///
/// # Errors
/// Why it is dropped; only what is for our networks and ports, or claims to come from them, ever is.
#[inline(always)]
pub fn from_uplink<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Outcome {
    let Some(uplink) = tables.uplink(packet.ifindex()) else {
        return Ok(Verdict::Pass);
    };
    // A tagged frame is for the VLAN device on top, an uplink of its own; others' frames are for nobody here. A priority
    // tag (VID 0, IEEE 802.1Q section 6.9) is none.
    match packet.vlan() {
        None => {}
        Some(0) => packet.remove_tag()?,
        Some(_) => return Ok(Verdict::Pass),
    }
    // The kernel takes a tag behind the priority tag out of the packet as well (skb_vlan_pop).
    if packet.vlan().is_some() {
        return Ok(Verdict::Pass);
    }
    if packet.is_for_another() {
        return Ok(Verdict::Pass);
    }
    let Scratch { headers, parsed, .. } = scratch;
    if !packet.read_headers(uplink.link_header, headers) {
        return Ok(Verdict::Pass);
    };
    if !matches!(headers.ethertype(), ethertype::IPV4 | ethertype::IPV6) {
        return Ok(Verdict::Pass);
    }
    parsed.key.scope = scope::UPLINK;
    if let Err(reason) = parse(packet, headers, parsed) {
        return if concerns_us(tables, parsed) { Err(reason) } else { Ok(Verdict::Pass) };
    }
    if headers.to_group() {
        // The host takes unicast IP inside a group frame; nothing of ours comes or goes that way.
        return if concerns_us(tables, parsed) { Err(DropReason::WrongDestination) } else { Ok(Verdict::Pass) };
    }
    let outcome = ip(packet, tables, scratch);
    icmp_answer::or_answer(outcome, packet, tables, scratch, HOST, |scratch| name_router(uplink, scratch))
}

/// Whoever answers what came in is the uplink, or where it has no address of that family, whom it was sent to.
#[inline(always)]
fn name_router(uplink: &Uplink, scratch: &mut Scratch) {
    let Scratch { headers, parsed, message, .. } = scratch;
    let own = if parsed.ethertype == ethertype::IPV4 { uplink.ipv4 } else { uplink.ipv6 };
    message.sender = if own.is_none() { parsed.key.destination } else { own };
    message.sender_mac = headers.destination_mac();
}

/// Whether it is for one of our networks, or claims to come from one.
#[inline(always)]
fn concerns_us<T: Tables>(tables: &T, parsed: &Parsed) -> bool {
    tables.subnet(&parsed.key.destination).is_some() || tables.subnet(&parsed.key.source).is_some()
}

#[inline(always)]
fn ip<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Outcome {
    if scratch.parsed.fragment != Fragment::Whole
        && let Some(outcome) = gather(packet, tables, scratch).outcome()
    {
        return outcome;
    }
    if let Some(outcome) = stages::follow(packet, tables, scratch, FlowEnd::default()).outcome() {
        return outcome;
    }
    match enter(tables, &scratch.parsed).outcome() {
        Some(outcome) => outcome,
        None => stages::follow(packet, tables, scratch, FlowEnd::default()).or_contended(),
    }
}

/// Finds out the ports of a fragment for our networks or the host; [`Packed::NONE`] when it has them by now, or needs none.
#[inline(never)]
fn gather<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Packed {
    let Scratch { headers, parsed, fragmented, .. } = scratch;
    let is_for_host = tables.is_host_address(&parsed.key.destination);
    if !is_for_host && tables.subnet(&parsed.key.destination).is_none() {
        return Packed::NONE;
    }
    if is_for_host {
        return fragments::gather_for_host(packet, tables, headers, parsed, fragmented);
    }
    fragments::gather(packet, tables, headers, parsed, fragmented)
}

/// Decides about a packet of no flow yet; [`Packed::BEGUN`] when it has begun one.
#[inline(never)]
fn enter<T: Tables>(tables: &T, parsed: &Parsed) -> Packed {
    Packed::of(decide(tables, parsed))
}

/// It is the host's.
const PASS: Decision = Decision::Verdict(Verdict::Pass);

#[inline(always)]
fn decide<T: Tables>(tables: &T, parsed: &Parsed) -> Result<Decision, DropReason> {
    let key = &parsed.key;
    if let Some(network_id) = tables.subnet(&key.destination) {
        guard_source(tables, parsed)?;
        publish::begin_routed(tables, parsed, network_id)?;
        return Ok(Decision::Begun);
    }
    let loopback = key.destination.is_loopback() && !tables.mutant(Mutant::LoopbackFromOutside);
    let local = tables.is_host_address(&key.destination) || tables.mutant(Mutant::AnyDestinationPublished);
    // A link-local client cannot be answered from behind the host, so its ports are the host's own.
    if local
        && !key.destination.is_link_local_v6()
        && let Some(index) = publish::find(tables, key)
    {
        if loopback {
            return Err(DropReason::LoopbackAddress);
        }
        guard_source(tables, parsed)?;
        // A segment of no connection goes to the host, which answers it with a RST.
        if parsed.transport == Transport::Tcp && !publish::begins(parsed) {
            return Ok(PASS);
        }
        publish::begin(tables, parsed, index, FlowEnd::default())?;
        return Ok(Decision::Begun);
    }
    if tables.subnet(&key.source).is_some() && !tables.mutant(Mutant::MartiansAccepted) {
        return Err(DropReason::SpoofedSource);
    }
    Ok(PASS)
}

/// What is for our networks or ports cannot come from this host or from a loopback address (S2).
#[inline(always)]
pub(super) fn guard_source<T: Tables>(tables: &T, parsed: &Parsed) -> Result<(), DropReason> {
    let source = &parsed.key.source;
    if tables.mutant(Mutant::MartiansAccepted) {
        return Ok(());
    }
    if source.is_loopback() || source.is_multicast() || source.is_unspecified() {
        return Err(DropReason::LoopbackAddress);
    }
    if source.is_link_local_v6() || tables.is_host_address(source) || tables.subnet(source).is_some() {
        return Err(DropReason::SpoofedSource);
    }
    Ok(())
}
