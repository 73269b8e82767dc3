//! Between two endpoints that know of each other only where the other's UDP mapping appears, as somebody outside has told them
//! (RFC 4787 REQ-9).
//!
//! Each has a flow of its own, as if to the outside. A packet leaves by its sender's and comes in by the other's, in one
//! step and without an uplink; so the other one must have sent to where the sender appears, as to any stranger.

use super::{
    Tables,
    flow_table::{self, Found, Step},
};
use crate::{
    abi::{FlowEnd, flow_flags, scope},
    logic::{
        headers::{ETHERNET, Headers},
        tcp_state::Direction,
    },
};

/// The slot of the flow by which a packet of the flow in `step`, which has [`flow_flags::HAIRPIN`], goes on to its initiator;
/// `None` when it is unsolicited.
#[inline(never)]
pub(super) fn onward<T: Tables>(tables: &T, headers: &Headers, step: &Step) -> Option<u32> {
    // As it would come in from outside.
    let key = step.slot.get().reply.reverse(scope::UPLINK);
    let Found { number, slot, direction } = flow_table::find(tables, &key)?;
    let flow = slot.get();
    let is_current = flow_table::is_between(tables, flow, Direction::Reply, FlowEnd::default());
    if direction != Direction::Reply || step.now > flow.deadline || !is_current {
        return None;
    }
    if flow.flags & flow_flags::REPLIED == 0 {
        slot.add_flag(flow_flags::REPLIED);
    }
    slot.count(true, headers.packet_length - ETHERNET);
    Some(number)
}
