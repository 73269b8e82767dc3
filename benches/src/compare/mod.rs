//! The paired comparison.
//!
//! All sites stand at once. A round makes each run once, briefly, in shuffled order, and ratios are taken inside a
//! round: absolute numbers move by half on a shared machine, in-round ratios by a few hundredths.
//!
//! - [`subject`]: what is compared, and [`place`]: where that stands.
//! - [`load`]: what is measured of it.
//! - [`targets`]: what it should come to. They say what has to be run; [`matrix`] adds what is only shown.
//! - [`results`]: what was measured.

pub mod load;
pub mod matrix;
pub mod place;
pub mod results;
pub mod subject;
pub mod targets;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path as FilePath,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
pub use load::{Load, Measure, Reading};
pub use place::Place;
pub use results::{Results, Run, family_name};
pub use subject::{Site, Subject, grouped};

use crate::{interruption::Interruption, shuffle::Random};

/// Everything that stands.
pub struct Stand {
    places: BTreeMap<Site, Place>,
    random: Random,
    interruption: Interruption,
}

impl Stand {
    /// Builds these sites; `progress` hears of each before it is built.
    pub fn build(
        sites: BTreeSet<Site>,
        daemon: &FilePath,
        interruption: &Interruption,
        mut progress: impl FnMut(Site),
    ) -> Result<Self> {
        let mut places = BTreeMap::new();
        for site in sites {
            ensure!(!interruption.came(), "interrupted before anything was measured");
            progress(site);
            places.insert(site, Place::build(site, daemon).with_context(|| format!("building {site}"))?);
        }
        Ok(Self { places, random: Random::seeded(), interruption: interruption.clone() })
    }

    /// What stands at a site.
    #[must_use]
    pub fn place(&self, site: Site) -> Option<&Place> {
        self.places.get(&site)
    }

    /// Makes each run once, in shuffled order; `progress` hears of each one that is done. Where that is interrupted, the round
    /// has those that were made before.
    pub fn round(
        &mut self,
        runs: &BTreeSet<Run>,
        duration: Duration,
        mut progress: impl FnMut(Run, &Reading),
    ) -> Result<Vec<(Run, Reading)>> {
        let mut order: Vec<Run> = runs.iter().copied().collect();
        self.random.shuffle(&mut order);
        let mut round = Vec::with_capacity(order.len());
        for run in order {
            let reading = self.take(run, duration).with_context(|| run.to_string());
            // Ctrl-C reaches the daemons too, so that a run may fail of it.
            if self.interruption.came() {
                break;
            }
            let reading = reading?;
            progress(run, &reading);
            round.push((run, reading));
        }
        Ok(round)
    }

    fn take(&self, run: Run, duration: Duration) -> Result<Reading> {
        let place = self.places.get(&run.subject.site()).context("nothing was built for it")?;
        if run.load.measure == Measure::ConnectRate {
            place.forget_flows()?;
        }
        run.load.take(place.path(run.subject, run.family), duration)
    }

    /// What our programs have dropped so far, by site and reason.
    pub fn drops(&self) -> Result<BTreeMap<Site, BTreeMap<String, u64>>> {
        let mut drops = BTreeMap::new();
        for (site, place) in &self.places {
            let Some(host) = place.host() else { continue };
            let mut reasons = host.drops()?;
            reasons.retain(|_, count| *count > 0);
            drops.insert(*site, reasons);
        }
        Ok(drops)
    }
}
