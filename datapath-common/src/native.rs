//! The world around the path, natively: a packet in memory, and tables in collections with the kernel's semantics.
//!
//! Tests describe a state, run a path, and look at the outcome, the bytes and the tables. The same descriptions are
//! written into real maps and run by BPF_PROG_TEST_RUN, and must come to the same end.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ptr,
    vec::Vec,
};

use crate::{
    abi::{
        Address, AddressKey, DropReason, Endpoint, EndpointUsage, Flow, FlowIndex, FlowKey, MacKey, Metric, Network,
        Publication, PublishedKey, Settings, Subnet, UdpMapped, UdpMapping, Uplink,
    },
    logic::{
        checksum::{self, Sum},
        headers::{ETHERNET, Headers, ROOM},
    },
    path::{Checksum, FlowSlot, Inserted, LoopBody, Outcome, Packet, Route, Scratch, Tables, UsageSlot},
};

/// Where a copy of a packet went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopiedTo {
    /// To the endpoint behind this host-side veth.
    Endpoint(u32),
    /// Up into the host by this device.
    Host(u32),
}

/// A packet in memory.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The bytes, from the Ethernet header on, or from the IP header where [`Self::bare`] is set.
    pub bytes: Vec<u8>,
    /// The device it came in by or leaves by.
    pub ifindex: u32,
    /// The device it entered the host by, 0 for the host's own.
    pub entered_by: u32,
    /// Its outer VLAN tag.
    pub vlan: Option<u16>,
    /// Whether the device took it as sent to itself.
    pub for_host: bool,
    /// Bytes per segment, 0 for a packet that is not segmented.
    pub segment_size: u32,
    /// Its mark.
    pub mark: u32,
    /// Copies made of it.
    pub copies: Vec<CopiedTo>,
    /// Whether it has no Ethernet header.
    pub bare: bool,
    /// What the host's routes say.
    pub route: Option<Route>,
    /// Local keys that a socket of the host would take: protocol, address and port (wire order).
    pub host_sockets: Vec<PublishedKey>,
}

impl Frame {
    /// A frame on a device, sent to the device's own MAC address.
    #[must_use]
    pub fn new(ifindex: u32, bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ifindex,
            entered_by: 0,
            vlan: None,
            for_host: true,
            segment_size: 0,
            mark: 0,
            copies: Vec::new(),
            bare: false,
            route: None,
            host_sockets: Vec::new(),
        }
    }

    fn at(&self, offset: u32) -> Option<usize> {
        offset.checked_sub(if self.bare { ETHERNET } else { 0 }).map(|offset| offset as usize)
    }
}

impl Packet for Frame {
    fn read_headers(&mut self, link_header: u32, headers: &mut Headers) -> bool {
        self.bare = link_header == 0;
        let before = (ETHERNET - link_header) as usize;
        let available = self.bytes.len().min(ROOM - before);
        if available < link_header as usize || available == 0 {
            return false;
        }
        if self.bare {
            let kind: u16 = if self.bytes[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
            headers.put(12, kind.to_be_bytes());
        }
        headers.bytes[before..before + available].copy_from_slice(&self.bytes[..available]);
        headers.length = (available + before) as u32;
        headers.packet_length = (self.bytes.len() + before) as u32;
        true
    }

    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let at = self.at(offset)?;
        self.bytes.get(at..at + N)?.try_into().ok()
    }

    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> Result<(), DropReason> {
        let at = self.at(offset).ok_or(DropReason::WriteFailed)?;
        self.bytes.get_mut(at..at + N).ok_or(DropReason::WriteFailed)?.copy_from_slice(bytes);
        Ok(())
    }

    fn store_headers(&mut self, headers: &Headers, length: u32) -> Result<(), DropReason> {
        let before = if self.bare { ETHERNET as usize } else { 0 };
        let room = self.bytes.get_mut(..length as usize - before).ok_or(DropReason::WriteFailed)?;
        room.copy_from_slice(&headers.bytes[before..length as usize]);
        Ok(())
    }

    fn mend_checksum(&mut self, checksum: &Checksum) -> Result<(), DropReason> {
        let present = u16::from_ne_bytes(self.load(checksum.offset).ok_or(DropReason::WriteFailed)?);
        if checksum.zero_is_none && present == 0 {
            return Ok(());
        }
        let mended = match checksum::updated(present, checksum.difference) {
            0 if checksum.zero_is_none => 0xffff,
            mended => mended,
        };
        self.store(checksum.offset, &mended.to_ne_bytes())
    }

    fn resize(&mut self, length: u32) -> Result<(), DropReason> {
        self.bytes.resize(length as usize, 0);
        Ok(())
    }

    fn add_link_header(&mut self) -> Result<(), DropReason> {
        if self.bare {
            self.bytes.splice(0..0, [0; ETHERNET as usize]);
            self.bare = false;
        }
        Ok(())
    }

    fn copy_to_endpoint(&mut self, ifindex: u32) {
        self.copies.push(CopiedTo::Endpoint(ifindex));
    }

