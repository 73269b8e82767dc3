//! The main job at work: a LAN, a host with the real daemon, two networks, four endpoints, real servers and clients.

mod attempt;
mod scene;

pub use attempt::{Attempt, Expected, Outcome};
pub use scene::Scene;
