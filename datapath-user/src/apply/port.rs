//! The port of an endpoint: the veth pair between host and container.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Kernel, guard_port, release_port};
use crate::kernel::netlink::EndpointPair;
use crate::kernel::netns::{ContainerInterface, Netns, configure_container, deconfigure_container};
use crate::kernel::sysctl;
use crate::model::{Endpoint, Network};
use crate::plan::Port;

/// Makes the pair: the host's side down and with programs, the container's side configured. Leaves nothing behind
/// when it fails. Where dockerd has made it, it has its programs since it was
/// first seen.
pub async fn build(kernel: &Kernel, endpoint: &Endpoint, network: &Network, netns: Option<&Netns>) -> Result<Port> {
    if let Some(docker) = &endpoint.docker {
        return Ok(Port { ifindex: docker.ifindex, bridged: true });
    }
    let netns = netns.context("its network namespace is not open")?;
    let pair = EndpointPair {
        host_name: endpoint.device(),
        container_name: endpoint.ifname.clone(),
        mac: endpoint.mac.0,
        mtu: network.mtu,
        big_tcp: network.big_tcp,
    };
    let ifindex = kernel.netlink.create_endpoint_pair(&pair, netns.as_fd()).await?;
    let port = Port { ifindex, bridged: false };
    match prepare(kernel, endpoint, network, netns, port).await {
        Ok(()) => Ok(port),
        Err(error) => Err(match remove(kernel, port).await {
            Ok(()) => error,
            Err(left) => error.context(format!("could not be undone: {left:#}")),
        }),
    }
}

async fn prepare(kernel: &Kernel, endpoint: &Endpoint, network: &Network, netns: &Netns, port: Port) -> Result<()> {
    sysctl::set_all(&sysctl::port_settings(&endpoint.device()))?;
    guard_port(kernel, port.ifindex)?;
    let interface = interface(endpoint, network);
    configure_container(netns, &interface)
        .await
        .with_context(|| format!("{} cannot be configured in {}", endpoint.ifname, endpoint.netns))
}

/// Takes the container's side out of the container's routing, where its namespace is still there.
pub async fn leave(leaving: Option<&Leaving>) -> Result<()> {
    match leaving {
        Some(Leaving { netns, interface }) => deconfigure_container(netns, interface).await,
        None => Ok(()),
    }
}

/// The container's side of an endpoint that is being detached.
#[derive(Debug)]
pub struct Leaving {
    /// Its namespace.
    pub netns: Netns,
    /// What it was configured like.
    pub interface: ContainerInterface,
}

/// Removes the pair. It may have gone with its namespace. One of dockerd's stays, and stays closed.
pub async fn remove(kernel: &Kernel, port: Port) -> Result<()> {
    if port.bridged {
        return Ok(());
    }
    kernel.netlink.delete_link(port.ifindex).await?;
    release_port(kernel, port.ifindex)
}

/// What the container's side is to be like. An internal network has no way out, and so no default route.
#[must_use]
pub fn interface(endpoint: &Endpoint, network: &Network) -> ContainerInterface {
    let prefix =
        |v4: bool| network.subnets.iter().find(|subnet| matches!(subnet, IpNet::V4(_)) == v4).map(IpNet::prefix_len);
    let gateways = if network.internal { &[][..] } else { &network.gateways };
    ContainerInterface {
        name: endpoint.ifname.clone(),
        mac: endpoint.mac.0,
        mtu: network.mtu,
        ipv4: endpoint.ipv4.zip(prefix(true)).and_then(|(ip, prefix)| Ipv4Net::new(ip, prefix).ok()),
        ipv6: endpoint.ipv6.zip(prefix(false)).and_then(|(ip, prefix)| Ipv6Net::new(ip, prefix).ok()),
        gateway_v4: gateways.iter().find_map(|ip| if let std::net::IpAddr::V4(v4) = ip { Some(*v4) } else { None }),
        gateway_v6: gateways.iter().find_map(|ip| if let std::net::IpAddr::V6(v6) = ip { Some(*v6) } else { None }),
    }
}
