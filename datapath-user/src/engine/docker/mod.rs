//! Following dockerd: what it has becomes part of the state, as far as its devices are there.

mod announce;
mod guards;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::host::View;
use super::{Engine, Failure};
use crate::apply::{Kernel, Namespaces};
use crate::docker;
use crate::kernel::fence::{FUTURE_BRIDGES, Fence};
use crate::kernel::netlink::Link;
use crate::model::{Bridges, Endpoint, Inventory, Model};
use guards::Guards;

/// What dockerd has, or nothing before it has been heard.
pub type InventoryReceiver = watch::Receiver<Option<Arc<Inventory>>>;

/// The engine's side of following dockerd.
#[derive(Debug)]
pub struct Docker {
    inventory: InventoryReceiver,
    status: watch::Receiver<docker::Status>,
    guards: Guards,
    /// What was followed last, completely, and how much that was in the model.
    followed: Option<(Arc<Inventory>, Bridges, usize)>,
    /// What cannot be followed, as it was last logged.
    problems: BTreeSet<String>,
    /// What has not appeared yet, since when.
    waiting: BTreeMap<String, Instant>,
    /// Following failed half-way.
    unfinished: bool,
}

/// How long what dockerd names may take to appear before that is a problem to report.
const APPEARS: Duration = Duration::from_secs(5);

impl Docker {
    /// Follows what comes by `inventory`; `status` tells how it stands with dockerd.
    #[must_use]
    pub fn new(inventory: InventoryReceiver, status: watch::Receiver<docker::Status>) -> Self {
        let (guards, problems) = (Guards::default(), BTreeSet::new());
        Self { inventory, status, guards, followed: None, problems, waiting: BTreeMap::new(), unfinished: false }
    }

    /// What dockerd has, as it changes.
    #[must_use]
    pub fn inventory(&self) -> InventoryReceiver {
        self.inventory.clone()
    }

    /// How it stands with dockerd.
    #[must_use]
    pub(super) fn status(&self) -> watch::Receiver<docker::Status> {
        self.status.clone()
    }

    /// Why some of dockerd's networks, containers or ports are not followed.
    #[must_use]
    pub fn problems(&self) -> &BTreeSet<String> {
        &self.problems
    }

    /// Whether this device is, or by its name will be, a bridge of dockerd's.
    pub(super) fn is_bridge(&self, link: &Link) -> bool {
        self.guards.is_bridge(link.index) || (is_bridge(link) && is_default_name(&link.name))
    }

    /// Bridges and their ports that carry our programs, by ifindex.
    pub(super) fn guarded(&self) -> (Vec<u32>, Vec<u32>) {
        self.guards.devices()
    }

    /// Guards the devices, and says which there are.
    async fn guard(&mut self, kernel: &Kernel, view: &View, model: &Model, inventory: Option<&Inventory>) -> Bridges {
        // dockerd starts containers before it answers: bridges with names of its own are closed before it is heard.
        let default = view.links.iter().filter(|link| is_bridge(link) && is_default_name(&link.name));
        let mut names: BTreeSet<String> = default.map(|link| link.name.clone()).collect();
        let mut subnets = BTreeSet::new();
        match inventory {
            Some(inventory) => {
                names.extend(inventory.networks.iter().map(|network| network.bridge.clone()));
                subnets.extend(inventory.networks.iter().flat_map(|network| network.subnets.iter().copied()));
            }
            // What was followed before this daemon started stays so until dockerd is heard.
            None => {
                let networks = model.networks.values().filter(|network| network.docker.is_some());
                networks.for_each(|network| {
                    names.insert(network.device());
                    subnets.extend(network.subnets.iter().copied());
                });
            }
        }
        self.guards.refuse(view, &mut names);
        let others = view.links.iter().filter(|link| is_bridge(link) && link.name.starts_with(FUTURE_BRIDGES));
        let others = others.map(|link| link.name.clone()).filter(|name| !names.contains(name)).collect();
        self.guards.draw_fence(Fence { bridges: names.clone(), others, subnets }).await;
        let expected = |bridge: &str, mac| match inventory {
            Some(inventory) => {
                let on_bridge = inventory.networks.iter().filter(|network| network.bridge == bridge);
                on_bridge.flat_map(|n| inventory.endpoints.iter().filter(|e| e.network == n.id)).any(|e| e.mac == mac)
            }
            None => true,
        };
        self.guards.follow(kernel, view, &names, expected).await
    }

