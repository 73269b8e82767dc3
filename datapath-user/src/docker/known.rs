//! What dockerd has, as far as it is known, and the inventory it makes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::container::Container;
use super::gateway::ways_out;
use super::network::{Attached, Members};
use super::ports::{Way, published};
use crate::model::{DockerEndpoint, DockerNetwork, DockerPort, GatewayMode, Inventory};

/// Networks and containers by id. Endpoints are those that networks tell of; a container adds its ports and aliases.
#[derive(Debug, Default)]
pub struct Known {
    networks: BTreeMap<String, Members>,
    containers: BTreeMap<String, Container>,
    /// Published ports of containers as they were put together last: there may be thousands, and few change at a time.
    published: BTreeMap<String, Published>,
}

/// Published ports of a container.
#[derive(Debug)]
struct Published {
    /// The networks that they lead through, by IPv4 and by IPv6.
    ways: [(String, GatewayMode); 2],
    ports: Vec<DockerPort>,
}

impl Known {
    /// Learns what a network is, or that it is gone. Returns whether that is new.
    pub fn learn_network(&mut self, id: &str, members: Option<Members>) -> bool {
        learn(&mut self.networks, id, members)
    }

    /// Learns what a container is, or that it is gone. Returns whether that is new.
    pub fn learn_container(&mut self, id: &str, container: Option<Container>) -> bool {
        let news = learn(&mut self.containers, id, container);
        if news {
            self.published.remove(id);
        }
        news
    }

    /// Ids of all networks.
    pub fn network_ids(&self) -> Vec<String> {
        self.networks.keys().cloned().collect()
    }

    /// All containers.
    pub fn containers(&self) -> &BTreeMap<String, Container> {
        &self.containers
    }

    /// Ids of the networks that this container is on.
    pub fn networks_of(&self, container: &str) -> Vec<String> {
        let on = |members: &&Members| members.attached.iter().any(|attached| attached.container == container);
        self.networks.values().filter(on).map(|members| members.network.id.clone()).collect()
    }

    /// A network for a log line.
    pub fn describe_network(&self, id: &str) -> String {
        let name = self.networks.get(id).map(|members| members.network.name.as_str());
        describe("network", name, id)
    }

    /// A container for a log line.
    pub fn describe_container(&self, id: &str) -> String {
        describe("container", self.containers.get(id).map(|container| container.name.as_str()), id)
    }

    /// All of it.
    pub fn inventory(&mut self) -> Inventory {
        self.put_ports_together();
        let endpoints = self
            .networks
            .values()
            .flat_map(|members| members.attached.iter().map(|attached| self.endpoint(&members.network.id, attached)));
        Inventory {
            endpoints: endpoints.collect(),
            ports: self.published.values().flat_map(|published| published.ports.iter().cloned()).collect(),
            networks: self.networks.values().map(|members| members.network.clone()).collect(),
        }
    }

    fn put_ports_together(&mut self) {
        let mut before = std::mem::take(&mut self.published);
        let mut now = BTreeMap::new();
        for (id, container) in &self.containers {
            let Some((ipv4, ipv6)) = ways_out(container.joined.iter().filter_map(|joined| {
                let network = self.joined_network(&joined.network, &joined.endpoint)?;
                Some((joined, network))
            })) else {
                continue;
            };
            let same =
                |way: Way<'_>, (network, mode): &(String, GatewayMode)| way.network == network && way.mode == *mode;
            let kept = before.remove(id).filter(|kept| same(ipv4, &kept.ways[0]) && same(ipv6, &kept.ways[1]));
            let published = kept.unwrap_or_else(|| Published {
                ways: [ipv4, ipv6].map(|way| (way.network.to_owned(), way.mode)),
                ports: published(id, &container.bindings, ipv4, ipv6),
            });
            now.insert(id.clone(), published);
        }
        self.published = now;
    }

    /// The network, if this endpoint is on it now.
    fn joined_network(&self, network: &str, endpoint: &str) -> Option<&DockerNetwork> {
        let members = self.networks.get(network)?;
        let found = members.attached.binary_search_by(|attached| attached.endpoint.as_str().cmp(endpoint));
        found.ok().map(|_| &members.network)
    }

    fn endpoint(&self, network: &str, attached: &Attached) -> DockerEndpoint {
        let container = self.containers.get(&attached.container);
        let joined = container.and_then(|c| c.joined.iter().find(|joined| joined.endpoint == attached.endpoint));
        let short_id = attached.container.get(..12).unwrap_or(&attached.container);
        DockerEndpoint {
            id: attached.endpoint.clone(),
            container: attached.container.clone(),
            name: if attached.name.is_empty() { short_id.to_owned() } else { attached.name.clone() },
            aliases: joined.map(|joined| joined.aliases.clone()).unwrap_or_default(),
            network: network.to_owned(),
            mac: attached.mac,
            ipv4: attached.addresses.iter().find_map(|ip| if let IpAddr::V4(v4) = ip { Some(*v4) } else { None }),
            ipv6: attached.addresses.iter().find_map(|ip| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None }),
        }
    }
}

/// Names a thing for a log line: names may hold any byte, so they are escaped.
fn describe(kind: &str, name: Option<&str>, id: &str) -> String {
    let id = id.get(..12).unwrap_or(id);
    match name.filter(|name| !name.is_empty()) {
        Some(name) => format!("{kind} {name:?} ({id})"),
        None => format!("{kind} {id}"),
    }
}

fn learn<T: PartialEq>(all: &mut BTreeMap<String, T>, id: &str, now: Option<T>) -> bool {
    if all.get(id) == now.as_ref() {
        return false;
    }
    match now {
        Some(now) => drop(all.insert(id.to_owned(), now)),
        None => drop(all.remove(id)),
    }
    true
}

#[cfg(test)]
#[path = "tests/known.rs"]
mod tests;
