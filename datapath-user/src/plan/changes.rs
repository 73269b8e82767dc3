//! The changes that lead from one content of the maps to another.

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::abi::{Address, Endpoint, Guard, Network, Publication};
use ipnet::IpNet;
use rustc_hash::FxHashSet;

use super::{Contents, Keys, Published};

/// One change of the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Zero what the programs counted of an endpoint: its index has a new owner.
    ZeroUsage(u32),
    /// Write an endpoint.
    SetEndpoint(u32, Endpoint),
    /// Zero an endpoint.
    ClearEndpoint(u32),
    /// An interface belongs to an endpoint.
    SetIfindex(u32, u32),
    /// An interface belongs to nobody.
    RemoveIfindex(u32),
    /// An address of a network belongs to an endpoint or the gateway.
    SetAddress(u32, Address, u32),
    /// An address of a network belongs to nobody.
    RemoveAddress(u32, Address),
    /// A MAC address of a network belongs to an endpoint or the gateway.
    SetMac(u32, [u8; 6], u32),
    /// A MAC address of a network belongs to nobody.
    RemoveMac(u32, [u8; 6]),
    /// Write a network.
    SetNetwork(u32, Network),
    /// Zero a network.
    ClearNetwork(u32),
    /// An interface is the gateway device of a network.
    SetGateway(u32, u32),
    /// An interface is no gateway device.
    RemoveGateway(u32),
    /// Flooding of a network reaches an endpoint: network, position, ifindex.
    SetMember(u32, u32, u32),
    /// A position is no longer used.
    RemoveMember(u32, u32),
    /// A subnet belongs to a network.
    SetSubnet(IpNet, u32),
    /// A subnet belongs to no network.
    RemoveSubnet(IpNet),
    /// Zero the hits of a publication: its index has a new owner.
    ZeroHits(u32),
    /// Write a publication.
    SetPublication(u32, Publication),
    /// Zero a publication.
    ClearPublication(u32),
    /// Keys lead to a publication.
    Publish(u32, Keys),
    /// Keys that led to a publication lead nowhere.
    Unpublish(u32, Keys),
    /// Keys that lead to a publication are about to be overwritten.
    HandOver(u32, Keys),
    /// Deny prefixes.
    Deny(Vec<IpNet>),
    /// Deny prefixes no more.
    Undeny(Vec<IpNet>),
    /// What is looked at of what comes in by uplinks, and the limits.
    SetGuard(Guard),
}

/// The changes from `actual` to `desired`. Their order is what makes every moment between right:
///
/// 1. what goes is taken out of flooding, and its keys are deleted: nothing new is found;
/// 2. values are written before the keys that lead to them;
/// 3. what comes is flooded to when everything else knows it;
/// 4. values of what has gone are zeroed;
/// 5. what is kept out is denied before it is looked for, and is looked for no more before it is let in.
#[must_use]
pub fn changes(desired: &Contents, actual: &Contents) -> Vec<Change> {
    let mut plan = Vec::new();
    let published = actual.publications.differences(&desired.publications);
    remove_members(desired, actual, &mut plan);
    unpublish(&published, &mut plan);
    remove_keys(desired, actual, &mut plan);
    write_values(desired, actual, &mut plan);
    write_publications(&published, &mut plan);
    write_keys(desired, actual, &mut plan);
    publish(&published, &mut plan);
    add_members(desired, actual, &mut plan);
    clear_values(desired, actual, &mut plan);
    clear_publications(&published, &mut plan);
    guard(desired, actual, &mut plan);
    plan
}

fn guard(desired: &Contents, actual: &Contents, plan: &mut Vec<Change>) {
    let (wanted, present) = (desired.denied.prefixes(), actual.denied.prefixes());
    // Most changes are none of the deny list, which may be long.
    let differs = desired.denied != actual.denied;
    let minus = |one: &BTreeSet<IpNet>, other| -> Vec<IpNet> {
        if differs { one.difference(other).copied().collect() } else { Vec::new() }
    };
    let (coming, leaving) = (minus(wanted, present), minus(present, wanted));
    plan.extend((!coming.is_empty()).then_some(Change::Deny(coming)));
    plan.extend((desired.guard != actual.guard).then_some(Change::SetGuard(desired.guard)));
    plan.extend((!leaving.is_empty()).then_some(Change::Undeny(leaving)));
}

/// How many of a network's present members stay: those come first among the desired ones.
fn staying(network: u32, desired: &Contents, actual: &Contents) -> u32 {
    let present: FxHashSet<u32> = actual.members_of(network).collect();
    (0..).zip(desired.members_of(network)).take_while(|(_, ifindex)| present.contains(ifindex)).count() as u32
}

