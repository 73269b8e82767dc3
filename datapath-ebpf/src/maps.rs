//! The door to the maps: [`Tables`] over what is pinned. What each map holds is written at `abi::map`.
//!
//! All maps are pinned by name, so programs of a later version find what is there. Sizes that are configured are
//! changed by the daemon before the maps are created.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers,
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
};
use datapath_common::{
    abi::{
        Address, AddressKey, DropReason, Endpoint, EndpointUsage, Event, FRAGMENT_SETS, Flow, FlowIndex, FlowKey,
        FragmentSet, MacKey, Metric, Network, PORT_STATIONS, PortStations, Program, Publication, PublishedKey,
        STATION_TABLES, Settings, StationPlace, Subnet, UdpMapped, UdpMapping, Uplink, hint,
    },
    logic::parse::Parsed,
    path::{FlowSlot, FragmentSetSlot, Inserted, Scratch, StationsSlot, Step, Tables, UsageSlot},
};

use crate::log;

const ENDPOINT_CAPACITY: u32 = 16_384;
const NETWORK_CAPACITY: u32 = 4_096;
const FLOW_CAPACITY: u32 = Settings::DEFAULT.flow_capacity;
const PUBLICATION_CAPACITY: u32 = 65_536;

#[map]
static ABI: Array<u32> = Array::pinned(1, 0);
#[map]
static ENDPOINTS: Array<Endpoint> = Array::pinned(ENDPOINT_CAPACITY, 0);
#[map]
static ENDPOINT_BY_IFINDEX: HashMap<u32, u32> = HashMap::pinned(ENDPOINT_CAPACITY, 0);
#[map]
static ENDPOINT_BY_ADDRESS: HashMap<AddressKey, u32> = HashMap::pinned(4 * ENDPOINT_CAPACITY, 0);
#[map]
static ENDPOINT_BY_MAC: HashMap<MacKey, u32> = HashMap::pinned(2 * ENDPOINT_CAPACITY, 0);
#[map]
static ENDPOINT_HINT_BY_IFINDEX: Array<u32> = Array::pinned(hint::HINTS, 0);
#[map]
static ENDPOINT_HINT_BY_ADDRESS: Array<u32> = Array::pinned(hint::HINTS, 0);
#[map]
static ENDPOINT_USAGE: Array<EndpointUsage> = Array::pinned(ENDPOINT_CAPACITY, BPF_F_MMAPABLE);
#[map]
static NETWORKS: Array<Network> = Array::pinned(NETWORK_CAPACITY, 0);
#[map]
static NETWORK_BY_GATEWAY: HashMap<u32, u32> = HashMap::pinned(NETWORK_CAPACITY, 0);
#[map]
static NETWORK_MEMBERS: HashMap<u32, u32> = HashMap::pinned(2 * ENDPOINT_CAPACITY, 0);
#[map]
static SUBNETS: LpmTrie<Address, Subnet> = LpmTrie::pinned(4 * NETWORK_CAPACITY, 0);
#[map]
static HOST_ADDRESSES: HashMap<Address, u32> = HashMap::pinned(4 * NETWORK_CAPACITY, 0);
#[map]
static UPLINKS: HashMap<u32, Uplink> = HashMap::pinned(1_024, 0);
#[map]
static PUBLISHED: HashMap<PublishedKey, u32> = HashMap::pinned(4 * PUBLICATION_CAPACITY, 0);
#[map]
static PUBLICATIONS: Array<Publication> = Array::pinned(PUBLICATION_CAPACITY, 0);
#[map]
static PUBLICATION_HITS: Array<u64> = Array::pinned(PUBLICATION_CAPACITY, BPF_F_MMAPABLE);
#[map]
static FLOW_BY_KEY: HashMap<FlowKey, FlowIndex> = HashMap::pinned(2 * FLOW_CAPACITY, 0);
#[map]
static FLOWS: Array<Flow> = Array::pinned(FLOW_CAPACITY, BPF_F_MMAPABLE);
#[map]
static FLOW_CURSOR: Array<u32> = Array::pinned(2, 0);
#[map]
static UDP_MAPPING: LruHashMap<UdpMapping, u64> = LruHashMap::pinned(Settings::DEFAULT.udp_mappings(), 0);
#[map]
static UDP_MAPPED: LruHashMap<PublishedKey, UdpMapped> = LruHashMap::pinned(Settings::DEFAULT.udp_mappings(), 0);
#[map]
static FRAGMENTS: Array<FragmentSet> = Array::pinned(FRAGMENT_SETS, 0);
#[map]
static STATIONS: Array<PortStations> = Array::pinned(STATION_TABLES, 0);
/// As many as there are places. Few hosts have networks that learn, so there is nothing until something is learnt.
#[map]
static STATION_BY_MAC: HashMap<MacKey, u32> = HashMap::pinned(STATION_TABLES * PORT_STATIONS as u32, BPF_F_NO_PREALLOC);
#[map]
static DROPS: PerCpuArray<u64> = PerCpuArray::pinned(DropReason::COUNT, 0);
#[map]
static METRICS: PerCpuArray<u64> = PerCpuArray::pinned(Metric::ALL.len() as u32, 0);
#[map]
static EVENT_SAMPLED: PerCpuArray<u64> = PerCpuArray::pinned(DropReason::COUNT, 0);
#[map]
static EVENTS: RingBuf = RingBuf::pinned(1 << 18, 0);

/// Where each program keeps what it read of the packet it is at. One entry per program: a copy that `from_container`
/// floods runs `to_container` on the same CPU before the former goes on.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(Program::ALL.len() as u32, 0);

/// Set by the daemon when it loads the programs.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings::DEFAULT;

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

    /// Counts a drop, and tells of it when the last event of this reason is long enough ago.
    #[inline(always)]
    pub fn record_drop(&self, reason: DropReason, parsed: &Parsed, program: Program, ifindex: u32, length: u32) {
        add_one(&DROPS, reason as u32);
        let Some(last) = EVENT_SAMPLED.get_ptr_mut(reason as u32) else {
            return;
        };
        let now = self.now();
        // SAFETY: the value is this CPU's.
        unsafe {
            if now.wrapping_sub(*last) < self.setting64(core::mem::offset_of!(Settings, event_interval)) {
                return;
            }
            *last = now;
        }
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
}
