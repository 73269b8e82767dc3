//! Requests to dockerd.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, bail};
use bollard::models::{ContainerInspectResponse, ContainerSummary, EventMessage, NetworkInspect};
use bollard::query_parameters::{EventsOptionsBuilder, ListNetworksOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::{Stream, StreamExt};
use tokio::time::timeout;

/// How long one object may take. A container's inspection waits while dockerd holds the container's lock.
const OBJECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a list, or a dockerd that is still starting, may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// Events of so long before the subscription are sent again: dockerd answers a subscription just before it begins to
/// record for it (moby, api/server/router/system: `postEvents` flushes the header, then subscribes), and clocks are rounded.
const REPLAY: Duration = Duration::from_secs(1);

/// A dockerd that answered.
pub struct Client {
    docker: Docker,
    /// Its version.
    pub version: String,
    /// The version of the API that is spoken with it.
    pub api_version: String,
}

impl Client {
    /// Finds out which versions are spoken on this socket.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let Some(path) = socket.to_str() else { bail!("the path of the socket is not UTF-8; choose another") };
        let docker = Docker::connect_with_unix(path, LIST_TIMEOUT.as_secs(), API_DEFAULT_VERSION)?;
        let docker = within(LIST_TIMEOUT, docker.negotiate_version()).await?;
        let version = within(LIST_TIMEOUT, docker.version()).await?.version.unwrap_or_default();
        Ok(Self { api_version: docker.client_version().to_string(), version, docker })
    }

    /// Events of containers and networks from now on. Ends when dockerd does.
    pub fn events(&self) -> impl Stream<Item = Result<EventMessage>> + use<> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(REPLAY);
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        let types = HashMap::from([("type", vec!["container", "network"])]);
        let options = EventsOptionsBuilder::new().since(&since).filters(&types).build();
        self.docker.events(Some(options)).map(|event| event.context("the stream of events broke"))
    }

    /// Ids of all networks of the bridge driver.
    pub async fn networks(&self) -> Result<Vec<String>> {
        let filters = HashMap::from([("driver", vec!["bridge"])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let networks = within(LIST_TIMEOUT, self.docker.list_networks(Some(options))).await;
        let networks = networks.context("the networks cannot be listed")?;
        Ok(networks.into_iter().filter_map(|network| network.id).collect())
    }

    /// All running containers.
    pub async fn containers(&self) -> Result<Vec<ContainerSummary>> {
        within(LIST_TIMEOUT, self.docker.list_containers(None)).await.context("the containers cannot be listed")
    }

    /// A network; none: it is gone.
    pub async fn network(&self, id: &str) -> Result<Option<NetworkInspect>> {
        unless_gone(within(OBJECT_TIMEOUT, self.docker.inspect_network(id, None)).await)
    }

    /// A container; none: it is gone.
    pub async fn container(&self, id: &str) -> Result<Option<ContainerInspectResponse>> {
        unless_gone(within(OBJECT_TIMEOUT, self.docker.inspect_container(id, None)).await)
    }
}

/// The time limit of the crate ends with the header of an answer, this one with the answer.
async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, bollard::errors::Error>>) -> Result<T> {
    match timeout(limit, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => bail!("there is no answer within {} s", limit.as_secs()),
    }
}

fn unless_gone<T>(answer: Result<T>) -> Result<Option<T>> {
    use bollard::errors::Error::DockerResponseServerError;
    let gone = |error: &Error| matches!(error.downcast_ref(), Some(DockerResponseServerError { status_code: 404, .. }));
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
