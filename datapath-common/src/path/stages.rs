//! Stages that several ways meet, and that are long. In the kernel's programs they are functions that the verifier judges by
//! themselves (`datapath-ebpf`, `stages.rs`); that halves what it walks.

use super::{Packed, Packet, Scratch, Tables};
pub use super::{flow_table::follow as follow_flow, icmp_answer::answer, icmp_error::follow as follow_error};
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
