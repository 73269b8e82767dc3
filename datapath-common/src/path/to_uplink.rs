//! The last guards: what leaves by an uplink, and what reaches an endpoint's port by another way than ours.

use core::mem::offset_of;

use super::{Outcome, Packet, Scratch, Tables, Verdict, flow_slots};
use crate::{
    abi::{DropReason, Metric, Mutant, PublishedKey, Settings, UdpMapped, claim, flow_flags, scope},
    logic::{
        headers::ethertype,
        parse::{Fragment, Parsed, Transport, parse, protocol},
        tcp_state::flag,
    },
};

/// Whether our programs have judged the packet already.
#[inline(always)]
fn is_judged<P: Packet, T: Tables>(packet: &P, tables: &T) -> bool {
    packet.mark() & tables.setting32(offset_of!(Settings, mark)) != 0
}

/// The path of a packet that leaves by an uplink: nothing with an address of our networks that we did not send there
/// (N13). The host's own packets pass; where one uses a masqueraded flow's tuple, the flow yields (N1).
///
/// # Errors
/// [`DropReason::AddressOnUplink`].
#[inline(always)]
pub fn to_uplink<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Outcome {
    if is_judged(packet, tables) {
        return Ok(Verdict::Pass);
    }
    let link_header = tables.uplink(packet.ifindex()).map_or(14, |uplink| uplink.link_header);
    let Scratch { headers, parsed, .. } = scratch;
    if !packet.read_headers(link_header, headers) {
        return Ok(Verdict::Pass);
    };
    if !matches!(headers.ethertype(), ethertype::IPV4 | ethertype::IPV6) {
        return Ok(Verdict::Pass);
    }
    let whole = parse(packet, headers, parsed).is_ok() && parsed.fragment == Fragment::Whole;
    if tables.subnet(&parsed.key.source).is_some() && !tables.mutant(Mutant::UplinkGuardSkipped) {
        return Err(DropReason::AddressOnUplink);
    }
    if whole && !is_reset(parsed) {
        yield_to_host(tables, parsed);
    }
    Ok(Verdict::Pass)
}

/// A reset claims no port: the host sends it where it has none. It would end flows by any packet that the host gets in their
/// place, such as one with more extension headers than are followed.
#[inline(always)]
fn is_reset(parsed: &Parsed) -> bool {
    parsed.transport == Transport::Tcp && parsed.flags & flag::RST != 0
}

#[inline(always)]
fn yield_to_host<T: Tables>(tables: &T, parsed: &Parsed) {
    let answers = parsed.key.reverse(scope::UPLINK);
    if let Some(index) = tables.flow_index(&answers)
        && let Some(slot) = tables.flow(index.slot)
        && slot.get().serial == index.serial
        && slot.get().claim == claim::LIVE
        && slot.get().flags & flow_flags::MASQUERADED != 0
        && slot.get().reply == answers
        && !tables.mutant(Mutant::PortTakenTwice)
    {
        if answers.protocol == protocol::UDP {
            // Nor may the next flow of that source take the port by its mapping.
            let external = PublishedKey::new(answers.destination, answers.destination_port, protocol::UDP);
            tables.set_udp_mapped(&external, &UdpMapped::default());
        }
        flow_slots::end(tables, slot);
        tables.count(Metric::FlowsYielded);
    }
}

/// The path of a packet that reaches an endpoint's host-side veth: it must carry our mark (I5).
///
/// # Errors
/// [`DropReason::Unjudged`].
#[inline(always)]
pub fn to_container<P: Packet, T: Tables>(packet: &mut P, tables: &T, _: &mut Scratch) -> Outcome {
    if is_judged(packet, tables) || tables.mutant(Mutant::UnmarkedDelivered) {
        return Ok(Verdict::Pass);
    }
    Err(DropReason::Unjudged)
}
