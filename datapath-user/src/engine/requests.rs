//! The requests.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use datapath_common::abi::FlowEnd;
use nix::net::if_::if_nameindex;

use super::{Engine, Failure};
use crate::apply::{Leaving, Namespaces, container_interface};
use crate::kernel::netns::Netns;
use crate::kernel::reservation::ReserveError;
use crate::model::{
    AttachRequest, Endpoint, HostPorts, Network, NetworkRequest, PortSpec, Publication, Refusal, UnpublishSpec,
    random_ula,
};

/// How many host ports are tried where the choice is ours.
const PORT_ATTEMPTS: usize = 256;

impl Engine {
    /// `network create`.
    ///
    /// # Errors
    /// When it is refused or fails; nothing has changed then.
    pub async fn create_network(&mut self, request: &NetworkRequest) -> Result<Network, Failure> {
        let mut random = [0; 7];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random bytes can be had: {error}"))?;
        self.look_at_host().await?;
        let mut next = self.state.model.clone();
        let network = next.create_network(request, random_ula(random), &self.host)?;
        self.change(next, &Namespaces::default()).await?;
        tracing::info!(network = network.name, id = network.id, subnets = ?network.subnets, "network created");
        Ok(network)
    }

    /// `network rm`.
    ///
    /// # Errors
    /// When it is refused or fails; nothing has changed then.
    pub async fn remove_network(&mut self, name: &str) -> Result<Network, Failure> {
        let mut next = self.state.model.clone();
        let network = next.remove_network(name)?;
        self.change(next, &Namespaces::default()).await?;
        tracing::info!(network = name, "network removed");
        Ok(network)
    }

    /// `attach`.
    ///
    /// # Errors
    /// When it is refused or fails; nothing has changed then.
    pub async fn attach(&mut self, request: &AttachRequest) -> Result<Endpoint, Failure> {
        let netns = Netns::open(&request.netns).map_err(Failure::Unusable)?;
        let interfaces = netns.run(interface_names)?;
        let attached = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let mut next = self.state.model.clone();
        let endpoint = next.attach(request, netns.identity(), &interfaces, attached)?;
        self.change(next, &Namespaces { joining: Some(netns), ..Namespaces::default() }).await?;
        tracing::info!(
            endpoint = endpoint.name,
            network = endpoint.network,
            index = endpoint.index,
            "endpoint attached"
        );
        Ok(endpoint)
    }

    /// `detach`.
    ///
    /// # Errors
    /// When it is refused or fails.
    pub async fn detach(&mut self, name: &str, network: Option<&str>) -> Result<Vec<Endpoint>, Failure> {
        let mut next = self.state.model.clone();
        let leaving = next.detach(name, network)?;
        let namespaces = Namespaces {
            leaving: leaving.iter().filter_map(|e| Some((e.generation, self.leaving(e)?))).collect(),
            ..Namespaces::default()
        };
        self.change(next, &namespaces).await?;
        self.purge_flows(leaving.clone()).await;
        for endpoint in &leaving {
            tracing::info!(endpoint = endpoint.name, network = endpoint.network, "endpoint detached");
        }
        Ok(leaving)
    }

    /// The container's side of an endpoint, if its namespace can still be reached by the name it was given.
    fn leaving(&self, endpoint: &Endpoint) -> Option<Leaving> {
        let network = self.state.model.networks.get(&endpoint.network)?;
        let netns = Netns::open(&endpoint.netns).ok().filter(|netns| netns.identity() == endpoint.netns_identity)?;
        Some(Leaving { netns, interface: container_interface(endpoint, network) })
    }

    /// Frees the flow slots of endpoints that are gone. Their flows are dead already: the generation is.
    pub(super) async fn purge_flows(&self, gone: Vec<Endpoint>) {
        let datapath = Arc::clone(&self.kernel.datapath);
        let ends: Vec<_> = gone.iter().map(|e| FlowEnd { endpoint: e.index, generation: e.generation }).collect();
        let purged = tokio::task::spawn_blocking(move || datapath.flows().purge(datapath.tables(), &ends).map(drop));
        if let Err(error) = purged.await.context("the task ended").and_then(|result| result) {
            tracing::warn!("flows of a detached endpoint are left to the sweep: {error:#}");
        }
    }

    /// `publish`.
    ///
    /// # Errors
    /// When it is refused or fails; nothing has changed then.
    pub async fn publish(
        &mut self,
        spec: &PortSpec,
        endpoint: &str,
        network: Option<&str>,
    ) -> Result<Publication, Failure> {
        self.check_host_ip(spec).await?;
        let mut refused = Vec::new();
        loop {
            let mut next = self.state.model.clone();
            let publication = next.publish(spec, endpoint, network, &refused)?;
            match self.change(next, &Namespaces::default()).await {
                Ok(()) => {
                    tracing::info!(port = publication.describe(), endpoint, "port published");
                    return Ok(publication);
                }
                Err(Failure::Failed(error)) if spec.host == HostPorts::Any && refused.len() < PORT_ATTEMPTS => {
                    let Some(ReserveError::Taken { port, .. }) = error.downcast_ref() else { return Err(error.into()) };
                    refused.push(*port);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn check_host_ip(&mut self, spec: &PortSpec) -> Result<(), Failure> {
        let Some(ip) = spec.host_ip.filter(|ip| !ip.is_unspecified()) else { return Ok(()) };
        if self.kernel.datapath.tables().is_host_address(ip.into())? {
            return Ok(());
        }
        // It may be so new that it has not been followed yet.
        self.look_at_host().await?;
        let loopback = matches!(ip, IpAddr::V4(v4) if v4.is_loopback());
        if loopback || self.host.addresses.iter().any(|(address, _)| address.addr() == ip) {
            return Ok(());
        }
        let gateway = self.state.model.networks.values().find(|network| network.gateways.contains(&ip));
        if gateway.is_some() {
            return Ok(());
        }
        Err(Failure::Refused(Refusal::conflict(
            format!("this host has no address {ip}"),
            "choose one that `ip address` lists, or leave it out to publish on all",
        )))
    }

    /// `unpublish`.
    ///
    /// # Errors
    /// When it is refused or fails; nothing has changed then.
    pub async fn unpublish(&mut self, spec: &UnpublishSpec) -> Result<Publication, Failure> {
        let mut next = self.state.model.clone();
        let publication = next.unpublish(spec)?;
        self.change(next, &Namespaces::default()).await?;
        tracing::info!(port = publication.describe(), endpoint = publication.endpoint, "port unpublished");
        Ok(publication)
    }
}

fn interface_names() -> Result<Vec<String>> {
    let interfaces = if_nameindex().context("the container's interfaces cannot be listed")?;
    Ok(interfaces.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect())
}
