//! Shared access to the values that programs on several CPUs write: flow slots and endpoint usage.
//!
//! The rules: a slot's [`claim`] is taken by compare-and-swap, and only its holder writes the flow's keys and ends (a reply key is built in place, for a BPF stack is small);
//! in a live slot, TCP bits and counters change atomically, and times and sequence numbers are plain words that any CPU may
//! write.

#![expect(unsafe_code, reason = "the one door to values that other CPUs write at the same time")]

use core::ptr;

use super::Route;
use crate::abi::{Address, EndpointUsage, Flow, FlowEnd, FlowKey, Sequences, TokenBucket, claim};

#[cfg(target_arch = "bpf")]
pub(super) mod atomic {
    use core::intrinsics::{
        self,
        AtomicOrdering::{Relaxed, SeqCst},
    };

    #[inline(always)]
    pub unsafe fn swap32(at: *mut u32, from: u32, to: u32) -> bool {
        // SAFETY: the caller's.
        unsafe { intrinsics::atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(at, from, to).1 }
    }
    #[inline(always)]
    pub unsafe fn swap64(at: *mut u64, from: u64, to: u64) -> bool {
        // SAFETY: the caller's.
        unsafe { intrinsics::atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(at, from, to).1 }
    }
    #[inline(always)]
    pub unsafe fn exchange32(at: *mut u32, to: u32) {
        // SAFETY: the caller's.
        unsafe { intrinsics::atomic_xchg::<u32, { SeqCst }>(at, to) };
    }
    #[inline(always)]
    pub unsafe fn add32(at: *mut u32, value: u32) -> u32 {
        // SAFETY: the caller's.
        unsafe { intrinsics::atomic_xadd::<u32, u32, { SeqCst }>(at, value) }
    }
    #[inline(always)]
    pub unsafe fn add64(at: *mut u64, value: u64) {
        // SAFETY: the caller's.
        unsafe { intrinsics::atomic_xadd::<u64, u64, { Relaxed }>(at, value) };
    }
    #[inline(always)]
    pub unsafe fn or32(at: *mut u32, value: u32) -> u32 {
        // SAFETY: the caller's. SeqCst, or LLVM 22 leaves out the fetching.
        unsafe { intrinsics::atomic_or::<u32, u32, { SeqCst }>(at, value) }
    }
    #[inline(always)]
    pub unsafe fn and32(at: *mut u32, value: u32) -> u32 {
        // SAFETY: as in `or32`.
        unsafe { intrinsics::atomic_and::<u32, u32, { SeqCst }>(at, value) }
    }
}

#[cfg(not(target_arch = "bpf"))]
pub(super) mod atomic {
    use core::sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    };

    pub unsafe fn swap32(at: *mut u32, from: u32, to: u32) -> bool {
        // SAFETY: the caller's.
        unsafe { AtomicU32::from_ptr(at) }.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
    pub unsafe fn swap64(at: *mut u64, from: u64, to: u64) -> bool {
        // SAFETY: the caller's.
        unsafe { AtomicU64::from_ptr(at) }.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
    pub unsafe fn exchange32(at: *mut u32, to: u32) {
        // SAFETY: the caller's.
        unsafe { AtomicU32::from_ptr(at) }.store(to, SeqCst);
    }
    pub unsafe fn add32(at: *mut u32, value: u32) -> u32 {
        // SAFETY: the caller's.
        unsafe { AtomicU32::from_ptr(at) }.fetch_add(value, SeqCst)
    }
    pub unsafe fn add64(at: *mut u64, value: u64) {
        // SAFETY: the caller's.
        unsafe { AtomicU64::from_ptr(at) }.fetch_add(value, Relaxed);
    }
    pub unsafe fn or32(at: *mut u32, value: u32) -> u32 {
        // SAFETY: the caller's.
        unsafe { AtomicU32::from_ptr(at) }.fetch_or(value, SeqCst)
    }
    pub unsafe fn and32(at: *mut u32, value: u32) -> u32 {
        // SAFETY: the caller's.
        unsafe { AtomicU32::from_ptr(at) }.fetch_and(value, SeqCst)
    }
}

/// Whole seconds of a time in nanoseconds.
#[inline(always)]
pub(super) const fn seconds(time: u64) -> u32 {
    (time / 1_000_000_000) as u32
}

/// What a flow is when it begins.
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    /// Who began.
    pub initiator: FlowEnd,
    /// Who answers.
    pub responder: FlowEnd,
    /// Publication it entered by, or 0.
    pub publication: u32,
    /// Its generation, or 0.
    pub publication_generation: u32,
    /// [`crate::abi::flow_flags`].
    pub flags: u32,
}

/// One slot of `FLOWS`.
#[derive(Clone, Copy, Debug)]
pub struct FlowSlot(*mut Flow);

