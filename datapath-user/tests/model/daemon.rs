//! The daemon, as far as the tables show it: requests become a model, which is stored, and the maps are brought to what it says
//! by the daemon's own planning. It may be killed after any change of a map, and be started again on what it finds there.
//!
//! What acts on the kernel in the daemon (`apply/tables.rs`, `kernel/flows.rs`) acts on the native tables here.

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::{
    abi::{Address, AddressKey, Flow, FlowEnd, HOST, MacKey, Publication, Subnet, claim, flow_flags},
    native::{NativeTables, State},
    path::Tables,
};
use datapath_user::{
    model::{AttachRequest, Endpoint, Host, Model, NetworkRequest, Refusal},
    plan::{Change, Contents, Devices, Gateway, Port, Published, changes, desired},
};
use ipnet::IpNet;

use super::{NETWORKS, inside, network_of, subnets_of};

/// How many endpoints there are, numbered from 1.
pub const ENDPOINTS: u8 = 3;

/// A daemon, and what outlives it: the file of its state and the devices.
pub struct Daemon {
    /// As it is on disk.
    stored: Model,
    /// What a running daemon knows.
    running: Option<(Model, Contents)>,
    /// The devices there are.
    devices: Devices,
    /// Endpoints whose container has ended while no daemon was there.
    vanished: BTreeSet<u8>,
}

impl Daemon {
    /// Starts with networks and all endpoints.
    pub fn new(tables: &mut NativeTables) -> Self {
        let running = Some((Model::default(), Contents::default()));
        let mut daemon =
            Self { stored: Model::default(), running, devices: Devices::default(), vanished: BTreeSet::new() };
        for name in NETWORKS {
            let subnets = subnets_of(name).to_vec();
            let request = NetworkRequest { name: name.to_owned(), subnets, ..NetworkRequest::default() };
            let unused = "fd77::/64".parse().expect("a subnet");
            daemon.request(tables, None, |model| model.create_network(&request, unused, &Host::default()));
        }
        (1..=ENDPOINTS).for_each(|number| daemon.attach(tables, number, None));
        daemon
    }

    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the endpoint's container is there.
    pub fn has(&self, number: u8) -> bool {
        !self.vanished.contains(&number)
    }

    /// The endpoint, as a running daemon knows it, or as it is on disk.
    pub fn endpoint(&self, number: u8) -> Endpoint {
        let named = |model: &Model| model.endpoints_named(&name(number))[0].clone();
        self.running.as_ref().map_or_else(|| named(&self.stored()), |(model, _)| named(model))
    }

    /// Its host-side veth.
    pub fn port(&self, number: u8) -> u32 {
        self.devices.ports[&self.endpoint(number).generation].ifindex
    }

    /// The MAC addresses of the endpoint and of its gateway.
    pub fn macs(&self, tables: &NativeTables, number: u8) -> ([u8; 6], [u8; 6]) {
        let own = tables.endpoint_by_ifindex(self.port(number)).and_then(|index| tables.endpoint(index));
        let own = own.expect("its port is open");
        (own.mac, tables.network(own.network).expect("it is there").gateway_mac)
    }

    fn stored(&self) -> Model {
        self.stored.clone()
    }

    /// Detaches an endpoint and attaches another of its name and address, whose index is the same; when the daemon is dead, the
    /// container ends. A daemon that is killed `after` so many changes of maps is started again.
    pub fn replace(&mut self, tables: &mut NativeTables, number: u8, after: Option<usize>) {
        if !self.is_running() {
            self.vanished.insert(number);
            return;
        }
        let leaving = self.endpoint(number);
        self.request(tables, after, |model| model.detach(&name(number), None));
        // The daemon ends flows of who is detached, if it lives to do so.
        if after.is_none() {
            let end = FlowEnd { endpoint: leaving.index, generation: leaving.generation };
            end_where(tables, |flow| flow.initiator == end || flow.responder == end);
        }
        self.attach(tables, number, after);
    }

    fn attach(&mut self, tables: &mut NativeTables, number: u8, after: Option<usize>) {
        let request = AttachRequest {
            netns: name(number),
            network: network_of(number).to_owned(),
            name: Some(name(number)),
            ips: [false, true].map(|v6| inside(v6, number)).to_vec(),
            ..AttachRequest::default()
        };
        let attach = |model: &mut Model| {
            // Indices go round, so that it comes to the one before in the end: here at once.
            model.counters.endpoint = u32::from(number) - 1;
            model.attach(&request, (4, number.into()), &[], String::new())
        };
        self.request(tables, after, attach);
        // A container whose attachment was not finished is forgotten.
        if self.stored().endpoints_named(&name(number)).is_empty() {
            self.request(tables, None, attach);
        }
    }

