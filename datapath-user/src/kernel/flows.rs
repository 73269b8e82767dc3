//! Flows as the programs keep them, read and swept through shared memory.

use std::collections::HashMap;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use datapath_common::abi::{EndpointUsage, Flow, FlowEnd, FlowIndex, FlowKey, HOST, claim, flow_flags, map};

use super::map::Map;
use super::shared_array::SharedArray;
use super::tables::Tables;

/// Nanoseconds of CLOCK_MONOTONIC, the clock of every time in the tables.
pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    u64::try_from(time.tv_sec()).expect("not negative") * 1_000_000_000
        + u64::try_from(time.tv_nsec()).expect("not negative")
}

/// Every tracked flow. All slots are more memory than everything else that the daemon has: they are mapped some at a time, and only
/// while they are looked at.
#[derive(Debug)]
pub struct Flows {
    slots: Map<u32, Flow>,
    usage: SharedArray<EndpointUsage>,
    by_key: Map<FlowKey, FlowIndex>,
    /// Slots that the last sweep found being changed, with their serials.
    busy: Mutex<HashMap<u32, u32>>,
}

impl Flows {
    /// Opens the flows in the pin directory.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        Ok(Self {
            slots: Map::open(pin_dir, map::FLOWS)?,
            usage: SharedArray::of(&Map::open(pin_dir, map::ENDPOINT_USAGE)?)?,
            by_key: Map::open(pin_dir, map::FLOW_BY_KEY)?,
            busy: Mutex::default(),
        })
    }

    /// How many flows there is room for.
    pub fn capacity(&self) -> u32 {
        self.slots.capacity()
    }

    fn windows(&self) -> impl Iterator<Item = Result<SharedArray<Flow>>> + '_ {
        SharedArray::windows(&self.slots)
    }

    /// How many slots are in use, those of expired flows that nobody has reclaimed yet included.
    pub fn used(&self) -> Result<u32> {
        let mut used = 0;
        for window in self.windows() {
            // SAFETY: inside the mapping.
            let is_used = |flow| unsafe { claim_of(flow) }.load(Ordering::Relaxed) != claim::FREE;
            used += window?.iter().map(|(_, flow)| u32::from(is_used(flow))).sum::<u32>();
        }
        Ok(used)
    }

    /// What `read` makes of every live flow, each with its slot and as it was at one moment; without those that are being replaced.
    pub fn live<T>(&self, mut read: impl FnMut(u32, Flow) -> Option<T>) -> Result<Vec<T>> {
        let mut list = Vec::new();
        for window in self.windows() {
            list.extend(window?.iter().filter_map(|(slot, place)| read(slot, snapshot(place)?)));
        }
        Ok(list)
    }

    /// Frees the slots of flows that have expired or whose ends are gone. Says how many.
    pub fn sweep(&self, tables: &Tables) -> Result<u32> {
        let mut generations = Generations { tables, known: HashMap::new() };
        let now = now();
        let freed = self.free_where(tables, |flow| Ok(flow.deadline < now || !generations.has_both_ends(flow)?))?;
        Ok(freed + self.free_abandoned(tables)?)
    }

    /// Frees slots that a daemon had claimed when it was killed. The programs and a living daemon are done with a
    /// slot in microseconds: one found busy by two sweeps with the same serial is nobody's.
    fn free_abandoned(&self, tables: &Tables) -> Result<u32> {
        let mut before = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut found, mut freed) = (HashMap::new(), 0);
        for window in self.windows() {
            for (slot, place) in window?.iter() {
                let (state, serial) = copy_identity(place);
                if state != claim::BUSY {
                    continue;
                }
                found.insert(slot, serial);
                if before.get(&slot) == Some(&serial) {
                    self.take_down(tables, slot, &copy(place))?;
                    // SAFETY: inside the mapping.
                    unsafe { claim_of(place) }.store(claim::FREE, Ordering::Release);
                    freed += 1;
                }
            }
        }
        *before = found;
        Ok(freed)
    }

    /// Frees the slots of these endpoints' flows, when they are detached. Says how many.
    pub fn purge(&self, tables: &Tables, ends: &[FlowEnd]) -> Result<u32> {
        self.free_where(tables, |flow| Ok(ends.contains(&flow.initiator) || ends.contains(&flow.responder)))
    }

    fn free_where(&self, tables: &Tables, mut over: impl FnMut(&Flow) -> Result<bool>) -> Result<u32> {
        let mut freed = 0;
        for window in self.windows() {
            for (slot, place) in window?.iter() {
                let Some(flow) = snapshot(place) else { continue };
                if over(&flow)? {
                    freed += u32::from(self.free(tables, (slot, place), &flow, &mut over)?);
                }
            }
        }
        Ok(freed)
    }

    /// Takes a flow down as the programs do it: claim the slot, remove both keys, give its place back.
    fn free(
        &self,
        tables: &Tables,
        (slot, place): (u32, NonNull<Flow>),
        seen: &Flow,
        over: &mut impl FnMut(&Flow) -> Result<bool>,
    ) -> Result<bool> {
        // SAFETY: inside the mapping.
        let state = unsafe { claim_of(place) };
        if state.compare_exchange(claim::LIVE, claim::BUSY, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Ok(false);
        }
        // From here on the slot is ours until the state is stored again, on every path.
        let flow = copy(place);
        let still_over = if flow.serial == seen.serial { over(&flow) } else { Ok(false) };
        match still_over {
            Ok(true) => {}
            // A packet refreshed it between the look and the claim, or it is another flow by now.
            other => {
                state.store(claim::LIVE, Ordering::Release);
                return other;
            }
        }
        let taken_down = self.take_down(tables, slot, &flow);
        state.store(if taken_down.is_ok() { claim::FREE } else { claim::LIVE }, Ordering::Release);
        taken_down.map(|()| true)
    }

    /// Removes what leads to a flow whose slot we have claimed. If that fails it can be done again.
    fn take_down(&self, tables: &Tables, slot: u32, flow: &Flow) -> Result<()> {
        let index = FlowIndex { slot, serial: flow.serial };
        self.remove_key(&flow.original, index)?;
        self.remove_key(&flow.reply, index)?;
        self.discharge(tables, flow)
    }

    /// Removes a key of a flow unless it has come to lead to another one.
    fn remove_key(&self, key: &FlowKey, index: FlowIndex) -> Result<()> {
        if self.by_key.get(key)? != Some(index) {
            return Ok(());
        }
        match self.by_key.take(key)? {
            // A program gave the key to a new flow between the two calls: put it back.
            Some(other) if other != index => self.by_key.insert_new(key, &other).map(drop),
            _ => Ok(()),
        }
    }

    /// Takes a flow off the quota of the endpoint it is charged to, if that endpoint is still the same one.
    fn discharge(&self, tables: &Tables, flow: &Flow) -> Result<()> {
        // A connection that is over was taken off when it closed.
        if flow.flags & flow_flags::CLOSED != 0 {
            return Ok(());
        }
        let charged = if flow.initiator.endpoint == HOST { flow.responder } else { flow.initiator };
        if charged.endpoint == HOST || tables.endpoint(charged.endpoint)?.generation != charged.generation {
            return Ok(());
        }
        let Some(usage) = self.usage.slot(charged.endpoint) else { return Ok(()) };
        // SAFETY: inside the mapping and aligned; the programs change it by atomic operations, too.
        let flows = unsafe { AtomicU32::from_ptr(&raw mut (*usage.as_ptr()).flows) };
        // The counter never goes below zero: a new owner of the index may have zeroed it in between.
        let _ = flows.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |flows| flows.checked_sub(1));
        Ok(())
    }
}

