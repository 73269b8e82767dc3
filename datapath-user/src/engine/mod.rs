//! What the daemon knows and does: requests become a new model, which is stored, applied, and taken back if that fails.

mod docker;
mod failure;
mod follow;
mod guard;
mod hooks;
mod host;
mod lock;
mod requests;
mod snapshot;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use tokio::sync::watch;

pub use docker::{Docker, InventoryReceiver};
pub use failure::Failure;
pub use guard::Guarded;
pub use host::is_ours;
pub use lock::Locks;
pub use snapshot::Snapshot;
pub use start::start;

use crate::apply::{self, Actual, Kernel, Namespaces, WantedPorts};
use crate::config::Config;
use crate::docker as dockerd;
use crate::kernel::netlink::UplinkInterface;
use crate::kernel::sysctl::PortSet;
use crate::model::{Host, Model};
use crate::store::{State, Store};

/// The daemon's state. One request changes it at a time; readers use [`Readers`].
pub struct Engine {
    config: Config,
    kernel: Kernel,
    store: Store,
    state: State,
    actual: Actual,
    host: Host,
    uplinks: Vec<UplinkInterface>,
    /// Uplinks that have our programs.
    guarded: BTreeSet<u32>,
    /// How it stands with the XDP program on uplinks, where it is wanted.
    guarded_natively: BTreeMap<u32, Guarded>,
    /// Why it is not on one, as it was last told.
    xdp_complaints: BTreeMap<u32, String>,
    /// With `--docker`.
    docker: Option<Docker>,
    readers: Readers,
}

/// What can be read while a request is under way.
#[derive(Clone)]
pub struct Readers {
    snapshot: Arc<RwLock<Arc<Snapshot>>>,
    /// Programs and maps.
    pub kernel: Kernel,
    /// How it stands with dockerd, where it is followed.
    pub docker: Option<watch::Receiver<dockerd::Status>>,
}

impl Readers {
    /// The state after the last request.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, snapshot: Snapshot) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}

impl Engine {
    /// What readers use.
    #[must_use]
    pub fn readers(&self) -> Readers {
        self.readers.clone()
    }

    /// Makes `next` the state: stored first, then applied. When that fails, all is as before.
    async fn change(&mut self, next: Model, namespaces: &Namespaces) -> Result<(), Failure> {
        let before = std::mem::replace(&mut self.state.model, next);
        let changed = self.store_and_apply(&before, namespaces).await;
        if let Err(failure) = &changed {
            tracing::error!("taken back: {failure}");
            // What was given out is not given out again: the kernel may have seen it.
            let counters = self.state.model.counters.clone();
            self.state.model = Model { counters, ..before };
            let reserved = self.reserve_ports(&WantedPorts::of(&self.state.model).ports());
            self.store.save(&self.state).context("and the state before could not be stored again")?;
            reserved.context("and the reserved ports could not be set back")?;
        }
        self.readers.publish(self.take_snapshot());
        changed
    }

    async fn store_and_apply(&mut self, before: &Model, namespaces: &Namespaces) -> Result<(), Failure> {
        let wanted = self.actual.reservations.needed().after(before, &self.state.model);
        let ports = wanted.ports();
        // Before the maps: what fails after them would leave them changed.
        if self.actual.reservations.needed().ports() != ports {
            // Whenever the daemon ends, those are not taken for the user's.
            if let Some(reserved) = &mut self.state.remembered.reserved_ports {
                reserved.announce(&ports);
            }
            self.store.save(&self.state)?;
            self.reserve_ports(&ports)?;
        } else {
            self.store.save(&self.state)?;
        }
        let problems = apply::apply(&self.kernel, &mut self.actual, &self.state.model, wanted, namespaces).await?;
        for problem in problems {
            tracing::warn!("removed, but not completely; it is tried again: {problem:#}");
        }
        Ok(())
    }

    /// Keeps published ports from being taken for outgoing connections, next to the user's own list. What is remembered of
    /// it is stored with the next change: until then more is thought to be ours than is.
    fn reserve_ports(&mut self, ports: &PortSet) -> anyhow::Result<()> {
        match &mut self.state.remembered.reserved_ports {
            Some(reserved) => reserved.update(ports),
            None => Ok(()),
        }
    }

    fn take_snapshot(&self) -> Snapshot {
        Snapshot {
            model: self.state.model.clone(),
            devices: self.actual.devices.clone(),
            uplinks: self.uplinks.clone(),
            guarded_natively: self.guarded_natively.clone(),
            config: self.config.clone(),
            docker_problems: self.docker.iter().flat_map(|d| d.problems().iter().cloned()).collect(),
        }
    }
}
