//! Published ports of dockerd's, as publications.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::publication::describe_host;
use super::{DockerPort, Endpoint, GatewayMode, Inventory, Model, Protocol, Publication, Refusal};

impl Model {
    /// Forgets publications that dockerd does not have any more. Returns those of its that are not in the model.
    pub(super) fn unknown_ports(&mut self, inventory: &Inventory) -> Vec<Wanted> {
        let mut endpoints = BTreeMap::new();
        for endpoint in self.endpoints.values() {
            if let Some(docker) = &endpoint.docker {
                endpoints.insert((endpoint.network.as_str(), docker.container.as_str()), endpoint.as_ref());
            }
        }
        let resolved = inventory.ports.iter().flat_map(|port| self.resolve(port, &endpoints));
        let mut wanted: BTreeMap<_, _> = resolved.map(|wanted| (wanted.key(), wanted)).collect();
        let theirs = self.publications.values().filter_map(|p| Some((p.index, key_of(p)?)));
        for (index, key) in theirs.collect::<Vec<_>>() {
            let Some(known) = wanted.remove(&key) else {
                self.publications.remove(index);
                continue;
            };
            let publication = &self.publications[index];
            if publication.endpoint != known.endpoint || publication.network.as_ref() != Some(&known.network) {
                let moved = Publication {
                    endpoint: known.endpoint,
                    network: Some(known.network),
                    ..Publication::clone(publication)
                };
                self.publications.insert(index, moved.into());
            }
        }
        wanted.into_values().collect()
    }

    /// What a port of dockerd's is in our terms: nothing while its container is not followed; one for each IP version
    /// where the gateway modes differ.
    fn resolve(&self, port: &DockerPort, endpoints: &BTreeMap<(&str, &str), &Endpoint>) -> Vec<Wanted> {
        let Some(network) = self.docker_network(&port.network) else { return Vec::new() };
        let place = (network.name.as_str(), port.container.as_str());
        let Some(endpoint) = endpoints.get(&place) else { return Vec::new() };
        let routed = |mode: GatewayMode| mode == GatewayMode::Routed;
        let each = port.host_ip.is_none() && routed(network.gateway_mode) != routed(network.gateway_mode_ipv6);
        let host_ips = if each {
            let of_version = |address: IpAddr| Some(unspecified_like(address));
            endpoint.addresses().map(of_version).collect()
        } else {
            vec![port.host_ip]
        };
        let wanted = |host_ip| Wanted {
            port: DockerPort { host_ip, ..port.clone() },
            endpoint: endpoint.name.clone(),
            network: network.name.clone(),
        };
        host_ips.into_iter().map(wanted).collect()
    }

    pub(super) fn follow_port(&mut self, wanted: Wanted) -> Result<(), Refusal> {
        let DockerPort { container, host_ip, host, target, protocol, .. } = wanted.port;
        let leads_to = self.target_of(&wanted.endpoint, Some(&wanted.network));
        let leads_to = leads_to.map(|endpoint| self.target_at(endpoint, host_ip));
        // Where it is routed, nothing of the host is taken.
        let routed = leads_to.as_ref().is_some_and(|target| target.routed);
        if let Some(owner) = self.owner_of_ports(host_ip, host, protocol).filter(|_| !routed) {
            return Err(Refusal::conflict(
                format!(
                    "port {} of container {:?} leads nowhere: {} is published by {}",
                    describe_host(host_ip, host, protocol),
                    wanted.endpoint,
                    owner.describe(),
                    owner.endpoint
                ),
                "unpublish that, or choose another host port for the container",
            ));
        }
        let index = self.next_publication_index()?;
        let publication = Publication {
            index,
            generation: self.counters.next_generation()?,
            host_ip,
            host,
            container: target,
            protocol,
            endpoint: wanted.endpoint,
            network: Some(wanted.network),
            target: leads_to,
            docker: Some(container),
        };
        self.publications.insert(index, publication.into());
        Ok(())
    }
}

/// A port of dockerd's, and the endpoint it leads to.
pub(super) struct Wanted {
    port: DockerPort,
    endpoint: String,
    network: String,
}

/// What makes a published port of dockerd's the same one: container, host address, host ports, the container's first
/// port, and the protocol.
type PortIdentity = (String, Option<IpAddr>, (u16, u16), u16, Protocol);

impl Wanted {
    fn key(&self) -> PortIdentity {
        let DockerPort { container, host_ip, host, target, protocol, .. } = &self.port;
        (container.clone(), *host_ip, (host.first, host.last), target.first, *protocol)
    }
}

/// The same for a publication; none where it is ours.
fn key_of(publication: &Publication) -> Option<PortIdentity> {
    let Publication { docker, host_ip, host, container, protocol, .. } = publication;
    Some((docker.clone()?, *host_ip, (host.first, host.last), container.first, *protocol))
}

/// `0.0.0.0` or `::`, for all addresses of one IP version.
fn unspecified_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
