//! The daemon and the command line of Datapath.
//!
//! The way of a request: `cli` → unix socket → `api` → `engine`: `model` (new desired state, validated and stored by
//! `store`) → `plan` (pure) → `apply` (the one place that acts, through `kernel`).

pub mod api;
pub mod apply;
pub mod bench;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod docker;
pub mod docker_setup;
pub mod doctor;
pub mod engine;
pub mod kernel;
pub mod model;
pub mod plan;
pub mod shared;
pub mod store;
pub mod view;

/// What the names of all our devices begin with.
pub const DEVICE_PREFIX: &str = "dp-";
