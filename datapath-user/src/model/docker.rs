//! Following dockerd: its networks, containers and ports become part of the model, and leave it, as its inventory has
//! them. What is our own is never touched; what cannot be taken over is named, and the rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use datapath_common::abi::NETWORK_ENDPOINTS;
use serde::{Deserialize, Serialize};

use super::allocate::overlap;
use super::{DockerEndpoint, DockerNetwork, Endpoint, Host, Inventory, Mac, Model, Network, Refusal, check_name};

/// That a network is dockerd's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerBridge {
    /// dockerd's id of the network.
    pub id: String,
    /// Name of the Linux bridge.
    pub bridge: String,
    /// Further addresses of the host on the bridge.
    pub addresses: Vec<IpAddr>,
}

/// That an endpoint is dockerd's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerInterface {
    /// dockerd's id of the endpoint.
    pub id: String,
    /// Id of the container.
    pub container: String,
    /// Name of the host-side veth.
    pub device: String,
    /// Its ifindex, in this boot.
    pub ifindex: u32,
}

impl DockerInterface {
    fn is_on(&self, port: &BridgePort) -> bool {
        self.ifindex == port.ifindex && self.device == port.device
    }
}

/// A Linux bridge of dockerd's, as it is on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its ifindex.
    pub ifindex: u32,
    /// Its MAC address.
    pub mac: Mac,
    /// The host's addresses on it.
    pub addresses: Vec<IpAddr>,
}

/// A port of such a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgePort {
    /// ifindex of the host-side veth.
    pub ifindex: u32,
    /// Its name.
    pub device: String,
    /// Name of the interface in the container.
    pub ifname: String,
}

/// What of dockerd's devices is there, and carries our programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridges {
    /// Bridges by name.
    pub bridges: BTreeMap<String, Bridge>,
    /// Their ports by the bridge's name and the MAC address of the container's side, the newest last. dockerd gives a
    /// MAC address again while the port that had it is still going, and a container that may can take a sibling's.
    pub ports: BTreeMap<(String, Mac), Vec<BridgePort>>,
}

/// What dockerd has and we do not follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfollowed {
    /// Why not, each naming container or network, cause and remedy.
    pub problems: BTreeSet<String>,
    /// What has not appeared yet. dockerd names things before it makes them, so this is only wrong where it lasts.
    pub waiting: BTreeSet<String>,
}

impl Model {
    /// Has dockerd's part of the model be what `inventory` has, as far as its devices are there.
    ///
    /// # Errors
    /// When numbers are used up. What is wrong with single networks or containers is returned instead.
    pub fn follow_docker(
        &mut self,
        inventory: &Inventory,
        devices: &Bridges,
        host: &Host,
        now: &str,
    ) -> Result<Unfollowed, Refusal> {
        let mut unfollowed = Unfollowed::default();
        self.forget_docker_networks(|bridge| inventory.networks.iter().any(|n| n.id == bridge.id), devices)?;
        for network in &inventory.networks {
            match devices.bridges.get(&network.bridge) {
                Some(bridge) => unfollowed.note(self.follow_network(network, bridge, host))?,
                None => unfollowed.wait(format!(
                    "Docker's network {:?} is closed: there is no bridge {}; `docker network inspect` it, or remove it",
                    network.name, network.bridge
                )),
            }
        }
        self.forget_docker_endpoints(inventory, devices)?;
        for endpoint in &inventory.endpoints {
            let Some(network) = self.docker_network(&endpoint.network).cloned() else { continue };
            match self.port_of(endpoint, &network, devices) {
                Some(port) => unfollowed.note(self.follow_endpoint(endpoint, &network, port, now))?,
                None => unfollowed.wait(format!(
                    "container {:?} on Docker's network {} is closed: it is not known which port of {} is its ({}); \
                     restart the container",
                    endpoint.name,
                    network.name,
                    network.device(),
                    endpoint.mac
                )),
            }
        }
        for port in self.unknown_ports(inventory) {
            unfollowed.note(self.follow_port(port))?;
        }
        self.retarget_publications()?;
        Ok(unfollowed)
    }

    /// How many networks, endpoints and publications are dockerd's.
    #[must_use]
    pub fn docker_size(&self) -> usize {
        self.networks.values().filter(|network| network.docker.is_some()).count()
            + self.endpoints.values().filter(|endpoint| endpoint.docker.is_some()).count()
            + self.publications.values().filter(|publication| publication.docker.is_some()).count()
    }

    /// Forgets all of dockerd's.
    ///
    /// # Errors
    /// When generations are used up.
    pub fn forget_docker(&mut self) -> Result<(), Refusal> {
        self.follow_docker(&Inventory::default(), &Bridges::default(), &Host::default(), "").map(drop)
    }

