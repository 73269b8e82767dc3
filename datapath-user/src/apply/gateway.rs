//! The gateway device of a network.

use anyhow::Result;
use datapath_common::abi::Program;

use super::Kernel;
use crate::kernel::netlink::GatewayPair;
use crate::kernel::sysctl;
use crate::model::{Model, Network};
use crate::plan::Gateway;

/// Makes the pair, down, with programs and sysctls. Leaves nothing behind when it fails.
pub async fn build(kernel: &Kernel, network: &Network) -> Result<Gateway> {
    let pair = GatewayPair {
        name: network.device(),
        far_name: network.far_device(),
        mac: network.mac.0,
        far_mac: network.far_mac.0,
        mtu: network.mtu,
    };
    let (ifindex, far_ifindex) = kernel.netlink.create_gateway_pair(&pair).await?;
    let gateway = Gateway { ifindex, far_ifindex };
    match prepare(kernel, network, gateway).await {
        Ok(()) => Ok(gateway),
        Err(error) => Err(match remove(kernel, gateway).await {
            Ok(()) => error,
            Err(left) => error.context(format!("could not be undone: {left:#}")),
        }),
    }
}

async fn prepare(kernel: &Kernel, network: &Network, gateway: Gateway) -> Result<()> {
    set_sysctls(network)?;
    attach(kernel, gateway)
}

/// Sets the sysctls of the pair. Says whether any was otherwise: a write to net.ipv4.ip_forward resets `forwarding` of
/// every device, and without it nothing leaves the network.
pub fn set_sysctls(network: &Network) -> Result<bool> {
    let mut changes = sysctl::set_all(&sysctl::port_settings(&network.far_device()))?;
    changes.extend(sysctl::set_all(&sysctl::gateway_settings(&network.device()))?);
    Ok(!changes.is_empty())
}

/// Attaches the programs, or replaces those of an earlier daemon.
pub fn attach(kernel: &Kernel, gateway: Gateway) -> Result<()> {
    kernel.datapath.attach(Program::FromContainer, gateway.far_ifindex)?;
    kernel.datapath.attach(Program::FromHost, gateway.ifindex)
}

/// Gives the device its addresses and brings it up, when the maps know it.
pub async fn open(kernel: &Kernel, model: &Model, id: u32, gateway: Gateway) -> Result<()> {
    let Some(network) = model.network_of_id(id) else { return Ok(()) };
    // The programs must take the addresses for the host's before the first packet can go to them.
    for address in &network.gateways {
        kernel.datapath.tables().set_host_address((*address).into(), gateway.ifindex)?;
    }
    for address in network.gateway_prefixes() {
        kernel.netlink.add_address(gateway.ifindex, address).await?;
    }
    kernel.netlink.set_up(gateway.far_ifindex).await?;
    kernel.netlink.set_up(gateway.ifindex).await
}

/// Removes the pair.
pub async fn remove(kernel: &Kernel, gateway: Gateway) -> Result<()> {
    kernel.netlink.delete_link(gateway.ifindex).await?;
    kernel.datapath.detach(Program::FromHost, gateway.ifindex)?;
    kernel.datapath.detach(Program::FromContainer, gateway.far_ifindex)
}
