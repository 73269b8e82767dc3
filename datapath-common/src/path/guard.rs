//! The user's rules for what comes in by uplinks: denied sources, and limits of packets and of SYNs to published ports.
//!
//! They hold in `from_uplink`. Where the XDP program is attached too, it holds them first, together with the checks that need
//! no flow ([`guard`]), and `from_uplink` leaves them to it: nothing is counted twice.

use super::{Bare, Outcome, Packed, Packet, Scratch, Tables, Verdict, from_uplink, publish};
use crate::{
    abi::{DropReason, Guard, GuardBuckets, GuardDevice, GuardPort, GuardSource, Mutant, guard_checks, scope},
    logic::{
        headers::{ETHERNET, Headers, Lead, ethertype},
        parse::{Fragment, Parsed, Transport, parse},
        tcp_state::flag,
    },
};

/// The path of a frame at the XDP hook of an uplink. It drops nothing that `from_uplink` would not drop.
///
/// # Errors
/// Why it is dropped. What it passes, `from_uplink` judges all the same.
#[inline(always)]
pub fn guard<P: Bare, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Outcome {
    const PASS: Outcome = Ok(Verdict::Pass);
    let (Some(device), Some(rules)) = (tables.guard_device(packet.ifindex()), tables.guard()) else {
        return PASS;
    };
    if !is_for_host(packet.destination(), device) {
        return PASS;
    }
    refuse_denied(tables, rules, &packet.lead())?;
    let Scratch { headers, parsed, .. } = scratch;
    // Tags are in the bytes here: the VLAN device's own from_uplink judges what is behind one.
    if !packet.read_headers(ETHERNET, headers) || !matches!(headers.ethertype(), ethertype::IPV4 | ethertype::IPV6) {
        return PASS;
    }
    parsed.key.scope = scope::UPLINK;
    let mut sound = parse(packet, headers, parsed);
    if sound.is_err() {
        // The first piece of a frame in several is shorter than its packet. To ask for the others takes time.
        headers.packet_length = packet.whole_length();
        sound = parse(packet, headers, parsed);
    }
    if rules.checks & guard_checks::LIMITS != 0 {
        limit(tables, rules, parsed, 1, sound.is_ok())?;
    }
    if let Err(reason) = sound {
        return if from_uplink::concerns_us(tables, parsed) { Err(reason) } else { PASS };
    }
    // Fragments have no ports yet, and what goes to a group is for from_uplink.
    if parsed.fragment == Fragment::Whole && !headers.to_group() {
        refuse_martian(tables, parsed)?;
    }
    PASS
}

/// Whether the device takes the frame as sent to this host: to its MAC address or to a group.
#[inline(always)]
fn is_for_host(destination: u64, device: &GuardDevice) -> bool {
    destination == device.mac || destination.to_ne_bytes()[0] & 1 != 0
}

/// The rules, in `from_uplink`; [`Packed::NONE`] for what they let in. `sound` is whether the packet could be parsed.
#[inline(never)]
pub(super) fn judge<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    rules: &Guard,
    headers: &Headers,
    parsed: &Parsed,
    sound: bool,
) -> Packed {
    let judged = refuse_denied(tables, rules, &headers.lead()).and_then(|()| {
        if rules.checks & guard_checks::LIMITS == 0 {
            return Ok(());
        }
        limit(tables, rules, parsed, packets_in(packet, headers, parsed), sound)
    });
    judged.map_or_else(|reason| Packed::new(Err(reason)), |()| Packed::NONE)
}

/// How many packets were on the wire where the device, or the kernel, has joined them (GRO).
#[inline(always)]
fn packets_in<P: Packet>(packet: &P, headers: &Headers, parsed: &Parsed) -> u32 {
    match packet.segment_size() {
        0 => 1,
        size => headers.packet_length.saturating_sub(parsed.transport_offset as u32 + 8).div_ceil(size),
    }
}

