//! The scenarios, as data.

mod bridge;
mod compose;
mod lifecycle;
mod modern;
mod namespaces;
mod networks;
mod ports;
mod several;

pub use bridge::default_bridge;
pub use compose::compose;
pub use lifecycle::{lifecycle, links};
pub use modern::{gateway_priority, interface_name, ipv6_only, isolated, one_mode_each, unprotected};
pub use namespaces::shared_namespaces;
pub use networks::{icc_off, internal, ipv4_only, no_masquerade, routed};
pub use ports::{addresses, ranges_and_free_ports};
pub use several::several_networks;

/// Moby 28 and later drop this in the raw table; 20.10 accepts what goes to a published port, whatever its address was.
const ROUTED_IN: &str = "20.10 lets in what is routed to a container's address, if the port is published (moby 28)";
