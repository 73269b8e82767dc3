//! Docker in the laboratory: a real dockerd, that of Debian 12 (20.10) or a modern one, in the namespace of a host.
//!
//! [`Dockerd`] is the daemon as a process, with its own containerd, folder and control group, none of which it leaves
//! behind; [`Docker`] is its client, and [`DockerHost`] a host with both, with the datapath or without. Containers are made from one [`image`] with a server of ours and busybox in it,
//! and [`DockerContainer`] is the way into their namespaces. Nothing here ever talks to another dockerd of the machine.

mod cgroup;
mod cli;
mod compose;
mod container;
mod daemon;
mod host;
pub mod image;
mod leftovers;
mod options;
mod programs;
mod release;
#[cfg(test)]
mod tests;

pub use cli::Docker;
pub use container::{DockerContainer, Inspected, PublishedPort};
pub use daemon::Dockerd;
pub use host::DockerHost;
pub use leftovers::sweep;
pub use options::{DockerdOptions, Rules};
pub use release::Release;
