//! Stages that several ways meet, and that are long. In the kernel's programs they are functions that the verifier judges by
//! themselves (`datapath-ebpf`, `stages.rs`); that halves what it walks.

pub use super::icmp_answer::answer;
use super::{Packed, Packet, Scratch, Tables, flow_table, icmp_error};
use crate::{abi::FlowEnd, logic::parse::Transport};

/// Sends a packet of an existing flow, or an error about one, on its way; [`Packed::NONE`] when it belongs to none.
#[inline(always)]
pub(super) fn follow<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    sender: FlowEnd,
) -> Packed {
    // Errors have no ports, and would pass for queries with identifier 0.
    if scratch.parsed.transport == Transport::Icmp {
        packet.follow_error(tables, scratch, sender)
    } else {
        packet.follow_flow(tables, scratch, sender)
    }
}

/// Sends a packet of an existing flow on its way; [`Packed::NONE`] when it belongs to none.
#[inline(always)]
pub fn follow_flow<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, sender: FlowEnd) -> Packed {
    flow_table::follow(packet, tables, &mut scratch.headers, &scratch.parsed, sender)
}

/// Sends an ICMP error about a packet of an existing flow to who sent that; [`Packed::NONE`] when it is about none.
#[inline(always)]
pub fn follow_error<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    sender: FlowEnd,
) -> Packed {
    icmp_error::follow(packet, tables, scratch, sender)
}
