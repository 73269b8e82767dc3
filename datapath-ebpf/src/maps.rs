//! The door to the maps: [`Tables`] over what is pinned. What each map holds is written at `abi::map`.
//!
//! All maps are pinned by name, so programs of a later version find what is there. Sizes that are configured are
//! changed by the daemon before the maps are created.

mod defined;
mod drops;

use core::ptr;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers,
    maps::{Array, PerCpuArray, lpm_trie::Key},
};
use datapath_common::{
    abi::{
        Address, AddressKey, Endpoint, FlowIndex, FlowKey, Guard, GuardBuckets, GuardDevice, GuardPort, GuardSource,
        MacKey, Metric, Network, Program, Publication, PublishedKey, Settings, StationPlace, UdpMapped, UdpMapping,
        Uplink, hint,
    },
    logic::parse::Parsed,
    path::{
        Bucket, FlowSlot, FragmentSetSlot, Inserted, NextHopSlot, Scratch, SourceSlot, StationsSlot, Step, Tables,
        UsageSlot,
    },
};
use defined::{
    DENIED_V4, DENIED_V6, ENDPOINT_BY_ADDRESS, ENDPOINT_BY_IFINDEX, ENDPOINT_BY_MAC, ENDPOINT_HINT_BY_ADDRESS,
    ENDPOINT_HINT_BY_IFINDEX, ENDPOINT_USAGE, ENDPOINTS, FLOW_BY_KEY, FLOW_CURSOR, FLOWS, FRAGMENTS, GUARD,
    GUARD_DEVICES, GUARD_PORTS, GUARD_SOURCES, HOST_ADDRESSES, METRICS, NETWORK_BY_GATEWAY, NETWORK_MEMBERS, NETWORKS,
    NEXT_HOPS, PUBLICATION_HITS, PUBLICATIONS, PUBLISHED, SCRATCH, SETTINGS, STATION_BY_MAC, STATIONS, SUBNETS,
    UDP_MAPPED, UDP_MAPPING, UPLINKS,
};

use crate::log;

/// All maps.
pub struct Maps;

impl Maps {
    /// This CPU's place for the program.
    #[inline(always)]
    pub fn scratch<'a>(program: u32) -> Option<&'a mut Scratch> {
        // SAFETY: the value is this CPU's and this program's, and tc programs do not interrupt each other.
        SCRATCH.get_ptr_mut(program).map(|scratch| unsafe { &mut *scratch })
    }

    /// The same, with nothing known of a packet.
    #[inline(always)]
    pub fn blank_scratch<'a>(program: Program) -> Option<&'a mut Scratch> {
        let scratch = Self::scratch(program as u32)?;
        const { assert!(size_of::<Parsed>() == 56) };
        let words: *mut u64 = (&raw mut scratch.parsed).cast();
        // SAFETY: seven words inside `parsed`, for which all zeroes is `Parsed::EMPTY`. Volatile, as the compiler would
        // call a memset that goes byte by byte.
        unsafe {
            ptr::write_volatile(words, 0);
            ptr::write_volatile(words.add(1), 0);
            ptr::write_volatile(words.add(2), 0);
            ptr::write_volatile(words.add(3), 0);
            ptr::write_volatile(words.add(4), 0);
            ptr::write_volatile(words.add(5), 0);
            ptr::write_volatile(words.add(6), 0);
        }
        Some(scratch)
    }

    /// Moves a cursor on, and returns the slot it was at.
    #[inline(always)]
    fn moved_on(&self, cursor: u32) -> u32 {
        let Some(cursor) = FLOW_CURSOR.get_ptr_mut(cursor) else {
            return 0;
        };
        // SAFETY: a value of the map, shared by CPUs: added to atomically. SeqCst, as LLVM 22 compiles a relaxed
        // addition to one that does not fetch, and then takes the operand for what was fetched.
        let at = unsafe {
            core::intrinsics::atomic_xadd::<u32, u32, { core::intrinsics::AtomicOrdering::SeqCst }>(cursor, 1)
        };
        at & self.setting32(core::mem::offset_of!(Settings, flow_capacity)).wrapping_sub(1)
    }
}

#[inline(always)]
fn add_one(counters: &PerCpuArray<u64>, index: u32) {
    if let Some(counter) = counters.get_ptr_mut(index) {
        // SAFETY: the value is this CPU's.
        unsafe { *counter = (*counter).wrapping_add(1) }
    }
}

/// A copy of a map's value.
#[inline(always)]
fn copied<T: Copy>(value: Option<*const T>) -> Option<T> {
    // SAFETY: the pointer is a map value's, valid while the program runs.
    value.map(|value| unsafe { *value })
}

/// A map's value in place. The daemon never changes one that is in use but by the rules of `abi`.
#[inline(always)]
fn borrowed<'a, T>(value: Option<*const T>) -> Option<&'a T> {
    // SAFETY: as in `copied`.
    value.map(|value| unsafe { &*value })
}

