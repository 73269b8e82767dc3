//! Stages that several ways meet, and that are long. In the kernel's programs they are functions that the verifier judges by
//! themselves (`datapath-ebpf`, `stages.rs`); that halves what it walks.

use super::{Packed, Packet, Scratch, Tables, flow_table, icmp_answer, icmp_error};
use crate::{abi::FlowEnd, logic::parse::Transport};

/// Sends a packet of an existing flow, or an error about one, on its way; [`Packed::NONE`] when it belongs to none.
#[inline(always)]
pub fn follow<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, sender: FlowEnd) -> Packed {
    // Errors have no ports, and would pass for queries with identifier 0.
    if scratch.parsed.transport == Transport::Icmp {
        return icmp_error::follow(packet, tables, scratch, sender);
    }
    flow_table::follow(packet, tables, &mut scratch.headers, &scratch.parsed, sender)
}

/// Makes of a packet that is too big or has no hop left what its sender is told: [`super::Verdict::Reflected`], or the reason
/// where nobody is told. `told` is the endpoint whose tokens are spent, or [`crate::abi::HOST`].
#[inline(always)]
pub fn answer<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    told: u32,
    too_big: bool,
) -> Packed {
    icmp_answer::answer(packet, tables, scratch, told, too_big)
}
