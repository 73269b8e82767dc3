//! Counting what is dropped, and telling of some of it.

use aya_ebpf::helpers;
use datapath_common::{
    abi::{DropReason, Event, Metric, Program, Settings},
    logic::parse::Parsed,
    path::Tables,
};

use super::{
    Maps, add_one,
    defined::{DROPS, EVENT_SAMPLED, EVENTS, GUARD_TICKS, GUARDED},
};

impl Maps {
    /// Counts a drop, and tells of it when the last event of this reason is long enough ago.
    #[inline(always)]
    pub fn record_drop(&self, reason: DropReason, parsed: &Parsed, program: Program, ifindex: u32, length: u32) {
        add_one(&DROPS, reason as u32);
        if let Some(now) = self.event_due(reason) {
            self.tell_drop(now, reason, parsed, program, ifindex, length);
        }
    }

    /// Counts what the XDP program has passed, or dropped for a reason.
    #[inline(always)]
    pub fn count_guarded(&self, dropped: Option<DropReason>) {
        add_one(&GUARDED, dropped.map_or(0, |reason| reason as u32));
    }

    /// Whether the clock may have moved since this was last asked of the reason: it costs nothing, and the time costs as much
    /// as to deny a packet.
    #[inline(always)]
    pub fn has_ticked(&self, reason: DropReason) -> bool {
        let Some(last) = GUARD_TICKS.get_ptr_mut(reason as u32) else {
            return false;
        };
        // SAFETY: the helper has no arguments, and the compiler of the kernel puts a load in its place (Linux 5.6, commit
        // 5576b991e9c1); the value is this CPU's.
        unsafe {
            let now = helpers::bpf_jiffies64();
            core::mem::replace(&mut *last, now) != now
        }
    }

    /// The time, when the last event of this reason is long enough ago; this one is the last from now on.
    #[inline(always)]
    pub fn event_due(&self, reason: DropReason) -> Option<u64> {
        let last = EVENT_SAMPLED.get_ptr_mut(reason as u32)?;
        let now = self.now();
        // SAFETY: the value is this CPU's.
        unsafe {
            if now.wrapping_sub(*last) < self.setting64(core::mem::offset_of!(Settings, event_interval)) {
                return None;
            }
            *last = now;
        }
        Some(now)
    }

    /// Tells of a drop.
    #[inline(always)]
    pub fn tell_drop(
        &self,
        now: u64,
        reason: DropReason,
        parsed: &Parsed,
        program: Program,
        ifindex: u32,
        length: u32,
    ) {
        let Some(mut event) = EVENTS.reserve::<Event>(0) else {
            self.count(Metric::EventsLost);
            return;
        };
        event.write(Event {
            time: now,
            key: parsed.key,
            reason: reason as u32,
            program: program as u32,
            ifindex,
            length,
            ethertype: parsed.ethertype as u32,
            padding: 0,
        });
        event.submit(0);
    }
}
