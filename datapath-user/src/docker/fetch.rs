//! What is fetched from dockerd, each in a task of its own.

use std::sync::Arc;

use anyhow::Result;
use bollard::models::{ContainerInspectResponse, ContainerSummary, NetworkInspect};
use futures::stream::{StreamExt, iter};
use tokio::task::JoinSet;

use super::client::Client;
use super::lane::Lane;

/// Requests of one kind under way at a time: enough to use dockerd's processors, and few for it.
const PARALLEL: usize = 16;

/// One object, none where it is gone.
pub type Fetched<T> = Result<Option<Box<T>>>;

/// What dockerd said.
pub enum Answer {
    /// Of a network.
    Network(String, Fetched<NetworkInspect>),
    /// Of a container.
    Container(String, Fetched<ContainerInspectResponse>),
    /// Of all there is.
    Listing(Result<Listing>),
}

/// All there is.
pub struct Listing {
    /// Networks of the bridge driver, with their members.
    pub networks: Vec<(String, Fetched<NetworkInspect>)>,
    /// Running containers.
    pub containers: Vec<ContainerSummary>,
}

/// Requests to one dockerd. Dropped, they end.
pub struct Fetches {
    client: Arc<Client>,
    networks: Lane,
    containers: Lane,
    tasks: JoinSet<Answer>,
}

impl Fetches {
    /// None yet.
    pub fn new(client: Arc<Client>) -> Self {
        Self { client, networks: Lane::new(PARALLEL), containers: Lane::new(PARALLEL), tasks: JoinSet::new() }
    }

    /// Asks for a network.
    pub fn want_network(&mut self, id: &str) {
        self.networks.want(id);
        self.start();
    }

    /// Asks for a container. Their lane is their own: one that does not answer yet delays no network.
    pub fn want_container(&mut self, id: &str) {
        self.containers.want(id);
        self.start();
    }

    /// Asks for all.
    pub fn want_listing(&mut self) {
        let client = self.client.clone();
        self.tasks.spawn(async move { Answer::Listing(list(&client).await) });
    }

    /// The next answer; waits for ever when nothing is asked for.
    pub async fn next(&mut self) -> Answer {
        let answer = loop {
            match self.tasks.join_next().await {
                Some(Ok(answer)) => break answer,
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => std::future::pending().await,
            }
        };
        match &answer {
            Answer::Network(id, _) => self.networks.finish(id),
            Answer::Container(id, _) => self.containers.finish(id),
            Answer::Listing(_) => {}
        }
        self.start();
        answer
    }

    fn start(&mut self) {
        while let Some(id) = self.networks.start() {
            let client = self.client.clone();
            self.tasks.spawn(async move {
                let answer = client.network(&id).await;
                Answer::Network(id, answer)
            });
        }
        while let Some(id) = self.containers.start() {
            let client = self.client.clone();
            self.tasks.spawn(async move {
                let answer = client.container(&id).await;
                Answer::Container(id, answer)
            });
        }
    }
}

async fn list(client: &Client) -> Result<Listing> {
    let (networks, containers) = futures::try_join!(client.networks(), client.containers())?;
    let networks = iter(networks).map(|id| async move {
        let answer = client.network(&id).await;
        (id, answer)
    });
    Ok(Listing { networks: networks.buffer_unordered(PARALLEL).collect().await, containers })
}
