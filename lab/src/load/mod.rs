//! The load generator: request/response, connect rate, streams and small datagrams over one path.
//!
//! Own code, because iperf3 was unstable on a bare veth pair. Streams use cubic, whatever the machine's default is.

mod placement;
mod rate;
mod throughput;

use std::net::SocketAddr;

pub use placement::Placement;
pub use rate::{Latency, connect_rate, request_response};
pub use throughput::{datagram_rate, stream_rate};

use anyhow::Result;

use crate::namespace::Namespace;

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

/// Makes a namespace fit for many short connections: all ports, and few of them kept in TIME_WAIT.
pub fn prepare(namespace: &Namespace) -> Result<()> {
    namespace.sysctl("ipv4/ip_local_port_range", "1024 65535")?;
    namespace.sysctl("ipv4/tcp_max_tw_buckets", "2048")?;
    namespace.sysctl("ipv4/tcp_max_syn_backlog", "4096")?;
    namespace.sysctl("core/somaxconn", "4096")
}
