//! The types both sides of the maps agree on.
//!
//! Rules: `repr(C)`, explicit padding that is always zero, no `bool`, `enum`, `Option` or `usize`. Ports are in wire
//! order (`u16` loaded natively from the packet) unless a field says otherwise. Times are nanoseconds of
//! CLOCK_MONOTONIC, so that wall-clock jumps change nothing. A change of any layout raises [`ABI_VERSION`].

mod address;
mod drop_reason;
mod endpoint;
mod event;
mod flow;
mod fragment;
mod guard;
pub mod hint;
mod mutant;
mod network;
pub mod next_hop;
mod publication;
mod settings;
mod station;

pub use address::Address;
pub use drop_reason::DropReason;
pub use endpoint::{AddressKey, Endpoint, EndpointUsage, HOST, MacKey, TokenBucket};
pub use event::{Event, Program};
pub use flow::{Flow, FlowEnd, FlowIndex, FlowKey, Sequences, UdpMapped, UdpMapping, claim, flow_flags, scope, tcp};
pub use fragment::{
    Datagram, FRAGMENT_PIECES, FRAGMENT_PLACE, FRAGMENT_ROOM, FRAGMENT_SETS, FRAGMENT_WAYS, FRAGMENTS_HELD,
    FragmentKey, FragmentSearch, FragmentSet, HeldFragment, Piece, datagram,
};
pub use guard::{DENIED_CAPACITY, Guard, GuardBuckets, GuardDevice, GuardPort, GuardSource, Rate, guard_checks};
pub use mutant::Mutant;
pub use network::{NETWORK_ENDPOINTS, Network, Subnet, Uplink, network_flags};
pub use next_hop::NextHop;
pub use publication::{Publication, PublishedKey};
pub use settings::{Metric, Settings, program_log};
pub use station::{PORT_STATIONS, PortStations, STATION_TABLES, Station, StationPlace};

/// The version of every layout in this module. The daemon refuses pinned maps of another version.
pub const ABI_VERSION: u32 = 7;

