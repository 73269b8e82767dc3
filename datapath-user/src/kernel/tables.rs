//! The tables of the datapath, each access named for what it says.
//!
//! Deleting what is not there is no error. The order of writes (values before the keys that point at them, keys gone
//! before values) is the caller's.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::Pod;
use datapath_common::abi::{
    Address, AddressKey, DropReason, Endpoint, EndpointUsage, MacKey, Metric, Network, PortStations, Publication,
    PublishedKey, Uplink, map,
};
use ipnet::IpNet;

use super::guard::GuardTables;
use super::hints::Hints;
use super::map::{Counters, Map};
use super::subnets::Subnets;

/// All tables that the daemon reads and writes by key.
#[derive(Debug)]
pub struct Tables {
    endpoints: Map<u32, Endpoint>,
    endpoint_by_ifindex: Map<u32, u32>,
    endpoint_by_address: Map<AddressKey, u32>,
    endpoint_by_mac: Map<MacKey, u32>,
    hints: Hints,
    endpoint_usage: Map<u32, EndpointUsage>,
    networks: Map<u32, Network>,
    network_by_gateway: Map<u32, u32>,
    network_members: Map<u32, u32>,
    subnets: Subnets,
    host_addresses: Map<Address, u32>,
    uplinks: Map<u32, Uplink>,
    published: Map<PublishedKey, u32>,
    publications: Map<u32, Publication>,
    publication_hits: Map<u32, u64>,
    stations: Map<u32, PortStations>,
    guard: GuardTables,
    drops: Counters,
    metrics: Counters,
}

/// How much each table holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Endpoint indices; index 0 is the host.
    pub endpoints: u32,
    /// Network ids; id 0 is nobody's.
    pub networks: u32,
    /// Publication indices; index 0 is unused.
    pub publications: u32,
    /// Published ports, counted per host address.
    pub published: u32,
    /// Endpoints of all networks together.
    pub members: u32,
}

