//! What is known of dockerd, and those who want to know it.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::client::Client;
use super::complaints::Complaints;
use super::container::Container;
use super::known::Known;
use super::network::Members;
use super::status::Status;
use crate::model::Inventory;

/// What is known, across connections.
pub struct Outlet {
    known: Known,
    /// Something was learned that is not public.
    news: bool,
    complaints: Complaints,
    inventory: watch::Sender<Option<Arc<Inventory>>>,
    status: watch::Sender<Status>,
    /// The failure that was logged last.
    told: Option<String>,
    /// Whether a log line says that dockerd is followed, and none after it that it is not.
    announced: bool,
}

impl Outlet {
    /// Nothing is known yet.
    pub fn new(inventory: watch::Sender<Option<Arc<Inventory>>>, status: watch::Sender<Status>) -> Self {
        let (known, complaints) = (Known::default(), Complaints::default());
        Self { known, news: true, complaints, inventory, status, told: None, announced: false }
    }

    /// What is known.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Whether dockerd has said all it has on this connection.
    pub fn is_connected(&self) -> bool {
        self.status.borrow().connected_since.is_some()
    }

    /// dockerd has said all it has, for the first time on this connection.
    pub fn connected(&mut self, client: &Client) {
        let (version, api_version) = (client.version.clone(), client.api_version.clone());
        if !self.announced {
            tracing::info!("dockerd {version} is followed, with version {api_version} of its API");
            self.announced = true;
        }
        self.status.send_modify(|status| {
            status.connected_since = Some(humantime::format_rfc3339_seconds(SystemTime::now()).to_string());
            (status.version, status.api_version) = (Some(version), Some(api_version));
        });
    }

    /// There is no connection, or no more. Said again only if it is another failure, or there was a steady connection.
    pub fn lost(&mut self, failure: &str, steady: bool) {
        if steady || self.told.as_deref() != Some(failure) {
            tracing::warn!("{failure}; it is tried again, and what dockerd had last stays in force");
            self.told = Some(failure.to_owned());
            self.announced = false;
        }
        self.status.send_modify(|status| {
            status.connected_since = None;
            status.last_error = Some(failure.to_owned());
        });
    }

    /// Makes what is known public, if that is news.
    pub fn publish(&mut self) {
        if !std::mem::take(&mut self.news) {
            return;
        }
        let now = self.known.inventory();
        self.inventory.send_if_modified(|last| {
            let news = last.as_deref() != Some(&now);
            if news {
                *last = Some(Arc::new(now));
            }
            news
        });
    }

    /// Learns what a network is and what of it is not understood, or that it is gone. Returns whether it is news.
    pub fn put_network(&mut self, id: &str, network: Option<(Members, Vec<String>)>) -> bool {
        let (members, causes) = network.unzip();
        let before = self.known.describe_network(id);
        let news = self.known.learn_network(id, members);
        self.news |= news;
        let after = self.known.describe_network(id);
        self.report(&before, &after, causes.unwrap_or_default());
        news
    }

    /// Learns what a container is and what of it is not understood, or that it is gone. Returns whether it is news.
    pub fn put_container(&mut self, id: &str, container: Option<(Container, Vec<String>)>) -> bool {
        let (container, causes) = container.unzip();
        let before = self.known.describe_container(id);
        let news = self.known.learn_container(id, container);
        self.news |= news;
        let after = self.known.describe_container(id);
        self.report(&before, &after, causes.unwrap_or_default());
        news
    }

    fn report(&mut self, before: &str, after: &str, causes: Vec<String>) {
        if before != after {
            self.complaints.report(before, vec![]);
        }
        self.complaints.report(after, causes);
    }

    /// A network could not be fetched.
    pub fn network_failed(&mut self, id: &str, error: &anyhow::Error) {
        let cause = format!("dockerd does not say who is on it: {error:#}; it stays as it was, and is asked for again");
        self.complaints.report(&self.known.describe_network(id), vec![cause]);
    }

    /// A container could not be fetched.
    pub fn container_failed(&mut self, id: &str, error: &anyhow::Error) {
        let cause =
            format!("dockerd does not say what it publishes: {error:#}; it stays as listed, and is asked for again");
        self.complaints.report(&self.known.describe_container(id), vec![cause]);
    }
}
