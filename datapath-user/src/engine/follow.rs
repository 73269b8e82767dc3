//! Following the host: its links and addresses change, endpoints vanish, expired flows are swept.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result};
use datapath_common::abi::Program;

use super::host::View;
use super::{Engine, Failure};
use crate::apply::{Namespaces, gateway_sysctls, reopen_gateway};
use crate::kernel::netlink::{Link, UplinkInterface};
use crate::model::{Endpoint, Host, Network};
use crate::plan::Devices;

/// What a look at the host has brought.
#[derive(Debug, Default)]
pub struct Resynced {
    /// Endpoints that have gone.
    pub gone: Vec<Endpoint>,
    /// What could not be followed.
    pub failures: Vec<Failure>,
}

impl Resynced {
    fn note(&mut self, result: Result<(), impl Into<Failure>>) {
        self.failures.extend(result.err().map(Into::into));
    }

    fn note_gone(&mut self, result: Result<Vec<Endpoint>, Failure>) {
        match result {
            Ok(gone) => self.gone.extend(gone),
            Err(failure) => self.failures.push(failure),
        }
    }
}

impl Engine {
    /// Looks at the host and follows what has changed. `thorough`: also what no message tells of. What fails keeps nothing
    /// else from being followed, and is tried again with the next change or a few seconds later.
    pub async fn resync(&mut self, thorough: bool) -> Resynced {
        let mut resynced = Resynced::default();
        let view = match View::read(&self.kernel.netlink).await {
            Ok(view) => view,
            Err(error) => {
                resynced.failures.push(error.into());
                return resynced;
            }
        };
        self.host = view.host();
        resynced.note_gone(self.forget_vanished(&view).await);
        resynced.note_gone(self.follow_docker(&view).await);
        resynced.note(self.restore_gateways(&view).await);
        resynced.note(self.follow_addresses(&view).await);
        resynced.note(self.follow_uplinks(&view, thorough));
        if thorough {
            resynced.note(self.kernel.datapath.sweep_links().map(drop));
            resynced.note(self.restore_programs(&view).await);
            for taken in self.actual.reservations.hold_what_is_free(&self.state.model) {
                tracing::debug!("a published port is not held: {taken}");
            }
        }
        resynced
    }

    /// Reads what the model must respect of the host.
    pub(super) async fn look_at_host(&mut self) -> Result<()> {
        let view = View::read(&self.kernel.netlink).await?;
        self.host = Host { routes: view.foreign_routes(&self.kernel.netlink).await?, ..view.host() };
        Ok(())
    }

    /// A port goes when its namespace does, or when somebody deletes it: then its endpoint is gone. A network of
    /// dockerd's goes with its bridge.
    async fn forget_vanished(&mut self, view: &View) -> Result<Vec<Endpoint>, Failure> {
        let Devices { ports, gateways } = &self.actual.devices;
        let bridge_of = |e: &Endpoint| {
            let network = self.state.model.networks.get(&e.network)?;
            gateways.get(&network.id).map(|gateway| gateway.ifindex)
        };
        let is_there = |e: &Endpoint| {
            let link = ports.get(&e.generation).and_then(|port| view.link(port.ifindex));
            link.is_some_and(|link| link.name == e.device() && (e.docker.is_none() || link.master == bridge_of(e)))
        };
        let is_bridge = |link: &Link| link.kind.as_deref() == Some("bridge");
        let bridge_is_there = |n: &Network| n.docker.is_none() || view.link_named(&n.device()).is_some_and(is_bridge);
        let endpoints = self.state.model.endpoints.values().map(AsRef::as_ref);
        let vanished: Vec<Endpoint> = endpoints.filter(|e| !is_there(e)).cloned().collect();
        let lost: Vec<String> =
            self.state.model.networks.values().filter(|n| !bridge_is_there(n)).map(|n| n.name.clone()).collect();
        if vanished.is_empty() && lost.is_empty() {
            return Ok(vanished);
        }
        let mut next = self.state.model.clone();
        next.networks.retain(|name, _| !lost.contains(name));
        for endpoint in &vanished {
            tracing::info!(
                endpoint = endpoint.name,
                network = endpoint.network,
                "the endpoint's interface is gone: forgotten"
            );
        }
        next.forget(&vanished.iter().map(|endpoint| endpoint.index).collect::<Vec<_>>())?;
        self.change(next, &Namespaces::default()).await?;
        self.purge_flows(vanished.clone()).await;
        Ok(vanished)
    }

