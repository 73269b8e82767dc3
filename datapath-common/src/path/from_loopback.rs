//! The host's own connections to published ports, by 127.0.0.1, `::1` and its other addresses.

use super::{
    Decision, Outcome, Packed, Packet, Scratch, Tables, Verdict, forward, fragments, icmp_answer, publish, stages,
};
use crate::{
    abi::{DropReason, FlowEnd, HOST, scope},
    logic::{
        headers::{ETHERNET, ethertype},
        parse::{Fragment, Parsed, parse},
    },
};

/// The path of a packet that the host sends to itself. What meets no publication passes at once.
///
/// # Errors
/// Why it is dropped; only what met a publication ever is.
#[inline(always)]
pub fn from_loopback<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Outcome {
    let Scratch { headers, parsed, .. } = scratch;
    if !packet.read_headers(ETHERNET, headers) {
        return Ok(Verdict::Pass);
    };
    if !matches!(headers.ethertype(), ethertype::IPV4 | ethertype::IPV6) || parse(packet, headers, parsed).is_err() {
        return Ok(Verdict::Pass);
    }
    parsed.key.scope = scope::LOOPBACK;
    let outcome = ip(packet, tables, scratch);
    // For the process it is as if the address it asked had told it.
    let name_asked = |scratch: &mut Scratch| {
        scratch.message.sender = scratch.parsed.key.destination;
        scratch.message.sender_mac = [0; 6];
    };
    match icmp_answer::or_answer(outcome, packet, tables, scratch, HOST, name_asked) {
        Ok(Verdict::Reflected) => Ok(forward::to_loopback(tables, &mut scratch.headers)),
        outcome => outcome,
    }
}

#[inline(always)]
fn ip<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Outcome {
    if let Some(outcome) = gather(packet, tables, scratch).outcome() {
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

/// Finds out the ports of a fragment; [`Packed::NONE`] when it has them by now, or needs none. One that comes before the
/// first, as from a raw socket, comes in behind this path in the end, and is the host's.
#[inline(never)]
fn gather<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Packed {
    let Scratch { headers, parsed, fragmented, .. } = scratch;
    if parsed.fragment == Fragment::Whole {
        return Packed::NONE;
    }
    fragments::gather_for_host(packet, tables, headers, parsed, fragmented)
}

/// Decides about a packet of no flow yet; [`Packed::BEGUN`] when it met a publication.
#[inline(never)]
fn enter<T: Tables>(tables: &T, parsed: &Parsed) -> Packed {
    Packed::of(decide(tables, parsed))
}

#[inline(always)]
fn decide<T: Tables>(tables: &T, parsed: &Parsed) -> Result<Decision, DropReason> {
    match publish::find(tables, &parsed.key) {
        // A segment of no connection goes to the host, which answers it with a RST.
        Some(index) if publish::begins(parsed) => {
            publish::begin(tables, parsed, index, FlowEnd::default())?;
            Ok(Decision::Begun)
        }
        _ => Ok(Decision::Verdict(Verdict::Pass)),
    }
}
