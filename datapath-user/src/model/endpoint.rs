//! Endpoints: one interface of a container on one network. A name may be on several networks.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use datapath_common::abi::{NETWORK_ENDPOINTS, STATION_TABLES};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::allocate::next_address;
use super::counters::next_in_round;
use super::subnets::is_usable;
use super::{DockerInterface, Mac, Model, Network, Refusal, check_interface_name, check_name};

/// Indices of endpoints are below this: entries of the `ENDPOINTS` map.
const ENDPOINT_LIMIT: u32 = 16_384;

/// Device and inode of a network namespace: which one it is, whatever its path.
pub type NetnsIdentity = (u64, u64);

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its place in the maps, 1 and up.
    pub index: u32,
    /// Which owner of the index it is.
    pub generation: u32,
    /// Its name; the same on every network the container is on.
    pub name: String,
    /// Name of the network.
    pub network: String,
    /// The network namespace, as it was given.
    pub netns: String,
    /// Which namespace that is.
    pub netns_identity: NetnsIdentity,
    /// Name of the interface in the container.
    pub ifname: String,
    /// MAC address of that interface.
    pub mac: Mac,
    /// On a network that learns MAC addresses: number of the table of those behind its port; else 0.
    #[serde(default)]
    pub stations: u16,
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Further names.
    pub aliases: Vec<String>,
    /// When it was attached, RFC 3339.
    pub attached: String,
    /// Where the container is dockerd's, who made the interface.
    #[serde(default)]
    pub docker: Option<DockerInterface>,
}

impl Endpoint {
    /// Name of the host-side veth. Ours are made from the generation, so that no name is ever another's.
    #[must_use]
    pub fn device(&self) -> String {
        match &self.docker {
            Some(docker) => docker.device.clone(),
            None => format!("{}e{}", crate::DEVICE_PREFIX, self.generation),
        }
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// What `attach` asks for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// The namespace: a path, a name under /run/netns, or `pid:1234`.
    pub netns: String,
    /// The network.
    pub network: String,
    /// Name of the endpoint; none: made from `netns`.
    #[serde(default)]
    pub name: Option<String>,
    /// Further names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Addresses; none: the next free ones.
    #[serde(default)]
    pub ips: Vec<IpAddr>,
    /// MAC address; none: one is made.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Name of the interface; none: the first free of eth0, eth1 and so on.
    #[serde(default)]
    pub ifname: Option<String>,
}

impl AttachRequest {
    /// The name asked for, or the last part of the namespace's path (`pid-1234` for `pid:1234`).
    #[must_use]
    pub fn endpoint_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let last = self.netns.rsplit('/').next().unwrap_or(&self.netns);
            last.replace(':', "-")
        })
    }
}

impl Model {
    /// Adds an endpoint. `interfaces` are the names of those that the container has.
    ///
    /// # Errors
    /// When anything of the request is wrong or in the way of what exists.
    pub fn attach(
        &mut self,
        request: &AttachRequest,
        netns_identity: NetnsIdentity,
        interfaces: &[String],
        attached: String,
    ) -> Result<Endpoint, Refusal> {
        let name = request.endpoint_name();
        check_name("endpoint", &name)?;
        request.aliases.iter().try_for_each(|alias| check_name("alias", alias))?;
        let network = self.own_network(&request.network)?.clone();
        self.check_name_is_free(&name, &network, netns_identity)?;
        let present = self.endpoints.values().filter(|endpoint| endpoint.network == network.name).count();
        if present >= NETWORK_ENDPOINTS as usize {
            return Err(Refusal::conflict(
                format!("network {} has {present} endpoints, the most a network can have", network.name),
                "detach one first, or create another network",
            ));
        }
        let ifname = self.choose_ifname(request, netns_identity, interfaces)?;
        let (addresses, last_given) = self.choose_addresses(&network, &request.ips)?;
        let mac = self.choose_mac(&network, request.mac)?;
        let stations = if network.ageing.is_some() { self.next_stations()? } else { 0 };
        let index = self.next_endpoint_index()?;
        if let Some(stored) = self.networks.get_mut(&network.name) {
            stored.last_given = last_given;
        }
        let endpoint = Endpoint {
            index,
            generation: self.counters.next_generation()?,
            name,
            network: network.name,
            netns: request.netns.clone(),
            netns_identity,
            ifname,
            mac,
            stations,
            ipv4: addresses.iter().find_map(|address| if let IpAddr::V4(v4) = address { Some(*v4) } else { None }),
            ipv6: addresses.iter().find_map(|address| if let IpAddr::V6(v6) = address { Some(*v6) } else { None }),
            aliases: request.aliases.clone(),
            attached,
            docker: None,
        };
        self.endpoints.insert(index, endpoint.clone().into());
        self.retarget_publications()?;
        Ok(endpoint)
    }

