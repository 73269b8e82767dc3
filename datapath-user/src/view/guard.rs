//! The guard of uplinks, as it is shown.

use std::collections::BTreeMap;

use anyhow::Result;
use datapath_common::abi::DropReason;
use serde::{Deserialize, Serialize};

use crate::config::Xdp;
use crate::engine::Snapshot;
use crate::kernel::Tables;
use crate::model::{Limit, LimitKind};

/// A denied source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The prefix.
    pub cidr: String,
}

impl From<&ipnet::IpNet> for Denied {
    fn from(prefix: &ipnet::IpNet) -> Self {
        Self { cidr: prefix.to_string() }
    }
}

/// The limits; none where there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardLimits {
    /// Packets of each source.
    pub packets: Option<Limit>,
    /// SYNs of each source to published ports.
    pub syn: Option<Limit>,
    /// SYNs of all sources together to each published port.
    pub port_syn: Option<Limit>,
}

/// How it stands with the XDP program on an uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardUplink {
    /// Its name.
    pub name: String,
    /// Its ifindex.
    pub ifindex: u32,
    /// The program is attached, in the driver.
    pub native: bool,
    /// Why it is not.
    pub reason: Option<String>,
}

/// The guard of uplinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// Whether XDP was asked for.
    pub xdp: Xdp,
    /// The uplinks, where it was.
    pub uplinks: Vec<GuardUplink>,
    /// Frames that the XDP program has passed.
    pub passed: u64,
    /// Frames that the XDP program has dropped, by reason. They are in the drops of all programs, too.
    pub dropped: BTreeMap<String, u64>,
    /// How many prefixes are denied.
    pub denied: u64,
    /// The limits.
    pub limits: GuardLimits,
}

/// The limits.
#[must_use]
pub fn limits(snapshot: &Snapshot) -> GuardLimits {
    let of = |kind| snapshot.model.guard.limits.get(&kind).copied();
    GuardLimits { packets: of(LimitKind::Packets), syn: of(LimitKind::Syn), port_syn: of(LimitKind::PortSyn) }
}

/// Every denied source.
#[must_use]
pub fn denied(snapshot: &Snapshot) -> Vec<Denied> {
    snapshot.model.guard.denied.prefixes().iter().map(Denied::from).collect()
}

/// The guard.
///
/// # Errors
/// When the maps cannot be read.
pub fn guard(snapshot: &Snapshot, tables: &Tables) -> Result<Guard> {
    let uplinks = snapshot.uplinks.iter().filter_map(|uplink| {
        let state = snapshot.guarded_natively.get(&uplink.ifindex)?;
        let reason = state.as_ref().err().map(ToString::to_string);
        Some(GuardUplink { name: uplink.name.clone(), ifindex: uplink.ifindex, native: reason.is_none(), reason })
    });
    let mut dropped = BTreeMap::new();
    for reason in DropReason::ALL {
        let count = tables.guard().dropped(*reason)?;
        if count > 0 {
            dropped.insert(reason.name().to_owned(), count);
        }
    }
    Ok(Guard {
        xdp: snapshot.config.xdp,
        uplinks: uplinks.collect(),
        passed: tables.guard().passed()?,
        dropped,
        denied: snapshot.model.guard.denied.prefixes().len() as u64,
        limits: limits(snapshot),
    })
}
