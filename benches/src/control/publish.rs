//! Publishing by the API, as a program does that keeps no connection: connect, ask, hear the answer.

use anyhow::Result;
use lab::{Host, Lan, http};

use super::{PORTS, timed};
use crate::compare::place::own::{Own, SERVER_NAME};

/// Below the published ports of every site.
const FREE: u16 = 2_000;
/// Above them, with room for [`PORTS`].
const FREE_RANGE: u32 = 40_000;
const SINGLES: usize = 50;
const RANGES: usize = 7;

/// One more port, again and again; milliseconds.
pub(super) fn one(own: &Own) -> Result<Vec<f64>> {
    (0..SINGLES).map(|_| published(own.host(), &FREE.to_string(), "80")).collect()
}

/// [`PORTS`] in one call; milliseconds.
pub(super) fn many(own: &Own) -> Result<Vec<f64>> {
    let range = format!("{FREE_RANGE}-{}", FREE_RANGE + PORTS - 1);
    (0..RANGES).map(|_| published(own.host(), &range, &range)).collect()
}

/// Publishes, takes back, and says how long the former took.
fn published(host: &Host, ports: &str, private: &str) -> Result<f64> {
    let socket = host.socket();
    let request = serde_json::json!({ "port": format!("{}:{ports}:{private}", Lan::HOST[0]), "endpoint": SERVER_NAME });
    let time = timed(|| Ok(http::ask(socket, "POST", "/ports", &request.to_string())?))?;
    http::ask(socket, "DELETE", &format!("/ports?port={}:{ports}", Lan::HOST[0]), "")?;
    Ok(time)
}
