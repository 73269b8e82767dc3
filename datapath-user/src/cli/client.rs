//! The client's side of the socket.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::ErrorBody;
use crate::config::DEFAULT_SOCKET;

/// After this long, the user is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Talks to the daemon.
pub struct Client {
    socket: PathBuf,
}

/// The daemon does not answer.
#[derive(Debug, thiserror::Error)]
#[error("no daemon answers on {} ({error}); start it with `datapath daemon`, or name its socket with --socket", socket.display())]
pub struct NotRunning {
    socket: PathBuf,
    error: std::io::Error,
}

impl Client {
    /// A client of the daemon with this socket.
    pub fn new(socket: Option<PathBuf>) -> Self {
        Self { socket: socket.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)) }
    }

    /// Asks for something.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Has something made.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<T> {
        self.ask(Method::POST, path, serde_json::to_vec(request)?.into()).await
    }

    /// Has something removed.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T> {
        let answer = async {
            let response = self.send(method, path, body).await?;
            response.into_body().collect().await.context("the daemon's answer broke off")
        };
        let bytes = with_patience(answer).await?.to_bytes();
        serde_json::from_slice(&bytes)
            .context("the daemon's answer is of another version; use the client that came with it")
    }

    /// Has every line of an endless answer, until the daemon ends.
    pub async fn lines(&self, path: &str, mut line: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut body = self.send(Method::GET, path, Bytes::new()).await?.into_body();
        let mut begun = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("the daemon has ended")?.into_data() else { continue };
            begun.extend_from_slice(&data);
            while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
                let rest = begun.split_off(end + 1);
                line(&begun[..end])?;
                begun = rest;
            }
        }
        bail!("the daemon has ended; start it again")
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "datapath")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let response = sender.send_request(request).await.context("the daemon has ended before it answered")?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => Err(anyhow!(body.error)),
            Err(_) => bail!("the daemon answered {status}; use the client that came with it"),
        }
    }

    fn unreachable(&self, error: std::io::Error) -> anyhow::Error {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            return anyhow!(
                "{} may only be used by root and members of socket_group; run it as root",
                self.socket.display()
            );
        }
        NotRunning { socket: self.socket.clone(), error }.into()
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Says what is waited for when it takes longer than one notices.
async fn with_patience<T>(answer: impl Future<Output = T>) -> T {
    tokio::pin!(answer);
    let mut waited = Duration::ZERO;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            () = tokio::time::sleep(PATIENCE) => {
                waited += PATIENCE;
                eprintln!("waiting for the daemon ({} s)", waited.as_secs());
            }
        }
    }
}

/// Text as part of a path or query (RFC 3986 section 2.1).
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Ends the process when nobody reads its output any more, as `datapath flow ls | head` expects.
pub fn end_quietly_with_the_pipe() {
    // SAFETY: the default action runs no code of ours.
    let set =
        unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
    set.expect("SIGPIPE can be set to its default");
}
