//! Publishing by the API, as a program does that keeps no connection: connect, ask, hear the answer.

use anyhow::{Context as _, Result};
use comparison::own::{Own, SERVER_NAME};
use comparison::quartiles::Quartiles;
use lab::{Host, Lan, http};

use super::{Figure, PORTS, timed};

/// Below the published ports of every site.
const FREE: u16 = 2_000;
/// Above them, with room for [`PORTS`].
const FREE_RANGE: u32 = 40_000;
const SINGLES: usize = 50;
const RANGES: usize = 7;
/// Published one by one, each a publication of its own.
const ONE_BY_ONE: [u32; 3] = [100, 1_000, PORTS];

/// One more port, again and again; milliseconds.
pub(super) fn one(own: &Own) -> Result<Vec<f64>> {
    (0..SINGLES).map(|_| published(own.host(), &FREE.to_string(), "80")).collect()
}

/// [`PORTS`] in one call; milliseconds.
pub(super) fn many(own: &Own) -> Result<Vec<f64>> {
    let range = format!("{FREE_RANGE}-{}", FREE_RANGE + PORTS - 1);
    (0..RANGES).map(|_| published(own.host(), &range, &range)).collect()
}

/// What is not asked for: with one port present, and one by one.
pub(super) fn figures(one_present: Option<&Own>, many_present: Option<&Own>) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if let Some(own) = one_present {
        figures.extend(Figure::times("publish one port", "1 present", one(own)?));
        for count in ONE_BY_ONE {
            figures.push(one_by_one(own, count, "1 present")?);
        }
    }
    if let Some(own) = many_present {
        figures.push(one_by_one(own, ONE_BY_ONE[0], "10,000 of each IP version present")?);
    }
    Ok(figures)
}

fn one_by_one(own: &Own, count: u32, present: &str) -> Result<Figure> {
    let ports = || (FREE_RANGE..FREE_RANGE + count).map(|port| port.to_string());
    let time = timed(|| ports().try_for_each(|port| publish(own.host(), &port, "80")))?;
    // By themselves they are as many publications.
    let one_more = Quartiles::of(one(own)?).context("nothing was measured")?;
    ports().try_for_each(|port| unpublish(own.host(), &port))?;
    let measured = format!("{time:.0} ms; one more then {one_more:.2} ms");
    Ok(Figure::new(&format!("publish {count} ports one by one"), present, measured))
}

/// Publishes, takes back, and says how long the former took.
fn published(host: &Host, ports: &str, private: &str) -> Result<f64> {
    let time = timed(|| publish(host, ports, private))?;
    unpublish(host, ports)?;
    Ok(time)
}

fn publish(host: &Host, ports: &str, private: &str) -> Result<()> {
    let request = serde_json::json!({ "port": format!("{}:{ports}:{private}", Lan::HOST[0]), "endpoint": SERVER_NAME });
    Ok(http::ask(host.socket(), "POST", "/ports", &request.to_string()).map(drop)?)
}

fn unpublish(host: &Host, ports: &str) -> Result<()> {
    Ok(http::ask(host.socket(), "DELETE", &format!("/ports?port={}:{ports}", Lan::HOST[0]), "").map(drop)?)
}
