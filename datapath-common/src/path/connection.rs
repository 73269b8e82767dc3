//! The state of TCP connections, moved on by their segments.

use super::{Packet, Tables, flow_slots::uncharge, flow_table::Step, slot::FlowSlot};
use crate::{
    abi::{DropReason, Mutant, flow_flags, tcp},
    logic::{
        headers::Headers,
        parse::Parsed,
        segment::read_segment,
        tcp_state::{self, Effect, flag},
    },
};

/// Lets a segment change its connection, if it is a part of it.
///
/// # Errors
/// Why it is dropped.
#[inline(always)]
pub(super) fn advance<P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    headers: &Headers,
    parsed: &Parsed,
    step: &Step,
) -> Result<(), DropReason> {
    let Step { slot, direction, .. } = *step;
    let segment = read_segment(packet, headers, parsed)?;
    let known = slot.get().sequences;
    let mut effect = tcp_state::judge(slot.get().tcp, known, direction, segment);
    if tables.mutant(Mutant::ResetsBelieved) && segment.flags & flag::RST != 0 {
        effect = Effect::Advance(tcp::RST, known);
    }
    match effect {
        Effect::Advance(bits, sequences) => {
            slot.set_sequences(&known, &sequences);
            add_bits(tables, slot, bits, segment.flags);
        }
        Effect::Restart(bits, sequences) => {
            slot.set_sequences(&known, &sequences);
            slot.set_tcp(bits);
        }
        Effect::Nothing => {}
        Effect::Refuse => return Err(DropReason::TcpInvalid),
    }
    Ok(())
}

/// Adds what was seen to the state of a connection. One that both ends have closed is charged to nobody.
#[inline(always)]
fn add_bits<T: Tables>(tables: &T, slot: FlowSlot, bits: u32, flags: u8) {
    let before = slot.get().tcp;
    if bits & !before != 0 {
        slot.add_tcp(bits);
        if tcp_state::is_closed(before | bits) && slot.add_flag(flow_flags::CLOSED) {
            uncharge(tables, slot.get());
        }
    }
    if before & tcp::RST != 0 && flags & flag::RST == 0 {
        slot.clear_tcp(tcp::RST);
    }
}
