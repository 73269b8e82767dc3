//! Forwarding databases as they are shown: which MAC address is behind which port.

use std::time::Duration;

use anyhow::Result;
use datapath_common::abi;
use serde::{Deserialize, Serialize};

use crate::engine::Snapshot;
use crate::kernel::{Tables, flows};
use crate::model::{self, Mac};

/// A MAC address of a network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FdbEntry {
    /// The network.
    pub network: String,
    /// The MAC address.
    pub mac: Mac,
    /// The endpoint behind whose port it is; none: it is the gateway's.
    pub endpoint: Option<String>,
    /// Whether it was given out or learnt.
    pub kind: FdbKind,
    /// Of a learnt one: seconds since it was last heard, to a second.
    pub age: Option<u64>,
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdbKind {
    /// The datapath gave it out, to an endpoint or to the gateway: it stays where it is.
    Static,
    /// It was learnt from a frame.
    Learnt,
}

/// The forwarding database of a network: what was given out, then what was learnt, by port.
///
/// # Errors
/// When the maps cannot be read.
pub fn fdb(snapshot: &Snapshot, tables: &Tables, network: &model::Network) -> Result<Vec<FdbEntry>> {
    let given = |mac: Mac, endpoint: Option<&model::Endpoint>| FdbEntry {
        network: network.name.clone(),
        mac,
        endpoint: endpoint.map(|endpoint| endpoint.name.clone()),
        kind: FdbKind::Static,
        age: None,
    };
    let endpoints: Vec<_> = snapshot.model.endpoints_on(&network.name).collect();
    let mut entries = vec![given(network.mac, None)];
    entries.extend(endpoints.iter().map(|endpoint| given(endpoint.mac, Some(endpoint))));
    let Some(ageing) = network.ageing else { return Ok(entries) };
    let now = flows::now();
    for endpoint in endpoints {
        let behind = tables.stations(endpoint.stations.into())?.stations;
        let mut learnt: Vec<_> =
            behind.iter().filter_map(|station| learnt(station, endpoint, network, ageing, now)).collect();
        learnt.sort_by_key(|entry| entry.mac);
        entries.extend(learnt);
    }
    Ok(entries)
}

fn learnt(
    station: &abi::Station,
    endpoint: &model::Endpoint,
    network: &model::Network,
    ageing: u16,
    now: u64,
) -> Option<FdbEntry> {
    let age = Duration::from_nanos(now.saturating_sub(station.seen));
    let present = station.generation == endpoint.generation && age <= Duration::from_secs(ageing.into());
    present.then(|| FdbEntry {
        network: network.name.clone(),
        mac: Mac(station.mac),
        endpoint: Some(endpoint.name.clone()),
        kind: FdbKind::Learnt,
        age: Some(age.as_secs()),
    })
}
