//! One connection to dockerd: events are heard, what they hint at is fetched, and all of it is listed from time to time.

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use bollard::models::{ContainerInspectResponse, EventMessage, NetworkInspect};
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::container::Container;
use super::events::{Hint, hint};
use super::fetch::{Answer, Fetched, Fetches, Listing};
use super::network::members;
use super::outlet::Outlet;

/// From one full listing to the next.
const LISTING_INTERVAL: Duration = Duration::from_secs(30);
/// To the next listing after an object could not be fetched. It doubles each time, up to the interval.
const RETRY: Duration = Duration::from_secs(1);
/// So often in a row a network that was never seen may fail to be fetched before dockerd is followed without it.
const PATIENCE: u32 = 5;
/// How long an event may be behind the listing that shows its effect already.
const EVENT_DELAY: Duration = Duration::from_secs(1);

/// One connection.
pub struct Session<'a> {
    client: Arc<Client>,
    outlet: &'a mut Outlet,
    fetches: Fetches,
    /// Whether all of it was heard once.
    heard: bool,
    /// When to list next; none: it is being listed.
    next_listing: Option<Instant>,
    /// Whether something could not be fetched since the last listing, and listings in a row after which that was so.
    failed: bool,
    failures: u32,
    /// What answered since the listing under way began: newer than it.
    answered: HashSet<String>,
    /// What events named since then.
    touched: HashSet<String>,
    /// Containers of which the list says something else.
    disputed: HashSet<String>,
    /// Containers that dockerd did not tell of when asked.
    unknown: HashSet<String>,
    /// What changed without an event so far, and since when.
    unexplained: BTreeMap<String, (Instant, String)>,
}

impl<'a> Session<'a> {
    /// A connection on which nothing was said yet.
    pub fn new(client: Client, outlet: &'a mut Outlet) -> Self {
        let client = Arc::new(client);
        Self {
            fetches: Fetches::new(client.clone()),
            client,
            outlet,
            heard: false,
            next_listing: Some(Instant::now()),
            failed: false,
            failures: 0,
            answered: HashSet::new(),
            touched: HashSet::new(),
            disputed: HashSet::new(),
            unknown: HashSet::new(),
            unexplained: BTreeMap::new(),
        }
    }

    /// Follows dockerd until that fails, and returns why.
    pub async fn run(mut self) -> Error {
        let mut events = pin!(self.client.events().fuse());
        loop {
            let alarm = self.alarm();
            let mut outcome = tokio::select! {
                event = events.next() => self.hear(event),
                answer = self.fetches.next() => self.take(answer),
                () = sleep_until(alarm) => { self.wake(); Ok(()) }
            };
            // All that is there already, before the inventory is made once.
            while outcome.is_ok()
                && let Some(event) = events.next().now_or_never()
            {
                outcome = self.hear(event);
            }
            while outcome.is_ok()
                && let Some(answer) = self.fetches.next().now_or_never()
            {
                outcome = self.take(answer);
            }
            if self.heard {
                self.outlet.publish();
            }
            if let Err(error) = outcome {
                return error;
            }
        }
    }

    /// When there is something to do without an event or answer.
    fn alarm(&self) -> Instant {
        let unexplained = self.unexplained.values().map(|(since, _)| *since + EVENT_DELAY);
        let times = unexplained.chain(self.next_listing);
        times.min().unwrap_or_else(|| Instant::now() + LISTING_INTERVAL)
    }

    fn wake(&mut self) {
        let now = Instant::now();
        if self.next_listing.is_some_and(|at| at <= now) {
            self.next_listing = None;
            self.answered.clear();
            self.touched.clear();
            self.fetches.want_listing();
        }
        self.unexplained.retain(|_, (since, what)| {
            let wait = *since + EVENT_DELAY > now;
            if !wait {
                tracing::warn!("{what} changed and dockerd sent no event of it; it is now as dockerd lists it");
            }
            wait
        });
    }

    fn hear(&mut self, event: Option<Result<EventMessage>>) -> Result<()> {
        let event = event.context("dockerd ended the stream of events")??;
        let (container, networks) = match hint(&event) {
            Some(Hint::Network { network, container }) => {
                // A container that is running may publish by another network now. One that starts does not answer
                // before it is started, and an event comes then.
                let runs = |id: &String| self.outlet.known().containers().get(id).is_some_and(|c| !c.joined.is_empty());
                (container.filter(runs), vec![network])
            }
            Some(Hint::Container { container, networks: true }) => {
                let networks = self.outlet.known().networks_of(&container);
                (Some(container), networks)
            }
            Some(Hint::Container { container, networks: false }) => (Some(container), vec![]),
            None => (None, vec![]),
        };
        for network in &networks {
            self.touch(network);
            self.fetches.want_network(network);
        }
        if let Some(container) = &container {
            self.touch(container);
            self.fetches.want_container(container);
        }
        Ok(())
    }

