//! What dockerd says of itself, and how it was started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::processes::{self, Process};

/// Where dockerd listens if nobody tells it otherwise.
pub const DEFAULT_SOCKET: &str = "/run/docker.sock";

/// dockerd answers from memory; one that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of the dockerd of this host.
#[derive(Clone, Debug, Default)]
pub struct Dockerd {
    /// Its process, if it is in this network namespace.
    pub process: Option<Process>,
    /// What it answers, if it does.
    pub info: Option<Info>,
    /// Whether it filters and masquerades by itself: its word on docker0, which it cannot masquerade without iptables.
    pub masquerades: Option<bool>,
}

/// The part of `GET /info` that matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Its version.
    pub server_version: String,
    /// Whether containers outlive it.
    pub live_restore_enabled: bool,
    /// Swarm.
    pub swarm: Swarm,
}

/// The swarm it may be a member of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Swarm {
    /// `inactive`, or anything else.
    pub local_node_state: String,
}

/// The part of `GET /networks/bridge` that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Bridge {
    options: Option<std::collections::HashMap<String, String>>,
}

impl Dockerd {
    /// Looks for dockerd, and asks it at `socket`, or where its command line says that it listens.
    ///
    /// # Errors
    /// When something is there that does not answer as dockerd does.
    pub async fn find(socket: Option<&Path>) -> Result<Self> {
        let process = processes::named("dockerd").into_iter().next();
        let socket = match (socket, &process) {
            (Some(socket), _) => socket.to_path_buf(),
            (None, Some(process)) => listens_at(process).unwrap_or_else(|| DEFAULT_SOCKET.into()),
            (None, None) => DEFAULT_SOCKET.into(),
        };
        let Some(info) = get::<Info>(&socket, "/info").await? else {
            return Ok(Self { process, ..Self::default() });
        };
        // A dockerd without a default bridge says so with 404.
        let bridge = get::<Bridge>(&socket, "/networks/bridge").await.ok().flatten();
        let options = bridge.and_then(|bridge| bridge.options).unwrap_or_default();
        let masquerades = options.get("com.docker.network.bridge.enable_ip_masquerade").map(|value| value == "true");
        Ok(Self { process, info: Some(info), masquerades })
    }

    /// Whether there is a dockerd at all.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.process.is_some() || self.info.is_some()
    }

    /// Whether it is a member of a swarm, and how.
    #[must_use]
    pub fn swarm(&self) -> Option<&str> {
        let state = self.info.as_ref()?.swarm.local_node_state.as_str();
        (!matches!(state, "" | "inactive")).then_some(state)
    }

    /// Its version, as far as it is compared.
    #[must_use]
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.info.as_ref()?.server_version.split(['.', '-', '+']).map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    }

    /// The configuration file it was started with.
    #[must_use]
    pub fn config_file(&self) -> Option<PathBuf> {
        self.process.as_ref()?.value("config-file").map(PathBuf::from)
    }
}

/// The first unix socket on the command line; `fd://` is the one that systemd opens at the usual place.
fn listens_at(process: &Process) -> Option<PathBuf> {
    let mut arguments = process.arguments.iter().map(String::as_str).skip(1);
    while let Some(argument) = arguments.next() {
        let host = match argument {
            "-H" | "--host" => arguments.next(),
            _ => argument.strip_prefix("--host=").or_else(|| argument.strip_prefix("-H")),
        };
        if let Some(path) = host.and_then(|host| host.trim_start_matches('=').strip_prefix("unix://")) {
            return Some(path.into());
        }
    }
    None
}

/// Asks; none: nobody listens there.
async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<Option<T>> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            bail!("{} may not be used; run this as root", socket.display())
        }
        Err(_) => return Ok(None),
    };
    let answer = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "docker").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            bail!("{path} is answered with {}", response.status());
        }
        Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
    };
    let answer = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| anyhow!("no answer within {PATIENCE:?}"));
    answer.and_then(|answer| answer).map(Some).with_context(|| {
        format!(
            "what listens on {} does not answer as dockerd does; name dockerd's socket with --docker",
            socket.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_on_the_command_line() {
        let listens = |line: &str| {
            let arguments = line.split(' ').map(str::to_owned).collect();
            listens_at(&Process { pid: 1, arguments, started: None })
        };
        assert_eq!(listens("dockerd -H fd:// --containerd=/x"), None);
        assert_eq!(listens("dockerd -H tcp://0.0.0.0:1 -H unix:///a"), Some("/a".into()));
        assert_eq!(listens("dockerd --host=unix:///b"), Some("/b".into()));
        assert_eq!(listens("dockerd -Hunix:///c"), Some("/c".into()));
    }

    #[test]
    fn versions_and_swarm() {
        let dockerd = |version: &str, state: &str| {
            let swarm = Swarm { local_node_state: state.to_owned() };
            let info = Info { server_version: version.to_owned(), swarm, ..Info::default() };
            Dockerd { info: Some(info), ..Dockerd::default() }
        };
        assert_eq!(dockerd("20.10.24+dfsg1", "inactive").version(), Some((20, 10)));
        assert_eq!(dockerd("dev", "").version(), None);
        assert_eq!(dockerd("1.2", "inactive").swarm(), None);
        assert_eq!(dockerd("1.2", "locked").swarm(), Some("locked"));
    }
}