    /// Gateway devices are ours to keep: made again when deleted, and given back their addresses.
    async fn restore_gateways(&mut self, view: &View) -> Result<(), Failure> {
        let there = |ifindex: u32, name: &str| view.link(ifindex).is_some_and(|link| link.name == name);
        let mut lost = Vec::new();
        for network in self.state.model.networks.values() {
            let Some(gateway) = self.actual.devices.gateways.get(&network.id).copied() else {
                lost.push(network.id);
                continue;
            };
            let far = gateway.far_ifindex;
            if !there(gateway.ifindex, &network.device()) || far.is_some_and(|far| !there(far, &network.far_device())) {
                tracing::warn!(network = network.name, "the gateway device is gone: made again");
                lost.push(network.id);
                continue;
            }
            if gateway_sysctls(network)? {
                tracing::warn!(network = network.name, "sysctls of the gateway device were changed: set right again");
            }
            let up = |ifindex: u32| view.link(ifindex).is_some_and(|link| link.up);
            let has =
                |ip: &std::net::IpAddr| view.addresses.iter().any(|a| a.ifindex == gateway.ifindex && a.address == *ip);
            // dockerd's bridge is for dockerd to keep.
            let Some(far) = far else { continue };
            if !up(gateway.ifindex) || !up(far) || !network.gateways.iter().all(has) {
                tracing::warn!(network = network.name, "the gateway device was changed: set right again");
                reopen_gateway(&self.kernel, &self.state.model, network.id, gateway).await?;
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        for id in lost {
            if let Some(gateway) = self.actual.devices.gateways.remove(&id) {
                let Some(far) = gateway.far_ifindex else { continue };
                self.kernel.datapath.detach(Program::FromHost, gateway.ifindex)?;
                self.kernel.datapath.detach(Program::FromContainer, far)?;
            }
        }
        self.change(self.state.model.clone(), &Namespaces::default()).await
    }

    async fn follow_addresses(&mut self, view: &View) -> Result<()> {
        // Addresses of gateways made since the view was read are in the map already and must stay.
        let mut addresses = view.local_addresses();
        for network in self.state.model.networks.values() {
            let Some(gateway) = self.actual.devices.gateways.get(&network.id) else { continue };
            addresses.extend(network.gateways.iter().map(|ip| ((*ip).into(), gateway.ifindex)));
        }
        if self.kernel.datapath.tables().replace_host_addresses(&addresses)? {
            tracing::debug!(count = addresses.len(), "the host's addresses have changed");
        }
        Ok(())
    }

    /// An uplink is in the map exactly while it carries our programs: nothing is sent where they are not.
    fn follow_uplinks(&mut self, view: &View, thorough: bool) -> Result<()> {
        let uplinks = view
            .uplinks(&self.config.uplinks, |link| self.docker.as_ref().is_some_and(|docker| docker.is_bridge(link)));
        let present: BTreeSet<u32> = uplinks.iter().map(|uplink| uplink.ifindex).collect();
        let datapath = Arc::clone(&self.kernel.datapath);
        let mut failed = None;
        for uplink in uplinks.iter().filter(|uplink| !self.guarded.contains(&uplink.ifindex)).collect::<Vec<_>>() {
            match guard(&datapath, uplink) {
                Ok(()) => {
                    self.guarded.insert(uplink.ifindex);
                    tracing::info!(uplink = uplink.name, ipv4 = ?uplink.ipv4, ipv6 = ?uplink.ipv6, "uplink");
                }
                Err(error) => failed = Some(error),
            }
        }
        let guarded_natively = self.guarded_natively.clone();
        if let Err(error) = self.guard_uplinks(view, &uplinks, thorough) {
            failed = Some(error);
        }
        let guarded = uplinks.iter().filter(|uplink| self.guarded.contains(&uplink.ifindex));
        let entry = |uplink: &UplinkInterface| uplink.to_map(self.is_guarded_natively(uplink.ifindex));
        let entries: HashMap<u32, _> = guarded.map(|uplink| (uplink.ifindex, entry(uplink))).collect();
        datapath.tables().replace_uplinks(&entries)?;
        if thorough || guarded_natively != self.guarded_natively {
            self.release_unguarded()?;
        }
        for ifindex in self.guarded.difference(&present).copied().collect::<Vec<_>>() {
            datapath.detach(Program::FromUplink, ifindex)?;
            datapath.detach(Program::ToUplink, ifindex)?;
            self.guarded.remove(&ifindex);
            tracing::info!(ifindex, "no longer an uplink");
        }
        if self.uplinks != uplinks || guarded_natively != self.guarded_natively {
            self.uplinks = uplinks;
            self.readers.publish(self.take_snapshot());
        }
        failed.map_or(Ok(()), Err)
    }
}

fn guard(datapath: &crate::kernel::Datapath, uplink: &UplinkInterface) -> Result<()> {
    // The way out first: nothing of ours may leave by it before what comes back is seen.
    datapath
        .attach(Program::ToUplink, uplink.ifindex)
        .and_then(|()| datapath.attach(Program::FromUplink, uplink.ifindex))
        .with_context(|| format!("{} cannot be made an uplink", uplink.name))
}
