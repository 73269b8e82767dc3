//! What the slow path did and no drop event tells, logged by aya-log where the daemon was started with `--program-log`.
//!
//! The stages only count; the line is written at the very end. The macros need some hundred bytes of stack, which is
//! there in [`crate::finish`] but not at the end of a chain of calls, where the kernel's 512 bytes are used up. The level
//! is in the read-only settings: where it is off, the verifier takes all of this for dead code.

use core::mem::offset_of;

use aya_ebpf::{macros::map, maps::PerCpuArray};
use aya_log_ebpf::{debug, trace};
use datapath_common::{
    abi::{DropReason, Program, Settings, program_log},
    logic::parse::Parsed,
    path::Tables,
};

use crate::maps::Maps;

/// What was seen on the way of the present packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Seen {
    /// How often the host's routes were asked.
    pub routes_asked: u32,
    /// What the last lookup returned: `BPF_FIB_LKUP_RET_…` of linux/bpf.h, or an error.
    pub route_result: u32,
    /// The device it named.
    pub route_ifindex: u32,
    /// Ports tried for the flow.
    pub ports_tried: u32,
    /// Slots tried for the flow.
    pub slots_tried: u32,
}

impl Seen {
    const NOTHING: Self = Self { routes_asked: 0, route_result: 0, route_ifindex: 0, ports_tried: 0, slots_tried: 0 };
}

/// Emptied by whoever tells of it.
#[map]
static SEEN: PerCpuArray<Seen> = PerCpuArray::with_max_entries(1, 0);

/// Whether the program begins flows. The others have nothing to tell that an event does not.
#[inline(always)]
const fn has_slow_path(program: Program) -> bool {
    matches!(program, Program::FromContainer | Program::FromUplink | Program::FromLoopback)
}

#[inline(always)]
fn level() -> u32 {
    Maps.setting32(offset_of!(Settings, program_log))
}

/// Remembers something of the present packet.
#[inline(always)]
pub fn remember(note: impl FnOnce(&mut Seen)) {
    if level() == program_log::OFF {
        return;
    }
    if let Some(seen) = SEEN.get_ptr_mut(0) {
        // SAFETY: the value is this CPU's, and tc programs do not interrupt each other.
        note(unsafe { &mut *seen });
    }
}

/// Takes what was seen of the present packet, if it took the slow path.
#[inline(always)]
fn taken() -> Option<Seen> {
    let seen = SEEN.get_ptr_mut(0)?;
    // SAFETY: as in `remember`.
    let taken = unsafe { core::ptr::replace(seen, Seen::NOTHING) };
    (taken.routes_asked != 0 || taken.slots_tried != 0).then_some(taken)
}

/// Tells why a packet was dropped on the slow path.
#[inline(always)]
pub fn dropped(program: Program, ifindex: u32, parsed: &Parsed, reason: DropReason) {
    if has_slow_path(program) && level() != program_log::OFF {
        tell_dropped(ifindex, parsed, reason as u32);
    }
}

/// Tells of a packet that got through the slow path.
#[inline(always)]
pub fn sent(program: Program, ifindex: u32, parsed: &Parsed) {
    if has_slow_path(program) && level() != program_log::OFF {
        tell_sent(ifindex, parsed);
    }
}

#[inline(never)]
fn tell_dropped(ifindex: u32, parsed: &Parsed, reason: u32) {
    let Some(seen) = taken() else { return };
    debug!(
        (),
        "device {}: to {:i} port {} dropped for reason {}: {} route lookups, the last returned {} and device {}; {} ports and {} slots tried",
        ifindex,
        parsed.key.destination.bytes(),
        u16::from_be(parsed.key.destination_port),
        reason,
        seen.routes_asked,
        seen.route_result,
        seen.route_ifindex,
        seen.ports_tried,
        seen.slots_tried
    );
}

#[inline(never)]
fn tell_sent(ifindex: u32, parsed: &Parsed) {
    let Some(seen) = taken() else { return };
    if level() < program_log::TRACE {
        return;
    }
    trace!(
        (),
        "device {}: to {:i} port {} sent: {} route lookups, the last returned {} and device {}; {} ports and {} slots tried",
        ifindex,
        parsed.key.destination.bytes(),
        u16::from_be(parsed.key.destination_port),
        seen.routes_asked,
        seen.route_result,
        seen.route_ifindex,
        seen.ports_tried,
        seen.slots_tried
    );
}
