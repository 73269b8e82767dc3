//! The way of a packet.
//!
//! One file per hook (`from_container`, `from_uplink`, `from_host`, `from_loopback`, `to_uplink`, `to_container`,
//! `to_host`, `guard`) and one per stage they share. Everything is generic over the [`Packet`] and the [`Tables`], so the code that runs in
//! the kernel is the code that the tests run natively. Every path ends in an [`Outcome`].

mod arp;
mod bucket;
mod connection;
mod flow_slots;
mod flow_table;
mod forward;
mod fragments;
mod from_container;
mod from_host;
mod from_loopback;
mod from_uplink;
mod guard;
mod hairpin;
mod host_route;
mod icmp_answer;
mod icmp_error;
mod learning;
mod locked;
mod masquerade;
mod mss_clamp;
mod neighbour;
pub mod next_hop;
mod outcome;
mod port;
mod publish;
mod repeat;
mod route;
mod slot;
pub mod stages;
mod stations;
mod switch;
mod to_host;
mod to_uplink;

pub use bucket::{Bucket, SourceSlot};
pub use from_container::from_container;
pub use from_host::from_host;
pub use from_loopback::from_loopback;
pub use from_uplink::from_uplink;
pub use guard::guard;
pub use host_route::Route;
pub use locked::{FragmentSetSlot, StationsSlot};
pub use next_hop::NextHopSlot;
pub use outcome::{Decision, Outcome, Packed, Verdict};
pub use repeat::{LoopBody, Repeat};
pub use slot::{FlowSlot, UsageSlot};
pub use to_host::to_host;
pub use to_uplink::{to_container, to_uplink};

use crate::{
    abi::{
        Address, AddressKey, DropReason, Endpoint, FRAGMENT_ROOM, FlowEnd, FlowIndex, FlowKey, Guard, GuardBuckets,
        GuardDevice, GuardPort, GuardSource, MacKey, Metric, Mutant, Network, Publication, PublishedKey, Settings,
        StationPlace, UdpMapped, UdpMapping, Uplink,
    },
    logic::{
        checksum::Sum,
        fragment::Fragmented,
        headers::{self, Headers, Lead},
        message::Message,
        parse::Parsed,
    },
};

/// A checksum to mend.
#[derive(Clone, Copy, Debug)]
pub struct Checksum {
    /// Where the field is, counted from the Ethernet header.
    pub offset: u32,
    /// New minus old of what it covers.
    pub difference: Sum,
    /// Whether the change is in the pseudo-header: then it counts although the device completes the checksum.
    pub pseudo: bool,
    /// Whether 0 in the field means that there is no checksum (UDP, RFC 768; for IPv6 RFC 6936).
    pub zero_is_none: bool,
    /// Whether the packet is IPv6.
    pub ipv6: bool,
}

/// Where a path keeps what it read. The kernel's programs have it in a per-CPU map, for their stack has 512 bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// The packet's headers.
    pub headers: Headers,
    /// What they say.
    pub parsed: Parsed,
    /// What the packet that an ICMP error quotes says.
    pub quoted: Parsed,
    /// An ICMP error in the making.
    pub message: Message,
    /// Which part of which datagram it is.
    pub fragmented: Fragmented,
}

impl Scratch {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        headers: Headers {
            lead: [0; 2],
            bytes: [0; headers::ROOM],
            length: 0,
            packet_length: 0,
            exceeds: 0,
            next_hop: 0,
        },
        parsed: Parsed::EMPTY,
        quoted: Parsed::EMPTY,
        message: Message::EMPTY,
        fragmented: Fragmented::EMPTY,
    };
}

