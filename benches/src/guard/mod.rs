//! What the guard of uplinks costs: the XDP program by itself, and at work on one core.

pub mod live;
pub mod program;
