//! A dockerd of this host, told to leave packets to the datapath, and told to do it itself again.
//!
//! dockerd is told by `daemon.json` alone (`document`, `file`). Everything else here looks: at dockerd (`dockerd`,
//! `processes`), at what it has left in packet filters (`rules`), at our daemon (`serving`), which is told
//! in its own configuration (`service`).

mod change;
mod dockerd;
mod document;
mod file;
mod obstacles;
mod processes;
mod refusals;
mod restart;
mod rules;
mod service;
mod serving;
mod status;

use std::path::Path;

pub use change::{Change, Request, disable, enable};
pub use service::ServiceChange;
pub use status::{Daemon, Status, status};

use crate::doctor::{Finding, Level, finding};

/// What `datapath doctor` says of Docker: everything where there is a dockerd; elsewhere, only what could be left of one.
pub async fn findings(socket: Option<&Path>) -> Vec<Finding> {
    match change::Scene::look(None, socket).await {
        Ok(scene) if scene.dockerd.is_there() => obstacles::findings(&scene),
        Ok(_) => vec![obstacles::proxies()],
        Err(error) => vec![finding("docker", Level::Warning, format!("{error:#}"), "see `datapath docker status`")],
    }
}
