//! The slots of the flow table: taking one for a new flow, charging an endpoint with it, and giving both back.

use core::mem::offset_of;

use super::{
    Inserted, Step, Tables, flow_table,
    slot::{Beginning, FlowSlot},
};
use crate::abi::{DropReason, Flow, FlowEnd, FlowIndex, FlowKey, HOST, Metric, Mutant, Settings, claim, flow_flags};

/// Slots a new flow tries before it is refused. With 99 of 100 slots in use, one new flow in 29,000 would find none.
pub const SLOTS_TRIED: u32 = 1_024;

/// Slots swept for each new flow.
const SLOTS_SWEPT: u32 = 8;
/// Slots swept for a new flow of an endpoint that has used up its quota.
const SLOTS_SWEPT_AT_QUOTA: u32 = 1_024;

/// A slot with a flow that is being begun.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    pub slot: FlowSlot,
    pub index: FlowIndex,
}

/// Takes a slot for a new flow whose first packet has this key. The caller then finds a reply key that
/// nobody has ([`offer_reply`]), and either [`complete`]s the flow or gives it up with [`abandon`].
#[inline(never)]
pub(super) fn begin<T: Tables>(tables: &T, original: &FlowKey, beginning: &Beginning) -> Result<Begun, DropReason> {
    let now = tables.now();
    sweep(tables, now, SLOTS_SWEPT);
    let charged = charged_end(beginning.initiator, beginning.responder);
    if !charge(tables, charged.endpoint) {
        // What has expired may still be charged, when the daemon is dead.
        sweep(tables, now, SLOTS_SWEPT_AT_QUOTA);
        if !charge(tables, charged.endpoint) {
            return Err(DropReason::EndpointQuota);
        }
    }
    let number = take_slot(tables, now);
    let Some(slot) = tables.flow(number) else {
        if let Some(usage) = tables.usage(charged.endpoint) {
            usage.uncharge();
        }
        return Err(DropReason::FlowTableFull);
    };
    let serial = slot.begin(original, beginning, now, flow_table::deadline(tables, original.protocol, 0, now));
    Ok(Begun { slot, index: FlowIndex { slot: number, serial } })
}

/// Charges an endpoint with a flow, within its quota.
#[inline(always)]
fn charge<T: Tables>(tables: &T, endpoint: u32) -> bool {
    let Some(usage) = tables.usage(endpoint) else {
        return false;
    };
    let quota = tables.setting32(offset_of!(Settings, flow_quota));
    // Signed: two CPUs that end one flow at the same moment may take one charge back twice.
    if (usage.charge() as i32) < quota as i32 || tables.mutant(Mutant::QuotaIgnored) {
        return true;
    }
    usage.uncharge();
    false
}

/// A walk over slots.
struct Walk<'a, T> {
    tables: &'a T,
    now: u64,
    /// The slot taken, or [`NO_SLOT`].
    taken: u32,
}

/// No slot.
const NO_SLOT: u32 = u32::MAX;

