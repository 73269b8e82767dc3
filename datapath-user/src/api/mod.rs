//! HTTP/1.1 with JSON bodies on the unix socket: the same verbs as the command line.
//!
//! | | |
//! |---|---|
//! | `GET /status` `GET /doctor` `GET /metrics` | the daemon and its tables; the host; Prometheus text |
//! | `GET` `POST /networks`, `GET` `DELETE /networks/NAME` | networks |
//! | `GET` `POST /endpoints`, `GET` `DELETE /endpoints/NAME[?network=NET]` | attach, detach |
//! | `GET` `POST /ports`, `DELETE /ports?port=[HOSTIP:]PORT[-END][/PROTO]` | publish, unpublish |
//! | `GET /guard` | the guard of uplinks: rules, counters, where XDP holds them |
//! | `GET` `POST /guard/deny`, `DELETE /guard/deny?cidrs=CIDR,…` or `?all=true` | denied sources |
//! | `GET` `POST /guard/limits`, `DELETE /guard/limits?kind=KIND` | limits: `packets`, `syn`, `port_syn` |
//! | `GET /fdb[?network=NET]` | which MAC address is behind which port |
//! | `GET /flows[?endpoint=NAME]` | live flows |
//! | `GET /events[?drops=true][&endpoint=NAME]` | events as they happen, one JSON object a line |
//!
//! Errors are `{"error": "what is wrong; what to do"}` with status 400, 403, 404, 409 or 500.

mod answer;
mod changes;
mod events;
mod guard;
mod metrics;
mod peer;
mod reads;
mod socket;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, broadcast};

pub use answer::ErrorBody;
pub use guard::{DenyRequest, LimitRequest};
pub use socket::{bind, serve};

use crate::engine::{Engine, Readers};
use crate::view::Event;

/// What every request can use.
#[derive(Clone)]
pub struct App {
    /// Changes the state, one request at a time.
    pub engine: Arc<Mutex<Engine>>,
    /// Reads it meanwhile.
    pub readers: Readers,
    /// Events as they happen.
    pub events: broadcast::Sender<Arc<Event>>,
    /// When the daemon was started, RFC 3339.
    pub started: String,
}

/// What `publish` asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// `[HOSTIP:]HOSTPORT[-END]:PORT[-END][/PROTO]`
    pub port: String,
    /// The endpoint.
    pub endpoint: String,
    /// The network; none: the first of the endpoint's that is not internal.
    #[serde(default)]
    pub network: Option<String>,
}

fn router(app: App) -> Router {
    Router::new()
        .route("/status", get(reads::status))
        .route("/doctor", get(reads::doctor))
        .route("/metrics", get(metrics::metrics))
        .route("/networks", get(reads::networks).post(changes::create_network))
        .route("/networks/{name}", get(reads::network).delete(changes::remove_network))
        .route("/endpoints", get(reads::endpoints).post(changes::attach))
        .route("/endpoints/{name}", get(reads::endpoint).delete(changes::detach))
        .route("/ports", get(reads::ports).post(changes::publish))
        .route("/ports", delete(changes::unpublish))
        .route("/guard", get(guard::guard))
        .route("/guard/deny", guard::deny_list())
        .route("/guard/limits", get(guard::limits).post(guard::limit).delete(guard::unlimit))
        .route("/fdb", get(reads::fdb))
        .route("/flows", get(reads::flows))
        .route("/events", get(events::events))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::not_allowed)
        .with_state(app)
}