/// What can be read of a packet at any hook. Offsets count from the Ethernet header, even where the device has none.
pub trait Readable: Repeat {
    /// Reads the headers in one go. `link_header` is what the device puts before IP: 14 bytes, or 0. False when the
    /// packet is shorter than that.
    fn read_headers(&mut self, link_header: u32, headers: &mut Headers) -> bool;
    /// `N` bytes.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
    /// The device the hook is on.
    fn ifindex(&self) -> u32;
    /// Bytes of payload per segment of a packet that will be segmented; 0 for others.
    fn segment_size(&self) -> u32;
}

/// A frame before the kernel has made a packet of it, as XDP programs see it: read where it lies.
pub trait Bare: Readable {
    /// The destination MAC address, in the first six bytes in memory; zero for a frame that is too short.
    fn destination(&self) -> u64;
    /// Who sent the packet in it.
    fn lead(&self) -> Lead;
    /// Bytes of the whole frame. [`Readable::read_headers`] knows of the first piece only.
    fn whole_length(&self) -> u32;
}

/// One packet, at one hook.
pub trait Packet: Readable {
    /// Writes `N` bytes.
    ///
    /// # Errors
    /// [`DropReason::WriteFailed`].
    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> Result<(), DropReason>;
    /// Writes the first `length` bytes of the headers, which are more than an Ethernet header.
    ///
    /// # Errors
    /// [`DropReason::WriteFailed`].
    fn store_headers(&mut self, headers: &Headers, length: u32) -> Result<(), DropReason>;
    /// Mends a checksum for a change of what it covers.
    ///
    /// # Errors
    /// [`DropReason::WriteFailed`].
    fn mend_checksum(&mut self, checksum: &Checksum) -> Result<(), DropReason>;
    /// Cuts or extends the packet to `length` bytes.
    ///
    /// # Errors
    /// [`DropReason::WriteFailed`].
    fn resize(&mut self, length: u32) -> Result<(), DropReason>;
    /// Reads as many bytes of the IP packet as the message quotes. False when the packet is shorter.
    fn quote(&self, message: &mut Message) -> bool;
    /// Makes the packet one of `header_length` bytes of headers, the link header included, and a message, in one piece and
    /// with nothing left for a device to complete. `parsed` is what it was. False when the kernel refuses.
    fn become_message(&mut self, parsed: &Parsed, headers: &Headers, header_length: u32, message: &Message) -> bool;
    /// Puts 14 bytes of link header before a packet that has none, as those of tunnels have not.
    ///
    /// # Errors
    /// [`DropReason::WriteFailed`].
    fn add_link_header(&mut self) -> Result<(), DropReason>;
    /// Copies the packet from its IP header on, and returns how many bytes that are; 0 when there is no room for them.
    fn save(&self, room: &mut [u8; FRAGMENT_ROOM]) -> u32;
    /// Puts the `length` bytes that were saved of another packet of the same family behind its link header.
    ///
    /// # Errors
    /// [`DropReason::WriteFailed`].
    fn replace(&mut self, saved: &[u8; FRAGMENT_ROOM], length: u32) -> Result<(), DropReason>;
    /// Lets a copy come in by the same device once more, after what is being received now.
    fn come_in_again(&mut self);
    /// Sends a copy to an endpoint's host-side veth.
    fn copy_to_endpoint(&mut self, ifindex: u32);
    /// Sends a copy up into the host, as received by this device, with the mark or without.
    fn copy_to_host(&mut self, ifindex: u32, marked: bool);
    /// The device the packet entered this namespace by; 0 when it was made here.
    fn entered_by(&self) -> u32;
    /// The outer VLAN tag, which is not in the bytes, as VID; `None` without tag.
    fn vlan(&self) -> Option<u16>;
    /// Takes the outer VLAN tag off.
    ///
    /// # Errors
    /// [`DropReason::WriteFailed`].
    fn remove_tag(&mut self) -> Result<(), DropReason>;
    /// Whether the device took the packet as sent to another machine.
    fn is_for_another(&self) -> bool;
    /// The mark that travels with the packet inside one namespace.
    fn mark(&self) -> u32;
    /// Sets the mark.
    fn set_mark(&mut self, mark: u32);
    /// Whether the packet is the host's copy for itself of a group packet that it sent.
    fn is_looped_back(&self) -> bool;
    /// Asks the host's routes where a packet goes that `answers` will answer and that came in by `ifindex`;
    /// [`Route::NONE`] when they lead nowhere. The source address that the host would use is left in `source`, where
    /// the kernel tells.
    fn route(&self, answers: &FlowKey, ifindex: u32, source: Option<&mut Address>) -> Route;
    /// Whether a socket of the host would take a packet with this key: a listener or a connection.
    fn host_socket(&self, key: &FlowKey) -> bool;

