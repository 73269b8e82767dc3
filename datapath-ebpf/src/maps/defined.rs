//! The maps, and how much each holds.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use datapath_common::{
    abi::{
        Address, AddressKey, DENIED_CAPACITY, DropReason, Endpoint, EndpointUsage, FRAGMENT_SETS, Flow, FlowIndex,
        FlowKey, FragmentSet, Guard, GuardBuckets, GuardDevice, GuardPort, GuardSource, MacKey, Metric, Network,
        NextHop, PORT_STATIONS, PortStations, Program, Publication, PublishedKey, STATION_TABLES, Settings, Subnet,
        UdpMapped, UdpMapping, Uplink, hint, next_hop,
    },
    path::Scratch,
};

const ENDPOINT_CAPACITY: u32 = 16_384;
const NETWORK_CAPACITY: u32 = 4_096;
const FLOW_CAPACITY: u32 = Settings::DEFAULT.flow_capacity;
const PUBLICATION_CAPACITY: u32 = 65_536;
const GUARD_SOURCE_CAPACITY: u32 = 65_536;
const GUARD_PORT_CAPACITY: u32 = 16_384;

#[map]
pub(super) static ABI: Array<u32> = Array::pinned(1, 0);
#[map]
pub(super) static ENDPOINTS: Array<Endpoint> = Array::pinned(ENDPOINT_CAPACITY, 0);
#[map]
pub(super) static ENDPOINT_BY_IFINDEX: HashMap<u32, u32> = HashMap::pinned(ENDPOINT_CAPACITY, 0);
#[map]
pub(super) static ENDPOINT_BY_ADDRESS: HashMap<AddressKey, u32> = HashMap::pinned(4 * ENDPOINT_CAPACITY, 0);
#[map]
pub(super) static ENDPOINT_BY_MAC: HashMap<MacKey, u32> = HashMap::pinned(2 * ENDPOINT_CAPACITY, 0);
#[map]
pub(super) static ENDPOINT_HINT_BY_IFINDEX: Array<u32> = Array::pinned(hint::HINTS, 0);
#[map]
pub(super) static ENDPOINT_HINT_BY_ADDRESS: Array<u32> = Array::pinned(hint::HINTS, 0);
#[map]
pub(super) static ENDPOINT_USAGE: Array<EndpointUsage> = Array::pinned(ENDPOINT_CAPACITY, BPF_F_MMAPABLE);
#[map]
pub(super) static NETWORKS: Array<Network> = Array::pinned(NETWORK_CAPACITY, 0);
#[map]
pub(super) static NETWORK_BY_GATEWAY: HashMap<u32, u32> = HashMap::pinned(NETWORK_CAPACITY, 0);
#[map]
pub(super) static NETWORK_MEMBERS: HashMap<u32, u32> = HashMap::pinned(2 * ENDPOINT_CAPACITY, 0);
#[map]
pub(super) static SUBNETS: LpmTrie<Address, Subnet> = LpmTrie::pinned(4 * NETWORK_CAPACITY, 0);
#[map]
pub(super) static HOST_ADDRESSES: HashMap<Address, u32> = HashMap::pinned(4 * NETWORK_CAPACITY, 0);
#[map]
pub(super) static UPLINKS: HashMap<u32, Uplink> = HashMap::pinned(1_024, 0);
#[map]
pub(super) static PUBLISHED: HashMap<PublishedKey, u32> = HashMap::pinned(4 * PUBLICATION_CAPACITY, 0);
#[map]
pub(super) static PUBLICATIONS: Array<Publication> = Array::pinned(PUBLICATION_CAPACITY, 0);
#[map]
pub(super) static PUBLICATION_HITS: Array<u64> = Array::pinned(PUBLICATION_CAPACITY, BPF_F_MMAPABLE);
#[map]
pub(super) static FLOW_BY_KEY: HashMap<FlowKey, FlowIndex> = HashMap::pinned(2 * FLOW_CAPACITY, 0);
#[map]
pub(super) static FLOWS: Array<Flow> = Array::pinned(FLOW_CAPACITY, BPF_F_MMAPABLE);
#[map]
pub(super) static FLOW_CURSOR: Array<u32> = Array::pinned(2, 0);
#[map]
pub(super) static NEXT_HOPS: Array<NextHop> = Array::pinned(next_hop::NUMBERS, 0);
#[map]
pub(super) static UDP_MAPPING: LruHashMap<UdpMapping, u64> = LruHashMap::pinned(Settings::DEFAULT.udp_mappings(), 0);
#[map]
pub(super) static UDP_MAPPED: LruHashMap<PublishedKey, UdpMapped> =
    LruHashMap::pinned(Settings::DEFAULT.udp_mappings(), 0);
#[map]
pub(super) static FRAGMENTS: Array<FragmentSet> = Array::pinned(FRAGMENT_SETS, 0);
#[map]
pub(super) static STATIONS: Array<PortStations> = Array::pinned(STATION_TABLES, 0);
/// As many as there are places. Few hosts have networks that learn, so there is nothing until something is learnt.
#[map]
pub(super) static STATION_BY_MAC: HashMap<MacKey, u32> =
    HashMap::pinned(STATION_TABLES * PORT_STATIONS as u32, BPF_F_NO_PREALLOC);
#[map]
pub(super) static GUARD: Array<Guard> = Array::pinned(1, 0);
#[map]
pub(super) static GUARD_DEVICES: Array<GuardDevice> = Array::pinned(GuardDevice::PLACES, 0);
#[map]
pub(super) static DENIED_V4: LpmTrie<u32, u32> = LpmTrie::pinned(DENIED_CAPACITY, 0);
#[map]
pub(super) static DENIED_V6: LpmTrie<Address, u32> = LpmTrie::pinned(DENIED_CAPACITY, 0);
#[map]
pub(super) static GUARD_SOURCES: LruHashMap<GuardSource, GuardBuckets> = LruHashMap::pinned(GUARD_SOURCE_CAPACITY, 0);
#[map]
pub(super) static GUARD_PORTS: LruHashMap<GuardPort, u64> = LruHashMap::pinned(GUARD_PORT_CAPACITY, 0);
#[map]
pub(super) static GUARDED: PerCpuArray<u64> = PerCpuArray::pinned(DropReason::COUNT, 0);
#[map]
pub(super) static DROPS: PerCpuArray<u64> = PerCpuArray::pinned(DropReason::COUNT, 0);
#[map]
pub(super) static METRICS: PerCpuArray<u64> = PerCpuArray::pinned(Metric::ALL.len() as u32, 0);
#[map]
pub(super) static EVENT_SAMPLED: PerCpuArray<u64> = PerCpuArray::pinned(DropReason::COUNT, 0);
#[map]
pub(super) static EVENTS: RingBuf = RingBuf::pinned(1 << 18, 0);

/// Where each program keeps what it read of the packet it is at. One entry per program: a copy that `from_container`
/// floods runs `to_container` on the same CPU before the former goes on.
#[map]
pub(super) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(Program::ALL.len() as u32, 0);

/// When the XDP program was last asked to tell of a drop, by its reason.
#[map]
pub(super) static GUARD_TICKS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DropReason::COUNT, 0);

/// Set by the daemon when it loads the programs.
#[unsafe(no_mangle)]
pub(super) static SETTINGS: Settings = Settings::DEFAULT;
