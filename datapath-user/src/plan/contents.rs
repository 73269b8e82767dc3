//! What the maps shall hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use datapath_common::abi::{Address, Endpoint, Guard, HOST, Network, Publication, network_flags};
use ipnet::IpNet;

use super::{Devices, Keys};
use crate::model::{self, Denied, GatewayMode, Model};
use crate::shared::Shared;

/// The content of every map that the model decides. What follows the host (its addresses and uplinks) is not here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// `ENDPOINTS`.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// `ENDPOINT_BY_IFINDEX`.
    pub by_ifindex: BTreeMap<u32, u32>,
    /// `ENDPOINT_BY_ADDRESS`: network id and address → index.
    pub by_address: BTreeMap<(u32, Address), u32>,
    /// `ENDPOINT_BY_MAC`: network id and MAC → index.
    pub by_mac: BTreeMap<(u32, [u8; 6]), u32>,
    /// `NETWORKS`.
    pub networks: BTreeMap<u32, Network>,
    /// `NETWORK_BY_GATEWAY`.
    pub by_gateway: BTreeMap<u32, u32>,
    /// `NETWORK_MEMBERS`: network id and position → ifindex.
    pub members: BTreeMap<(u32, u32), u32>,
    /// `SUBNETS`.
    pub subnets: BTreeMap<IpNet, u32>,
    /// `PUBLICATIONS`, with the keys of each in `PUBLISHED`.
    pub publications: Shared<Published>,
    /// `DENIED_V4` and `DENIED_V6`.
    pub denied: Denied,
    /// `GUARD`.
    pub guard: Guard,
}

/// A publication as the maps have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The value.
    pub value: Publication,
    /// The keys that lead to it.
    pub keys: Keys,
}

/// What contents were desired for.
#[derive(Clone, Debug)]
pub struct Basis {
    /// The model.
    pub model: Model,
    /// The devices.
    pub devices: Devices,
}

/// The same as [`desired`], where `actual` is what was desired for `basis`: publications that do not differ are not looked at.
#[must_use]
pub fn desired_after(basis: &Basis, model: &Model, devices: &Devices, actual: &Contents) -> Contents {
    let before = &basis.model;
    if (&before.networks, &before.endpoints, &basis.devices) != (&model.networks, &model.endpoints, devices) {
        return desired(model, devices, actual);
    }
    let mut contents = Contents { denied: model.guard.denied.clone(), guard: model.guard.to_map(), ..actual.clone() };
    for (index, before, now) in before.publications.differences(&model.publications) {
        if let Some(before) = before {
            contents.count_publication(before, |count, ports| count - ports);
            contents.publications.remove(index);
        }
        if let Some(now) = now {
            contents.add_publication(now);
        }
    }
    contents
}

/// What the maps shall hold for `model` on these devices. `actual` gives the members' present positions, which are
/// kept where they can be. What has no device yet is left out.
#[must_use]
pub fn desired(model: &Model, devices: &Devices, actual: &Contents) -> Contents {
    let mut contents =
        Contents { denied: model.guard.denied.clone(), guard: model.guard.to_map(), ..Contents::default() };
    for network in model.networks.values() {
        if let Some(gateway) = devices.gateways.get(&network.id) {
            contents.add_network(network, gateway.ifindex);
        }
    }
    for endpoint in model.endpoints.values() {
        let port = devices.ports.get(&endpoint.generation);
        let network = model.networks.get(&endpoint.network);
        if let (Some(port), Some(network)) = (port, network) {
            contents.add_endpoint(endpoint, network, port.ifindex);
        }
    }
    for publication in model.publications.values() {
        contents.add_publication(publication);
    }
    contents.place_members(actual);
    contents
}

impl Contents {
    fn add_network(&mut self, network: &model::Network, ifindex: u32) {
        let id = network.id;
        let link_local = if network.has_ipv6() { Address::link_local_of(network.mac.0) } else { Address::NONE };
        let gateway = |v4: bool| {
            network
                .gateways
                .iter()
                .find(|gateway| gateway.is_ipv4() == v4)
                .map_or(Address::NONE, |gateway| (*gateway).into())
        };
        let value = Network {
            flags: flags(network),
            gateway_ifindex: ifindex,
            gateway_mac: network.mac.0,
            ageing: network.ageing.unwrap_or(0),
            mtu: network.mtu,
            members: 0,
            gateway_ipv4: gateway(true),
            gateway_ipv6: gateway(false),
        };
        self.networks.insert(id, value);
        self.by_gateway.insert(ifindex, id);
        self.by_mac.insert((id, network.mac.0), HOST);
        let further = network.docker.iter().flat_map(|docker| &docker.addresses);
        let gateways = network.gateways.iter().chain(further).map(|address| Address::from(*address));
        for address in gateways.chain(Some(link_local)).filter(|address| !address.is_none()) {
            self.by_address.insert((id, address), HOST);
        }
        for subnet in &network.subnets {
            self.subnets.insert(*subnet, id);
        }
    }

