//! The daemon: the engine, and the tasks around it.

mod cleanup;
mod memory;
mod notify;
mod tasks;
mod watchdog;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, broadcast, watch};

pub use cleanup::cleanup;
pub use memory::share_one_arena;

use datapath_common::abi::program_log;

use crate::api::{self, App};
use crate::config::Config;
use crate::docker;
use crate::engine::{self, Docker, Locks};
use crate::kernel::netlink::Watch;

/// Events that a slow reader may be behind before it loses some.
const EVENT_BACKLOG: usize = 4_096;

/// Runs until it is told to stop. What is attached then runs on.
///
/// # Errors
/// When it cannot start, or loses its socket.
pub async fn run(config: Config) -> Result<()> {
    let locks = Locks::take(&config)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let watch = Watch::open()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pins = %config.pin_dir.display(), "loading the programs");
    let docker = config.docker.clone().map(follow_docker);
    let inventory = docker.as_ref().map(Docker::inventory);
    let engine = engine::start(config.clone(), docker).await?;
    let (events, _) = broadcast::channel(EVENT_BACKLOG);
    let app = App {
        readers: engine.readers(),
        engine: Arc::new(Mutex::new(engine)),
        events,
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    };
    let (listener, group) = api::bind(&config.socket, config.socket_group.as_deref())?;
    tokio::spawn(tasks::follow(app.clone(), watch, inventory));
    tokio::spawn(tasks::sweep(app.readers.clone()));
    tokio::spawn(tasks::report_drops(app.readers.clone(), app.events.clone()));
    if config.settings.program_log != program_log::OFF {
        tokio::spawn(tasks::carry_program_log(app.readers.clone()));
    }
    let server = tokio::spawn(api::serve(listener, group, app.clone()));
    memory::give_back();
    eprintln!("ready");
    if let Err(error) = notify::systemd("READY=1") {
        tracing::warn!("systemd could not be told that the daemon is ready: {error:#}");
    }
    if let Some(period) = watchdog::period() {
        tokio::spawn(watchdog::serve(Arc::clone(&app.engine), period, watchdog::tell));
    }
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopped; the datapath runs on"),
        _ = interrupt.recv() => tracing::info!("interrupted; the datapath runs on"),
        ended = server => ended.context("the server ended")??,
    }
    if let Err(error) = notify::systemd("STOPPING=1") {
        tracing::warn!("systemd could not be told that the daemon stops: {error:#}");
    }
    // A change that is under way comes to its end.
    let _engine = app.engine.lock().await;
    if let Err(error) = std::fs::remove_file(&config.socket) {
        tracing::warn!("the socket {} could not be removed: {error}", config.socket.display());
    }
    drop(locks);
    Ok(())
}

/// Begins to follow dockerd.
fn follow_docker(socket: PathBuf) -> Docker {
    let (inventory_sender, inventory) = watch::channel(None);
    let (status_sender, status) = watch::channel(docker::Status::default());
    tokio::spawn(docker::follow(socket, inventory_sender, status_sender));
    Docker::new(inventory, status)
}
