//! Requests that change the state. Each runs to its end even when the client goes away: half of one is never left.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Json;
use serde::Deserialize;

use super::answer::{Answer, Denial, body};
use super::{App, PublishRequest};
use crate::engine::Failure;
use crate::model::{AttachRequest, Endpoint, NetworkRequest, PortSpec, UnpublishSpec};
use crate::view::{self, Event, EventKind};

/// Runs a change as a task of its own: a future that is dropped with its connection would stop in the middle.
pub(super) async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Denial> {
    match tokio::spawn(change).await {
        Ok(result) => result.map_err(Denial::from),
        Err(error) => Err(anyhow::Error::from(error).into()),
    }
}

impl App {
    fn tell(&self, kind: EventKind, message: String, network: Option<&str>, endpoint: Option<&str>) {
        let event = Event::change(kind, message, network.map(str::to_owned), endpoint.map(str::to_owned));
        // Nobody listening is no error.
        let _ = self.events.send(Arc::new(event));
    }

    /// Tells those who listen that an endpoint was detached, or has vanished.
    pub(crate) fn tell_detached(&self, endpoint: &Endpoint) {
        let message = format!("endpoint {} detached from {}", endpoint.name, endpoint.network);
        self.tell(EventKind::Detached, message, Some(&endpoint.network), Some(&endpoint.name));
    }
}

/// `POST /networks`
pub async fn create_network(State(app): State<App>, bytes: Bytes) -> Answer<view::Network> {
    let request: NetworkRequest = body(&bytes)?;
    let engine = Arc::clone(&app.engine);
    let network = to_the_end(async move { engine.lock().await.create_network(&request).await }).await?;
    app.tell(EventKind::NetworkCreated, format!("network {} created", network.name), Some(&network.name), None);
    Ok(Json(view::network(&app.readers.snapshot(), &network)))
}

/// `DELETE /networks/NAME`
pub async fn remove_network(State(app): State<App>, Path(name): Path<String>) -> Answer<view::Network> {
    let engine = Arc::clone(&app.engine);
    let network = to_the_end(async move { engine.lock().await.remove_network(&name).await }).await?;
    app.tell(EventKind::NetworkRemoved, format!("network {} removed", network.name), Some(&network.name), None);
    Ok(Json(view::network(&app.readers.snapshot(), &network)))
}

/// `POST /endpoints`
pub async fn attach(State(app): State<App>, bytes: Bytes) -> Answer<view::Endpoint> {
    let request: AttachRequest = body(&bytes)?;
    let engine = Arc::clone(&app.engine);
    let endpoint = to_the_end(async move { engine.lock().await.attach(&request).await }).await?;
    let message = format!("endpoint {} attached to {}", endpoint.name, endpoint.network);
    app.tell(EventKind::Attached, message, Some(&endpoint.network), Some(&endpoint.name));
    Ok(Json(view::endpoint(&app.readers.snapshot(), app.readers.kernel.datapath.tables(), &endpoint)?))
}

/// The query of `DELETE /endpoints/NAME`.
#[derive(Deserialize)]
pub struct DetachQuery {
    network: Option<String>,
}

/// `DELETE /endpoints/NAME`
pub async fn detach(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<DetachQuery>,
) -> Answer<Vec<view::Endpoint>> {
    let engine = Arc::clone(&app.engine);
    let gone = to_the_end(async move { engine.lock().await.detach(&name, query.network.as_deref()).await }).await?;
    let snapshot = app.readers.snapshot();
    let mut views = Vec::new();
    for endpoint in &gone {
        app.tell_detached(endpoint);
        views.push(view::endpoint(&snapshot, app.readers.kernel.datapath.tables(), endpoint)?);
    }
    Ok(Json(views))
}

/// `POST /ports`
pub async fn publish(State(app): State<App>, bytes: Bytes) -> Answer<view::Port> {
    let PublishRequest { port, endpoint, network } = body(&bytes)?;
    let spec: PortSpec = port.parse()?;
    let engine = Arc::clone(&app.engine);
    let publication =
        to_the_end(async move { engine.lock().await.publish(&spec, &endpoint, network.as_deref()).await }).await?;
    let on = publication.target.as_ref().map(|target| target.network.as_str());
    let message = format!("port {} published to {}", publication.describe(), publication.endpoint);
    app.tell(EventKind::Published, message, on, Some(&publication.endpoint));
    Ok(Json(view::port(app.readers.kernel.datapath.tables(), &publication)?))
}

/// The query of `DELETE /ports`.
#[derive(Deserialize)]
pub struct UnpublishQuery {
    port: String,
}

/// `DELETE /ports`
pub async fn unpublish(State(app): State<App>, Query(query): Query<UnpublishQuery>) -> Answer<view::Port> {
    let spec: UnpublishSpec = query.port.parse()?;
    let engine = Arc::clone(&app.engine);
    let publication = to_the_end(async move { engine.lock().await.unpublish(&spec).await }).await?;
    let message = format!("port {} unpublished", publication.describe());
    app.tell(EventKind::Unpublished, message, None, Some(&publication.endpoint));
    Ok(Json(view::port(app.readers.kernel.datapath.tables(), &publication)?))
}
