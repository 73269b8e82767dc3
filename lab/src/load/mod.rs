//! The load generator: request/response, connect rate, streams and small datagrams over one path.
//!
//! Own code, because iperf3 was unstable on a bare veth pair. Streams use cubic, whatever the machine's default is.

mod datagrams;
mod drain;
mod latency;
mod placement;
mod rate;
mod stream;

use std::net::SocketAddr;
use std::time::Duration;

pub use datagrams::datagram_rate;
pub use latency::Latency;
pub use placement::{Placement, on_each_core};
pub use rate::{connect_rate, request_response};
pub use stream::stream_rate;

use anyhow::Result;

use crate::namespace::Namespace;

/// How long either end waits for the other one before something is wrong.
const PATIENCE: Duration = Duration::from_secs(2);

/// From where to where the load goes.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    /// Where the client is.
    pub client: &'a Namespace,
    /// Where the server is.
    pub server: &'a Namespace,
    /// What the server binds.
    pub bind: SocketAddr,
    /// What the client connects to; not `bind` where something translates.
    pub target: SocketAddr,
}

/// How load is made.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// On which cores.
    pub placement: Placement,
    /// Over so many connections, or source ports, at the same time.
    pub flows: u16,
    /// For so long.
    pub duration: Duration,
}

impl Manner {
    /// One flow.
    #[must_use]
    pub const fn single(placement: Placement, duration: Duration) -> Self {
        Self { placement, flows: 1, duration }
    }
}

/// Which end sends, where only one does. The client begins the flow in any case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// The client.
    ToServer,
    /// The server.
    ToClient,
}

/// Makes a namespace fit for many short connections: all ports, and few of them kept in TIME_WAIT.
pub fn prepare(namespace: &Namespace) -> Result<()> {
    namespace.sysctl("ipv4/ip_local_port_range", "1024 65535")?;
    namespace.sysctl("ipv4/tcp_max_tw_buckets", "2048")?;
    namespace.sysctl("ipv4/tcp_max_syn_backlog", "4096")?;
    namespace.sysctl("core/somaxconn", "4096")
}