#[inline(always)]
fn refuse_denied<T: Tables>(tables: &T, rules: &Guard, lead: &Lead) -> Result<(), DropReason> {
    let denied = match lead {
        Lead::V4(source) => rules.checks & guard_checks::DENY_V4 != 0 && tables.is_denied_v4(*source),
        Lead::V6(source) => rules.checks & guard_checks::DENY_V6 != 0 && tables.is_denied_v6(source),
        Lead::Other => false,
    };
    if denied && !tables.mutant(Mutant::DenyIgnored) { Err(DropReason::Denied) } else { Ok(()) }
}

#[inline(always)]
fn limit<T: Tables>(tables: &T, rules: &Guard, parsed: &Parsed, packets: u32, sound: bool) -> Result<(), DropReason> {
    let source = GuardSource::of(&parsed.key.source);
    // Too short to have a source, or nobody's.
    if parsed.key.source.is_unspecified() || tables.mutant(Mutant::LimitsIgnored) {
        return Ok(());
    }
    let now = tables.now();
    if rules.checks & guard_checks::PACKETS != 0 {
        let passes = match tables.guard_source(&source) {
            Some(slot) => slot.packets().take(&rules.packets, packets, now),
            None => {
                let begun = now + rules.packets.interval * packets as u64;
                tables.insert_guard_source(&source, &GuardBuckets { packets: begun, syns: 0 });
                true
            }
        };
        if !passes {
            return Err(DropReason::PacketLimit);
        }
    }
    if !sound || rules.checks & (guard_checks::SYNS | guard_checks::PORT_SYNS) == 0 || !is_syn(parsed) {
        return Ok(());
    }
    limit_syn(tables, rules, parsed, &source, now)
}

#[inline(always)]
fn is_syn(parsed: &Parsed) -> bool {
    parsed.transport == Transport::Tcp && parsed.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN
}

/// A SYN: first by its source, so that what one source has too many of is not charged to the port.
#[inline(always)]
fn limit_syn<T: Tables>(
    tables: &T,
    rules: &Guard,
    parsed: &Parsed,
    source: &GuardSource,
    now: u64,
) -> Result<(), DropReason> {
    let Some(publication) = published(tables, parsed) else {
        return Ok(());
    };
    if rules.checks & guard_checks::SYNS != 0 {
        let passes = match tables.guard_source(source) {
            Some(slot) => slot.syns().take(&rules.syns, 1, now),
            None => {
                tables.insert_guard_source(source, &GuardBuckets { packets: 0, syns: now + rules.syns.interval });
                true
            }
        };
        if !passes {
            return Err(DropReason::SynLimit);
        }
    }
    if rules.checks & guard_checks::PORT_SYNS != 0 {
        let port = GuardPort { publication, port: parsed.key.destination_port as u32 };
        let passes = match tables.guard_port(&port) {
            Some(bucket) => bucket.take(&rules.port_syns, 1, now),
            None => {
                tables.insert_guard_port(&port, now + rules.port_syns.interval);
                true
            }
        };
        if !passes {
            return Err(DropReason::PortSynLimit);
        }
    }
    Ok(())
}

/// The publication that the packet meets: at a host address, or at a container's own (gateway mode routed).
#[inline(always)]
fn published<T: Tables>(tables: &T, parsed: &Parsed) -> Option<u32> {
    if tables.subnet(&parsed.key.destination).is_some() {
        return publish::find_exact(tables, &parsed.key);
    }
    from_uplink::published_here(tables, &parsed.key)
}

/// What `from_uplink` decides of such a source for want of a flow. No flow has one: whom flows lead to outside is never this
/// host, and answers come from there.
#[inline(always)]
fn refuse_martian<T: Tables>(tables: &T, parsed: &Parsed) -> Result<(), DropReason> {
    let source = &parsed.key.source;
    let never = source.is_loopback() || source.is_multicast() || source.is_unspecified();
    let ours = tables.subnet(source).is_some();
    if !never && !ours && !source.is_link_local_v6() && !tables.is_host_address(source) {
        return Ok(());
    }
    if tables.subnet(&parsed.key.destination).is_some() {
        return from_uplink::guard_source(tables, parsed);
    }
    if from_uplink::published_here(tables, &parsed.key).is_some() {
        return from_uplink::guard_published(tables, parsed);
    }
    if ours && !tables.mutant(Mutant::MartiansAccepted) { Err(DropReason::SpoofedSource) } else { Ok(()) }
}
