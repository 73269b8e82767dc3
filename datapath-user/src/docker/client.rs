//! Requests to dockerd.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, bail};
use bollard::models::{ContainerInspectResponse, ContainerSummary, EventMessage, NetworkInspect};
use bollard::query_parameters::{EventsOptionsBuilder, ListNetworksOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use futures::{Stream, StreamExt};
use hyper::Uri;
use tokio::time::timeout;

use super::fetch::Fetched;

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
        let api_version = docker.client_version().to_string();
        let prefix = format!("/v{api_version}");
        let docker = docker.with_request_modifier(move |request| versioned(request, &prefix));
        let version = within(LIST_TIMEOUT, docker.version()).await?.version.unwrap_or_default();
        Ok(Self { docker, version, api_version })
    }

    /// Events of containers and networks from now on. Ends when dockerd does.
    pub fn events(&self) -> impl Stream<Item = Result<EventMessage>> + use<> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(REPLAY);
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        let types = HashMap::from([("type", vec!["container", "network"])]);
        let options = EventsOptionsBuilder::new().since(&since).filters(&types).build();
        self.docker.events(Some(options)).map(|event| event.map_err(cause).context("the stream of events broke"))
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
    pub async fn network(&self, id: &str) -> Fetched<NetworkInspect> {
        unless_gone(within(OBJECT_TIMEOUT, self.docker.inspect_network(id, None)).await)
    }

    /// A container; none: it is gone.
    pub async fn container(&self, id: &str) -> Fetched<ContainerInspectResponse> {
        unless_gone(within(OBJECT_TIMEOUT, self.docker.inspect_container(id, None)).await)
    }
}

/// Asks for a version of the API. The crate negotiates one, but 0.21 then loses it on the way to the request (its `uri.rs`
/// joins an absolute path), and dockerd answers in its newest, whatever that is.
fn versioned(mut request: BollardRequest, prefix: &str) -> BollardRequest {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if !path.starts_with(prefix) {
        let path = format!("{prefix}{path}").parse().ok();
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = path.or(parts.path_and_query);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// The time limit of the crate ends with the header of an answer, this one with the answer.
async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, bollard::errors::Error>>) -> Result<T> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(cause),
        Err(_) => bail!("there is no answer within {} s", limit.as_secs()),
    }
}

/// What dockerd refused with; else the innermost cause, as the layers around a refused connection say nothing more.
fn cause(error: bollard::errors::Error) -> Error {
    let refused = matches!(error, bollard::errors::Error::DockerResponseServerError { .. });
    let error = Error::from(error);
    if refused { error } else { Error::msg(error.root_cause().to_string()) }
}

fn unless_gone<T>(answer: Result<T>) -> Fetched<T> {
    use bollard::errors::Error::DockerResponseServerError;
    let gone = |error: &Error| matches!(error.downcast_ref(), Some(DockerResponseServerError { status_code: 404, .. }));
    match answer {
        Ok(answer) => Ok(Some(Box::new(answer))),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
