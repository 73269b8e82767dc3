//! The kernel: the one layer that touches it. Programs and their attachment, maps, links, namespaces, sysctls, port
//! reservations and feature probes. Nothing here decides anything: `apply` says what to do and in which order.
//!
//! - [`bpf`]: the few bpf(2) calls that aya lacks, as safe functions.
//! - [`programs`]: opening the datapath, attaching and detaching programs; `loaded`: loading them, or finding them loaded;
//!   [`cleanup`] takes everything away.
//! - [`tables`]: typed access to every map, those of the [`guard`] included; [`flows`] and [`events`] for the two that are
//!   read in other ways.
//! - [`netlink`], [`netns`], [`sysctl`], [`reservation`], [`probes`]: what else of the kernel the daemon needs.

pub mod announcement;
pub mod bpf;
pub mod cleanup;
pub mod clsact;
pub mod events;
pub mod fence;
pub mod flows;
pub mod foreign;
pub mod guard;
mod hints;
mod loaded;
pub mod map;
pub mod netlink;
pub mod netns;
#[cfg(test)]
mod open_tests;
pub mod pins;
pub mod port_owner;
mod port_set;
pub mod probes;
pub mod program_log;
pub mod programs;
pub mod reservation;
pub mod reserved_ports;
#[cfg(test)]
pub mod scratch;
mod shared_array;
pub mod subnets;
pub mod sysctl;
pub mod tables;
pub mod tcx;
pub mod xdp;

pub use cleanup::remove_everything;
pub use program_log::ProgramLog;
pub use programs::{Attach, Datapath, Mode, Options};
pub use tables::Tables;