/// The last ones move into the holes, then the count falls, then the positions behind it go.
fn remove_members(desired: &Contents, actual: &Contents, plan: &mut Vec<Change>) {
    let networks: BTreeSet<u32> = actual.members.keys().map(|(network, _)| *network).collect();
    for network in networks {
        let staying = staying(network, desired, actual);
        for ((_, position), ifindex) in desired.members.range((network, 0)..(network, staying)) {
            if actual.members.get(&(network, *position)) != Some(ifindex) {
                plan.push(Change::SetMember(network, *position, *ifindex));
            }
        }
        let behind = actual.members.range((network, staying)..=(network, u32::MAX));
        let behind: Vec<_> = behind.map(|((_, position), _)| Change::RemoveMember(network, *position)).collect();
        if let Some(value) = actual.networks.get(&network).filter(|_| !behind.is_empty()) {
            plan.push(Change::SetNetwork(network, Network { members: staying, ..*value }));
        }
        plan.extend(behind);
    }
}

/// The positions are filled before the count rises.
fn add_members(desired: &Contents, actual: &Contents, plan: &mut Vec<Change>) {
    for (network, value) in &desired.networks {
        let staying = staying(*network, desired, actual);
        for ((_, position), ifindex) in desired.members.range((*network, staying)..=(*network, u32::MAX)) {
            plan.push(Change::SetMember(*network, *position, *ifindex));
        }
        if value.members > staying {
            plan.push(Change::SetNetwork(*network, *value));
        }
    }
}

fn remove_keys(desired: &Contents, actual: &Contents, plan: &mut Vec<Change>) {
    let gone = |map: &BTreeMap<u32, u32>, kept: &BTreeMap<u32, u32>| -> Vec<u32> {
        map.keys().filter(|key| !kept.contains_key(key)).copied().collect()
    };
    plan.extend(gone(&actual.by_ifindex, &desired.by_ifindex).into_iter().map(Change::RemoveIfindex));
    let addresses = actual.by_address.keys().filter(|key| !desired.by_address.contains_key(key));
    plan.extend(addresses.map(|(network, address)| Change::RemoveAddress(*network, *address)));
    let macs = actual.by_mac.keys().filter(|key| !desired.by_mac.contains_key(key));
    plan.extend(macs.map(|(network, mac)| Change::RemoveMac(*network, *mac)));
    let subnets = actual.subnets.keys().filter(|key| !desired.subnets.contains_key(key));
    plan.extend(subnets.map(|subnet| Change::RemoveSubnet(*subnet)));
    plan.extend(gone(&actual.by_gateway, &desired.by_gateway).into_iter().map(Change::RemoveGateway));
}

fn write_values(desired: &Contents, actual: &Contents, plan: &mut Vec<Change>) {
    for (index, value) in &desired.endpoints {
        let present = actual.endpoints.get(index);
        if present.is_none_or(|present| present.generation != value.generation) {
            plan.push(Change::ZeroUsage(*index));
        }
        if present != Some(value) {
            plan.push(Change::SetEndpoint(*index, *value));
        }
    }
    for (id, value) in &desired.networks {
        let members = staying(*id, desired, actual);
        let value = Network { members, ..*value };
        // `remove_members` has set the count where positions went. Elsewhere it is as found, after a crash perhaps wrong.
        let shrunk = actual.members.range((*id, members)..=(*id, u32::MAX)).next().is_some();
        let now = |present: &Network| if shrunk { members } else { present.members };
        let present = actual.networks.get(id).map(|present| Network { members: now(present), ..*present });
        if present != Some(value) {
            plan.push(Change::SetNetwork(*id, value));
        }
    }
}

fn write_keys(desired: &Contents, actual: &Contents, plan: &mut Vec<Change>) {
    for (ifindex, id) in &desired.by_gateway {
        if actual.by_gateway.get(ifindex) != Some(id) {
            plan.push(Change::SetGateway(*ifindex, *id));
        }
    }
    for (subnet, id) in &desired.subnets {
        if actual.subnets.get(subnet) != Some(id) {
            plan.push(Change::SetSubnet(*subnet, *id));
        }
    }
    for (ifindex, index) in &desired.by_ifindex {
        if actual.by_ifindex.get(ifindex) != Some(index) {
            plan.push(Change::SetIfindex(*ifindex, *index));
        }
    }
    for (key, index) in &desired.by_address {
        if actual.by_address.get(key) != Some(index) {
            plan.push(Change::SetAddress(key.0, key.1, *index));
        }
    }
    for (key, index) in &desired.by_mac {
        if actual.by_mac.get(key) != Some(index) {
            plan.push(Change::SetMac(key.0, key.1, *index));
        }
    }
}

fn clear_values(desired: &Contents, actual: &Contents, plan: &mut Vec<Change>) {
    let endpoints = actual.endpoints.keys().filter(|index| !desired.endpoints.contains_key(index));
    plan.extend(endpoints.map(|index| Change::ClearEndpoint(*index)));
    let networks = actual.networks.keys().filter(|id| !desired.networks.contains_key(id));
    plan.extend(networks.map(|id| Change::ClearNetwork(*id)));
}

