//! Desired minus actual, as pure functions: which devices to build and remove, what every map shall hold, and the
//! changes that lead there in an order that is right at every moment.

mod changes;
mod contents;
mod keys;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use changes::{Change, changes};
pub use contents::{Basis, Contents, Published, desired, desired_after};
pub use keys::Keys;
use rustc_hash::FxHashSet;

use crate::model::{Endpoint, Model, Network};

/// The devices that exist, by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Gateway devices by network id.
    pub gateways: BTreeMap<u32, Gateway>,
    /// Host-side veths by endpoint generation.
    pub ports: BTreeMap<u32, Port>,
}

/// A gateway device: a veth pair of ours, or a bridge of dockerd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// ifindex of the device with the addresses.
    pub ifindex: u32,
    /// ifindex of the far end of the pair; none: it is a bridge, which is not ours to make or remove.
    pub far_ifindex: Option<u32>,
}

/// The host-side veth of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its ifindex.
    pub ifindex: u32,
    /// It is a port of a bridge of dockerd's, not ours to make or remove.
    pub bridged: bool,
}

/// Devices to build and to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicePlan {
    /// Networks whose gateway device is to be built.
    pub build_gateways: Vec<Network>,
    /// Endpoints whose port is to be built.
    pub build_ports: Vec<Endpoint>,
    /// Generations of endpoints whose port is to be removed.
    pub remove_ports: Vec<u32>,
    /// Ids of networks whose gateway device is to be removed.
    pub remove_gateways: Vec<u32>,
}

/// The devices that `model` needs, minus those there are.
#[must_use]
pub fn devices(model: &Model, actual: &Devices) -> DevicePlan {
    let wanted_ports: FxHashSet<u32> = model.endpoints.values().map(|endpoint| endpoint.generation).collect();
    DevicePlan {
        build_gateways: model.networks.values().filter(|n| !actual.gateways.contains_key(&n.id)).cloned().collect(),
        build_ports: model
            .endpoints
            .values()
            .map(AsRef::as_ref)
            .filter(|e: &&Endpoint| !actual.ports.contains_key(&e.generation))
            .cloned()
            .collect(),
        remove_ports: actual.ports.keys().filter(|generation| !wanted_ports.contains(generation)).copied().collect(),
        remove_gateways: actual.gateways.keys().filter(|id| model.network_of_id(**id).is_none()).copied().collect(),
    }
}
