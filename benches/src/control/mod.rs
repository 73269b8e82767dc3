//! What is asked of the daemon, and not of packets: the rows of the target table that have a time or a size.
//!
//! | row | where |
//! |---|---|
//! | publish one port through the API, 10,000 present | `publish` |
//! | publish 10,000 ports in one call | `publish` |
//! | daemon start on pinned state with 1,000 endpoints, and packets meanwhile | `start`, `stream` |
//! | memory of the daemon with 1,000 endpoints | `start` |
//! | kernel memory of a translated flow | `kernel_memory` |
//! | XDP guard, drop | `guard`, a program of its own |
//!
//! Beside them, without a target: what iptables takes for the same ports (`iptables`), endpoints (`endpoints`), and what an endpoint
//! and a published port take of the kernel's memory.

mod endpoints;
mod iptables;
mod kernel_memory;
mod publish;
mod start;
mod stream;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use comparison::own::Own;
use comparison::quartiles::Quartiles;
use comparison::{Place, Site, Stand};
use serde::Serialize;

use crate::judge::{Bound, Judgement, Unit};

/// With so many endpoints the daemon's start and memory are measured.
const ENDPOINTS: u32 = 1_000;
/// So many ports are present, or published in one call.
const PORTS: u32 = 10_000;

/// The sites on which all of it is measured.
#[must_use]
pub fn sites() -> BTreeSet<Site> {
    let own = [Site::Own(1), Site::Own(PORTS), Site::OwnCrowded(ENDPOINTS)];
    own.into_iter().chain(iptables::sites()).collect()
}

/// What was measured.
#[derive(Default)]
pub struct Control {
    /// What has a target.
    pub judgements: Vec<Judgement>,
    /// What has none.
    pub figures: Vec<Figure>,
}

/// A figure without a target.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was done.
    pub row: String,
    /// Under which conditions.
    pub detail: String,
    /// How much it took, with the unit.
    pub measured: String,
}

impl Figure {
    fn new(row: &str, detail: &str, measured: String) -> Self {
        Self { row: row.to_owned(), detail: detail.to_owned(), measured }
    }

    fn times(row: &str, detail: &str, milliseconds: Vec<f64>) -> Option<Self> {
        Some(Self::new(row, detail, format!("{:.2} ms", Quartiles::of(milliseconds)?)))
    }

    /// As a row.
    #[must_use]
    pub fn cells(&self) -> [String; 3] {
        [self.row.clone(), self.detail.clone(), self.measured.clone()]
    }
}

/// Measures on the sites that stand, and on a host of its own; what has no site is not measured. The daemon of 1,000
/// endpoints is started again. `thorough`: also what has no target.
pub fn measure(stand: &Stand, daemon: &Path, thorough: bool) -> Result<Control> {
    let own = |site| stand.place(site).and_then(Place::own);
    let (many, one) = (own(Site::Own(PORTS)), own(Site::Own(1)));
    let crowd = own(Site::OwnCrowded(ENDPOINTS));
    let present = "10,000 of each IP version present";
    let mut control = Control::default();
    control.judge("publish one port", present, Unit::Milliseconds, many.map(publish::one).transpose()?, 1.0, 0.2);
    let bulk = one.map(publish::many).transpose()?;
    control.judge("publish 10,000 ports", "in one call", Unit::Milliseconds, bulk, 100.0, 30.0);
    control.start(crowd)?;
    if thorough {
        control.figures.extend(publish::figures(one, many)?);
        control.figures.extend(iptables::figures(stand)?);
        control.figures.extend(endpoints::figures(one, crowd)?);
    }
    let memory = kernel_memory::measure(daemon)?;
    control.judge("kernel memory", "of a translated flow", Unit::Bytes, Some(vec![memory.flow]), 420.0, 340.0);
    control.figures.extend(memory.figures);
    Ok(control)
}

impl Control {
    fn start(&mut self, crowd: Option<&Own>) -> Result<()> {
        let (times, lost) = crowd.map(start::again).transpose()?.unzip();
        let resident = crowd.map(start::memory).transpose()?;
        let (upgraded, lost_then) = crowd.map(start::other_programs).transpose()?.unzip();
        let packets = |lost: Option<u64>| lost.map(|lost| vec![lost as f64]);
        self.judge("daemon start", "1,000 endpoints, pinned", Unit::Milliseconds, times, 1_000.0, 300.0);
        self.judge("packets lost", "in all these starts", Unit::Count, packets(lost), 0.0, 0.0);
        self.judge("daemon start", "1,000 endpoints, other programs", Unit::Milliseconds, upgraded, 1_000.0, 300.0);
        self.judge("packets lost", "in all starts with other programs", Unit::Count, packets(lost_then), 0.0, 0.0);
        self.judge("daemon, resident", "1,000 endpoints", Unit::Mebibytes, resident, 40.0, 20.0);
        Ok(())
    }

    fn judge(&mut self, row: &str, detail: &str, unit: Unit, samples: Option<Vec<f64>>, most: f64, reach: f64) {
        let samples = samples.unwrap_or_default();
        self.judgements.push(Judgement {
            row: row.to_owned(),
            detail: detail.to_owned(),
            unit,
            samples: samples.len(),
            measured: Quartiles::of(samples),
            must: Bound::AtMost(most),
            reach: Some(reach),
        });
    }
}

/// Does it, and says how many milliseconds it took.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
