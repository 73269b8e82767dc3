//! dockerd as a source of desired state: its networks, containers and published ports become an
//! [`Inventory`](crate::model::Inventory), published whenever it changes.
//!
//! `follow` keeps a connection; a `session` on it hears `events`, takes each as a hint of what to `fetch` again, and
//! writes what is answered into `known`, which assembles the inventory. What an answer means is said by pure functions:
//! `network` and `subnets`, `container` and `ports`, `gateway`.
//!
//! Two facts of dockerd shape it. While a container starts, dockerd holds its lock and `GET /containers/{id}/json`
//! does not answer before the first process runs, but `GET /networks/{id}` does: so endpoints come from networks, and are
//! known before the process, and ports come from containers, after the start. And endpoint ids are never used twice: so
//! ports count only while the endpoint they were seen with is on its network, however late or stale an answer is.

mod client;
mod complaints;
mod container;
mod events;
mod fetch;
mod follow;
mod gateway;
mod known;
mod lane;
mod network;
mod outlet;
mod ports;
mod session;
mod status;
mod subnets;

pub use follow::follow;
pub use status::Status;