/// The endpoint that a hint leads to, if it is the right one.
#[inline(always)]
fn hinted(hints: &Array<u32>, place: u32, is_right: impl FnOnce(&Endpoint) -> bool) -> Option<u32> {
    let index = copied(hints.get_ptr(place))?;
    let owner = borrowed(ENDPOINTS.get_ptr(index))?;
    (owner.generation != 0 && is_right(owner)).then_some(index)
}

impl Tables for Maps {
    #[inline(always)]
    fn setting32(&self, offset: usize) -> u32 {
        // SAFETY: the offset is that of a u32 field. Volatile, so that the compiler does not take the default for it.
        unsafe { ptr::read_volatile((&raw const SETTINGS).byte_add(offset).cast()) }
    }

    #[inline(always)]
    fn setting64(&self, offset: usize) -> u64 {
        // SAFETY: the offset is that of a u64 field.
        unsafe { ptr::read_volatile((&raw const SETTINGS).byte_add(offset).cast()) }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper has no arguments.
        unsafe { helpers::bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper has no arguments.
        unsafe { helpers::bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn trace(&self, step: Step) {
        log::remember(|seen| match step {
            Step::PortsTried(ports) => seen.ports_tried = ports,
            Step::SlotTried => seen.slots_tried += 1,
        });
    }

    #[inline(always)]
    fn count(&self, metric: Metric) {
        add_one(&METRICS, metric as u32);
    }

    #[inline(always)]
    fn endpoint_by_ifindex(&self, ifindex: u32) -> Option<u32> {
        let hinted = hinted(&ENDPOINT_HINT_BY_IFINDEX, hint::of_ifindex(ifindex), |owner| owner.ifindex == ifindex);
        hinted.or_else(|| copied(ENDPOINT_BY_IFINDEX.get_ptr(ifindex)))
    }

    #[inline(always)]
    fn endpoint_by_address(&self, key: &AddressKey) -> Option<u32> {
        let owns = |owner: &Endpoint| owner.network == key.network && owner.owns(&key.address);
        let hinted = hinted(&ENDPOINT_HINT_BY_ADDRESS, hint::of_address(key), owns);
        hinted.or_else(|| copied(ENDPOINT_BY_ADDRESS.get_ptr(key)))
    }

    #[inline(always)]
    fn endpoint_by_mac(&self, key: &MacKey) -> Option<u32> {
        copied(ENDPOINT_BY_MAC.get_ptr(key))
    }

    #[inline(always)]
    fn endpoint(&self, index: u32) -> Option<&Endpoint> {
        borrowed(ENDPOINTS.get_ptr(index))
    }

    #[inline(always)]
    fn usage(&self, index: u32) -> Option<UsageSlot> {
        // SAFETY: a value of the map.
        ENDPOINT_USAGE.get_ptr_mut(index).map(|usage| unsafe { UsageSlot::new(usage) })
    }

    #[inline(always)]
    fn network(&self, id: u32) -> Option<&Network> {
        borrowed(NETWORKS.get_ptr(id))
    }

    #[inline(always)]
    fn network_by_gateway(&self, ifindex: u32) -> Option<u32> {
        copied(NETWORK_BY_GATEWAY.get_ptr(ifindex))
    }

    #[inline(always)]
    fn member(&self, network: u32, position: u32) -> Option<u32> {
        copied(NETWORK_MEMBERS.get_ptr(network << 16 | position))
    }

    #[inline(always)]
    fn subnet(&self, address: &Address) -> Option<u32> {
        SUBNETS.get(Key::new(128, *address)).map(|subnet| subnet.network)
    }

    #[inline(always)]
    fn is_host_address(&self, address: &Address) -> bool {
        // By the value, which is an ifindex, not by the pointer: the compiler would join the latter with other
        // conditions by a bitwise or, which the verifier refuses on pointers (Linux 6.18).
        copied(HOST_ADDRESSES.get_ptr(address)).unwrap_or(0) != 0
    }

    #[inline(always)]
    fn uplink(&self, ifindex: u32) -> Option<&Uplink> {
        borrowed(UPLINKS.get_ptr(ifindex))
    }

    #[inline(always)]
    fn published(&self, key: &PublishedKey) -> Option<u32> {
        copied(PUBLISHED.get_ptr(key))
    }

    #[inline(always)]
    fn publication(&self, index: u32) -> Option<&Publication> {
        borrowed(PUBLICATIONS.get_ptr(index))
    }

    #[inline(always)]
    fn count_publication_hit(&self, index: u32) {
        if let Some(hits) = PUBLICATION_HITS.get_ptr_mut(index) {
            // SAFETY: a value of the map, shared by CPUs: added to atomically.
            unsafe {
                core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(hits, 1)
            };
        }
    }

    #[inline(always)]
    fn flow_index(&self, key: &FlowKey) -> Option<FlowIndex> {
        copied(FLOW_BY_KEY.get_ptr(key))
    }

    #[inline(always)]
    fn insert_flow_key(&self, key: &FlowKey, index: &FlowIndex) -> Inserted {
        const EEXIST: i32 = -17;
        match FLOW_BY_KEY.insert(key, index, BPF_NOEXIST as u64) {
            Ok(()) => Inserted::Yes,
            Err(EEXIST) => Inserted::Exists,
            Err(_) => Inserted::Full,
        }
    }

    #[inline(always)]
    fn delete_flow_key(&self, key: &FlowKey) {
        // A key that is not there is what was wanted.
        let _ = FLOW_BY_KEY.remove(key);
    }

    #[inline(always)]
    fn flow(&self, slot: u32) -> Option<FlowSlot> {
        // SAFETY: a value of the map.
        FLOWS.get_ptr_mut(slot).map(|flow| unsafe { FlowSlot::new(flow) })
    }

    #[inline(always)]
    fn next_hop(&self, number: u8) -> Option<NextHopSlot> {
        // SAFETY: a value of the map.
        NEXT_HOPS.get_ptr_mut(number as u32).map(|next_hop| unsafe { NextHopSlot::new(next_hop) })
    }

    #[inline(always)]
    fn next_slot(&self) -> u32 {
        self.moved_on(0)
    }

    #[inline(always)]
    fn next_swept(&self) -> u32 {
        self.moved_on(1)
    }

    #[inline(always)]
    fn fragment_set(&self, number: u32) -> Option<FragmentSetSlot> {
        // SAFETY: a value of the map.
        FRAGMENTS.get_ptr_mut(number).map(|set| unsafe { FragmentSetSlot::new(set) })
    }

    #[inline(always)]
    fn stations(&self, table: u32) -> Option<StationsSlot> {
        // SAFETY: a value of the map.
        STATIONS.get_ptr_mut(table).map(|stations| unsafe { StationsSlot::new(stations) })
    }

    #[inline(always)]
    fn station_place(&self, key: &MacKey) -> Option<StationPlace> {
        copied(STATION_BY_MAC.get_ptr(key)).map(StationPlace)
    }

    #[inline(always)]
    fn set_station_place(&self, key: &MacKey, place: StationPlace) -> bool {
        STATION_BY_MAC.insert(key, place.0, 0).is_ok()
    }

    #[inline(always)]
    fn delete_station_place(&self, key: &MacKey) {
        // As in `delete_flow_key`.
        let _ = STATION_BY_MAC.remove(key);
    }

    #[inline(always)]
    fn udp_mapping(&self, key: &UdpMapping) -> Option<u16> {
        copied(UDP_MAPPING.get_ptr(key)).map(|port| port as u16)
    }

    #[inline(always)]
    fn set_udp_mapping(&self, key: &UdpMapping, port: u16) {
        // Without room the next flow of this source takes a port of its own.
        let _ = UDP_MAPPING.insert(key, u64::from(port), 0);
    }

    #[inline(always)]
    fn udp_mapped(&self, external: &PublishedKey) -> Option<UdpMapped> {
        copied(UDP_MAPPED.get_ptr(external))
    }

    #[inline(always)]
    fn set_udp_mapped(&self, external: &PublishedKey, mapped: &UdpMapped) {
        // As in `set_udp_mapping`.
        let _ = UDP_MAPPED.insert(external, mapped, 0);
    }

    #[inline(always)]
    fn guard_device(&self, ifindex: u32) -> Option<&GuardDevice> {
        borrowed(GUARD_DEVICES.get_ptr(GuardDevice::place(ifindex))).filter(|device| device.ifindex == ifindex)
    }

    #[inline(always)]
    fn guard(&self) -> Option<&Guard> {
        borrowed(GUARD.get_ptr(0))
    }

    #[inline(always)]
    fn is_denied_v4(&self, source: u32) -> bool {
        // By the value, as in `is_host_address`.
        DENIED_V4.get(Key::new(32, source)).copied().unwrap_or(0) != 0
    }

    #[inline(always)]
    fn is_denied_v6(&self, source: &Address) -> bool {
        DENIED_V6.get(Key::new(128, *source)).copied().unwrap_or(0) != 0
    }

    #[inline(always)]
    fn guard_source(&self, source: &GuardSource) -> Option<SourceSlot> {
        // SAFETY: a value of the map.
        GUARD_SOURCES.get_ptr_mut(source).map(|buckets| unsafe { SourceSlot::new(buckets) })
    }

    #[inline(always)]
    fn insert_guard_source(&self, source: &GuardSource, buckets: &GuardBuckets) {
        // Without room, or where another CPU was first, this packet is not charged.
        let _ = GUARD_SOURCES.insert(source, buckets, BPF_NOEXIST as u64);
    }

    #[inline(always)]
    fn guard_port(&self, port: &GuardPort) -> Option<Bucket> {
        // SAFETY: a value of the map.
        GUARD_PORTS.get_ptr_mut(port).map(|bucket| unsafe { Bucket::new(bucket) })
    }

    #[inline(always)]
    fn insert_guard_port(&self, port: &GuardPort, bucket: u64) {
        // As in `insert_guard_source`.
        let _ = GUARD_PORTS.insert(port, bucket, BPF_NOEXIST as u64);
    }
}