    /// Removes the endpoints of this name, from one network or from all.
    ///
    /// # Errors
    /// When there are none.
    pub fn detach(&mut self, name: &str, network: Option<&str>) -> Result<Vec<Endpoint>, Refusal> {
        let named: Vec<_> = self.endpoints_named(name).into_iter().cloned().collect();
        if named.is_empty() {
            return Err(Refusal::no_endpoint(name));
        }
        if let Some(network) = network {
            self.network(network)?;
        }
        let leaving: Vec<_> =
            named.iter().filter(|e| network.is_none_or(|network| e.network == network)).cloned().collect();
        if leaving.is_empty() {
            let on = named.iter().map(|e| e.network.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Refusal::not_found(
                format!("endpoint {name} is not on network {}", network.unwrap_or_default()),
                format!("it is on {on}"),
            ));
        }
        if let Some(docker) = leaving.iter().find(|endpoint| endpoint.docker.is_some()) {
            return Err(Refusal::conflict(
                format!("endpoint {name} is Docker's, on its network {}", docker.network),
                "use `docker network disconnect` or `docker stop` for it",
            ));
        }
        for endpoint in &leaving {
            self.endpoints.remove(&endpoint.index);
        }
        self.retarget_publications()?;
        Ok(leaving)
    }

    /// Removes endpoints that have vanished.
    ///
    /// # Errors
    /// When all generations are used up.
    pub fn forget(&mut self, indices: &[u32]) -> Result<Vec<Endpoint>, Refusal> {
        let gone = indices.iter().filter_map(|index| self.endpoints.remove(index)).map(Arc::unwrap_or_clone).collect();
        self.retarget_publications()?;
        Ok(gone)
    }

    /// An index for a new endpoint.
    pub(super) fn next_endpoint_index(&mut self) -> Result<u32, Refusal> {
        let index = next_in_round(self.counters.endpoint, ENDPOINT_LIMIT, |index| self.endpoints.contains_key(&index));
        self.counters.endpoint = index.ok_or_else(|| {
            Refusal::conflict(
                format!("there are {} endpoints, the most there can be", ENDPOINT_LIMIT - 1),
                "detach one first",
            )
        })?;
        Ok(self.counters.endpoint)
    }

    /// A table for the MAC addresses behind a new port.
    fn next_stations(&self) -> Result<u16, Refusal> {
        let taken: HashSet<u16> = self.endpoints.values().map(|endpoint| endpoint.stations).collect();
        let free = (1..STATION_TABLES as u16).find(|number| !taken.contains(number));
        free.ok_or_else(|| {
            Refusal::conflict(
                format!(
                    "there are {} endpoints on networks that learn MAC addresses, the most there can be",
                    STATION_TABLES - 1
                ),
                "detach one first, or use a network without --learning",
            )
        })
    }

    fn check_name_is_free(&self, name: &str, network: &Network, netns: NetnsIdentity) -> Result<(), Refusal> {
        for other in self.endpoints_named(name) {
            if other.network == network.name {
                return Err(Refusal::conflict(
                    format!("endpoint {name} is on network {} already", network.name),
                    "detach it first, or choose another name with --name",
                ));
            }
            if other.netns_identity != netns {
                return Err(Refusal::conflict(
                    format!("endpoint {name} is another container, in {} (network {})", other.netns, other.network),
                    "choose another name with --name",
                ));
            }
        }
        Ok(())
    }

