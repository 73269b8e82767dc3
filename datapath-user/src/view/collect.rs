//! Collecting the views from the state and the maps.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use datapath_common::abi::ABI_VERSION;

use super::{BigTcp, Docker, Endpoint, Fill, Flow, Names, Network, Port, PortState, Status, Uplink};
use crate::engine::{Readers, Snapshot};
use crate::kernel::netlink::{BIG_TCP, LEGACY_TCP};
use crate::kernel::{Tables, probes};
use crate::model;

/// A network.
#[must_use]
pub fn network(snapshot: &Snapshot, network: &model::Network) -> Network {
    Network {
        name: network.name.clone(),
        id: network.id,
        subnets: network.subnets.iter().map(ToString::to_string).collect(),
        gateways: network.gateways.clone(),
        gateway_mode: network.gateway_mode,
        gateway_mode_ipv6: network.gateway_mode_ipv6,
        internal: network.internal,
        icc: network.icc,
        masquerade: network.masquerade,
        mss_clamp: network.mss_clamp,
        learning: network.ageing.is_some(),
        ageing: network.ageing,
        mtu: network.mtu,
        big_tcp: network.big_tcp.then(big_tcp),
        device: network.device(),
        mac: network.mac,
        endpoints: snapshot.model.endpoints_on(&network.name).map(|endpoint| endpoint.name.clone()).collect(),
        docker: network.docker.as_ref().map(|docker| docker.id.clone()),
    }
}

fn big_tcp() -> BigTcp {
    BigTcp { ipv4: if probes::features().big_tcp_ipv4 { BIG_TCP } else { LEGACY_TCP }, ipv6: BIG_TCP }
}

/// An endpoint.
///
/// # Errors
/// When the maps cannot be read.
pub fn endpoint(snapshot: &Snapshot, tables: &Tables, endpoint: &model::Endpoint) -> Result<Endpoint> {
    let publications = snapshot.model.publications.values().map(AsRef::as_ref);
    let leads_here = |publication: &&model::Publication| {
        publication.target.as_ref().is_some_and(|target| target.generation == endpoint.generation)
    };
    Ok(Endpoint {
        name: endpoint.name.clone(),
        network: endpoint.network.clone(),
        ipv4: endpoint.ipv4.map(IpAddr::V4),
        ipv6: endpoint.ipv6.map(IpAddr::V6),
        mac: endpoint.mac,
        ifname: endpoint.ifname.clone(),
        netns: endpoint.netns.clone(),
        netns_identity: endpoint.netns_identity,
        device: endpoint.device(),
        ifindex: snapshot.devices.ports.get(&endpoint.generation).map(|port| port.ifindex),
        index: endpoint.index,
        generation: endpoint.generation,
        aliases: endpoint.aliases.clone(),
        ports: publications.filter(leads_here).map(model::Publication::describe).collect(),
        flows: tables.usage(endpoint.index)?.flows,
        attached: endpoint.attached.clone(),
        container: endpoint.docker.as_ref().map(|docker| docker.container.clone()),
    })
}

/// A publication.
///
/// # Errors
/// When the maps cannot be read.
pub fn port(tables: &Tables, publication: &model::Publication) -> Result<Port> {
    Ok(Port {
        published: publication.describe(),
        host_ip: publication.host_ip,
        host_port: publication.host.first,
        host_port_end: publication.host.last,
        container_port: publication.container.first,
        container_port_end: publication.container.last,
        protocol: publication.protocol.to_string(),
        endpoint: publication.endpoint.clone(),
        network: publication.target.as_ref().map(|target| target.network.clone()),
        state: if publication.target.is_some() { PortState::Active } else { PortState::Waiting },
        hits: tables.publication_hits(publication.index)?,
        container: publication.docker.clone(),
    })
}

/// Every publication.
///
/// # Errors
/// When the maps cannot be read.
pub fn ports(snapshot: &Snapshot, tables: &Tables) -> Result<Vec<Port>> {
    snapshot.model.publications.values().map(|publication| port(tables, publication)).collect()
}

/// Every live flow, or those of one endpoint.
///
/// # Errors
/// When the table cannot be read.
pub fn flows(readers: &Readers, endpoint: Option<&str>) -> Result<Vec<Flow>> {
    let snapshot = readers.snapshot();
    let names = Names(&snapshot);
    let wanted = |flow: &Flow| endpoint.is_none_or(|endpoint| flow.is_of(endpoint));
    readers.kernel.datapath.flows().live(|_, flow| Flow::of(&flow, &names).filter(wanted))
}

/// The status.
///
/// # Errors
/// When the maps cannot be read.
pub fn status(readers: &Readers, started: &str) -> Result<Status> {
    let snapshot = readers.snapshot();
    let datapath = &readers.kernel.datapath;
    let features = probes::features();
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let drops = datapath.tables().drops()?;
    let metrics = datapath.tables().metrics()?;
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi: ABI_VERSION,
        pid: std::process::id(),
        started: started.to_owned(),
        kernel: features.kernel.clone(),
        features,
        attach: datapath.mode().to_string(),
        state_dir: snapshot.config.state_dir.display().to_string(),
        pin_dir: snapshot.config.pin_dir.display().to_string(),
        docker: docker(readers, &snapshot),
        uplinks: snapshot.uplinks.iter().map(uplink).collect(),
        guard: super::guard(&snapshot, datapath.tables())?,
        networks: count(snapshot.model.networks.len()),
        endpoints: count(snapshot.model.endpoints.len()),
        ports: count(snapshot.model.publications.len()),
        flows: Fill { used: datapath.flows().used()?.into(), capacity: datapath.flows().capacity().into() },
        tables: fills(&snapshot, datapath.tables()),
        drops: drops.into_iter().map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
        metrics: metrics.into_iter().map(|(_, name, count)| (name.to_owned(), count)).collect(),
    })
}

fn docker(readers: &Readers, snapshot: &Snapshot) -> Option<Docker> {
    let socket = snapshot.config.docker.as_ref()?.display().to_string();
    let connection = readers.docker.as_ref()?.borrow().clone();
    Some(Docker { socket, connection, problems: snapshot.docker_problems.clone() })
}

fn uplink(uplink: &crate::kernel::netlink::UplinkInterface) -> Uplink {
    Uplink {
        name: uplink.name.clone(),
        ifindex: uplink.ifindex,
        ipv4: uplink.ipv4.map(IpAddr::V4),
        ipv6: uplink.ipv6.map(IpAddr::V6),
        mtu: uplink.mtu,
    }
}

/// Fill of the tables the daemon writes. Index 0 of each is nobody's.
fn fills(snapshot: &Snapshot, tables: &Tables) -> BTreeMap<String, Fill> {
    let capacity = tables.capacity();
    let model = &snapshot.model;
    let keys = |publication: &Arc<model::Publication>| {
        u64::from(publication.host.count()) * publication.answered().len() as u64
    };
    [
        ("networks", model.networks.len() as u64, capacity.networks.saturating_sub(1)),
        ("endpoints", model.endpoints.len() as u64, capacity.endpoints.saturating_sub(1)),
        ("publications", model.publications.len() as u64, capacity.publications.saturating_sub(1)),
        ("published", model.publications.values().map(keys).sum(), capacity.published),
    ]
    .into_iter()
    .map(|(name, used, capacity)| (name.to_owned(), Fill { used, capacity: capacity.into() }))
    .collect()
}
