//! Forgetting all flows, as `conntrack -F` does for netfilter: each measurement of the connect rate begins with an
//! empty table. The daemon has no command for it, because nobody else should want it.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use datapath_common::abi::{EndpointUsage, Flow, FlowIndex, FlowKey, claim, flow_flags, map};

/// Empties the flow table that is pinned in this folder.
pub fn flush(pins: &Path) -> Result<()> {
    let mut keys: HashMap<MapData, FlowKey, FlowIndex> =
        open(pins, map::FLOW_BY_KEY, |data| Map::HashMap(data).try_into())?;
    let mut flows: Array<MapData, Flow> = open(pins, map::FLOWS, |data| Map::Array(data).try_into())?;
    let mut usage: Array<MapData, EndpointUsage> = open(pins, map::ENDPOINT_USAGE, |data| Map::Array(data).try_into())?;

    let known: Vec<(FlowKey, FlowIndex)> = keys.iter().collect::<Result<_, _>>().context("reading FLOW_BY_KEY")?;
    for (key, index) in known {
        remove(&mut keys, &key)?;
        let flow = flows.get(&index.slot, 0)?;
        if flow.claim != claim::LIVE {
            continue;
        }
        // A closed flow is not charged to anybody any more.
        if flow.flags & flow_flags::CLOSED == 0 {
            uncharge(&mut usage, &flow)?;
        }
        // The serial stays, so that it goes on rising.
        flows.set(index.slot, Flow { serial: flow.serial, ..Flow::default() }, 0)?;
    }
    Ok(())
}

fn uncharge(usage: &mut Array<MapData, EndpointUsage>, flow: &Flow) -> Result<()> {
    let charged = if flow.initiator.endpoint != 0 { flow.initiator.endpoint } else { flow.responder.endpoint };
    let spent = usage.get(&charged, 0)?;
    Ok(usage.set(charged, EndpointUsage { flows: spent.flows.saturating_sub(1), ..spent }, 0)?)
}

fn open<T>(pins: &Path, name: &str, kind: impl FnOnce(MapData) -> Result<T, MapError>) -> Result<T> {
    let path = pins.join(name);
    let data = MapData::from_pin(&path).with_context(|| path.display().to_string())?;
    kind(data).with_context(|| format!("{name} is not the kind of map it was"))
}

/// Deletes the key; that the programs or the daemon's sweep were faster is as good.
fn remove(keys: &mut HashMap<MapData, FlowKey, FlowIndex>, key: &FlowKey) -> Result<()> {
    match keys.remove(key) {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(error).context("deleting a flow"),
    }
}