    fn choose_ifname(
        &self,
        request: &AttachRequest,
        netns: NetnsIdentity,
        interfaces: &[String],
    ) -> Result<String, Refusal> {
        let user = |ifname: &str| self.endpoints.values().find(|e| e.netns_identity == netns && e.ifname == ifname);
        if let Some(ifname) = &request.ifname {
            check_interface_name(ifname)?;
            return match user(ifname) {
                Some(other) => Err(Refusal::conflict(
                    format!("{ifname} in {} is endpoint {} on network {}", request.netns, other.name, other.network),
                    "choose another interface name with --ifname",
                )),
                None if interfaces.contains(ifname) => Err(Refusal::conflict(
                    format!("{} has an interface {ifname} already", request.netns),
                    "choose another interface name with --ifname",
                )),
                None => Ok(ifname.clone()),
            };
        }
        let mut names = (0..=u16::MAX).map(|n| format!("eth{n}"));
        let free = names.find(|ifname| user(ifname).is_none() && !interfaces.contains(ifname));
        free.ok_or_else(|| {
            Refusal::conflict(format!("{} has no free interface name", request.netns), "choose one with --ifname")
        })
    }

    fn choose_mac(&mut self, network: &Network, chosen: Option<Mac>) -> Result<Mac, Refusal> {
        let Some(mac) = chosen else { return self.counters.next_mac() };
        mac.check_chosen()?;
        match self.endpoints_on(&network.name).find(|endpoint| endpoint.mac == mac) {
            Some(other) => Err(Refusal::conflict(
                format!("{mac} is the MAC address of {} on network {}", other.name, network.name),
                "choose another, or leave out --mac",
            )),
            None => Ok(mac),
        }
    }

    /// The addresses, and what is last given of each subnet afterwards.
    fn choose_addresses(
        &self,
        network: &Network,
        requested: &[IpAddr],
    ) -> Result<(Vec<IpAddr>, Vec<Option<IpAddr>>), Refusal> {
        for (position, ip) in requested.iter().enumerate() {
            let subnet = network.subnets.iter().find(|subnet| subnet.contains(ip));
            let subnet = subnet.ok_or_else(|| {
                let subnets = network.subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
                Refusal::invalid(
                    format!("{ip} is in no subnet of network {}", network.name),
                    format!("choose an address in {subnets}, or leave out --ip"),
                )
            })?;
            if requested[..position].iter().any(|other| subnet.contains(other)) {
                return Err(Refusal::invalid(
                    format!("{ip} is a second address in {subnet}"),
                    "give at most one IPv4 and one IPv6 address",
                ));
            }
            self.check_address(network, *subnet, *ip)?;
        }
        let mut addresses = Vec::new();
        let mut last_given = network.last_given.clone();
        for (position, subnet) in network.subnets.iter().enumerate() {
            if let Some(ip) = requested.iter().find(|ip| subnet.contains(*ip)) {
                addresses.push(*ip);
                continue;
            }
            let last = last_given.get(position).copied().flatten();
            let next =
                next_address(*subnet, last, |a| self.owner_of_address(network, a).is_some()).ok_or_else(|| {
                    Refusal::conflict(
                        format!("network {} has no free address left in {subnet}", network.name),
                        "detach an endpoint, or create a network with a wider subnet",
                    )
                })?;
            last_given.resize(network.subnets.len(), None);
            last_given[position] = Some(next);
            addresses.push(next);
        }
        Ok((addresses, last_given))
    }

    fn check_address(&self, network: &Network, subnet: IpNet, ip: IpAddr) -> Result<(), Refusal> {
        if !is_usable(subnet, ip) {
            return Err(Refusal::invalid(
                format!("{ip} is the network, broadcast or an anycast address of {subnet}"),
                "choose another address, or leave out --ip",
            ));
        }
        if let Some(owner) = self.owner_of_address(network, ip) {
            return Err(Refusal::conflict(
                format!("{ip} is the address of {owner} on network {}", network.name),
                "choose another address, or leave out --ip",
            ));
        }
        Ok(())
    }
}