    /// Carries out a request: stored first, then applied. A daemon that is killed `after` so many changes is started again.
    pub fn request<T>(
        &mut self,
        tables: &mut NativeTables,
        after: Option<usize>,
        change: impl FnOnce(&mut Model) -> Result<T, Refusal>,
    ) {
        let Some((model, _)) = &mut self.running else { return };
        change(model).expect("no request that would be refused");
        self.stored = model.clone();
        for endpoint in model.endpoints.values() {
            let port = Port { ifindex: 1_000 + endpoint.generation, bridged: false };
            self.devices.ports.entry(endpoint.generation).or_insert(port);
        }
        for network in model.networks.values() {
            let gateway = Gateway { ifindex: 100 + network.id, far_ifindex: Some(200 + network.id) };
            self.devices.gateways.entry(network.id).or_insert(gateway);
        }
        if !self.reach(tables, after) {
            self.kill();
            self.start(tables);
        }
        self.remove_stale_devices();
    }

    /// Brings the maps to what the model says; whether the daemon lived to see it.
    fn reach(&mut self, tables: &mut NativeTables, after: Option<usize>) -> bool {
        let (model, actual) = self.running.as_mut().expect("it runs");
        let plan = changes(&desired(model, &self.devices, actual), actual);
        for change in plan.iter().take(after.unwrap_or(usize::MAX)) {
            make(tables, change);
            actual.note(change);
        }
        after.is_none_or(|after| plan.len() <= after)
    }

    fn remove_stale_devices(&mut self) {
        let model = self.stored();
        let wanted: BTreeSet<u32> = model.endpoints.values().map(|endpoint| endpoint.generation).collect();
        self.devices.ports.retain(|generation, _| wanted.contains(generation));
    }

    /// Kills the daemon: what it knew is gone, and the tables stay as they are.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts a daemon on what it finds (`engine/start.rs`): the state on disk, the devices and the maps. Endpoints without a
    /// device, or whose attachment was not finished, are forgotten; containers that ended meanwhile begin anew.
    pub fn start(&mut self, tables: &mut NativeTables) {
        let mut model = self.stored();
        let actual = contents(&tables.state);
        let lost = |endpoint: &&Endpoint| {
            let port = self.devices.ports.get(&endpoint.generation).map(|port| port.ifindex);
            let entry = actual.endpoints.get(&endpoint.index).filter(|entry| entry.generation == endpoint.generation);
            let ended = self.vanished.iter().any(|number| name(*number) == endpoint.name);
            ended || port.is_none() || port != entry.map(|entry| entry.ifindex)
        };
        let lost: Vec<u32> =
            model.endpoints.values().map(AsRef::as_ref).filter(lost).map(|endpoint| endpoint.index).collect();
        model.forget(&lost).expect("generations are left");
        self.stored = model.clone();
        self.remove_stale_devices();
        self.running = Some((model, actual));
        self.reach(tables, None);
        self.sweep(tables);
        for number in std::mem::take(&mut self.vanished) {
            self.attach(tables, number, None);
        }
    }

    /// Ends what has expired or lost an end, as a running daemon does every few seconds (`kernel/flows.rs`).
    pub fn sweep(&self, tables: &NativeTables) {
        if self.is_running() {
            let now = tables.now.get();
            end_where(tables, |flow| {
                flow.deadline < now || [flow.initiator, flow.responder].iter().any(|end| !is_there(tables, end))
            });
        }
    }
}

pub fn name(number: u8) -> String {
    format!("e{number}")
}

/// Whether the end is still who it was.
pub fn is_there(tables: &NativeTables, end: &FlowEnd) -> bool {
    end.endpoint == HOST || tables.endpoint(end.endpoint).is_some_and(|now| now.generation == end.generation)
}

/// The end that pays for a flow.
pub const fn charged_end(flow: &Flow) -> FlowEnd {
    if flow.initiator.endpoint == HOST { flow.responder } else { flow.initiator }
}

fn end_where(tables: &NativeTables, over: impl Fn(&Flow) -> bool) {
    for number in 0..tables.state.settings.flow_capacity {
        let slot = tables.flow(number).expect("within the table");
        let flow = *slot.get();
        if flow.claim != claim::LIVE || !over(&flow) || !slot.take(claim::LIVE) {
            continue;
        }
        for key in [flow.original, flow.reply] {
            if tables.flow_index(&key).is_some_and(|index| (index.slot, index.serial) == (number, flow.serial)) {
                tables.delete_flow_key(&key);
            }
        }
        let charged = charged_end(&flow);
        if flow.flags & flow_flags::CLOSED == 0 && is_there(tables, &charged) {
            tables.usage(charged.endpoint).expect("it has one").uncharge();
        }
        slot.give(claim::FREE);
    }
}