    /// The network of this id of dockerd's.
    pub(super) fn docker_network(&self, id: &str) -> Option<&Network> {
        self.networks.values().find(|network| network.docker.as_ref().is_some_and(|docker| docker.id == id))
    }

    /// Forgets networks that dockerd does not have any more, or whose bridge is gone, with all that is on them.
    fn forget_docker_networks(
        &mut self,
        has: impl Fn(&DockerBridge) -> bool,
        devices: &Bridges,
    ) -> Result<(), Refusal> {
        let gone = |network: &Network| {
            network.docker.as_ref().is_some_and(|d| !has(d) || !devices.bridges.contains_key(&d.bridge))
        };
        let names: BTreeSet<String> =
            self.networks.values().filter(|network| gone(network)).map(|network| network.name.clone()).collect();
        let left: Vec<u32> =
            self.endpoints.values().filter(|e| names.contains(&e.network)).map(|endpoint| endpoint.index).collect();
        self.forget(&left)?;
        self.networks.retain(|name, _| !names.contains(name));
        Ok(())
    }

    fn follow_network(&mut self, wanted: &DockerNetwork, bridge: &Bridge, host: &Host) -> Result<(), Refusal> {
        let known = self.docker_network(&wanted.id).cloned();
        self.check_docker_subnets(wanted, host)?;
        let name = match &known {
            Some(known) if known.name == wanted.name => wanted.name.clone(),
            _ => self.docker_network_name(wanted),
        };
        let addresses = bridge.addresses.iter().filter(|ip| !wanted.gateways.contains(ip)).copied().collect();
        let id = match &known {
            Some(known) => known.id,
            None => self.next_network_id()?,
        };
        let network = Network {
            id,
            name: name.clone(),
            subnets: wanted.subnets.clone(),
            gateways: wanted.gateways.clone(),
            gateway_mode: wanted.gateway_mode,
            gateway_mode_ipv6: wanted.gateway_mode_ipv6,
            internal: wanted.internal,
            icc: wanted.icc,
            masquerade: wanted.masquerade,
            mss_clamp: false,
            ageing: None,
            mtu: wanted.mtu,
            big_tcp: false,
            mac: bridge.mac,
            far_mac: bridge.mac,
            last_given: vec![None; wanted.subnets.len()],
            docker: Some(DockerBridge { id: wanted.id.clone(), bridge: wanted.bridge.clone(), addresses }),
        };
        if let Some(known) = known.filter(|known| known.name != name) {
            self.networks.remove(&known.name);
            let theirs = self.endpoints.values_mut().filter(|e| e.network == known.name);
            theirs.for_each(|endpoint| Arc::make_mut(endpoint).network.clone_from(&name));
        }
        self.networks.insert(name, network);
        Ok(())
    }

    /// dockerd's name where it is one of ours too and free, else that of the bridge.
    fn docker_network_name(&self, wanted: &DockerNetwork) -> String {
        let free =
            |name: &str| self.networks.get(name).is_none_or(|n| n.docker.as_ref().is_some_and(|d| d.id == wanted.id));
        if check_name("network", &wanted.name).is_ok() && free(&wanted.name) {
            return wanted.name.clone();
        }
        if free(&wanted.bridge) { wanted.bridge.clone() } else { short(&wanted.id).to_owned() }
    }

    /// No address may be on two networks, nor on a network and an interface of the host.
    fn check_docker_subnets(&self, wanted: &DockerNetwork, host: &Host) -> Result<(), Refusal> {
        let others = self.networks.values().filter(|n| n.docker.as_ref().is_none_or(|docker| docker.id != wanted.id));
        let taken =
            others.flat_map(|network| network.subnets.iter().map(move |s| (*s, format!("network {}", network.name))));
        let local = host.addresses.iter().filter(|(_, interface)| *interface != wanted.bridge);
        let local = local.map(|(address, interface)| (address.addr().into(), format!("{interface} of this host")));
        for (theirs, owner) in taken.chain(local) {
            if let Some(subnet) = wanted.subnets.iter().find(|subnet| overlap(subnet, &theirs)) {
                return Err(Refusal::conflict(
                    format!(
                        "Docker's network {:?} ({}) is closed: its subnet {subnet} overlaps {theirs} of {owner}",
                        wanted.name, wanted.bridge
                    ),
                    "create one of the two with another subnet",
                ));
            }
        }
        Ok(())
    }

