//! What the guard of uplinks costs: the XDP program by itself, and at work on one core.

/// How often each figure is measured.
pub const RUNS: usize = 5;

pub mod live;
pub mod program;
