//! The gateway device of a network.

use anyhow::{Context, Result};
use datapath_common::abi::Program;

use super::{Kernel, guard_bridge};
use crate::kernel::netlink::GatewayPair;
use crate::kernel::sysctl;
use crate::model::{Model, Network};
use crate::plan::Gateway;

/// Makes the pair, down, with programs and sysctls. Leaves nothing behind when it fails. A bridge of dockerd's is there
/// already, and only has programs attached.
pub async fn build(kernel: &Kernel, network: &Network) -> Result<Gateway> {
    if network.docker.is_some() {
        return adopt_bridge(kernel, network).await;
    }
    let pair = GatewayPair {
        name: network.device(),
        far_name: network.far_device(),
        mac: network.mac.0,
        far_mac: network.far_mac.0,
        mtu: network.mtu,
        big_tcp: network.big_tcp,
    };
    let (ifindex, far_ifindex) = kernel.netlink.create_gateway_pair(&pair).await?;
    let gateway = Gateway { ifindex, far_ifindex: Some(far_ifindex) };
    match prepare(kernel, network, gateway).await {
        Ok(()) => Ok(gateway),
        Err(error) => Err(match remove(kernel, gateway).await {
            Ok(()) => error,
            Err(left) => error.context(format!("could not be undone: {left:#}")),
        }),
    }
}

async fn adopt_bridge(kernel: &Kernel, network: &Network) -> Result<Gateway> {
    let name = network.device();
    let bridge = kernel.netlink.link_named(&name).await?.filter(|link| link.kind.as_deref() == Some("bridge"));
    let bridge = bridge.with_context(|| format!("bridge {name} is gone"))?;
    let gateway = Gateway { ifindex: bridge.index, far_ifindex: None };
    prepare(kernel, network, gateway).await?;
    Ok(gateway)
}

async fn prepare(kernel: &Kernel, network: &Network, gateway: Gateway) -> Result<()> {
    set_sysctls(network)?;
    attach(kernel, gateway)
}

/// Sets the sysctls of the pair. Says whether any was otherwise: a write to net.ipv4.ip_forward resets `forwarding` of
/// every device, and without it nothing leaves the network.
pub fn set_sysctls(network: &Network) -> Result<bool> {
    if network.docker.is_some() {
        return Ok(!sysctl::set_all(&sysctl::forwarding_settings(&network.device()))?.is_empty());
    }
    let mut changes = sysctl::set_all(&sysctl::port_settings(&network.far_device()))?;
    changes.extend(sysctl::set_all(&sysctl::gateway_settings(&network.device()))?);
    Ok(!changes.is_empty())
}

/// Attaches the programs, or replaces those of an earlier daemon.
pub fn attach(kernel: &Kernel, gateway: Gateway) -> Result<()> {
    match gateway.far_ifindex {
        Some(far) => {
            kernel.datapath.attach(Program::FromContainer, far)?;
            kernel.datapath.attach(Program::FromHost, gateway.ifindex)
        }
        None => guard_bridge(kernel, gateway.ifindex),
    }
}

/// Gives the device its addresses and brings it up, when the maps know it. dockerd has done that for a bridge.
pub async fn open(kernel: &Kernel, model: &Model, id: u32, gateway: Gateway) -> Result<()> {
    let Some(network) = model.network_of_id(id) else { return Ok(()) };
    // The programs must take the addresses for the host's before the first packet can go to them.
    let further = network.docker.iter().flat_map(|docker| &docker.addresses);
    for address in network.gateways.iter().chain(further) {
        kernel.datapath.tables().set_host_address((*address).into(), gateway.ifindex)?;
    }
    let Some(far) = gateway.far_ifindex else { return Ok(()) };
    for address in network.gateway_prefixes() {
        kernel.netlink.add_address(gateway.ifindex, address).await?;
    }
    kernel.netlink.set_up(far).await?;
    kernel.netlink.set_up(gateway.ifindex).await
}

/// Removes the pair. A bridge of dockerd's stays, and stays closed.
pub async fn remove(kernel: &Kernel, gateway: Gateway) -> Result<()> {
    let Some(far) = gateway.far_ifindex else { return Ok(()) };
    kernel.netlink.delete_link(gateway.ifindex).await?;
    kernel.datapath.detach(Program::FromHost, gateway.ifindex)?;
    kernel.datapath.detach(Program::FromContainer, far)
}
