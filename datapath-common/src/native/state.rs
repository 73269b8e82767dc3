//! The tables that the daemon writes.

use std::{collections::HashMap, vec::Vec};

use crate::abi::{
    Address, AddressKey, Endpoint, Guard, GuardDevice, MacKey, Network, Publication, PublishedKey, Settings, Subnet,
    Uplink,
};

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
    /// `GUARD_DEVICES`, by ifindex.
    pub guard_devices: HashMap<u32, GuardDevice>,
    /// `GUARD`.
    pub guard: Guard,
    /// `DENIED_V4` and `DENIED_V6`: address, prefix length of 128.
    pub denied: Vec<(Address, u32)>,
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
            guard_devices: HashMap::new(),
            guard: Guard::default(),
            denied: Vec::new(),
        }
    }
}
