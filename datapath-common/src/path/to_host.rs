//! What an adopted bridge hands up to the host.

use core::mem::offset_of;

use super::{Outcome, Packet, Scratch, Tables, Verdict};
use crate::abi::{DropReason, Mutant, Settings};

/// The path of a packet that an adopted bridge received: it must carry our mark (I5), which ends here. Without it, it came
/// by a port that had no program yet.
///
/// # Errors
/// [`DropReason::Unjudged`].
#[inline(always)]
pub fn to_host<P: Packet, T: Tables>(packet: &mut P, tables: &T, _: &mut Scratch) -> Outcome {
    // The host's own groups: the copy for its own sockets comes back by the device it was sent on (ip_mc_output).
    if packet.is_looped_back() {
        return Ok(Verdict::Pass);
    }
    let (mark, ours) = (packet.mark(), tables.setting32(offset_of!(Settings, mark)));
    if mark & ours == 0 && !tables.mutant(Mutant::UnmarkedDelivered) {
        return Err(DropReason::Unjudged);
    }
    packet.set_mark(mark & !ours);
    Ok(Verdict::Pass)
}
