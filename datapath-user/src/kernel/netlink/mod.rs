//! Links, addresses and routes of a network namespace, by netlink.

mod addresses;
mod dump;
mod filters;
mod links;
mod routes;
mod rules;
#[cfg(test)]
mod tests;
mod uplinks;
mod watch;

use anyhow::{Context, Result};
use rtnetlink::Handle;

pub use addresses::LocalAddress;
use dump::Dumps;
pub use filters::{Direction, Filter};
pub use links::{BIG_TCP, EndpointPair, FarEnd, GatewayPair, LEGACY_TCP, Link};
pub use routes::{MAIN_TABLE, Route};
pub use rules::Rule;
pub use uplinks::{UplinkInterface, UplinkRule, uplinks};
pub use watch::Watch;

/// Netlink sockets of the namespace they were opened in. Clones share them.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
    dumps: Dumps,
}

impl Netlink {
    /// Opens sockets in the namespace of the calling thread. Needs a tokio runtime, which drives one of them.
    pub fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().context("no netlink socket can be opened")?;
        tokio::spawn(connection);
        let dumps = Dumps::open().context("no netlink socket can be opened")?;
        Ok(Self { handle, dumps })
    }
}

/// The error number of a failed request, positive.
fn error_number(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

/// Takes "it is not there" for success.
fn unless_missing(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(error) => match error_number(&error) {
            Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL) => Ok(()),
            _ => Err(error),
        },
        Ok(()) => Ok(()),
    }
}

/// A list from a dump, each message read as it comes: whole, they take a hundred times as much memory as what is wanted of them. A
/// missing namespace entry ends it like any other error.
async fn collect<M, T>(
    what: &str,
    dump: impl futures::Stream<Item = Result<M, rtnetlink::Error>>,
    read: impl Fn(M) -> Option<T>,
) -> Result<Vec<T>> {
    use futures::TryStreamExt;
    let read = dump.try_filter_map(|message| std::future::ready(Ok(read(message))));
    read.try_collect().await.with_context(|| format!("the {what} cannot be listed"))
}
