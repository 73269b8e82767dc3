//! Keeps a connection to dockerd.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::outlet::Outlet;
use super::session::Session;
use super::status::Status;
use crate::model::Inventory;

/// The first pause after a failure. It doubles with each, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that held so long starts with the first pause again, and its failure is news.
const STEADY: Duration = Duration::from_secs(5);

/// Follows the dockerd behind a socket and publishes what it has whenever that changes. None: it has not been heard yet.
/// While it is away the last inventory stays, as its containers may go on running. Never returns.
pub async fn follow(
    socket: PathBuf,
    inventory: watch::Sender<Option<Arc<Inventory>>>,
    status: watch::Sender<Status>,
) -> ! {
    let mut outlet = Outlet::new(inventory, status);
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let failure = match Client::connect(&socket).await {
            Ok(client) => Session::new(client, &mut outlet).run().await,
            Err(failure) => failure,
        };
        let steady = outlet.is_connected() && began.elapsed() >= STEADY;
        if steady {
            pause = FIRST_PAUSE;
        }
        outlet.lost(&format!("dockerd cannot be followed at {}: {failure:#}", socket.display()), steady);
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
