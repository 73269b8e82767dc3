//! Publishing and unpublishing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::counters::next_in_round;
use super::publication::{claimed_addresses, describe_host};
use super::{
    Endpoint, GatewayMode, HostPorts, Model, PortRange, PortSpec, Protocol, Publication, Refusal, Target, UnpublishSpec,
};

/// Indices of publications are below this: entries of the `PUBLICATIONS` map.
const PUBLICATION_LIMIT: u32 = 65_536;

/// Ports that are chosen where the user leaves the choice: the dynamic ones (RFC 6335 section 6).
const CHOSEN_PORTS: PortRange = PortRange { first: 49_152, last: 65_535 };

impl Model {
    /// Adds a publication. Where the host ports are left open, `refused` are those not to choose: the host uses them.
    ///
    /// # Errors
    /// When the ports are taken, or the endpoint cannot have them published.
    pub fn publish(
        &mut self,
        spec: &PortSpec,
        endpoint: &str,
        network: Option<&str>,
        refused: &[u16],
    ) -> Result<Publication, Refusal> {
        let target = self.publishable(spec, endpoint, network)?;
        let host = match spec.host {
            HostPorts::Given(ports) => ports,
            HostPorts::Any => self.choose_ports(spec, refused)?,
        };
        if let Some(other) = self.owner_of_ports(spec.host_ip, host, spec.protocol) {
            let on = other
                .target
                .as_ref()
                .map_or("waiting for it".to_owned(), |target| format!("network {}", target.network));
            return Err(Refusal::conflict(
                format!("port {} is already published by {} ({on})", other.describe(), other.endpoint),
                "unpublish it or choose another host port",
            ));
        }
        self.check_routed(spec, &target)?;
        let index = self.next_publication_index()?;
        let publication = Publication {
            index,
            generation: self.counters.next_generation()?,
            host_ip: spec.host_ip,
            host,
            container: spec.container,
            protocol: spec.protocol,
            endpoint: endpoint.to_owned(),
            network: network.map(str::to_owned),
            target: Some(target),
            docker: None,
        };
        self.publications.insert(index, publication.clone().into());
        Ok(publication)
    }

    /// An index for a new publication.
    pub(super) fn next_publication_index(&mut self) -> Result<u32, Refusal> {
        let taken = |index| self.publications.contains(index);
        let index = next_in_round(self.counters.publication, PUBLICATION_LIMIT, taken);
        self.counters.publication = index.ok_or_else(|| {
            Refusal::conflict(
                format!("there are {} publications, the most there can be", PUBLICATION_LIMIT - 1),
                "unpublish one first, or publish ranges",
            )
        })?;
        Ok(self.counters.publication)
    }

    /// Removes a publication.
    ///
    /// # Errors
    /// When there is none like this.
    pub fn unpublish(&mut self, spec: &UnpublishSpec) -> Result<Publication, Refusal> {
        let exact = self
            .publications
            .values()
            .find(|p| p.host_ip == spec.host_ip && p.host == spec.host && p.protocol == spec.protocol)
            .map(|p| p.index);
        if let Some(theirs) = exact.and_then(|index| self.publications.get(index)).filter(|p| p.docker.is_some()) {
            return Err(Refusal::conflict(
                format!("port {} was published by Docker, for {}", theirs.describe(), theirs.endpoint),
                "remove the container, or run it without this port",
            ));
        }
        if let Some(publication) = exact.and_then(|index| self.publications.remove(index)) {
            return Ok(Arc::unwrap_or_clone(publication));
        }
        let what = format!("port {} is not published", describe_host(spec.host_ip, spec.host, spec.protocol));
        let near = self.publications.values().find(|p| p.host.meets(spec.host) && p.protocol == spec.protocol);
        Err(match near {
            Some(near) => Refusal::not_found(
                format!("{what}, but {} is (by {})", near.describe(), near.endpoint),
                format!("name it as a whole: `datapath unpublish {}`", near.describe()),
            ),
            None => Refusal::not_found(what, "`datapath port ls` shows what is"),
        })
    }

    /// Has each publication lead to the endpoint that now has its name, with a new generation where that is another one.
    pub(super) fn retarget_publications(&mut self) -> Result<(), Refusal> {
        let mut by_name: HashMap<&str, Vec<&Endpoint>> = HashMap::new();
        for endpoint in self.endpoints.values() {
            by_name.entry(&endpoint.name).or_default().push(endpoint);
        }
        by_name.values_mut().for_each(|named| named.sort_by_key(|endpoint| endpoint.generation));
        let moved: Vec<_> = self
            .publications
            .values()
            .filter_map(|p| {
                let named = by_name.get(p.endpoint.as_str()).map_or(&[][..], Vec::as_slice);
                let target = self.target_among(named, p.network.as_deref());
                let target = target.map(|target| self.target_at(target, p.host_ip));
                (p.target != target).then_some((p.index, target))
            })
            .collect();
        for (index, target) in moved {
            let Some(publication) = self.publications.get_mut(index) else { continue };
            let publication = Arc::make_mut(publication);
            publication.generation = self.counters.next_generation()?;
            publication.target = target;
        }
        Ok(())
    }

