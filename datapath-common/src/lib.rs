//! What the BPF programs and the daemon share: the types in the maps, and the whole way of a packet as code that
//! runs in the kernel and under `cargo test` alike.
//!
//! - [`abi`]: keys and values of every map, settings, drop reasons, events.
//! - [`logic`]: pure functions on values: parse, rewrite, checksums, TCP states.
//! - [`path`]: the way of a packet through each hook, over the [`path::Packet`] and [`path::Tables`] it is given.
//! - `native` (a feature): a packet in memory and tables in collections, for tests and fuzzing.

#![cfg_attr(not(any(test, feature = "native")), no_std)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(target_arch = "bpf", allow(internal_features, reason = "atomics are intrinsics on this target"))]

pub mod abi;
pub mod logic;
#[cfg(feature = "native")]
pub mod native;
pub mod path;