    /// Keeps since when each of these is waited for. Returns those that should have appeared by now.
    fn wait_for(&mut self, waiting: BTreeSet<String>) -> Vec<String> {
        self.waiting.retain(|what, _| waiting.contains(what));
        let now = Instant::now();
        for what in waiting {
            self.waiting.entry(what).or_insert(now);
        }
        let late = self.waiting.iter().filter(|(_, since)| since.elapsed() >= APPEARS);
        late.map(|(what, _)| what.clone()).collect()
    }

    /// Logs what is new among the problems; whether they have changed.
    fn report(&mut self, problems: BTreeSet<String>) -> bool {
        for problem in problems.difference(&self.problems) {
            tracing::warn!("{problem}");
        }
        let changed = problems != self.problems;
        self.problems = problems;
        changed
    }
}

fn is_bridge(link: &Link) -> bool {
    link.kind.as_deref() == Some("bridge")
}

/// What dockerd calls its bridges unless told otherwise: docker0, and `br-` with the first twelve digits of the id.
fn is_default_name(name: &str) -> bool {
    let id = name.strip_prefix("br-");
    name == "docker0" || id.is_some_and(|id| id.len() == 12 && id.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

impl Engine {
    /// Whether a device that dockerd named has not appeared yet.
    #[must_use]
    pub fn waits_for_docker(&self) -> bool {
        self.docker.as_ref().is_some_and(|docker| docker.unfinished || !docker.waiting.is_empty())
    }

    /// Follows dockerd. Returns the endpoints that have gone.
    ///
    /// # Errors
    /// When the host refuses; it is tried again with the next change or a few seconds later.
    pub(super) async fn follow_docker(&mut self, view: &View) -> Result<Vec<Endpoint>, Failure> {
        let Some(docker) = &mut self.docker else { return Ok(Vec::new()) };
        let inventory = docker.inventory.borrow_and_update().clone();
        let bridges = docker.guard(&self.kernel, view, &self.state.model, inventory.as_deref()).await;
        let Some(inventory) = inventory else { return Ok(Vec::new()) };
        let size = self.state.model.docker_size();
        if docker.followed.as_ref().is_some_and(|(i, b, s)| Arc::ptr_eq(i, &inventory) && *b == bridges && *s == size) {
            return Ok(Vec::new());
        }
        // Until all is done, and again should it fail.
        docker.unfinished = true;
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let mut next = self.state.model.clone();
        let unfollowed = next.follow_docker(&inventory, &bridges, &self.host, &now)?;
        let complete = unfollowed.problems.is_empty();
        let mut problems = unfollowed.problems;
        problems.extend(docker.wait_for(unfollowed.waiting));
        problems.extend(docker.guards.refused().cloned());
        if docker.report(problems) {
            self.readers.publish(self.take_snapshot());
        }
        let gone = self.become_docker(next).await?;
        let size = self.state.model.docker_size();
        let Some(docker) = &mut self.docker else { return Ok(gone) };
        docker.unfinished = false;
        docker.followed = (complete && docker.waiting.is_empty()).then_some((inventory, bridges, size));
        Ok(gone)
    }

    /// Makes `next` the state if it is another one, and logs what has come and gone.
    async fn become_docker(&mut self, next: Model) -> Result<Vec<Endpoint>, Failure> {
        if next == self.state.model {
            return Ok(Vec::new());
        }
        let model = &self.state.model;
        let known = |model: &Model, endpoint: &Endpoint| {
            model.endpoints.get(&endpoint.index).is_some_and(|other| other.generation == endpoint.generation)
        };
        let cloned = |endpoint: &Arc<Endpoint>| Endpoint::clone(endpoint);
        let gone: Vec<_> = model.endpoints.values().filter(|e| !known(&next, e)).map(cloned).collect();
        let come: Vec<_> = next.endpoints.values().filter(|e| !known(model, e)).map(cloned).collect();
        self.change(next, &Namespaces::default()).await?;
        self.announce(&come);
        self.purge_flows(gone.clone()).await;
        for endpoint in &gone {
            tracing::info!(endpoint = endpoint.name, network = endpoint.network, "container left");
        }
        for endpoint in &come {
            tracing::info!(
                endpoint = endpoint.name,
                network = endpoint.network,
                device = endpoint.device(),
                "container joined"
            );
        }
        Ok(gone)
    }
}