    /// The endpoint of that name on that network, or on the first one that is not internal.
    pub(super) fn target_of(&self, endpoint: &str, network: Option<&str>) -> Option<&Endpoint> {
        self.target_among(&self.endpoints_named(endpoint), network)
    }

    fn target_among<'a>(&self, named: &[&'a Endpoint], network: Option<&str>) -> Option<&'a Endpoint> {
        named.iter().copied().find(|candidate| {
            let internal = self.networks.get(&candidate.network).is_none_or(|network| network.internal);
            !internal && network.is_none_or(|network| candidate.network == network)
        })
    }

    fn publishable(&self, spec: &PortSpec, endpoint: &str, network: Option<&str>) -> Result<Target, Refusal> {
        let named = self.endpoints_named(endpoint);
        let first = named.first().ok_or_else(|| Refusal::no_endpoint(endpoint))?;
        if let Some(network) = network {
            let network = self.network(network)?;
            if !named.iter().any(|candidate| candidate.network == network.name) {
                return Err(Refusal::not_found(
                    format!("endpoint {endpoint} is not on network {}", network.name),
                    format!("it is on {}", named.iter().map(|e| e.network.as_str()).collect::<Vec<_>>().join(", ")),
                ));
            }
        }
        let target = self.target_of(endpoint, network).ok_or_else(|| {
            Refusal::conflict(
                format!(
                    "network {} is internal, nothing outside reaches {endpoint}",
                    network.unwrap_or(&first.network)
                ),
                "attach it to a network that is not internal too",
            )
        })?;
        let missing = match spec.host_ip {
            Some(IpAddr::V4(_)) if target.ipv4.is_none() => Some("IPv4"),
            Some(IpAddr::V6(_)) if target.ipv6.is_none() => Some("IPv6"),
            _ => None,
        };
        match missing {
            Some(version) => Err(Refusal::conflict(
                format!("endpoint {endpoint} has no {version} address on network {}", target.network),
                "publish on a host address of the other IP version, or attach it to a network with both",
            )),
            None => Ok(self.target_at(target, spec.host_ip)),
        }
    }

    /// Who has one of these ports on one of the host addresses that `[HOSTIP:]` claims. What is routed takes none.
    pub(super) fn owner_of_ports(
        &self,
        host_ip: Option<IpAddr>,
        host: PortRange,
        protocol: Protocol,
    ) -> Option<&Publication> {
        self.publications.values().map(AsRef::as_ref).find(|other| {
            other.protocol == protocol
                && !other.target.as_ref().is_some_and(|target| target.routed)
                && other.host.meets(host)
                && other.claimed().any(|address| claimed_addresses(host_ip).any(|own| own == address))
        })
    }

    fn choose_ports(&mut self, spec: &PortSpec, refused: &[u16]) -> Result<PortRange, Refusal> {
        let length = u16::try_from(spec.container.count() - 1).unwrap_or(u16::MAX);
        let begin = self.counters.host_port.clamp(CHOSEN_PORTS.first, CHOSEN_PORTS.last);
        let firsts = (begin..=CHOSEN_PORTS.last).chain(CHOSEN_PORTS.first..begin);
        let ranges = firsts.filter_map(|first| {
            let last = first.checked_add(length)?;
            Some(PortRange { first, last })
        });
        let free = ranges.into_iter().find(|range| {
            !refused.iter().any(|port| range.meets(PortRange::one(*port)))
                && self.owner_of_ports(spec.host_ip, *range, spec.protocol).is_none()
        });
        let free = free.ok_or_else(|| {
            Refusal::conflict(
                format!("no {} free host ports in a row are left in {CHOSEN_PORTS}", spec.container.count()),
                "name the host ports",
            )
        })?;
        self.counters.host_port = free.last.checked_add(1).unwrap_or(CHOSEN_PORTS.first);
        Ok(free)
    }

    /// Where the gateway mode is routed, a container's port is reached as it is, and so is published once.
    fn check_routed(&self, spec: &PortSpec, target: &Target) -> Result<(), Refusal> {
        if !target.routed {
            return Ok(());
        }
        let same = |other: &&Publication| {
            let there = other.target.as_ref().is_some_and(|other| other.generation == target.generation);
            there && other.protocol == spec.protocol && other.container.meets(spec.container)
        };
        match self.publications.values().map(AsRef::as_ref).find(same) {
            Some(other) => Err(Refusal::conflict(
                format!(
                    "container port {}/{} of {} is published already",
                    other.container, other.protocol, other.endpoint
                ),
                "nothing more is to be done: on a routed network it is reached at the container's own address",
            )),
            None => Ok(()),
        }
    }

    /// Where the gateway modes of the IP versions differ, a publication is of one of them.
    pub(super) fn target_at(&self, endpoint: &Endpoint, host_ip: Option<IpAddr>) -> Target {
        let network = self.networks.get(&endpoint.network);
        Target {
            index: endpoint.index,
            generation: endpoint.generation,
            network: endpoint.network.clone(),
            ipv4: endpoint.ipv4,
            ipv6: endpoint.ipv6,
            routed: network.is_some_and(|network| match host_ip {
                Some(IpAddr::V6(_)) => network.gateway_mode_ipv6 == GatewayMode::Routed,
                _ => network.gateway_mode == GatewayMode::Routed,
            }),
        }
    }
}