    /// Forgets endpoints that dockerd does not have any more, or that are on another interface now.
    fn forget_docker_endpoints(&mut self, inventory: &Inventory, devices: &Bridges) -> Result<(), Refusal> {
        let wanted: BTreeMap<&str, &DockerEndpoint> = inventory.endpoints.iter().map(|e| (e.id.as_str(), e)).collect();
        let stays = |endpoint: &Endpoint, docker: &DockerInterface| {
            let wanted = wanted.get(docker.id.as_str())?;
            let network = self.docker_network(&wanted.network)?;
            let ports = devices.ports.get(&(network.device(), wanted.mac))?;
            let same = network.name == endpoint.network
                && ports.iter().any(|port| docker.is_on(port))
                && (wanted.mac, wanted.ipv4, wanted.ipv6) == (endpoint.mac, endpoint.ipv4, endpoint.ipv6);
            same.then_some(())
        };
        let gone = |endpoint: &&Endpoint| endpoint.docker.as_ref().is_some_and(|d| stays(endpoint, d).is_none());
        let gone: Vec<u32> =
            self.endpoints.values().map(AsRef::as_ref).filter(gone).map(|endpoint| endpoint.index).collect();
        self.forget(&gone)?;
        Ok(())
    }

    /// The port of an endpoint: the one it has, else the only one that no other endpoint has.
    fn port_of<'a>(&self, wanted: &DockerEndpoint, network: &Network, devices: &'a Bridges) -> Option<&'a BridgePort> {
        let ports = devices.ports.get(&(network.device(), wanted.mac))?;
        let owner =
            |port: &BridgePort| self.endpoints.values().filter_map(|e| e.docker.as_ref()).find(|d| d.is_on(port));
        let own = ports.iter().find(|port| owner(port).is_some_and(|docker| docker.id == wanted.id));
        let mut free = ports.iter().filter(|port| owner(port).is_none());
        own.or_else(|| free.next().filter(|_| free.next().is_none()))
    }

    fn follow_endpoint(
        &mut self,
        wanted: &DockerEndpoint,
        network: &Network,
        port: &BridgePort,
        now: &str,
    ) -> Result<(), Refusal> {
        let name = self.docker_endpoint_name(wanted);
        let known =
            self.endpoints.values_mut().find(|e| e.docker.as_ref().is_some_and(|docker| docker.id == wanted.id));
        if let Some(known) = known {
            if (&known.name, &known.aliases, &known.ifname) != (&name, &wanted.aliases, &port.ifname) {
                let known = Arc::make_mut(known);
                known.name = name;
                known.aliases.clone_from(&wanted.aliases);
                known.ifname.clone_from(&port.ifname);
            }
            return Ok(());
        }
        let container = format!("container {:?} on Docker's network {}", wanted.name, network.name);
        for ip in wanted.ipv4.map(IpAddr::V4).into_iter().chain(wanted.ipv6.map(IpAddr::V6)) {
            if let Some(owner) = self.owner_of_address(network, ip) {
                return Err(Refusal::conflict(
                    format!("{container} is closed: its address {ip} is that of {owner}"),
                    "restart the container to have it given another",
                ));
            }
        }
        if self.endpoints_on(&network.name).count() >= NETWORK_ENDPOINTS as usize {
            return Err(Refusal::conflict(
                format!("{container} is closed: the network has {NETWORK_ENDPOINTS} endpoints, the most there can be"),
                "put it on another network",
            ));
        }
        let index = self.next_endpoint_index()?;
        let endpoint = Endpoint {
            index,
            generation: self.counters.next_generation()?,
            name,
            network: network.name.clone(),
            netns: format!("container:{}", short(&wanted.container)),
            netns_identity: (0, 0),
            ifname: port.ifname.clone(),
            mac: wanted.mac,
            stations: 0,
            ipv4: wanted.ipv4,
            ipv6: wanted.ipv6,
            aliases: wanted.aliases.clone(),
            attached: now.to_owned(),
            docker: Some(DockerInterface {
                id: wanted.id.clone(),
                container: wanted.container.clone(),
                device: port.device.clone(),
                ifindex: port.ifindex,
            }),
        };
        self.endpoints.insert(index, endpoint.into());
        Ok(())
    }

    /// dockerd's name where it is one of ours too and free, else the container's short id.
    fn docker_endpoint_name(&self, wanted: &DockerEndpoint) -> String {
        let theirs = |e: &&Endpoint| e.docker.as_ref().is_some_and(|docker| docker.container == wanted.container);
        let free = self.endpoints.values().map(AsRef::as_ref).filter(|e| !theirs(e)).all(|e| e.name != wanted.name);
        if free && check_name("endpoint", &wanted.name).is_ok() {
            return wanted.name.clone();
        }
        short(&wanted.container).to_owned()
    }
}

impl Unfollowed {
    /// A conflict is a problem of its own; anything else is one of all.
    fn note(&mut self, followed: Result<(), Refusal>) -> Result<(), Refusal> {
        match followed {
            Err(refusal) if refusal.kind == super::Kind::Conflict => {
                self.problems.insert(refusal.to_string());
                Ok(())
            }
            other => other,
        }
    }

    fn wait(&mut self, what: String) {
        self.waiting.insert(what);
    }
}

/// The first digits of an id, as `docker ps` shows it.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
