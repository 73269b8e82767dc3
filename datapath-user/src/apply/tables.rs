//! The maps.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use datapath_common::abi::PublishedKey;

use super::Kernel;
use crate::kernel::Tables;
use crate::plan::{Change, Contents, Published, changes};

/// Makes the maps hold what is desired. `actual` follows each change that was made, also when one fails.
///
/// # Errors
/// When the kernel refuses a change; those before it stay.
pub fn reach(kernel: &Kernel, actual: &mut Contents, desired: &Contents) -> Result<()> {
    for change in changes(desired, actual) {
        make(kernel.datapath.tables(), &change).with_context(|| format!("the maps refuse {}", named(&change)))?;
        actual.note(&change);
    }
    Ok(())
}

fn make(tables: &Tables, change: &Change) -> Result<()> {
    match change {
        Change::ZeroUsage(index) => tables.zero_usage(*index),
        Change::SetEndpoint(index, value) => tables.set_endpoint(*index, value),
        Change::ClearEndpoint(index) => tables.clear_endpoint(*index),
        Change::SetIfindex(ifindex, index) => tables.set_endpoint_by_ifindex(*ifindex, *index),
        Change::RemoveIfindex(ifindex) => tables.remove_endpoint_by_ifindex(*ifindex),
        Change::SetAddress(network, address, index) => tables.set_address(*network, *address, *index),
        Change::RemoveAddress(network, address) => tables.remove_address(*network, *address),
        Change::SetMac(network, mac, index) => tables.set_mac(*network, *mac, *index),
        Change::RemoveMac(network, mac) => tables.remove_mac(*network, *mac),
        Change::SetNetwork(id, value) => tables.set_network(*id, value),
        Change::ClearNetwork(id) => tables.clear_network(*id),
        Change::SetGateway(ifindex, id) => tables.set_network_by_gateway(*ifindex, *id),
        Change::RemoveGateway(ifindex) => tables.remove_network_by_gateway(*ifindex),
        Change::SetMember(network, position, index) => tables.set_member(*network, *position, *index),
        Change::RemoveMember(network, position) => tables.remove_member(*network, *position),
        Change::SetSubnet(subnet, network) => tables.set_subnet(*subnet, *network),
        Change::RemoveSubnet(subnet) => tables.remove_subnet(*subnet),
        Change::ZeroHits(index) => tables.zero_publication_hits(*index),
        Change::SetPublication(index, value) => tables.set_publication(*index, value),
        Change::ClearPublication(index) => tables.clear_publication(*index),
        Change::Publish(index, keys) => tables.publish(&keys.iter().collect::<Vec<_>>(), *index),
        Change::Unpublish(_, keys) => tables.unpublish(&keys.iter().collect::<Vec<_>>()),
        Change::HandOver(..) => Ok(()),
        Change::Deny(prefixes) => tables.guard().deny(prefixes),
        Change::Undeny(prefixes) => tables.guard().undeny(prefixes),
        Change::SetGuard(guard) => tables.guard().set_rules(guard),
    }
}

/// The change in a few words: a publication may have thousands of keys, and a deny list of prefixes.
fn named(change: &Change) -> String {
    match change {
        Change::Publish(index, keys) => format!("{} keys of publication {index}", keys.count()),
        Change::Unpublish(index, keys) => format!("the removal of {} keys of publication {index}", keys.count()),
        Change::Deny(prefixes) => format!("{} denied prefixes", prefixes.len()),
        Change::Undeny(prefixes) => format!("the removal of {} denied prefixes", prefixes.len()),
        other => format!("{other:?}"),
    }
}

/// Reads what the maps hold.
///
/// # Errors
/// When the kernel refuses.
pub fn read(tables: &Tables) -> Result<Contents> {
    let mut keys: BTreeMap<u32, Vec<PublishedKey>> = BTreeMap::new();
    for (key, index) in tables.published()? {
        keys.entry(index).or_default().push(key);
    }
    let mut publications: BTreeMap<u32, Published> = keys
        .into_iter()
        .map(|(index, keys)| (index, Published { keys: keys.into_iter().collect(), ..Published::default() }))
        .collect();
    for (index, value) in tables.publications()? {
        publications.entry(index).or_default().value = value;
    }
    Ok(Contents {
        endpoints: tables.endpoints()?.into_iter().collect(),
        by_ifindex: tables.endpoints_by_ifindex()?.into_iter().collect(),
        by_address: tables.addresses()?.into_iter().map(|(key, index)| ((key.network, key.address), index)).collect(),
        by_mac: tables.macs()?.into_iter().map(|(key, index)| ((key.network, key.mac), index)).collect(),
        networks: tables.networks()?.into_iter().collect(),
        by_gateway: tables.networks_by_gateway()?.into_iter().collect(),
        members: tables.members()?.into_iter().collect(),
        subnets: tables.subnets()?.into_iter().collect(),
        publications: publications.into_iter().collect(),
        denied: tables.guard().denied()?.into_iter().collect::<BTreeSet<_>>().into(),
        guard: tables.guard().rules()?,
    })
}
