//! Answers: JSON, and errors in one form.

use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::Failure;
use crate::model::Refusal;

/// The body of every error.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong, and what to do.
    pub error: String,
}

/// An error on its way to the client.
pub struct Denial(StatusCode, String);

/// The result of a request.
pub type Answer<T> = Result<Json<T>, Denial>;

impl Denial {
    /// An error with this status.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self(status, error.into())
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: self.1 })).into_response()
    }
}

impl From<Failure> for Denial {
    fn from(failure: Failure) -> Self {
        let status = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::error!("{failure}");
        }
        Self(status, failure.to_string())
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Failure::from(refusal).into()
    }
}

impl From<anyhow::Error> for Denial {
    fn from(error: anyhow::Error) -> Self {
        Failure::from(error).into()
    }
}

/// The JSON body of a request.
pub fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Denial> {
    serde_json::from_slice(bytes).map_err(|error| {
        Denial::new(
            StatusCode::BAD_REQUEST,
            format!("the body of the request is wrong: {error}; send JSON as documented"),
        )
    })
}

/// Nothing is here.
pub async fn not_found(uri: Uri) -> Denial {
    Denial::new(
        StatusCode::NOT_FOUND,
        format!(
            "there is nothing at {}; ask for /status, /networks, /endpoints, /ports, /guard, /fdb, /flows, /events, /metrics or /doctor",
            uri.path()
        ),
    )
}

/// Something is here, but not for this method.
pub async fn not_allowed(method: Method, uri: Uri) -> Denial {
    Denial::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} is not for {}; use GET, or POST to make and DELETE to remove things", uri.path()),
    )
}