impl Tables {
    /// Opens every table in the pin directory, and writes the hints that an earlier version has not.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        let tables = Self::open_all(pin_dir)?;
        for (ifindex, index) in tables.endpoints_by_ifindex()? {
            tables.set_endpoint_by_ifindex(ifindex, index)?;
        }
        for (key, index) in tables.addresses()? {
            tables.set_address(key.network, key.address, index)?;
        }
        Ok(tables)
    }

    fn open_all(pin_dir: &Path) -> Result<Self> {
        Ok(Self {
            endpoints: Map::open(pin_dir, map::ENDPOINTS)?,
            endpoint_by_ifindex: Map::open(pin_dir, map::ENDPOINT_BY_IFINDEX)?,
            endpoint_by_address: Map::open(pin_dir, map::ENDPOINT_BY_ADDRESS)?,
            endpoint_by_mac: Map::open(pin_dir, map::ENDPOINT_BY_MAC)?,
            hints: Hints::open(pin_dir)?,
            endpoint_usage: Map::open(pin_dir, map::ENDPOINT_USAGE)?,
            networks: Map::open(pin_dir, map::NETWORKS)?,
            network_by_gateway: Map::open(pin_dir, map::NETWORK_BY_GATEWAY)?,
            network_members: Map::open(pin_dir, map::NETWORK_MEMBERS)?,
            subnets: Subnets::open(pin_dir)?,
            host_addresses: Map::open(pin_dir, map::HOST_ADDRESSES)?,
            uplinks: Map::open(pin_dir, map::UPLINKS)?,
            published: Map::open(pin_dir, map::PUBLISHED)?,
            publications: Map::open(pin_dir, map::PUBLICATIONS)?,
            publication_hits: Map::open(pin_dir, map::PUBLICATION_HITS)?,
            stations: Map::open(pin_dir, map::STATIONS)?,
            guard: GuardTables::open(pin_dir)?,
            drops: Counters::open(pin_dir, map::DROPS)?,
            metrics: Counters::open(pin_dir, map::METRICS)?,
        })
    }

    /// How much each table holds.
    pub fn capacity(&self) -> Capacity {
        Capacity {
            endpoints: self.endpoints.capacity(),
            networks: self.networks.capacity(),
            publications: self.publications.capacity(),
            published: self.published.capacity(),
            members: self.network_members.capacity(),
        }
    }

    /// Reads an endpoint; zeroes where there is none.
    pub fn endpoint(&self, index: u32) -> Result<Endpoint> {
        within(&self.endpoints, index, "endpoint")
    }

    /// Every endpoint there is, with its index.
    pub fn endpoints(&self) -> Result<Vec<(u32, Endpoint)>> {
        let entries = self.endpoints.entries()?;
        Ok(entries.into_iter().filter(|(_, endpoint)| endpoint.generation != 0).collect())
    }

    /// Writes an endpoint.
    pub fn set_endpoint(&self, index: u32, endpoint: &Endpoint) -> Result<()> {
        self.endpoints.set(&index, endpoint)
    }

    /// Makes an index nobody's.
    pub fn clear_endpoint(&self, index: u32) -> Result<()> {
        self.endpoints.set(&index, &Endpoint::default())
    }

    /// What the programs counted of an endpoint.
    pub fn usage(&self, index: u32) -> Result<EndpointUsage> {
        within(&self.endpoint_usage, index, "endpoint")
    }

    /// Forgets what was counted, before an index is given to another endpoint.
    pub fn zero_usage(&self, index: u32) -> Result<()> {
        self.endpoint_usage.set(&index, &EndpointUsage::default())
    }

    /// Makes a host-side veth the port of an endpoint.
    pub fn set_endpoint_by_ifindex(&self, ifindex: u32, index: u32) -> Result<()> {
        self.endpoint_by_ifindex.set(&ifindex, &index)?;
        self.hints.note_ifindex(ifindex, index)
    }

    /// Closes a port.
    pub fn remove_endpoint_by_ifindex(&self, ifindex: u32) -> Result<()> {
        self.hints.forget_ifindex(ifindex, self.endpoint_by_ifindex.get(&ifindex)?)?;
        self.endpoint_by_ifindex.remove(&ifindex).map(drop)
    }

    /// Every port: ifindex and endpoint index.
    pub fn endpoints_by_ifindex(&self) -> Result<Vec<(u32, u32)>> {
        self.endpoint_by_ifindex.entries()
    }

    /// Gives an address of a network to an endpoint (or to the host, `HOST`).
    pub fn set_address(&self, network: u32, address: Address, index: u32) -> Result<()> {
        let key = AddressKey::new(network, address);
        self.endpoint_by_address.set(&key, &index)?;
        self.hints.note_address(&key, index)
    }

    /// Takes an address of a network back.
    pub fn remove_address(&self, network: u32, address: Address) -> Result<()> {
        let key = AddressKey::new(network, address);
        self.hints.forget_address(&key, self.endpoint_by_address.get(&key)?)?;
        self.endpoint_by_address.remove(&key).map(drop)
    }

    /// Every address that is given out.
    pub fn addresses(&self) -> Result<Vec<(AddressKey, u32)>> {
        self.endpoint_by_address.entries()
    }

    /// Gives a MAC address of a network to an endpoint (or to the host, `HOST`).
    pub fn set_mac(&self, network: u32, mac: [u8; 6], index: u32) -> Result<()> {
        self.endpoint_by_mac.set(&MacKey::new(network, mac), &index)
    }

    /// Takes a MAC address of a network back.
    pub fn remove_mac(&self, network: u32, mac: [u8; 6]) -> Result<()> {
        self.endpoint_by_mac.remove(&MacKey::new(network, mac)).map(drop)
    }

    /// Every MAC address that is given out.
    pub fn macs(&self) -> Result<Vec<(MacKey, u32)>> {
        self.endpoint_by_mac.entries()
    }

    /// Reads a network; zeroes where there is none.
    pub fn network(&self, id: u32) -> Result<Network> {
        within(&self.networks, id, "network")
    }

    /// Every network there is, with its id.
    pub fn networks(&self) -> Result<Vec<(u32, Network)>> {
        let entries = self.networks.entries()?;
        Ok(entries.into_iter().filter(|(_, network)| network.flags != 0).collect())
    }

    /// Writes a network.
    pub fn set_network(&self, id: u32, network: &Network) -> Result<()> {
        self.networks.set(&id, network)
    }

    /// Makes an id nobody's.
    pub fn clear_network(&self, id: u32) -> Result<()> {
        self.networks.set(&id, &Network::default())
    }

    /// Makes a device the gateway of a network.
    pub fn set_network_by_gateway(&self, ifindex: u32, id: u32) -> Result<()> {
        self.network_by_gateway.set(&ifindex, &id)
    }

    /// Makes a device nobody's gateway.
    pub fn remove_network_by_gateway(&self, ifindex: u32) -> Result<()> {
        self.network_by_gateway.remove(&ifindex).map(drop)
    }

    /// Every gateway: ifindex and network id.
    pub fn networks_by_gateway(&self) -> Result<Vec<(u32, u32)>> {
        self.network_by_gateway.entries()
    }

    /// Puts an endpoint's host-side veth at a position of its network's list.
    pub fn set_member(&self, network: u32, position: u32, ifindex: u32) -> Result<()> {
        self.network_members.set(&member_key(network, position)?, &ifindex)
    }

    /// Empties a position of a network's list.
    pub fn remove_member(&self, network: u32, position: u32) -> Result<()> {
        self.network_members.remove(&member_key(network, position)?).map(drop)
    }

    /// Every member: network id and position, endpoint index.
    pub fn members(&self) -> Result<Vec<((u32, u32), u32)>> {
        let entries = self.network_members.entries()?;
        Ok(entries.into_iter().map(|(key, index)| ((key >> 16, key & 0xffff), index)).collect())
    }

    /// Gives a subnet to a network.
    pub fn set_subnet(&self, subnet: IpNet, network: u32) -> Result<()> {
        self.subnets.set(subnet, network)
    }

    /// Takes a subnet back.
    pub fn remove_subnet(&self, subnet: IpNet) -> Result<()> {
        self.subnets.remove(subnet)
    }

    /// Every subnet with its network.
    pub fn subnets(&self) -> Result<Vec<(IpNet, u32)>> {
        self.subnets.entries()
    }

    /// Every address of the host, with the device it is on.
    pub fn host_addresses(&self) -> Result<HashMap<Address, u32>> {
        Ok(self.host_addresses.entries()?.into_iter().collect())
    }

    /// Whether this is an address of the host.
    pub fn is_host_address(&self, address: Address) -> Result<bool> {
        Ok(self.host_addresses.get(&address)?.is_some())
    }

    /// Adds an address of the host.
    pub fn set_host_address(&self, address: Address, ifindex: u32) -> Result<()> {
        self.host_addresses.set(&address, &ifindex)
    }

    /// Removes an address of the host.
    pub fn remove_host_address(&self, address: Address) -> Result<()> {
        self.host_addresses.remove(&address).map(drop)
    }

    /// Makes the host's addresses these. Those in both stay untouched. Says whether anything changed.
    pub fn replace_host_addresses(&self, wanted: &HashMap<Address, u32>) -> Result<bool> {
        replace(&self.host_addresses, wanted)
    }

    /// Every uplink.
    pub fn uplinks(&self) -> Result<HashMap<u32, Uplink>> {
        Ok(self.uplinks.entries()?.into_iter().collect())
    }

    /// Makes the uplinks these. Those in both stay untouched. Says whether anything changed.
    pub fn replace_uplinks(&self, wanted: &HashMap<u32, Uplink>) -> Result<bool> {
        replace(&self.uplinks, wanted)
    }

    /// Reads a publication; zeroes where there is none.
    pub fn publication(&self, index: u32) -> Result<Publication> {
        within(&self.publications, index, "publication")
    }

    /// Every publication there is, with its index.
    pub fn publications(&self) -> Result<Vec<(u32, Publication)>> {
        let entries = self.publications.entries()?;
        Ok(entries.into_iter().filter(|(_, publication)| publication.generation != 0).collect())
    }

    /// Writes a publication.
    pub fn set_publication(&self, index: u32, publication: &Publication) -> Result<()> {
        self.publications.set(&index, publication)
    }

    /// Makes an index nobody's.
    pub fn clear_publication(&self, index: u32) -> Result<()> {
        self.publications.set(&index, &Publication::default())
    }

    /// New flows of a publication so far.
    pub fn publication_hits(&self, index: u32) -> Result<u64> {
        within(&self.publication_hits, index, "publication")
    }

    /// Forgets the count, before an index is given to another publication.
    pub fn zero_publication_hits(&self, index: u32) -> Result<()> {
        self.publication_hits.set(&index, &0)
    }

    /// Makes all `keys` lead to a publication, or none of them.
    pub fn publish(&self, keys: &[PublishedKey], index: u32) -> Result<()> {
        self.published.set_all(keys, &index)
    }

    /// Removes published keys.
    pub fn unpublish(&self, keys: &[PublishedKey]) -> Result<()> {
        self.published.remove_all(keys)
    }

    /// The publication that a key leads to.
    pub fn published_at(&self, key: &PublishedKey) -> Result<Option<u32>> {
        self.published.get(key)
    }

    /// Every published key and its publication.
    pub fn published(&self) -> Result<Vec<(PublishedKey, u32)>> {
        self.published.entries()
    }

    /// What was learnt behind the port whose table has this number.
    pub fn stations(&self, table: u32) -> Result<PortStations> {
        within(&self.stations, table, "table of stations")
    }

    /// Those of the guard of uplinks.
    pub fn guard(&self) -> &GuardTables {
        &self.guard
    }

    /// Packets dropped, for every reason.
    pub fn drops(&self) -> Result<Vec<(DropReason, u64)>> {
        let count = |reason: DropReason| {
            Ok((reason, self.drops.sum(reason as u32)?.unwrap_or(0) + self.guard.dropped(reason)?))
        };
        DropReason::ALL.iter().map(|&reason| count(reason)).collect()
    }

    /// Every metric, with its name.
    pub fn metrics(&self) -> Result<Vec<(Metric, &'static str, u64)>> {
        let count = |(metric, name)| Ok((metric, name, self.metrics.sum(metric as u32)?.unwrap_or(0)));
        Metric::ALL.into_iter().map(count).collect()
    }
}

/// The entry of an array; an index outside of it is an error.
fn within<V: Pod>(array: &Map<u32, V>, index: u32, what: &str) -> Result<V> {
    array.get(&index)?.with_context(|| format!("there is no {what} {index}; there is room for {}", array.capacity()))
}

fn member_key(network: u32, position: u32) -> Result<u32> {
    ensure!(network <= 0xffff && position <= 0xffff, "network {network} has no position {position}");
    Ok(network << 16 | position)
}

/// Makes a table equal to `wanted`: additions first, so that nothing which stays is ever missing.
fn replace<K: Pod + Hash + Eq, V: Pod + PartialEq>(table: &Map<K, V>, wanted: &HashMap<K, V>) -> Result<bool> {
    let present: HashMap<K, V> = table.entries()?.into_iter().collect();
    let mut changed = false;
    for (key, value) in wanted {
        if present.get(key) != Some(value) {
            table.set(key, value)?;
            changed = true;
        }
    }
    for key in present.keys().filter(|key| !wanted.contains_key(key)) {
        table.remove(key)?;
        changed = true;
    }
    Ok(changed)
}
