//! Requests about the guard of uplinks.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::response::Json;
use axum::routing::{MethodRouter, get};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::App;
use super::answer::{Answer, body};
use super::changes::to_the_end;
use crate::model::{Limit, LimitKind, Refusal, parse_source};
use crate::view;

/// Largest body of a request to deny: as many prefixes as there is room for.
const DENY_BODY: usize = 32 << 20;

/// What `guard deny` asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenyRequest {
    /// Addresses and prefixes.
    pub cidrs: Vec<String>,
}

/// What `guard limit` asks for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// What to limit.
    pub kind: LimitKind,
    /// A second.
    pub rate: u32,
    /// At once; none: as much as in a second.
    #[serde(default)]
    pub burst: Option<u32>,
}

fn sources<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<IpNet>, Refusal> {
    texts.map(parse_source).collect()
}

fn shown(prefixes: &[IpNet]) -> Json<Vec<view::Denied>> {
    Json(prefixes.iter().map(view::Denied::from).collect())
}

/// `GET /guard`
pub async fn guard(State(app): State<App>) -> Answer<view::Guard> {
    Ok(Json(view::guard(&app.readers.snapshot(), app.readers.kernel.datapath.tables())?))
}

/// `/guard/deny`. What others send is much shorter than a deny list may be.
pub fn deny_list() -> MethodRouter<App> {
    get(denied).post(deny).delete(undeny).layer(DefaultBodyLimit::max(DENY_BODY))
}

/// `GET /guard/deny`
async fn denied(State(app): State<App>) -> Json<Vec<view::Denied>> {
    Json(view::denied(&app.readers.snapshot()))
}

/// `POST /guard/deny`: answers with what was not denied before.
async fn deny(State(app): State<App>, bytes: Bytes) -> Answer<Vec<view::Denied>> {
    let request: DenyRequest = body(&bytes)?;
    let prefixes = sources(request.cidrs.iter().map(String::as_str))?;
    let engine = Arc::clone(&app.engine);
    let added = to_the_end(async move { engine.lock().await.deny(&prefixes).await }).await?;
    Ok(shown(&added))
}

/// The query of `DELETE /guard/deny`.
#[derive(Deserialize)]
struct UndenyQuery {
    cidrs: Option<String>,
    #[serde(default)]
    all: bool,
}

/// `DELETE /guard/deny`
async fn undeny(State(app): State<App>, Query(query): Query<UndenyQuery>) -> Answer<Vec<view::Denied>> {
    let prefixes = match (query.cidrs, query.all) {
        (Some(cidrs), false) => Some(sources(cidrs.split(','))?),
        (None, true) => None,
        _ => {
            return Err(
                Refusal::invalid("it is not said who is let in again", "name them by cidrs, or say all=true").into()
            );
        }
    };
    let engine = Arc::clone(&app.engine);
    let removed = to_the_end(async move { engine.lock().await.undeny(prefixes.as_deref()).await }).await?;
    Ok(shown(&removed))
}

/// `GET /guard/limits`
pub async fn limits(State(app): State<App>) -> Json<view::GuardLimits> {
    Json(view::limits(&app.readers.snapshot()))
}

/// `POST /guard/limits`
pub async fn limit(State(app): State<App>, bytes: Bytes) -> Answer<view::GuardLimits> {
    let LimitRequest { kind, rate, burst } = body(&bytes)?;
    set_limit(app, kind, Some(Limit::new(rate, burst)?)).await
}

/// The query of `DELETE /guard/limits`.
#[derive(Deserialize)]
pub struct LimitQuery {
    kind: LimitKind,
}

/// `DELETE /guard/limits`
pub async fn unlimit(State(app): State<App>, Query(query): Query<LimitQuery>) -> Answer<view::GuardLimits> {
    set_limit(app, query.kind, None).await
}

async fn set_limit(app: App, kind: LimitKind, limit: Option<Limit>) -> Answer<view::GuardLimits> {
    let engine = Arc::clone(&app.engine);
    to_the_end(async move { engine.lock().await.limit(kind, limit).await }).await?;
    Ok(Json(view::limits(&app.readers.snapshot())))
}
