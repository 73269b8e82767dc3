//! What is asked of the daemon, and not of packets: the rows of the target table that have a time or a size.
//!
//! | row | where |
//! |---|---|
//! | publish one port through the API, 10,000 present | `publish` |
//! | publish 10,000 ports in one call | `publish` |
//! | daemon start on pinned state with 1,000 endpoints | `start` |
//! | memory of the daemon with 1,000 endpoints | `start` |
//! | kernel memory of a translated flow | not measured yet |
//! | XDP guard | there is none yet |

mod publish;
mod start;

use std::time::Instant;

use anyhow::Result;

use crate::compare::{Place, Site, Stand};
use crate::judge::{Bound, Judgement, Unit};
use crate::quartiles::Quartiles;

/// With so many endpoints the daemon's start and memory are measured.
const ENDPOINTS: u32 = 1_000;
/// So many ports are present, or published in one call.
const PORTS: u32 = 10_000;

/// Measures on the sites that stand; what has none is not measured. The daemon of 1,000 endpoints is started again.
pub fn measure(stand: &Stand) -> Result<Vec<Judgement>> {
    let own = |site| match stand.place(site) {
        Some(Place::Own(own)) => Some(&**own),
        _ => None,
    };
    let (many, one) = (own(Site::Own(PORTS)), own(Site::Own(1)));
    let crowd = own(Site::OwnCrowded(ENDPOINTS));
    Ok(vec![
        judged("publish one port", "10,000 present", many.map(publish::one).transpose()?, 1.0, 0.2),
        judged("publish 10,000 ports", "in one call", one.map(publish::many).transpose()?, 100.0, 30.0),
        judged("daemon start", "1,000 endpoints, pinned", crowd.map(start::times).transpose()?, 1_000.0, 300.0),
        Judgement {
            unit: Unit::Mebibytes,
            ..judged("daemon, resident", "1,000 endpoints", crowd.map(start::memory).transpose()?, 40.0, 20.0)
        },
    ])
}

fn judged(row: &str, detail: &str, samples: Option<Vec<f64>>, most: f64, reach: f64) -> Judgement {
    let samples = samples.unwrap_or_default();
    Judgement {
        row: row.to_owned(),
        detail: detail.to_owned(),
        unit: Unit::Milliseconds,
        samples: samples.len(),
        measured: Quartiles::of(samples),
        must: Bound::AtMost(most),
        reach: Some(reach),
    }
}

/// Does it, and says how many milliseconds it took.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
