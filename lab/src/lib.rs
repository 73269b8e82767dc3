//! The network laboratory: what the traffic tests, the demo and the benchmarks stand on.
//!
//! Everything lives in network namespaces named `dp-<pid>-<n>-<role>`, made and removed by [`Namespace`]; nothing is
//! ever attached to, addressed on or routed by the machine's own interfaces. [`World`] is the usual picture: an
//! internet server, a LAN machine, and a host that runs the real daemon. The rest is traffic: [`server`], [`client`],
//! [`capture`], [`frame`], [`probe`] and [`load`].

pub mod capture;
pub mod client;
mod command;
mod container;
mod daemon;
pub mod docker;
pub mod foreign;
pub mod frame;
mod host;
pub mod http;
pub mod icmp_error;
pub mod lan;
mod link;
pub mod load;
mod local_delivery;
mod local_origin;
mod mutant;
mod namespace;
pub mod oracle;
mod packet_socket;
pub mod ping;
pub mod probe;
pub mod reference;
pub mod server;
mod tap;
mod tunnel;
mod world;
pub mod xdp;

pub use capture::Capture;
pub use client::{Exchange, Protocol};
pub use command::{Output, run};
pub use container::Container;
pub use daemon::{Daemon, DaemonOptions};
pub use frame::Mac;
pub use host::{Family, Host};
pub use lan::Lan;
pub use link::{Link, Offload};
pub use local_delivery::{Delivered, LocalDelivery};
pub use local_origin::LocalOrigin;
pub use mutant::MUTANT_VARIABLE;
pub use namespace::{Namespace, sweep};
pub use server::Server;
pub use tap::Tap;
pub use tunnel::Tunnel;
pub use world::World;

/// How long to wait for what must come. Nobody waits longer than it takes, so that this is long enough for a busy machine.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
