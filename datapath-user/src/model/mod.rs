//! Desired state, as pure data: which networks, endpoints and published ports there shall be, who has which index,
//! generation, address and MAC, and what is kept out. Nothing here touches the kernel; what the host looks like is passed in as [`Host`].
//!
//! Every change is made on a copy: a refused request leaves nothing half done.

mod allocate;
mod counters;
mod docker;
mod docker_ports;
#[cfg(test)]
mod docker_tests;
mod endpoint;
mod guard;
mod inventory;
mod mac;
mod name;
mod network;
mod port_spec;
mod ports;
mod publication;
mod refusal;
mod subnets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use allocate::{random_ula, usable_range};
pub use counters::Counters;
pub use docker::{Bridge, BridgePort, Bridges, DockerBridge, DockerInterface, Unfollowed};
pub use endpoint::{AttachRequest, Endpoint, NetnsIdentity};
pub use guard::{Denied, Guard, Limit, LimitKind, parse_source};
pub use inventory::{DockerEndpoint, DockerNetwork, DockerPort, Inventory};
pub use mac::Mac;
pub use name::{check_interface_name, check_name};
pub use network::{GatewayMode, Network, NetworkRequest};
pub use port_spec::{HostPorts, PortRange, PortSpec, Protocol, UnpublishSpec};
pub use publication::{Publication, Target};
pub use refusal::{Kind, Refusal};

use crate::shared::Shared;

/// What of the host the model must respect.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Addresses with their prefixes and the interface they are on, ours excluded.
    pub addresses: Vec<(IpNet, String)>,
    /// Destinations of routes, ours and the default ones excluded.
    pub routes: Vec<IpNet>,
}

/// All desired state. A copy shares what does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// What was given out last.
    pub counters: Counters,
    /// Networks by name.
    pub networks: BTreeMap<String, Network>,
    /// Endpoints by index.
    pub endpoints: BTreeMap<u32, Arc<Endpoint>>,
    /// Publications by index.
    pub publications: Shared<Arc<Publication>>,
    /// What comes in by uplinks.
    pub guard: Guard,
}

impl Model {
    /// The network of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn network(&self, name: &str) -> Result<&Network, Refusal> {
        self.networks.get(name).ok_or_else(|| {
            Refusal::not_found(format!("there is no network {name:?}"), "`datapath network ls` shows those there are")
        })
    }

    /// Endpoints of this name, one for each network it is on, in the order they were attached.
    #[must_use]
    pub fn endpoints_named(&self, name: &str) -> Vec<&Endpoint> {
        let mut found: Vec<&Endpoint> =
            self.endpoints.values().map(AsRef::as_ref).filter(|endpoint| endpoint.name == name).collect();
        found.sort_by_key(|endpoint| endpoint.generation);
        found
    }

    /// Endpoints on this network.
    pub fn endpoints_on<'a>(&'a self, network: &'a str) -> impl Iterator<Item = &'a Endpoint> {
        self.endpoints.values().map(AsRef::as_ref).filter(move |endpoint| endpoint.network == network)
    }

    /// The name of the network with this id.
    #[must_use]
    pub fn network_of_id(&self, id: u32) -> Option<&Network> {
        self.networks.values().find(|network| network.id == id)
    }

    /// Who has this address on this network: `the gateway` or an endpoint's name.
    #[must_use]
    pub fn owner_of_address(&self, network: &Network, address: IpAddr) -> Option<String> {
        if network.gateways.contains(&address) {
            return Some("the gateway".to_owned());
        }
        self.endpoints_on(&network.name)
            .find(|endpoint| endpoint.addresses().any(|own| own == address))
            .map(|endpoint| endpoint.name.clone())
    }
}
