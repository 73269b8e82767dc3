//! Tables in collections, with the kernel's semantics.

use std::{
    boxed::Box,
    cell::{Cell, RefCell},
    collections::HashMap,
    ptr,
    vec::Vec,
};

use super::State;
use crate::{
    abi::{
        Address, AddressKey, Endpoint, EndpointUsage, FRAGMENT_SETS, Flow, FlowIndex, FlowKey, FragmentSet, Guard,
        GuardBuckets, GuardDevice, GuardPort, GuardSource, MacKey, Metric, Network, NextHop, PortStations, Publication,
        PublishedKey, STATION_TABLES, StationPlace, UdpMapped, UdpMapping, Uplink, next_hop,
    },
    path::{
        Bucket, FlowSlot, FragmentSetSlot, Inserted, NextHopSlot, Repeat, SourceSlot, StationsSlot, Step, Tables,
        UsageSlot,
    },
};

/// Tables in collections. What the programs write is behind cells, as the path only borrows the tables.
#[derive(Debug)]
pub struct NativeTables {
    /// What the daemon wrote.
    pub state: State,
    /// The time.
    pub now: Cell<u64>,
    /// State of the random numbers.
    pub seed: Cell<u64>,
    /// `FLOW_BY_KEY`.
    pub keys: RefCell<HashMap<FlowKey, FlowIndex>>,
    /// `FLOWS`; never resized, so that slots stay where they are.
    flows: Vec<Cell<Flow>>,
    next_hops: Vec<Cell<NextHop>>,
    usage: RefCell<HashMap<u32, Box<Cell<EndpointUsage>>>>,
    cursors: [Cell<u32>; 2],
    fragments: RefCell<HashMap<u32, Box<Cell<FragmentSet>>>>,
    stations: RefCell<HashMap<u32, Box<Cell<PortStations>>>>,
    /// `STATION_BY_MAC`.
    pub station_places: RefCell<HashMap<MacKey, StationPlace>>,
    mappings: RefCell<HashMap<UdpMapping, u16>>,
    mapped: RefCell<HashMap<PublishedKey, UdpMapped>>,
    guard_sources: RefCell<HashMap<GuardSource, Box<Cell<GuardBuckets>>>>,
    guard_ports: RefCell<HashMap<GuardPort, Box<Cell<u64>>>>,
    hits: RefCell<HashMap<u32, u64>>,
    metrics: RefCell<HashMap<u32, u64>>,
    /// Ports tried for the last masqueraded flow.
    pub ports_tried: Cell<u32>,
    /// Slots tried for all flows.
    pub slots_tried: Cell<u32>,
}

impl NativeTables {
    /// Tables with this state and room for this many flows, a power of two.
    #[must_use]
    pub fn new(mut state: State, flows: u32) -> Self {
        state.settings.flow_capacity = flows;
        Self {
            state,
            now: Cell::new(1_000_000_000_000),
            seed: Cell::new(1),
            keys: RefCell::default(),
            flows: (0..flows).map(|_| Cell::default()).collect(),
            next_hops: (0..next_hop::NUMBERS).map(|_| Cell::default()).collect(),
            usage: RefCell::default(),
            cursors: Default::default(),
            fragments: RefCell::default(),
            stations: RefCell::default(),
            station_places: RefCell::default(),
            mappings: RefCell::default(),
            mapped: RefCell::default(),
            guard_sources: RefCell::default(),
            guard_ports: RefCell::default(),
            hits: RefCell::default(),
            metrics: RefCell::default(),
            ports_tried: Cell::default(),
            slots_tried: Cell::default(),
        }
    }

    /// Every slot.
    pub fn flows(&self) -> impl Iterator<Item = Flow> + '_ {
        self.flows.iter().map(Cell::get)
    }

    fn is_denied(&self, source: &Address, v4: bool) -> bool {
        let mut of_version = self.state.denied.iter().filter(|(prefix, _)| prefix.is_v4() == v4);
        of_version.any(|(prefix, length)| prefix_matches(source, prefix, *length))
    }

    fn moved_on(&self, cursor: usize) -> u32 {
        let at = self.cursors[cursor].get();
        self.cursors[cursor].set(at.wrapping_add(1));
        at & (self.state.settings.flow_capacity - 1)
    }

    /// A metric's count.
    #[must_use]
    pub fn metric(&self, metric: Metric) -> u64 {
        self.metrics.borrow().get(&(metric as u32)).copied().unwrap_or(0)
    }

    /// Flows begun by a publication.
    #[must_use]
    pub fn hits(&self, publication: u32) -> u64 {
        self.hits.borrow().get(&publication).copied().unwrap_or(0)
    }

    /// What the endpoint at this index is charged with.
    #[must_use]
    pub fn usage_of(&self, index: u32) -> EndpointUsage {
        self.usage.borrow().get(&index).map(|usage| usage.get()).unwrap_or_default()
    }
}