/// Names of the maps, as the programs define and the pin directory shows them.
pub mod map {
    /// Array, 1 × `u32`: [`super::ABI_VERSION`] of what is pinned.
    pub const ABI: &str = "ABI";
    /// Array: endpoint index → [`super::Endpoint`].
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// Hash: `u32` ifindex of a host-side veth → `u32` endpoint index.
    pub const ENDPOINT_BY_IFINDEX: &str = "ENDPOINT_BY_IFINDEX";
    /// Hash: [`super::AddressKey`] → `u32` endpoint index, [`super::HOST`] for the gateway.
    pub const ENDPOINT_BY_ADDRESS: &str = "ENDPOINT_BY_ADDRESS";
    /// Hash: [`super::MacKey`] → `u32` endpoint index, [`super::HOST`] for the gateway.
    pub const ENDPOINT_BY_MAC: &str = "ENDPOINT_BY_MAC";
    /// Array: [`super::hint::of_ifindex`] → `u32` endpoint index that is likely, or 0.
    pub const ENDPOINT_HINT_BY_IFINDEX: &str = "ENDPOINT_HINT_BY_IFINDEX";
    /// Array: [`super::hint::of_address`] → `u32` endpoint index that is likely, or 0.
    pub const ENDPOINT_HINT_BY_ADDRESS: &str = "ENDPOINT_HINT_BY_ADDRESS";
    /// Array: endpoint index → [`super::EndpointUsage`]; written by the programs.
    pub const ENDPOINT_USAGE: &str = "ENDPOINT_USAGE";
    /// Array: network id → [`super::Network`].
    pub const NETWORKS: &str = "NETWORKS";
    /// Hash: `u32` ifindex of a gateway device → `u32` network id.
    pub const NETWORK_BY_GATEWAY: &str = "NETWORK_BY_GATEWAY";
    /// Hash: network id << 16 | position (from 0, without gaps) → `u32` ifindex of a host-side veth; whom
    /// flooding reaches.
    pub const NETWORK_MEMBERS: &str = "NETWORK_MEMBERS";
    /// LPM trie: address prefix → [`super::Subnet`], the subnets of our networks.
    pub const SUBNETS: &str = "SUBNETS";
    /// Hash: [`super::Address`] → `u32` ifindex, every local address of the host, gateways included.
    pub const HOST_ADDRESSES: &str = "HOST_ADDRESSES";
    /// Hash: `u32` ifindex → [`super::Uplink`].
    pub const UPLINKS: &str = "UPLINKS";
    /// Hash: [`super::PublishedKey`] → `u32` publication index.
    pub const PUBLISHED: &str = "PUBLISHED";
    /// Array: publication index → [`super::Publication`].
    pub const PUBLICATIONS: &str = "PUBLICATIONS";
    /// Array, 1 × `u64` per index: new flows of each publication; written by the programs.
    pub const PUBLICATION_HITS: &str = "PUBLICATION_HITS";
    /// Hash: [`super::FlowKey`] → [`super::FlowIndex`]; both directions of every flow. Written by the programs.
    pub const FLOW_BY_KEY: &str = "FLOW_BY_KEY";
    /// Mmapable array: slot → [`super::Flow`]. Written by the programs; the daemon's sweep frees expired slots.
    pub const FLOWS: &str = "FLOWS";
    /// Array, 2 × `u32`: the slot that the next new flow tries first, and the one that is swept next.
    pub const FLOW_CURSOR: &str = "FLOW_CURSOR";
    /// Array: number of a next hop → [`super::NextHop`]. Written by the programs, each place once.
    pub const NEXT_HOPS: &str = "NEXT_HOPS";
    /// LRU hash: [`super::UdpMapping`] → `u64`: port in wire order (low 16 bits); deadline is in `UDP_MAPPED`.
    pub const UDP_MAPPING: &str = "UDP_MAPPING";
    /// LRU hash: external side of a UDP mapping → who has it.
    pub const UDP_MAPPED: &str = "UDP_MAPPED";
    /// Array: [`super::FragmentSet`], the datagrams of senders whose address has the same hash. Written by the programs.
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Array: number of a port's table → [`super::PortStations`]: what was learnt behind ports of networks that learn. Written by
    /// the programs.
    pub const STATIONS: &str = "STATIONS";
    /// Hash: [`super::MacKey`] → `u32` [`super::StationPlace`]. Written by the programs.
    pub const STATION_BY_MAC: &str = "STATION_BY_MAC";
    /// Array, 1 × [`super::Guard`]: the user's rules for what comes in by uplinks.
    pub const GUARD: &str = "GUARD";
    /// Array: ifindex modulo 4,096 → [`super::GuardDevice`]: the uplinks that the XDP program is on.
    pub const GUARD_DEVICES: &str = "GUARD_DEVICES";
    /// LPM trie: prefix of denied IPv4 sources → `u32` 1.
    pub const DENIED_V4: &str = "DENIED_V4";
    /// LPM trie: prefix of denied IPv6 sources → `u32` 1.
    pub const DENIED_V6: &str = "DENIED_V6";
    /// LRU hash: [`super::GuardSource`] → [`super::GuardBuckets`]: what is left of the limits of each source. Written by the
    /// programs.
    pub const GUARD_SOURCES: &str = "GUARD_SOURCES";
    /// LRU hash: [`super::GuardPort`] → `u64`, the bucket of the limit for all sources together. Written by the programs.
    pub const GUARD_PORTS: &str = "GUARD_PORTS";
    /// Per-CPU array: drop reason → `u64` packets that the XDP program has dropped, which are not in `DROPS`; at index 0 those
    /// that it has passed.
    pub const GUARDED: &str = "GUARDED";
    /// Per-CPU array: drop reason → `u64` packets.
    pub const DROPS: &str = "DROPS";
    /// Per-CPU array: [`super::Metric`] → `u64`.
    pub const METRICS: &str = "METRICS";
    /// Per-CPU array: drop reason → `u64` time of the last event, for sampling.
    pub const EVENT_SAMPLED: &str = "EVENT_SAMPLED";
    /// Ring buffer of [`super::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// Read-only data: [`super::Settings`], set when the programs are loaded.
    pub const SETTINGS: &str = "SETTINGS";
}

