//! Completing names in the shell: asks the daemon.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap_complete::engine::CompletionCandidate;
use serde::de::DeserializeOwned;

use super::client::Client;
use crate::view;

fn ask<T: DeserializeOwned>(path: &str) -> Option<T> {
    let client = Client::new(std::env::var_os("DATAPATH_SOCKET").map(PathBuf::from));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(client.get(path)).ok()
}

fn matching(names: impl Iterator<Item = String>, begun: &OsStr) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    names.filter(|name| name.starts_with(&*begun)).map(CompletionCandidate::new).collect()
}

/// Names of networks.
pub fn networks(begun: &OsStr) -> Vec<CompletionCandidate> {
    let networks: Vec<view::Network> = ask("/networks").unwrap_or_default();
    matching(networks.into_iter().map(|network| network.name), begun)
}

/// Names of endpoints.
pub fn endpoints(begun: &OsStr) -> Vec<CompletionCandidate> {
    let endpoints: Vec<view::Endpoint> = ask("/endpoints").unwrap_or_default();
    let mut names: Vec<_> = endpoints.into_iter().map(|endpoint| endpoint.name).collect();
    names.sort();
    names.dedup();
    matching(names.into_iter(), begun)
}

/// Published ports.
pub fn ports(begun: &OsStr) -> Vec<CompletionCandidate> {
    let ports: Vec<view::Port> = ask("/ports").unwrap_or_default();
    matching(ports.into_iter().map(|port| port.published), begun)
}

/// Denied sources.
pub fn denied(begun: &OsStr) -> Vec<CompletionCandidate> {
    let denied: Vec<view::Denied> = ask("/guard/deny").unwrap_or_default();
    matching(denied.into_iter().map(|denied| denied.cidr), begun)
}
