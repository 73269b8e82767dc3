//! Links, addresses and routes of a network namespace, by netlink.

mod addresses;
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
pub use filters::{Direction, Filter};
pub use links::{EndpointPair, FarEnd, GatewayPair, Link};
pub use routes::{MAIN_TABLE, Route};
pub use rules::Rule;
pub use uplinks::{UplinkInterface, UplinkRule, uplinks};
pub use watch::Watch;

/// A netlink socket of the namespace it was opened in. Clones share the socket.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread. Needs a tokio runtime, which drives it.
    pub fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().context("no netlink socket can be opened")?;
        tokio::spawn(connection);
        Ok(Self { handle })
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

/// A list from a dump; a missing namespace entry ends it like any other error.
async fn collect<T>(what: &str, dump: impl futures::Stream<Item = Result<T, rtnetlink::Error>>) -> Result<Vec<T>> {
    use futures::TryStreamExt;
    dump.try_collect().await.with_context(|| format!("the {what} cannot be listed"))
}