impl FlowSlot {
    /// The slot at this address.
    ///
    /// # Safety
    /// `flow` points to a value of the `FLOWS` map, or to a [`Flow`] that outlives the slot and is only used by slots.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(flow: *mut Flow) -> Self {
        Self(flow)
    }

    /// The flow, as it is at the moment of each read.
    #[inline(always)]
    #[must_use]
    pub fn get(&self) -> &Flow {
        // SAFETY: the pointer is valid (`new`); racing reads are of whole words, checked by serial where it matters.
        unsafe { &*self.0 }
    }

    /// Takes the slot from state `from` to busy.
    #[inline(always)]
    #[must_use]
    pub fn take(&self, from: u32) -> bool {
        // SAFETY: valid by `new`.
        unsafe { atomic::swap32(&raw mut (*self.0).claim, from, claim::BUSY) }
    }

    /// Gives a slot taken before to state `to`; what was written before is seen by whoever sees the state.
    #[inline(always)]
    pub fn give(&self, to: u32) {
        // SAFETY: valid by `new`.
        unsafe { atomic::exchange32(&raw mut (*self.0).claim, to) }
    }

    /// Begins a flow in a slot taken before, and returns its serial. Its reply key is set separately.
    #[inline(always)]
    #[must_use]
    pub fn begin(&self, original: &FlowKey, beginning: &Beginning, now: u64, deadline: u64) -> u32 {
        // SAFETY: valid by `new`, and the slot is ours: it was taken.
        unsafe {
            let flow = self.0;
            let serial = (*flow).serial.wrapping_add(1);
            ptr::write_volatile(&raw mut (*flow).serial, serial);
            (*flow).original = *original;
            (*flow).initiator = beginning.initiator;
            (*flow).responder = beginning.responder;
            (*flow).publication = beginning.publication;
            (*flow).publication_generation = beginning.publication_generation;
            (*flow).tcp = 0;
            (*flow).flags = beginning.flags;
            (*flow).deadline = deadline;
            (*flow).created = seconds(now);
            (*flow).route_known = 0;
            (*flow).route_ifindex = 0;
            (*flow).route_mtu = 0;
            (*flow).next_hop = 0;
            (*flow).packets = [0; 2];
            (*flow).bytes = [0; 2];
            (*flow).sequences = Sequences { next: [0; 2], acknowledged: [0; 2], reopened: 0 };
            serial
        }
    }

    /// Sets the reply key of a flow that is being begun: packets that answer the original, arriving in `scope`.
    #[inline(always)]
    pub fn set_reply(&self, scope: u16) {
        // SAFETY: as in `begin`.
        unsafe { (*self.0).reply = (*self.0).original.reverse(scope) }
    }

    /// Sets who answers.
    #[inline(always)]
    pub fn set_reply_source(&self, source: Address, port: u16) {
        // SAFETY: as in `begin`.
        unsafe {
            (*self.0).reply.source = source;
            (*self.0).reply.source_port = port;
        }
    }

    /// Sets the address that the initiator appears with.
    #[inline(always)]
    pub fn set_reply_destination(&self, destination: Address) {
        // SAFETY: as in `begin`.
        unsafe { (*self.0).reply.destination = destination }
    }

    /// Sets the port that the initiator appears with, wire order.
    #[inline(always)]
    pub fn set_reply_port(&self, port: u16) {
        // SAFETY: as in `begin`.
        unsafe { (*self.0).reply.destination_port = port }
    }

    /// Adds TCP bits.
    #[inline(always)]
    pub fn add_tcp(&self, bits: u32) {
        // SAFETY: valid by `new`.
        unsafe { atomic::or32(&raw mut (*self.0).tcp, bits) };
    }

    /// Takes TCP bits back.
    #[inline(always)]
    pub fn clear_tcp(&self, bits: u32) {
        // SAFETY: valid by `new`.
        unsafe { atomic::and32(&raw mut (*self.0).tcp, !bits) };
    }

    /// Sets the TCP bits of a connection that begins once more.
    #[inline(always)]
    pub fn set_tcp(&self, bits: u32) {
        // SAFETY: valid by `new`.
        unsafe { atomic::exchange32(&raw mut (*self.0).tcp, bits) };
    }

    /// Writes those sequence numbers that have changed, so that two directions on two CPUs do not undo each other's.
    #[inline(always)]
    pub fn set_sequences(&self, before: &Sequences, after: &Sequences) {
        // SAFETY: valid by `new`; whole words.
        unsafe {
            let at = &raw mut (*self.0).sequences;
            let mut side = 0;
            while side < 2 {
                if after.next[side] != before.next[side] {
                    ptr::write_volatile(&raw mut (*at).next[side], after.next[side]);
                }
                if after.acknowledged[side] != before.acknowledged[side] {
                    ptr::write_volatile(&raw mut (*at).acknowledged[side], after.acknowledged[side]);
                }
                side += 1;
            }
            if after.reopened != before.reopened {
                ptr::write_volatile(&raw mut (*at).reopened, after.reopened);
            }
        }
    }

    /// Adds a flag, and says whether it was new.
    #[inline(always)]
    pub fn add_flag(&self, bit: u32) -> bool {
        // SAFETY: valid by `new`.
        unsafe { atomic::or32(&raw mut (*self.0).flags, bit) & bit == 0 }
    }

    /// Sets the time of expiry.
    #[inline(always)]
    pub fn set_deadline(&self, deadline: u64) {
        // SAFETY: valid by `new`; a whole field.
        unsafe { ptr::write_volatile(&raw mut (*self.0).deadline, deadline) };
    }

    /// Has the route looked up again.
    #[inline(always)]
    pub fn forget_route(&self) {
        // SAFETY: as in `set_deadline`.
        unsafe { ptr::write_volatile(&raw mut (*self.0).route_known, 0) };
    }

    /// Remembers the route.
    #[inline(always)]
    pub fn set_route(&self, route: Route) {
        // SAFETY: valid by `new`; whole fields, and a mix of two routes, of two CPUs while they change, heals when the route is asked for again.
        unsafe {
            ptr::write_volatile(&raw mut (*self.0).route_ifindex, route.ifindex());
            ptr::write_volatile(&raw mut (*self.0).route_mtu, route.mtu().min(u16::MAX as u32) as u16);
            ptr::write_volatile(&raw mut (*self.0).next_hop, route.next_hop());
            ptr::write_volatile(&raw mut (*self.0).route_known, 1);
        }
    }

    /// Counts a packet.
    #[inline(always)]
    pub fn count(&self, reply: bool, bytes: u32) {
        // SAFETY: valid by `new`.
        unsafe {
            if reply {
                atomic::add64(&raw mut (*self.0).packets[1], 1);
                atomic::add64(&raw mut (*self.0).bytes[1], bytes as u64);
            } else {
                atomic::add64(&raw mut (*self.0).packets[0], 1);
                atomic::add64(&raw mut (*self.0).bytes[0], bytes as u64);
            }
        }
    }
}