    fn copy_to_host(&mut self, ifindex: u32) {
        self.copies.push(CopiedTo::Host(ifindex));
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn entered_by(&self) -> u32 {
        self.entered_by
    }

    fn vlan(&self) -> Option<u16> {
        self.vlan
    }

    fn remove_tag(&mut self) -> Result<(), DropReason> {
        self.vlan = None;
        Ok(())
    }

    fn is_for_another(&self) -> bool {
        !self.for_host && self.bytes.first().is_none_or(|first| first & 1 == 0)
    }

    fn segment_size(&self) -> u32 {
        self.segment_size
    }

    fn mark(&self) -> u32 {
        self.mark
    }

    fn route(&self, _: &FlowKey, _: u32, _: bool) -> Result<Route, DropReason> {
        self.route.ok_or(DropReason::NoRoute)
    }

    fn host_socket(&self, key: &FlowKey) -> bool {
        self.host_sockets.contains(&PublishedKey::new(key.destination, key.destination_port, key.protocol))
    }
}

/// What the daemon would have written.
#[derive(Clone, Debug)]
pub struct State {
    /// `SETTINGS`.
    pub settings: Settings,
    /// `ENDPOINTS` by index.
    pub endpoints: HashMap<u32, Endpoint>,
    /// `ENDPOINT_BY_IFINDEX`.
    pub by_ifindex: HashMap<u32, u32>,
    /// `ENDPOINT_BY_ADDRESS`.
    pub by_address: HashMap<AddressKey, u32>,
    /// `ENDPOINT_BY_MAC`.
    pub by_mac: HashMap<MacKey, u32>,
    /// `NETWORKS` by id.
    pub networks: HashMap<u32, Network>,
    /// `NETWORK_BY_GATEWAY`.
    pub by_gateway: HashMap<u32, u32>,
    /// `NETWORK_MEMBERS`.
    pub members: HashMap<(u32, u32), u32>,
    /// `SUBNETS`: address, prefix length of 128, network.
    pub subnets: Vec<(Address, u32, Subnet)>,
    /// `HOST_ADDRESSES`.
    pub host_addresses: HashMap<Address, u32>,
    /// `UPLINKS`.
    pub uplinks: HashMap<u32, Uplink>,
    /// `PUBLISHED`.
    pub published: HashMap<PublishedKey, u32>,
    /// `PUBLICATIONS`.
    pub publications: HashMap<u32, Publication>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            settings: Settings::DEFAULT,
            endpoints: HashMap::new(),
            by_ifindex: HashMap::new(),
            by_address: HashMap::new(),
            by_mac: HashMap::new(),
            networks: HashMap::new(),
            by_gateway: HashMap::new(),
            members: HashMap::new(),
            subnets: Vec::new(),
            host_addresses: HashMap::new(),
            uplinks: HashMap::new(),
            published: HashMap::new(),
            publications: HashMap::new(),
        }
    }
}

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
    usage: RefCell<HashMap<u32, std::boxed::Box<Cell<EndpointUsage>>>>,
    cursors: [Cell<u32>; 2],
    mappings: RefCell<HashMap<UdpMapping, u16>>,
    mapped: RefCell<HashMap<PublishedKey, UdpMapped>>,
    hits: RefCell<HashMap<u32, u64>>,
    metrics: RefCell<HashMap<u32, u64>>,
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
            usage: RefCell::default(),
            cursors: Default::default(),
            mappings: RefCell::default(),
            mapped: RefCell::default(),
            hits: RefCell::default(),
            metrics: RefCell::default(),
        }
    }

    /// Every slot.
    pub fn flows(&self) -> impl Iterator<Item = Flow> + '_ {
        self.flows.iter().map(Cell::get)
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
            padding: [0; 2],
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

    fn next_slot(&self) -> u32 {
        self.moved_on(0)
    }

    fn next_swept(&self) -> u32 {
        self.moved_on(1)
    }

    fn repeat<S>(&self, times: u32, state: &mut S, body: LoopBody<S>) {
        for round in 0..times {
            if body(round.into(), state) != 0 {
                break;
            }
        }
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
}

/// Takes a packet one of the paths.
pub fn run(
    path: impl FnOnce(&mut Frame, &NativeTables, &mut Scratch) -> Outcome,
    frame: &mut Frame,
    tables: &NativeTables,
) -> Outcome {
    path(frame, tables, &mut Scratch::EMPTY.clone())
}

/// Whether every checksum of an Ethernet frame with IP inside is right; a UDP checksum of 0 is.
#[must_use]
pub fn checksums_are_right(frame: &[u8]) -> bool {
    let word = |at: usize| frame.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]])) as usize;
    let (payload, protocol, pseudo) = match word(12) {
        0x0800 if frame.len() >= 34 => {
            let header = (frame[14] & 0xf) as usize * 4;
            let end = 14 + word(16);
            let (Some(ip), Some(payload)) = (frame.get(14..14 + header), frame.get(14 + header..end)) else {
                return false;
            };
            if checksum::of_bytes(ip).folded() != 0xffff {
                return false;
            }
            (payload, frame[23], checksum::of_bytes(&frame[26..34]))
        }
        0x86dd if frame.len() >= 54 => {
            let Some(payload) = frame.get(54..54 + word(18)) else {
                return false;
            };
            (payload, frame[20], checksum::of_bytes(&frame[22..54]))
        }
        _ => return true,
    };
    let pseudo = if protocol == 1 {
        Sum::ZERO
    } else {
        pseudo.add16(u16::to_be(protocol.into())).add16((payload.len() as u16).to_be())
    };
    match protocol {
        17 if payload.get(6..8) == Some(&[0, 0]) => true,
        1 | 6 | 17 | 58 => {
            let [low, high] = checksum::of_bytes(payload).folded().to_ne_bytes();
            pseudo.add16(u16::from_ne_bytes([low, high])).folded() == 0xffff
        }
        _ => true,
    }
}
