//! Requests that change nothing. They do not wait for those that do.

use axum::extract::{Path, Query, State};
use axum::response::Json;
use serde::Deserialize;

use super::App;
use super::answer::Answer;
use crate::doctor::{self, Finding};
use crate::model::Refusal;
use crate::view;

/// `GET /status`
pub async fn status(State(app): State<App>) -> Answer<view::Status> {
    Ok(Json(view::status(&app.readers, &app.started)?))
}

/// `GET /doctor`
pub async fn doctor(State(app): State<App>) -> Answer<Vec<Finding>> {
    Ok(Json(doctor::examine(Some(&app.readers)).await))
}

/// `GET /networks`
pub async fn networks(State(app): State<App>) -> Json<Vec<view::Network>> {
    let snapshot = app.readers.snapshot();
    Json(snapshot.model.networks.values().map(|network| view::network(&snapshot, network)).collect())
}

/// `GET /networks/NAME`
pub async fn network(State(app): State<App>, Path(name): Path<String>) -> Answer<view::Network> {
    let snapshot = app.readers.snapshot();
    Ok(Json(view::network(&snapshot, snapshot.model.network(&name)?)))
}

/// `GET /endpoints`
pub async fn endpoints(State(app): State<App>) -> Answer<Vec<view::Endpoint>> {
    let snapshot = app.readers.snapshot();
    let tables = app.readers.kernel.datapath.tables();
    let all = snapshot.model.endpoints.values().map(|endpoint| view::endpoint(&snapshot, tables, endpoint));
    Ok(Json(all.collect::<anyhow::Result<_>>()?))
}

/// `GET /endpoints/NAME`: one for each network it is on.
pub async fn endpoint(State(app): State<App>, Path(name): Path<String>) -> Answer<Vec<view::Endpoint>> {
    let snapshot = app.readers.snapshot();
    let tables = app.readers.kernel.datapath.tables();
    let named = snapshot.model.endpoints_named(&name);
    if named.is_empty() {
        return Err(Refusal::no_endpoint(&name).into());
    }
    let all = named.into_iter().map(|endpoint| view::endpoint(&snapshot, tables, endpoint));
    Ok(Json(all.collect::<anyhow::Result<_>>()?))
}

/// `GET /ports`
pub async fn ports(State(app): State<App>) -> Answer<Vec<view::Port>> {
    let snapshot = app.readers.snapshot();
    Ok(Json(view::ports(&snapshot, app.readers.kernel.datapath.tables())?))
}

/// The query of `GET /fdb`.
#[derive(Deserialize)]
pub struct FdbQuery {
    network: Option<String>,
}

/// `GET /fdb`
pub async fn fdb(State(app): State<App>, Query(query): Query<FdbQuery>) -> Answer<Vec<view::FdbEntry>> {
    let snapshot = app.readers.snapshot();
    let networks: Vec<_> = match &query.network {
        Some(name) => vec![snapshot.model.network(name)?],
        None => snapshot.model.networks.values().collect(),
    };
    let tables = app.readers.kernel.datapath.tables();
    let databases = networks.into_iter().map(|network| view::fdb(&snapshot, tables, network));
    Ok(Json(databases.collect::<anyhow::Result<Vec<_>>>()?.concat()))
}

/// The query of `GET /flows`.
#[derive(Deserialize)]
pub struct FlowQuery {
    endpoint: Option<String>,
}

/// `GET /flows`
pub async fn flows(State(app): State<App>, Query(query): Query<FlowQuery>) -> Answer<Vec<view::Flow>> {
    if let Some(name) = &query.endpoint
        && app.readers.snapshot().model.endpoints_named(name).is_empty()
    {
        return Err(Refusal::no_endpoint(name).into());
    }
    let readers = app.readers.clone();
    let flows = tokio::task::spawn_blocking(move || view::flows(&readers, query.endpoint.as_deref())).await;
    Ok(Json(flows.map_err(anyhow::Error::from)??))
}
