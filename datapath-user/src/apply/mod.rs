//! The one place that acts: brings devices, reservations and maps from what there is to what a model asks for, and takes
//! everything back when a step fails.

mod bridge;
mod gateway;
mod port;
mod reservations;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Error, Result};

use crate::kernel::Datapath;
use crate::kernel::netlink::Netlink;
use crate::kernel::netns::{Netns, announce};
use crate::model::Model;
use crate::plan::{self, Basis, Contents, Devices};
pub use bridge::{guard_bridge, guard_port, release_bridge, release_port};
pub use gateway::{open as reopen_gateway, set_sysctls as gateway_sysctls};
pub use port::{Leaving, interface as container_interface};
pub use reservations::{Reservations, Wanted as WantedPorts};
pub use tables::{reach as reach_contents, read as read_tables};

/// What is acted on.
#[derive(Clone)]
pub struct Kernel {
    /// Programs and maps.
    pub datapath: Arc<Datapath>,
    /// Devices and addresses.
    pub netlink: Netlink,
}

/// What there is.
#[derive(Debug, Default)]
pub struct Actual {
    /// Devices.
    pub devices: Devices,
    /// Content of the maps.
    pub contents: Contents,
    /// What that is the desired one for, where all went well.
    pub basis: Option<Basis>,
    /// Host ports held.
    pub reservations: Reservations,
}

/// The namespaces of containers that a change is about. Not kept longer: an open namespace does not end.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Of the endpoint that is attached.
    pub joining: Option<Netns>,
    /// Of endpoints that are detached, by generation.
    pub leaving: BTreeMap<u32, Leaving>,
}

/// Has the kernel be what `model` asks for, and the host ports be held that it wants.
///
/// What goes is taken out of the maps at once, and then removed as far as that is possible: what fails there is
/// returned, and tried again with the next change.
///
/// # Errors
/// When something new cannot be made. Then all is as before, or the error says what is not.
pub async fn apply(
    kernel: &Kernel,
    actual: &mut Actual,
    model: &Model,
    ports: WantedPorts,
    namespaces: &Namespaces,
) -> Result<Vec<Error>> {
    let plan = plan::devices(model, &actual.devices);
    let before = actual.contents.clone();
    let mut made = Made::default();
    let built = match actual.reservations.claim(&ports) {
        Ok(claimed) => {
            made.reservations = claimed;
            build(kernel, actual, model, &plan, namespaces.joining.as_ref(), &mut made).await
        }
        Err(taken) => Err(taken.into()),
    };
    if let Err(error) = built {
        let left = take_back(kernel, actual, &before, made).await;
        return Err(left
            .into_iter()
            .fold(error, |error, left| error.context(format!("could not be undone: {left:#}"))));
    }
    let left = remove(kernel, actual, &plan, namespaces).await;
    actual.reservations.release(ports);
    Ok(left)
}

/// What was made on the way, to be taken back.
#[derive(Default)]
struct Made {
    gateways: Vec<u32>,
    ports: Vec<u32>,
    reservations: reservations::Claimed,
}

async fn build(
    kernel: &Kernel,
    actual: &mut Actual,
    model: &Model,
    plan: &plan::DevicePlan,
    netns: Option<&Netns>,
    made: &mut Made,
) -> Result<()> {
    for network in &plan.build_gateways {
        let gateway = gateway::build(kernel, network)
            .await
            .with_context(|| format!("the gateway device of network {} cannot be made", network.name))?;
        actual.devices.gateways.insert(network.id, gateway);
        made.gateways.push(network.id);
    }
    for endpoint in &plan.build_ports {
        let network = model.network(&endpoint.network)?;
        let port = port::build(kernel, endpoint, network, netns)
            .await
            .with_context(|| format!("endpoint {} cannot be attached", endpoint.name))?;
        actual.devices.ports.insert(endpoint.generation, port);
        made.ports.push(endpoint.generation);
    }
    let desired = match actual.basis.take() {
        Some(basis) => plan::desired_after(&basis, model, &actual.devices, &actual.contents),
        None => plan::desired(model, &actual.devices, &actual.contents),
    };
    tables::reach(kernel, &mut actual.contents, &desired)?;
    let basis = Basis { model: model.clone(), devices: actual.devices.clone() };
    for id in &made.gateways {
        gateway::open(kernel, model, *id, actual.devices.gateways[id]).await?;
    }
    for generation in &made.ports {
        let port = actual.devices.ports[generation];
        if !port.bridged {
            kernel.netlink.set_up(port.ifindex).await.context("the endpoint's port cannot be opened")?;
        }
    }
    for endpoint in &plan.build_ports {
        if let Some(netns) = netns {
            announce(netns, &port::interface(endpoint, model.network(&endpoint.network)?))?;
        }
    }
    actual.basis = Some(basis);
    Ok(())
}

async fn take_back(kernel: &Kernel, actual: &mut Actual, before: &Contents, made: Made) -> Vec<Error> {
    let mut left = Vec::new();
    if let Err(error) = tables::reach(kernel, &mut actual.contents, before) {
        left.push(error);
    }
    for generation in made.ports.iter().rev() {
        if let Some(port) = actual.devices.ports.remove(generation) {
            left.extend(port::remove(kernel, port).await.err());
        }
    }
    for id in made.gateways.iter().rev() {
        if let Some(gateway) = actual.devices.gateways.remove(id) {
            left.extend(gateway::remove(kernel, gateway).await.err());
        }
    }
    left.extend(actual.reservations.give_back(made.reservations));
    left
}

async fn remove(kernel: &Kernel, actual: &mut Actual, plan: &plan::DevicePlan, namespaces: &Namespaces) -> Vec<Error> {
    let mut failed = Vec::new();
    for generation in &plan.remove_ports {
        let Some(port) = actual.devices.ports.get(generation).copied() else { continue };
        failed.extend(port::leave(namespaces.leaving.get(generation)).await.err());
        match port::remove(kernel, port).await {
            Ok(()) => drop(actual.devices.ports.remove(generation)),
            Err(error) => failed.push(error),
        }
    }
    for id in &plan.remove_gateways {
        let Some(gateway) = actual.devices.gateways.get(id).copied() else { continue };
        match gateway::remove(kernel, gateway).await {
            Ok(()) => drop(actual.devices.gateways.remove(id)),
            Err(error) => failed.push(error),
        }
    }
    failed
}

/// Attaches the programs of this daemon where those of an earlier one run, replacing each in one step. A device that
/// has just vanished is not adopted: it is noticed when the host is next looked at.
///
/// # Errors
/// When the kernel refuses a program on a device that is there.
pub async fn adopt(kernel: &Kernel, devices: &Devices) -> Result<()> {
    for gateway in devices.gateways.values() {
        unless_gone(kernel, gateway.ifindex, gateway::attach(kernel, *gateway)).await?;
    }
    for port in devices.ports.values() {
        unless_gone(kernel, port.ifindex, guard_port(kernel, port.ifindex)).await?;
    }
    Ok(())
}

async fn unless_gone(kernel: &Kernel, ifindex: u32, attached: Result<()>) -> Result<()> {
    match attached {
        Err(error) if kernel.netlink.link(ifindex).await?.is_some() => Err(error),
        Err(error) => {
            tracing::info!("a device vanished meanwhile: {error:#}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
