//! What an answer about a container means: `GET /containers/{id}/json`, or an entry of `GET /containers/json`.

use std::collections::{BTreeSet, HashMap};

use bollard::models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, EndpointSettings};

use super::ports::{Binding, inspected, listed};

/// A container; not running, it has neither endpoints nor ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name, without the slash that dockerd puts in front.
    pub name: String,
    /// The networks it has joined, in the order of endpoint ids.
    pub joined: Vec<Joined>,
    /// Its published ports.
    pub bindings: BTreeSet<Binding>,
}

/// An endpoint as the container knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Id of the network.
    pub network: String,
    /// Id of the endpoint.
    pub endpoint: String,
    /// Of several networks, the one with the greatest leads out.
    pub priority: i64,
    /// It has an IPv4 gateway.
    pub gateway_ipv4: bool,
    /// It has an IPv6 gateway.
    pub gateway_ipv6: bool,
    /// Further names on this network.
    pub aliases: Vec<String>,
}

impl Container {
    /// From an inspected container, with what of it could not be understood.
    pub fn inspected(id: &str, from: &ContainerInspectResponse) -> (Self, Vec<String>) {
        let mut causes = Vec::new();
        let name = from.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned();
        let state = from.state.as_ref();
        let running = state.is_some_and(|s| s.running.unwrap_or(false) && !s.restarting.unwrap_or(false));
        let Some(settings) = from.network_settings.as_ref().filter(|_| running) else {
            return (Self { name, ..Self::default() }, causes);
        };
        let bindings = settings.ports.as_ref().map(|ports| inspected(ports, &mut causes)).unwrap_or_default();
        causes.sort();
        (Self { name, joined: joined(id, settings.networks.as_ref()), bindings }, causes)
    }

    /// From an entry of the list, which has no aliases and in some versions no priorities.
    pub fn listed(id: &str, from: &ContainerSummary) -> (Self, Vec<String>) {
        let mut causes = Vec::new();
        // Links of other containers are among the names, as `/other/alias`.
        let names = from.names.iter().flatten().map(|name| name.trim_start_matches('/'));
        let name = names.clone().find(|name| !name.contains('/')).unwrap_or_default().to_owned();
        let running =
            matches!(from.state, Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED));
        if !running {
            return (Self { name, ..Self::default() }, causes);
        }
        let networks = from.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let bindings = listed(from.ports.as_deref().unwrap_or_default(), &mut causes);
        causes.sort();
        (Self { name, joined: joined(id, networks), bindings }, causes)
    }

    /// Whether the list, which leaves out those not running, says the same of it as far as it goes.
    pub fn matches_listed(&self, listed: &Self) -> bool {
        if self.joined.is_empty() && listed.joined.is_empty() {
            return true;
        }
        let endpoints = |container: &Self| -> Vec<String> {
            container.joined.iter().map(|joined| joined.endpoint.clone()).collect()
        };
        let published = |container: &Self| -> Vec<Binding> {
            container.bindings.iter().filter(|binding| binding.host.is_some()).copied().collect()
        };
        self.name == listed.name && endpoints(self) == endpoints(listed) && published(self) == published(listed)
    }
}

fn joined(id: &str, networks: Option<&HashMap<String, EndpointSettings>>) -> Vec<Joined> {
    let set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let mut joined: Vec<_> = networks
        .into_iter()
        .flat_map(HashMap::values)
        .filter(|settings| set(&settings.endpoint_id) && set(&settings.network_id))
        .map(|settings| Joined {
            network: settings.network_id.clone().unwrap_or_default(),
            endpoint: settings.endpoint_id.clone().unwrap_or_default(),
            priority: settings.gw_priority.unwrap_or(0),
            gateway_ipv4: set(&settings.gateway),
            gateway_ipv6: set(&settings.ipv6_gateway),
            aliases: aliases(id, settings.aliases.as_deref().unwrap_or_default()),
        })
        .collect();
    joined.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
    joined
}

/// Aliases the user chose: dockerd before 25 adds the short id (moby, daemon/container_operations.go).
fn aliases(id: &str, all: &[String]) -> Vec<String> {
    let mut chosen: Vec<String> = Vec::new();
    for alias in all {
        let short_id = alias.len() == 12 && id.starts_with(alias.as_str());
        if !short_id && !chosen.contains(alias) {
            chosen.push(alias.clone());
        }
    }
    chosen
}

#[cfg(test)]
#[path = "tests/container.rs"]
mod tests;
