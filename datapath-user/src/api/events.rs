//! `GET /events`: a line of JSON for each event, for as long as the client listens.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::App;
use crate::view::{Event, EventKind};

/// Which events.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct EventQuery {
    #[serde(default)]
    drops: bool,
    endpoint: Option<String>,
}

impl EventQuery {
    fn wants(&self, event: &Event) -> bool {
        let lost = event.kind == EventKind::Lost;
        let kind = !self.drops || event.kind == EventKind::Drop;
        lost || (kind && self.endpoint.as_deref().is_none_or(|endpoint| event.is_of(endpoint)))
    }
}

/// `GET /events`
pub async fn events(State(app): State<App>, Query(query): Query<EventQuery>) -> Response {
    let lines = stream::unfold((app.events.subscribe(), query), |(mut receiver, query)| async move {
        let line = next_line(&mut receiver, &query).await?;
        Some((Ok::<_, std::convert::Infallible>(line), (receiver, query)))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// The next line that is wanted. A slow reader loses events, and is told how many; it costs nobody else anything.
async fn next_line(receiver: &mut Receiver<Arc<Event>>, query: &EventQuery) -> Option<Bytes> {
    loop {
        let event = match receiver.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(count)) => Arc::new(Event::lost(count)),
            Err(RecvError::Closed) => return None,
        };
        if query.wants(&event) {
            let mut line = serde_json::to_vec(&*event).ok()?;
            line.push(b'\n');
            return Some(line.into());
        }
    }
}