    /// [`stages::follow_flow`], or a function of the packet's own that does it.
    #[inline(always)]
    fn follow_flow<T: Tables>(&mut self, tables: &T, scratch: &mut Scratch, sender: FlowEnd) -> Packed
    where
        Self: Sized,
    {
        stages::follow_flow(self, tables, scratch, sender)
    }

    /// [`stages::follow_error`], or a function of the packet's own that does it.
    #[inline(always)]
    fn follow_error<T: Tables>(&mut self, tables: &T, scratch: &mut Scratch, sender: FlowEnd) -> Packed
    where
        Self: Sized,
    {
        stages::follow_error(self, tables, scratch, sender)
    }

    /// [`stages::answer`], or a function of the packet's own that does it.
    #[inline(always)]
    fn answer<T: Tables>(&mut self, tables: &T, scratch: &mut Scratch, told: u32, too_big: bool) -> Packed
    where
        Self: Sized,
    {
        stages::answer(self, tables, scratch, told, too_big)
    }
}

/// Whether a key could be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// It was.
    Yes,
    /// It is there already.
    Exists,
    /// There is no room.
    Full,
}

/// A step of the slow path that no outcome tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// So many external ports were tried for a masqueraded flow besides that of the source's mapping.
    PortsTried(u32),
    /// A slot was tried for a new flow.
    SlotTried,
}