    fn touch(&mut self, id: &str) {
        self.touched.insert(id.to_owned());
        self.disputed.remove(id);
        self.unexplained.remove(id);
    }

    fn take(&mut self, answer: Answer) -> Result<()> {
        match answer {
            Answer::Network(id, answer) => {
                self.answered.insert(id.clone());
                self.take_network(&id, answer);
            }
            Answer::Container(id, answer) => {
                self.answered.insert(id.clone());
                self.take_container(&id, answer);
            }
            Answer::Listing(listing) => self.take_listing(listing?),
        }
        if self.failed
            && let Some(at) = &mut self.next_listing
        {
            *at = (*at).min(Instant::now() + RETRY * 2u32.pow(self.failures.min(5)));
        }
        Ok(())
    }

    /// Returns whether it is news.
    fn take_network(&mut self, id: &str, answer: Fetched<NetworkInspect>) -> bool {
        match answer {
            Ok(network) => self.outlet.put_network(id, network.as_deref().and_then(members)),
            Err(error) => {
                self.outlet.network_failed(id, &error);
                self.failed = true;
                false
            }
        }
    }

    fn take_container(&mut self, id: &str, answer: Fetched<ContainerInspectResponse>) {
        let disputed = self.disputed.remove(id);
        match answer {
            Ok(container) => {
                self.unknown.remove(id);
                let news = self.outlet.put_container(id, container.map(|from| Container::inspected(id, &from)));
                if news && disputed {
                    self.wonder(id, self.outlet.known().describe_container(id));
                }
            }
            Err(error) => {
                self.outlet.container_failed(id, &error);
                self.unknown.insert(id.to_owned());
                self.failed = true;
            }
        }
    }

    /// Something changed that no event told of, yet.
    fn wonder(&mut self, id: &str, what: String) {
        if self.heard && !self.touched.contains(id) {
            self.unexplained.insert(id.to_owned(), (Instant::now(), what));
        }
    }

    fn take_listing(&mut self, listing: Listing) {
        self.failures = if self.failed { self.failures + 1 } else { 0 };
        self.failed = false;
        self.next_listing = Some(Instant::now() + LISTING_INTERVAL);
        let networks: Vec<_> = listing.networks.iter().map(|(id, _)| id.clone()).collect();
        self.compare_networks(listing.networks);
        let listed = listing.containers.iter().filter_map(|container| Some((container.id.as_deref()?, container)));
        self.compare_containers(listed.map(|(id, from)| (id.to_owned(), Container::listed(id, from))).collect());
        // A network that could not be asked for may have containers that run: better late than as if it were not there.
        let known = self.outlet.known().network_ids();
        let missing = networks.iter().any(|id| !known.contains(id)) && self.failed && self.failures < PATIENCE;
        if !self.heard && !missing {
            self.heard = true;
            self.outlet.connected(&self.client);
        }
    }

    fn compare_networks(&mut self, listed: Vec<(String, Fetched<NetworkInspect>)>) {
        let ids: HashSet<_> = listed.iter().map(|(id, _)| id.clone()).collect();
        let gone = self.outlet.known().network_ids().into_iter().filter(|id| !ids.contains(id));
        let gone: Vec<_> = gone.map(|id| (id, Ok(None))).collect();
        for (id, answer) in listed.into_iter().chain(gone) {
            if self.answered.contains(&id) {
                continue;
            }
            let what = self.outlet.known().describe_network(&id);
            if self.take_network(&id, answer) {
                self.wonder(&id, what);
            }
        }
    }

    /// The list may be older than what an inspection said (dockerd makes it from copies that it takes at some points), so
    /// it only gives a reason to inspect. But first on a connection it counts at once: else published ports were unknown
    /// until all containers are inspected. And it counts where dockerd does not tell more.
    fn compare_containers(&mut self, mut listed: BTreeMap<String, (Container, Vec<String>)>) {
        let known = self.outlet.known().containers().iter().filter(|(id, _)| !listed.contains_key(*id));
        let (forgotten, unlisted): (Vec<_>, Vec<_>) = known.partition(|(_, container)| container.joined.is_empty());
        let forgotten: Vec<_> = forgotten.into_iter().map(|(id, _)| id.clone()).collect();
        let unlisted: Vec<_> = unlisted.into_iter().map(|(id, _)| id.clone()).collect();
        for id in forgotten {
            self.outlet.put_container(&id, None);
        }
        listed.extend(unlisted.into_iter().map(|id| (id, Default::default())));
        for (id, (container, causes)) in listed {
            let unknown = self.unknown.contains(&id);
            let known = self.outlet.known().containers().get(&id);
            let agreed = known.is_some_and(|known| known.matches_listed(&container));
            if self.answered.contains(&id) || (agreed && !unknown) {
                continue;
            }
            if unknown || !self.heard {
                self.outlet.put_container(&id, Some((container, causes)));
            }
            self.disputed.insert(id.clone());
            self.fetches.want_container(&id);
        }
    }
}