/// A publication that differs: its index, what the maps hold, and what they shall.
type Difference<'a> = (u32, Option<&'a Published>, Option<&'a Published>);

fn unpublish(differences: &[Difference<'_>], plan: &mut Vec<Change>) {
    let keys = |published: Option<&Published>| published.map(|published| published.keys.clone()).unwrap_or_default();
    // A key that goes on to another publication is overwritten, not deleted.
    let wanted = Keys::union(differences.iter().filter_map(|(.., wanted)| *wanted).map(|wanted| &wanted.keys));
    for (index, actual, desired) in differences {
        let lost = keys(*actual).without(&keys(*desired));
        let leaving = lost.without(&wanted);
        let moving = lost.without(&leaving);
        if !leaving.is_empty() {
            plan.push(Change::Unpublish(*index, leaving));
        }
        if !moving.is_empty() {
            plan.push(Change::HandOver(*index, moving));
        }
    }
}

fn write_publications(differences: &[Difference<'_>], plan: &mut Vec<Change>) {
    for (index, actual, desired) in differences {
        let (Some(desired), present) = (desired, actual.map(|actual| actual.value)) else { continue };
        plan.extend(present.is_none().then_some(Change::ZeroHits(*index)));
        plan.extend((present != Some(desired.value)).then_some(Change::SetPublication(*index, desired.value)));
    }
}

fn publish(differences: &[Difference<'_>], plan: &mut Vec<Change>) {
    for (index, actual, desired) in differences {
        let Some(desired) = desired else { continue };
        let coming = actual.map_or_else(|| desired.keys.clone(), |actual| desired.keys.without(&actual.keys));
        plan.extend((!coming.is_empty()).then_some(Change::Publish(*index, coming)));
    }
}

fn clear_publications(differences: &[Difference<'_>], plan: &mut Vec<Change>) {
    let gone = differences.iter().filter(|(.., desired)| desired.is_none());
    plan.extend(gone.map(|(index, ..)| Change::ClearPublication(*index)));
}

impl Contents {
    /// Notes that `change` was made.
    pub fn note(&mut self, change: &Change) {
        match change {
            Change::ZeroUsage(_) | Change::ZeroHits(_) => {}
            Change::SetEndpoint(index, value) => drop(self.endpoints.insert(*index, *value)),
            Change::ClearEndpoint(index) => drop(self.endpoints.remove(index)),
            Change::SetIfindex(ifindex, index) => drop(self.by_ifindex.insert(*ifindex, *index)),
            Change::RemoveIfindex(ifindex) => drop(self.by_ifindex.remove(ifindex)),
            Change::SetAddress(network, address, index) => drop(self.by_address.insert((*network, *address), *index)),
            Change::RemoveAddress(network, address) => drop(self.by_address.remove(&(*network, *address))),
            Change::SetMac(network, mac, index) => drop(self.by_mac.insert((*network, *mac), *index)),
            Change::RemoveMac(network, mac) => drop(self.by_mac.remove(&(*network, *mac))),
            Change::SetNetwork(id, value) => drop(self.networks.insert(*id, *value)),
            Change::ClearNetwork(id) => drop(self.networks.remove(id)),
            Change::SetGateway(ifindex, id) => drop(self.by_gateway.insert(*ifindex, *id)),
            Change::RemoveGateway(ifindex) => drop(self.by_gateway.remove(ifindex)),
            Change::SetMember(network, position, ifindex) => drop(self.members.insert((*network, *position), *ifindex)),
            Change::RemoveMember(network, position) => drop(self.members.remove(&(*network, *position))),
            Change::SetSubnet(subnet, id) => drop(self.subnets.insert(*subnet, *id)),
            Change::RemoveSubnet(subnet) => drop(self.subnets.remove(subnet)),
            Change::SetPublication(index, value) => self.publications.get_or_default(*index).value = *value,
            Change::ClearPublication(index) => drop(self.publications.remove(*index)),
            Change::Deny(prefixes) => self.denied.prefixes_mut().extend(prefixes),
            Change::Undeny(prefixes) => {
                let leaving: BTreeSet<_> = prefixes.iter().collect();
                self.denied.prefixes_mut().retain(|prefix| !leaving.contains(prefix));
            }
            Change::SetGuard(guard) => self.guard = *guard,
            Change::Publish(index, keys) => {
                let published = self.publications.get_or_default(*index);
                published.keys = Keys::union([&published.keys, keys]);
            }
            Change::Unpublish(index, keys) | Change::HandOver(index, keys) => {
                if let Some(published) = self.publications.get_mut(*index) {
                    published.keys = published.keys.without(keys);
                }
            }
        }
    }
}