/// The maps. What each one is: [`crate::abi::map`].
pub trait Tables: Repeat {
    /// A 32-bit field of [`Settings`], by its offset.
    fn setting32(&self, offset: usize) -> u32;
    /// A 64-bit field of [`Settings`], by its offset.
    fn setting64(&self, offset: usize) -> u64;
    /// CLOCK_MONOTONIC in nanoseconds, a few milliseconds late.
    fn now(&self) -> u64;
    /// A random number.
    fn random(&self) -> u32;
    /// Remembers a step of the slow path, where [`Settings::program_log`] wants to know.
    fn trace(&self, step: Step);
    /// Adds one to a metric.
    fn count(&self, metric: Metric);
    /// `ENDPOINT_BY_IFINDEX`.
    fn endpoint_by_ifindex(&self, ifindex: u32) -> Option<u32>;
    /// `ENDPOINT_BY_ADDRESS`.
    fn endpoint_by_address(&self, key: &AddressKey) -> Option<u32>;
    /// `ENDPOINT_BY_MAC`.
    fn endpoint_by_mac(&self, key: &MacKey) -> Option<u32>;
    /// `ENDPOINTS`.
    fn endpoint(&self, index: u32) -> Option<&Endpoint>;
    /// `ENDPOINT_USAGE`.
    fn usage(&self, index: u32) -> Option<UsageSlot>;
    /// `NETWORKS`.
    fn network(&self, id: u32) -> Option<&Network>;
    /// `NETWORK_BY_GATEWAY`.
    fn network_by_gateway(&self, ifindex: u32) -> Option<u32>;
    /// `NETWORK_MEMBERS`: the ifindex.
    fn member(&self, network: u32, position: u32) -> Option<u32>;
    /// `SUBNETS`: the network that the address belongs to.
    fn subnet(&self, address: &Address) -> Option<u32>;
    /// `HOST_ADDRESSES`.
    fn is_host_address(&self, address: &Address) -> bool;
    /// `UPLINKS`.
    fn uplink(&self, ifindex: u32) -> Option<&Uplink>;
    /// `PUBLISHED`.
    fn published(&self, key: &PublishedKey) -> Option<u32>;
    /// `PUBLICATIONS`.
    fn publication(&self, index: u32) -> Option<&Publication>;
    /// Adds one to `PUBLICATION_HITS`.
    fn count_publication_hit(&self, index: u32);
    /// `FLOW_BY_KEY`.
    fn flow_index(&self, key: &FlowKey) -> Option<FlowIndex>;
    /// Adds to `FLOW_BY_KEY`, never replacing.
    fn insert_flow_key(&self, key: &FlowKey, index: &FlowIndex) -> Inserted;
    /// Takes from `FLOW_BY_KEY`.
    fn delete_flow_key(&self, key: &FlowKey);
    /// `FLOWS`.
    fn flow(&self, slot: u32) -> Option<FlowSlot>;
    /// `NEXT_HOPS`.
    fn next_hop(&self, number: u8) -> Option<NextHopSlot>;
    /// Moves the first `FLOW_CURSOR` on, that of new flows, and returns the slot it was at.
    fn next_slot(&self) -> u32;
    /// Moves the second `FLOW_CURSOR` on, that of the sweep, and returns the slot it was at.
    fn next_swept(&self) -> u32;
    /// `FRAGMENTS`.
    fn fragment_set(&self, number: u32) -> Option<FragmentSetSlot>;
    /// `STATIONS`: those behind the port whose table has this number.
    fn stations(&self, table: u32) -> Option<StationsSlot>;
    /// `STATION_BY_MAC`.
    fn station_place(&self, key: &MacKey) -> Option<StationPlace>;
    /// Writes `STATION_BY_MAC`. False when there is no room.
    fn set_station_place(&self, key: &MacKey, place: StationPlace) -> bool;
    /// Takes from `STATION_BY_MAC`.
    fn delete_station_place(&self, key: &MacKey);
    /// `UDP_MAPPING`: the external port, wire order.
    fn udp_mapping(&self, key: &UdpMapping) -> Option<u16>;
    /// Writes `UDP_MAPPING`.
    fn set_udp_mapping(&self, key: &UdpMapping, port: u16);
    /// `UDP_MAPPED`.
    fn udp_mapped(&self, external: &PublishedKey) -> Option<UdpMapped>;
    /// Writes `UDP_MAPPED`.
    fn set_udp_mapped(&self, external: &PublishedKey, mapped: &UdpMapped);

    /// `GUARD_DEVICES`.
    fn guard_device(&self, ifindex: u32) -> Option<&GuardDevice>;
    /// `GUARD`.
    fn guard(&self) -> Option<&Guard>;
    /// `DENIED_V4`: whether the source, four bytes in wire order, is denied.
    fn is_denied_v4(&self, source: u32) -> bool;
    /// `DENIED_V6`.
    fn is_denied_v6(&self, source: &Address) -> bool;
    /// `GUARD_SOURCES`.
    fn guard_source(&self, source: &GuardSource) -> Option<SourceSlot>;
    /// Adds to `GUARD_SOURCES`, never replacing: where another CPU was first, this packet is not charged.
    fn insert_guard_source(&self, source: &GuardSource, buckets: &GuardBuckets);
    /// `GUARD_PORTS`.
    fn guard_port(&self, port: &GuardPort) -> Option<Bucket>;
    /// Adds to `GUARD_PORTS`, in the same way.
    fn insert_guard_port(&self, port: &GuardPort, bucket: u64);

    /// Whether the programs are to misbehave in this way. Always false but in builds for the mutation tests.
    #[inline(always)]
    fn mutant(&self, mutant: Mutant) -> bool {
        cfg!(feature = "mutants") && self.setting32(core::mem::offset_of!(Settings, mutant)) == mutant as u32
    }
}