/// Ends the expired ones of the next slots, so that without the daemon too an endpoint is not charged for long with
/// what is over: at 8 slots for each new flow, the table is swept once in as many new flows as an eighth of its slots.
#[inline(never)]
fn sweep<T: Tables>(tables: &T, now: u64, slots: u32) {
    tables.repeat(slots, &mut Walk { tables, now, taken: NO_SLOT }, sweep_slot);
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn sweep_slot<T: Tables>(_: u64, walk: *mut Walk<'_, T>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let walk = unsafe { &mut *walk };
    let Some(slot) = walk.tables.flow(walk.tables.next_swept()) else {
        return 1;
    };
    let over = slot.get().claim == claim::LIVE && walk.now > slot.get().deadline;
    if over && !walk.tables.mutant(Mutant::ReclaimSkipped) {
        end(walk.tables, slot);
    }
    0
}

/// The end that pays for a flow: who began it inside, or the server that was asked from outside.
#[inline(always)]
fn charged_end(initiator: FlowEnd, responder: FlowEnd) -> FlowEnd {
    if initiator.endpoint != HOST { initiator } else { responder }
}

/// Finds and takes a free slot, or one whose flow has expired, is over, or has lost an end (N10); [`NO_SLOT`] when there
/// is none.
#[inline(always)]
fn take_slot<T: Tables>(tables: &T, now: u64) -> u32 {
    let mut walk = Walk { tables, now, taken: NO_SLOT };
    tables.repeat(SLOTS_TRIED, &mut walk, try_slot);
    walk.taken
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn try_slot<T: Tables>(_: u64, walk: *mut Walk<'_, T>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let walk = unsafe { &mut *walk };
    walk.tables.trace(Step::SlotTried);
    let number = walk.tables.next_slot();
    let Some(slot) = walk.tables.flow(number) else {
        return 1;
    };
    let free = slot.get().claim == claim::FREE;
    // A connection that is over keeps its ports, but not its slot.
    let closed = slot.get().flags & flow_flags::CLOSED != 0;
    let ended = slot.get().claim == claim::LIVE
        && (closed || has_ended(walk.tables, slot.get(), walk.now))
        && !walk.tables.mutant(Mutant::ReclaimSkipped);
    if free && slot.take(claim::FREE) {
        walk.taken = number;
    } else if ended && slot.take(claim::LIVE) {
        take_down(walk.tables, slot);
        walk.tables.count(Metric::FlowsReclaimed);
        walk.taken = number;
    }
    u64::from(walk.taken != NO_SLOT)
}

/// Whether nothing more can come of the flow.
#[inline(always)]
fn has_ended<T: Tables>(tables: &T, flow: &Flow, now: u64) -> bool {
    let charged = charged_end(flow.initiator, flow.responder);
    now > flow.deadline || tables.endpoint(charged.endpoint).is_none_or(|owner| owner.generation != charged.generation)
}

/// Offers the flow's reply key to the table; whoever has a key first, keeps it as long as it lives, so no two flows
/// share one (N1).
#[inline(never)]
pub(super) fn offer_reply<T: Tables>(tables: &T, begun: &Begun) -> Inserted {
    let key = &begun.slot.get().reply;
    let inserted = tables.insert_flow_key(key, &begun.index);
    if inserted == Inserted::Exists
        && let Some(slot) = holder(tables, key)
        && has_ended(tables, slot.get(), tables.now())
    {
        end(tables, slot);
        return tables.insert_flow_key(key, &begun.index);
    }
    inserted
}

/// Whether a flow that has not ended has this key.
#[inline(always)]
pub(super) fn is_in_use<T: Tables>(tables: &T, key: &FlowKey) -> bool {
    holder(tables, key).is_some_and(|slot| !has_ended(tables, slot.get(), tables.now()))
}

/// The slot of the flow that has this key.
#[inline(always)]
fn holder<T: Tables>(tables: &T, key: &FlowKey) -> Option<FlowSlot> {
    let index = tables.flow_index(key)?;
    tables.flow(index.slot).filter(|slot| slot.get().serial == index.serial)
}

/// Ends the beginning of a flow that has its reply key: from here on its packets are followed (`flow_table`).
#[inline(never)]
pub(super) fn complete<T: Tables>(tables: &T, begun: &Begun) -> Result<(), DropReason> {
    if tables.insert_flow_key(&begun.slot.get().original, &begun.index) != Inserted::Yes {
        tables.delete_flow_key(&begun.slot.get().reply);
        abandon(tables, begun);
        return Err(DropReason::Contended);
    }
    begun.slot.give(claim::LIVE);
    tables.count(Metric::FlowsCreated);
    Ok(())
}

/// Gives up a flow that has no key in the table.
#[inline(never)]
pub(super) fn abandon<T: Tables>(tables: &T, begun: &Begun) {
    uncharge(tables, begun.slot.get());
    begun.slot.give(claim::FREE);
}

/// Ends a flow: both of its keys go, and its slot is free.
#[inline(always)]
pub(super) fn end<T: Tables>(tables: &T, slot: FlowSlot) {
    if slot.take(claim::LIVE) {
        take_down(tables, slot);
        slot.give(claim::FREE);
    }
}

#[inline(always)]
fn take_down<T: Tables>(tables: &T, slot: FlowSlot) {
    tables.delete_flow_key(&slot.get().original);
    tables.delete_flow_key(&slot.get().reply);
    uncharge_open(tables, slot.get());
}

/// Takes the charge for a flow back, unless it was when the flow closed.
#[inline(always)]
fn uncharge_open<T: Tables>(tables: &T, flow: &Flow) {
    if flow.flags & flow_flags::CLOSED == 0 {
        uncharge(tables, flow);
    }
}

#[inline(always)]
pub(super) fn uncharge<T: Tables>(tables: &T, flow: &Flow) {
    let charged = charged_end(flow.initiator, flow.responder);
    let owner = tables.endpoint(charged.endpoint);
    if owner.is_some_and(|owner| owner.generation == charged.generation)
        && let Some(usage) = tables.usage(charged.endpoint)
    {
        usage.uncharge();
    }
}