fn prefix(subnet: IpNet) -> (Address, u32) {
    let mapped = if subnet.addr().is_ipv4() { 96 } else { 0 };
    (subnet.network().into(), u32::from(subnet.prefix_len()) + mapped)
}

fn make(tables: &mut NativeTables, change: &Change) {
    if let Change::ZeroUsage(index) = change {
        let usage = tables.usage(*index).expect("it has one");
        (0..tables.usage_of(*index).flows).for_each(|_| usage.uncharge());
    }
    let state = &mut tables.state;
    match change {
        Change::ZeroUsage(_) | Change::ZeroHits(_) => {}
        Change::SetEndpoint(index, value) => drop(state.endpoints.insert(*index, *value)),
        Change::ClearEndpoint(index) => drop(state.endpoints.remove(index)),
        Change::SetIfindex(ifindex, index) => drop(state.by_ifindex.insert(*ifindex, *index)),
        Change::RemoveIfindex(ifindex) => drop(state.by_ifindex.remove(ifindex)),
        Change::SetAddress(network, address, index) => {
            state.by_address.insert(AddressKey::new(*network, *address), *index);
        }
        Change::RemoveAddress(network, address) => drop(state.by_address.remove(&AddressKey::new(*network, *address))),
        Change::SetMac(network, mac, index) => drop(state.by_mac.insert(MacKey::new(*network, *mac), *index)),
        Change::RemoveMac(network, mac) => drop(state.by_mac.remove(&MacKey::new(*network, *mac))),
        Change::SetNetwork(id, value) => drop(state.networks.insert(*id, *value)),
        Change::ClearNetwork(id) => drop(state.networks.remove(id)),
        Change::SetGateway(ifindex, id) => drop(state.by_gateway.insert(*ifindex, *id)),
        Change::RemoveGateway(ifindex) => drop(state.by_gateway.remove(ifindex)),
        Change::SetMember(network, position, ifindex) => drop(state.members.insert((*network, *position), *ifindex)),
        Change::RemoveMember(network, position) => drop(state.members.remove(&(*network, *position))),
        Change::SetSubnet(subnet, network) => {
            let (address, length) = prefix(*subnet);
            state.subnets.push((address, length, Subnet { network: *network, padding: 0 }));
        }
        Change::RemoveSubnet(subnet) => state.subnets.retain(|(at, length, _)| (*at, *length) != prefix(*subnet)),
        Change::SetPublication(index, value) => drop(state.publications.insert(*index, *value)),
        Change::ClearPublication(index) => drop(state.publications.insert(*index, Publication::default())),
        Change::Publish(index, keys) => state.published.extend(keys.iter().map(|key| (key, *index))),
        Change::Unpublish(_, keys) => {
            let gone: Vec<_> = keys.iter().collect();
            state.published.retain(|key, _| !gone.contains(key));
        }
        Change::HandOver(..) => {}
        Change::SetGuard(guard) => state.guard = *guard,
        Change::Deny(_) | Change::Undeny(_) => unreachable!("nobody is denied here"),
    }
}

/// What the maps hold.
fn contents(state: &State) -> Contents {
    let there = state.publications.iter().filter(|(_, value)| value.generation != 0);
    let keys_of =
        |of: u32| state.published.iter().filter(move |(_, index)| **index == of).map(|(key, _)| *key).collect();
    let publications: BTreeMap<u32, Published> =
        there.map(|(index, value)| (*index, Published { value: *value, keys: keys_of(*index) })).collect();
    let subnets = NETWORKS.iter().flat_map(|name| subnets_of(name)).filter_map(|subnet| {
        let (address, length) = prefix(subnet);
        let found = state.subnets.iter().find(|(at, long, _)| (*at, *long) == (address, length));
        found.map(|(_, _, value)| (subnet, value.network))
    });
    Contents {
        endpoints: state.endpoints.iter().map(|(index, value)| (*index, *value)).collect(),
        by_ifindex: state.by_ifindex.iter().map(|(ifindex, index)| (*ifindex, *index)).collect(),
        by_address: state.by_address.iter().map(|(key, index)| ((key.network, key.address), *index)).collect(),
        by_mac: state.by_mac.iter().map(|(key, index)| ((key.network, key.mac), *index)).collect(),
        networks: state.networks.iter().map(|(id, value)| (*id, *value)).collect(),
        by_gateway: state.by_gateway.iter().map(|(ifindex, id)| (*ifindex, *id)).collect(),
        members: state.members.iter().map(|(position, ifindex)| (*position, *ifindex)).collect(),
        subnets: subnets.collect(),
        publications: publications.into_iter().collect(),
        guard: state.guard,
        ..Contents::default()
    }
}