/// # Safety
/// `flow` must be inside the mapping, which must outlive the reference.
unsafe fn claim_of<'a>(flow: NonNull<Flow>) -> &'a AtomicU32 {
    // SAFETY: the caller vouches for the place; the field is aligned, and everybody changes it by atomic operations.
    unsafe { AtomicU32::from_ptr(&raw mut (*flow.as_ptr()).claim) }
}

/// Reads a slot word by word; words of different moments may come together.
fn copy(flow: NonNull<Flow>) -> Flow {
    const WORDS: usize = size_of::<Flow>() / 8;
    let mut words = [0_u64; WORDS];
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: inside the slot, which is aligned to 8; the other side writes aligned words.
        *word = unsafe { AtomicU64::from_ptr(flow.as_ptr().cast::<u64>().add(index)) }.load(Ordering::Relaxed);
    }
    // SAFETY: as long as a flow, which is plain data.
    unsafe { std::mem::transmute::<[u64; WORDS], Flow>(words) }
}

/// The live flow in a slot, as it was at one moment; nothing if there is none, or while it is being replaced.
fn snapshot(place: NonNull<Flow>) -> Option<Flow> {
    const ATTEMPTS: usize = 4;
    (0..ATTEMPTS).find_map(|_| consistent_copy(place))
}

/// A copy during which the slot stayed with one live flow.
fn consistent_copy(place: NonNull<Flow>) -> Option<Flow> {
    // SAFETY: callers pass slots of the mapping.
    let state = unsafe { claim_of(place) };
    if state.load(Ordering::Acquire) != claim::LIVE {
        return None;
    }
    let flow = copy(place);
    fence(Ordering::Acquire);
    let after = copy_identity(place);
    (flow.claim == claim::LIVE && after == (claim::LIVE, flow.serial)).then_some(flow)
}

fn copy_identity(place: NonNull<Flow>) -> (u32, u32) {
    // SAFETY: callers pass slots of the mapping; claim and serial are aligned words of it.
    unsafe {
        let serial = AtomicU32::from_ptr(&raw mut (*place.as_ptr()).serial);
        (claim_of(place).load(Ordering::Relaxed), serial.load(Ordering::Relaxed))
    }
}

/// Generations of the endpoints met in one sweep, each read once.
struct Generations<'a> {
    tables: &'a Tables,
    known: HashMap<u32, u32>,
}

impl Generations<'_> {
    fn has_both_ends(&mut self, flow: &Flow) -> Result<bool> {
        Ok(self.has(flow.initiator)? && self.has(flow.responder)?)
    }

    fn has(&mut self, end: FlowEnd) -> Result<bool> {
        if end.endpoint == HOST {
            return Ok(true);
        }
        let generation = match self.known.get(&end.endpoint) {
            Some(&generation) => generation,
            None => {
                let generation = self.tables.endpoint(end.endpoint)?.generation;
                self.known.insert(end.endpoint, generation);
                generation
            }
        };
        Ok(generation == end.generation)
    }
}