/// One value of `ENDPOINT_USAGE`.
#[derive(Clone, Copy, Debug)]
pub struct UsageSlot(*mut EndpointUsage);

impl UsageSlot {
    /// The slot at this address.
    ///
    /// # Safety
    /// As [`FlowSlot::new`], with an [`EndpointUsage`].
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(usage: *mut EndpointUsage) -> Self {
        Self(usage)
    }

    /// Charges one flow, and returns how many there were.
    #[inline(always)]
    #[must_use]
    pub fn charge(&self) -> u32 {
        // SAFETY: valid by `new`.
        unsafe { atomic::add32(&raw mut (*self.0).flows, 1) }
    }

    /// Takes back a charge.
    #[inline(always)]
    pub fn uncharge(&self) {
        // SAFETY: valid by `new`.
        unsafe { atomic::add32(&raw mut (*self.0).flows, u32::MAX) };
    }

    /// Takes one token for a broadcast or multicast packet; `rate` come back every second.
    #[inline(always)]
    #[must_use]
    pub fn take_flood_token(&self, rate: u32, now: u64) -> bool {
        // SAFETY: valid by `new`.
        unsafe { take_token(&raw mut (*self.0).flood, rate, now) }
    }

    /// Takes one token for an ICMP error; `rate` come back every second.
    #[inline(always)]
    #[must_use]
    pub fn take_icmp_error_token(&self, rate: u32, now: u64) -> bool {
        // SAFETY: valid by `new`.
        unsafe { take_token(&raw mut (*self.0).icmp_errors, rate, now) }
    }
}

/// Takes one token of a valid bucket; `rate` come back every second, and so many it can hold. CPUs that race may take one
/// token twice.
#[inline(always)]
unsafe fn take_token(bucket: *mut TokenBucket, rate: u32, now: u64) -> bool {
    // SAFETY: valid by the caller; whole words.
    unsafe {
        let elapsed = now.wrapping_sub(ptr::read_volatile(&raw const (*bucket).refilled));
        let mut tokens = ptr::read_volatile(&raw const (*bucket).tokens);
        if elapsed >= 1_000_000_000 {
            tokens = rate;
            ptr::write_volatile(&raw mut (*bucket).refilled, now);
        } else {
            // 2^-30 s is within 7 % of a nanosecond count, and needs no division.
            let earned = (elapsed.wrapping_mul(rate as u64) >> 30) as u32;
            if earned > 0 {
                tokens = if tokens + earned > rate { rate } else { tokens + earned };
                ptr::write_volatile(&raw mut (*bucket).refilled, now);
            }
        }
        if tokens == 0 {
            return false;
        }
        ptr::write_volatile(&raw mut (*bucket).tokens, tokens - 1);
        true
    }
}