fn prefix_matches(address: &Address, prefix: &Address, length: u32) -> bool {
    let (a, b) = (u128::from_be_bytes(address.bytes()), u128::from_be_bytes(prefix.bytes()));
    length == 0 || (a ^ b) >> (128 - length) == 0
}

impl Repeat for NativeTables {}

#[expect(unsafe_code, reason = "settings are read by offset and slots by pointer, as in the kernel")]
impl Tables for NativeTables {
    fn setting32(&self, offset: usize) -> u32 {
        // SAFETY: the offset is that of a u32 field of the settings.
        unsafe { ptr::read((&raw const self.state.settings).byte_add(offset).cast()) }
    }

    fn setting64(&self, offset: usize) -> u64 {
        // SAFETY: the offset is that of a u64 field of the settings.
        unsafe { ptr::read((&raw const self.state.settings).byte_add(offset).cast()) }
    }

    fn now(&self) -> u64 {
        self.now.get()
    }

    fn random(&self) -> u32 {
        // The multiplier and increment of PCG (O'Neill 2014).
        let next = self.seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed.set(next);
        (next >> 32) as u32
    }

    fn trace(&self, step: Step) {
        match step {
            Step::PortsTried(ports) => self.ports_tried.set(ports),
            Step::SlotTried => self.slots_tried.set(self.slots_tried.get() + 1),
        }
    }

    fn count(&self, metric: Metric) {
        *self.metrics.borrow_mut().entry(metric as u32).or_default() += 1;
    }

    fn endpoint_by_ifindex(&self, ifindex: u32) -> Option<u32> {
        self.state.by_ifindex.get(&ifindex).copied()
    }

    fn endpoint_by_address(&self, key: &AddressKey) -> Option<u32> {
        self.state.by_address.get(key).copied()
    }

    fn endpoint_by_mac(&self, key: &MacKey) -> Option<u32> {
        self.state.by_mac.get(key).copied()
    }

    fn endpoint(&self, index: u32) -> Option<&Endpoint> {
        static NOBODY: Endpoint = Endpoint {
            generation: 0,
            ifindex: 0,
            network: 0,
            publications: 0,
            mac: [0; 6],
            stations: 0,
            ipv4: Address::NONE,
            ipv6: Address::NONE,
            link_local: Address::NONE,
        };
        Some(self.state.endpoints.get(&index).unwrap_or(&NOBODY))
    }

    fn usage(&self, index: u32) -> Option<UsageSlot> {
        let mut usage = self.usage.borrow_mut();
        let cell = usage.entry(index).or_default();
        // SAFETY: the box outlives the tables' borrow and is only used by slots and whole copies.
        Some(unsafe { UsageSlot::new(cell.as_ptr()) })
    }

    fn network(&self, id: u32) -> Option<&Network> {
        self.state.networks.get(&id)
    }

    fn network_by_gateway(&self, ifindex: u32) -> Option<u32> {
        self.state.by_gateway.get(&ifindex).copied()
    }

    fn member(&self, network: u32, position: u32) -> Option<u32> {
        self.state.members.get(&(network, position)).copied()
    }

    fn subnet(&self, address: &Address) -> Option<u32> {
        let matching = self.state.subnets.iter().filter(|(prefix, length, _)| prefix_matches(address, prefix, *length));
        matching.max_by_key(|(_, length, _)| *length).map(|(_, _, subnet)| subnet.network)
    }

    fn is_host_address(&self, address: &Address) -> bool {
        self.state.host_addresses.contains_key(address)
    }

    fn uplink(&self, ifindex: u32) -> Option<&Uplink> {
        self.state.uplinks.get(&ifindex)
    }

    fn published(&self, key: &PublishedKey) -> Option<u32> {
        self.state.published.get(key).copied()
    }

    fn publication(&self, index: u32) -> Option<&Publication> {
        self.state.publications.get(&index)
    }

    fn count_publication_hit(&self, index: u32) {
        *self.hits.borrow_mut().entry(index).or_default() += 1;
    }

    fn flow_index(&self, key: &FlowKey) -> Option<FlowIndex> {
        self.keys.borrow().get(key).copied()
    }