/// Marks the map types as plain data for aya.
#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        ($($type:ty),+ $(,)?) => {
            $(
                // SAFETY: repr(C), all fields are integers or arrays of them, padding is explicit (asserted below by size).
                unsafe impl aya::Pod for $type {}
            )+
        };
    }

    pod!(
        super::Address,
        super::AddressKey,
        super::Endpoint,
        super::EndpointUsage,
        super::MacKey,
        super::Event,
        super::Flow,
        super::FlowIndex,
        super::FlowKey,
        super::FragmentSet,
        super::Guard,
        super::GuardBuckets,
        super::GuardDevice,
        super::GuardPort,
        super::GuardSource,
        super::UdpMapped,
        super::UdpMapping,
        super::Network,
        super::NextHop,
        super::Subnet,
        super::Uplink,
        super::Publication,
        super::PublishedKey,
        super::Settings,
        super::PortStations,
    );
}

#[cfg(test)]
mod tests {
    use core::mem::{align_of, size_of};

    #[test]
    fn layouts_are_what_the_abi_version_names() {
        let layouts = [
            ("Address", size_of::<super::Address>(), align_of::<super::Address>(), 16),
            ("AddressKey", size_of::<super::AddressKey>(), align_of::<super::AddressKey>(), 24),
            ("MacKey", size_of::<super::MacKey>(), 8, 16),
            ("Endpoint", size_of::<super::Endpoint>(), align_of::<super::Endpoint>(), 72),
            ("EndpointUsage", size_of::<super::EndpointUsage>(), align_of::<super::EndpointUsage>(), 40),
            ("Network", size_of::<super::Network>(), 8, 56),
            ("Subnet", size_of::<super::Subnet>(), 8, 8),
            ("Uplink", size_of::<super::Uplink>(), align_of::<super::Uplink>(), 48),
            ("PublishedKey", size_of::<super::PublishedKey>(), align_of::<super::PublishedKey>(), 24),
            ("Publication", size_of::<super::Publication>(), 8, 24),
            ("FlowKey", size_of::<super::FlowKey>(), align_of::<super::FlowKey>(), 40),
            ("FlowIndex", size_of::<super::FlowIndex>(), 8, 8),
            ("Flow", size_of::<super::Flow>(), align_of::<super::Flow>(), 192),
            ("NextHop", size_of::<super::NextHop>(), align_of::<super::NextHop>(), 24),
            ("FragmentKey", size_of::<super::FragmentKey>(), align_of::<super::FragmentKey>(), 40),
            ("Datagram", size_of::<super::Datagram>(), align_of::<super::Datagram>(), 200),
            ("FragmentSet", size_of::<super::FragmentSet>(), align_of::<super::FragmentSet>(), 276672),
            ("UdpMapping", size_of::<super::UdpMapping>(), align_of::<super::UdpMapping>(), 40),
            ("UdpMapped", size_of::<super::UdpMapped>(), align_of::<super::UdpMapped>(), 32),
            ("Station", size_of::<super::Station>(), align_of::<super::Station>(), 24),
            ("PortStations", size_of::<super::PortStations>(), align_of::<super::PortStations>(), 6_160),
            ("Guard", size_of::<super::Guard>(), align_of::<super::Guard>(), 56),
            ("GuardSource", size_of::<super::GuardSource>(), align_of::<super::GuardSource>(), 16),
            ("GuardBuckets", size_of::<super::GuardBuckets>(), align_of::<super::GuardBuckets>(), 16),
            ("GuardDevice", size_of::<super::GuardDevice>(), align_of::<super::GuardDevice>(), 16),
            ("GuardPort", size_of::<super::GuardPort>(), align_of::<super::GuardPort>(), 8),
            ("Settings", size_of::<super::Settings>(), align_of::<super::Settings>(), 96),
            ("Event", size_of::<super::Event>(), align_of::<super::Event>(), 72),
        ];
        for (name, size, align, expected) in layouts {
            assert_eq!((size, align), (expected, 8), "{name}");
        }
    }
}