    fn add_endpoint(&mut self, endpoint: &model::Endpoint, network: &model::Network, ifindex: u32) {
        let address = |ip: Option<IpAddr>| ip.map_or(Address::NONE, Address::from);
        let value = Endpoint {
            generation: endpoint.generation,
            ifindex,
            network: network.id,
            publications: 0,
            mac: endpoint.mac.0,
            stations: endpoint.stations,
            ipv4: address(endpoint.ipv4.map(IpAddr::V4)),
            ipv6: address(endpoint.ipv6.map(IpAddr::V6)),
            link_local: if network.has_ipv6() { Address::link_local_of(endpoint.mac.0) } else { Address::NONE },
        };
        self.endpoints.insert(endpoint.index, value);
        self.by_ifindex.insert(ifindex, endpoint.index);
        self.by_mac.insert((network.id, value.mac), endpoint.index);
        for address in [value.ipv4, value.ipv6, value.link_local] {
            if !address.is_none() {
                self.by_address.insert((network.id, address), endpoint.index);
            }
        }
    }

    fn add_publication(&mut self, publication: &model::Publication) {
        let target = self.count_publication(publication, |count, ports| count + ports);
        // One that waits keeps its place and its count of flows, and no key leads to it.
        let value = Publication {
            generation: publication.generation,
            endpoint: target.map_or(HOST, |target| target.index),
            endpoint_generation: target.map_or(0, |target| target.generation),
            host_port: publication.answered_ports().first,
            container_port: publication.container.first,
            count: publication.host.count(),
            protocol: publication.protocol.number().into(),
        };
        let (protocol, ports) = (publication.protocol.number(), publication.answered_ports());
        let answered = if target.is_some() { publication.answered() } else { Vec::new() };
        let keys: Vec<_> =
            answered.iter().map(|ip| Keys::of((*ip).into(), protocol, ports.first, ports.last)).collect();
        let keys = Keys::union(&keys);
        self.publications.insert(publication.index, Published { value, keys });
    }

    /// Counts the ports in with the endpoint that they lead to, or out, and says where that is.
    fn count_publication<'a>(
        &mut self,
        publication: &'a model::Publication,
        counted: impl Fn(u32, u32) -> u32,
    ) -> Option<&'a model::Target> {
        let target = publication.target.as_ref()?;
        let endpoint = self.endpoints.get_mut(&target.index)?;
        if endpoint.generation != target.generation {
            return None;
        }
        endpoint.publications = counted(endpoint.publications, publication.host.count());
        Some(target)
    }

    /// Members keep their positions; the last one moves into a hole; new ones come at the end, after all that stay.
    fn place_members(&mut self, actual: &Contents) {
        let mut wanted: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for endpoint in self.endpoints.values() {
            wanted.entry(endpoint.network).or_default().insert(endpoint.ifindex);
        }
        for (network, mut ports) in wanted {
            let mut slots: Vec<Option<u32>> = actual.members_of(network).map(|ifindex| ports.take(&ifindex)).collect();
            let mut position = 0;
            while position < slots.len() {
                if slots[position].is_none() {
                    slots.swap_remove(position);
                } else {
                    position += 1;
                }
            }
            let members = slots.into_iter().flatten().chain(ports);
            for (position, ifindex) in (0..).zip(members) {
                self.members.insert((network, position), ifindex);
                if let Some(value) = self.networks.get_mut(&network) {
                    value.members += 1;
                }
            }
        }
    }

    /// The members of a network, by position.
    pub(super) fn members_of(&self, network: u32) -> impl Iterator<Item = u32> {
        self.members.range((network, 0)..=(network, u32::MAX)).map(|(_, ifindex)| *ifindex)
    }
}

fn flags(network: &model::Network) -> u32 {
    let bits = [
        (network.icc, network_flags::ICC),
        (network.internal, network_flags::INTERNAL),
        (network.masquerade, network_flags::MASQUERADE),
        (network.mss_clamp, network_flags::MSS_CLAMP),
        (network.gateway_mode == GatewayMode::Routed, network_flags::ROUTED_IPV4),
        (network.gateway_mode_ipv6 == GatewayMode::Routed, network_flags::ROUTED_IPV6),
        (network.gateway_mode == GatewayMode::NatUnprotected, network_flags::OPEN_IPV4),
        (network.gateway_mode_ipv6 == GatewayMode::NatUnprotected, network_flags::OPEN_IPV6),
        (network.docker.is_some(), network_flags::ADOPTED),
        (network.ageing.is_some(), network_flags::LEARNING),
        (network.has_ipv4(), network_flags::IPV4),
        (network.has_ipv6(), network_flags::IPV6),
    ];
    bits.into_iter().filter(|(set, _)| *set).fold(0, |flags, (_, bit)| flags | bit)
}