    fn insert_flow_key(&self, key: &FlowKey, index: &FlowIndex) -> Inserted {
        let mut keys = self.keys.borrow_mut();
        if keys.contains_key(key) {
            return Inserted::Exists;
        }
        keys.insert(*key, *index);
        Inserted::Yes
    }

    fn delete_flow_key(&self, key: &FlowKey) {
        self.keys.borrow_mut().remove(key);
    }

    fn flow(&self, slot: u32) -> Option<FlowSlot> {
        // SAFETY: the vector is never resized, and its cells are only used by slots and whole copies.
        self.flows.get(slot as usize).map(|flow| unsafe { FlowSlot::new(flow.as_ptr()) })
    }

    fn next_hop(&self, number: u8) -> Option<NextHopSlot> {
        // SAFETY: as of `flow`.
        self.next_hops.get(usize::from(number)).map(|next_hop| unsafe { NextHopSlot::new(next_hop.as_ptr()) })
    }

    fn next_slot(&self) -> u32 {
        self.moved_on(0)
    }

    fn next_swept(&self) -> u32 {
        self.moved_on(1)
    }

    fn fragment_set(&self, number: u32) -> Option<FragmentSetSlot> {
        if number >= FRAGMENT_SETS {
            return None;
        }
        let mut sets = self.fragments.borrow_mut();
        // SAFETY: all zeroes is a set without datagrams.
        let set = sets.entry(number).or_insert_with(|| unsafe { Box::new_zeroed().assume_init() });
        // SAFETY: as in `usage`.
        Some(unsafe { FragmentSetSlot::new(set.as_ptr()) })
    }

    fn stations(&self, table: u32) -> Option<StationsSlot> {
        if table >= STATION_TABLES {
            return None;
        }
        let mut tables = self.stations.borrow_mut();
        // SAFETY: all zeroes is a table without stations.
        let table = tables.entry(table).or_insert_with(|| unsafe { Box::new_zeroed().assume_init() });
        // SAFETY: as in `usage`.
        Some(unsafe { StationsSlot::new(table.as_ptr()) })
    }

    fn station_place(&self, key: &MacKey) -> Option<StationPlace> {
        self.station_places.borrow().get(key).copied()
    }

    fn set_station_place(&self, key: &MacKey, place: StationPlace) -> bool {
        self.station_places.borrow_mut().insert(*key, place);
        true
    }

    fn delete_station_place(&self, key: &MacKey) {
        self.station_places.borrow_mut().remove(key);
    }

    fn udp_mapping(&self, key: &UdpMapping) -> Option<u16> {
        self.mappings.borrow().get(key).copied()
    }

    fn set_udp_mapping(&self, key: &UdpMapping, port: u16) {
        self.mappings.borrow_mut().insert(*key, port);
    }

    fn udp_mapped(&self, external: &PublishedKey) -> Option<UdpMapped> {
        self.mapped.borrow().get(external).copied()
    }

    fn set_udp_mapped(&self, external: &PublishedKey, mapped: &UdpMapped) {
        self.mapped.borrow_mut().insert(*external, *mapped);
    }

    fn guard_device(&self, ifindex: u32) -> Option<&GuardDevice> {
        self.state.guard_devices.get(&ifindex)
    }

    fn guard(&self) -> Option<&Guard> {
        Some(&self.state.guard)
    }

    fn is_denied_v4(&self, source: u32) -> bool {
        self.is_denied(&Address::from_v4_word(source), true)
    }

    fn is_denied_v6(&self, source: &Address) -> bool {
        self.is_denied(source, false)
    }

    fn guard_source(&self, source: &GuardSource) -> Option<SourceSlot> {
        // SAFETY: as in `usage`.
        self.guard_sources.borrow().get(source).map(|buckets| unsafe { SourceSlot::new(buckets.as_ptr()) })
    }

    fn insert_guard_source(&self, source: &GuardSource, buckets: &GuardBuckets) {
        self.guard_sources.borrow_mut().entry(*source).or_insert_with(|| Box::new(Cell::new(*buckets)));
    }

    fn guard_port(&self, port: &GuardPort) -> Option<Bucket> {
        // SAFETY: as in `usage`.
        self.guard_ports.borrow().get(port).map(|bucket| unsafe { Bucket::new(bucket.as_ptr()) })
    }

    fn insert_guard_port(&self, port: &GuardPort, bucket: u64) {
        self.guard_ports.borrow_mut().entry(*port).or_insert_with(|| Box::new(Cell::new(bucket)));
    }
}
