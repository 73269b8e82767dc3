//! Everything that stands, and the rounds that are made on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::interruption::Interruption;
use crate::shuffle::{self, Random};
use crate::{Measure, Place, Reading, Run, Site};

/// Everything that stands.
pub struct Stand {
    places: BTreeMap<Site, Box<dyn Place>>,
    random: Random,
    interruption: Interruption,
}

impl Stand {
    /// Nothing stands yet.
    #[must_use]
    pub fn new(interruption: &Interruption) -> Self {
        Self { places: BTreeMap::new(), random: Random::seeded(), interruption: interruption.clone() }
    }

    /// Builds a site.
    ///
    /// # Errors
    /// When it cannot be built; after an interruption, nothing but that: Ctrl-C reaches the programs that build too.
    pub fn build(&mut self, site: Site, build: impl FnOnce() -> Result<Box<dyn Place>>) -> Result<()> {
        let interrupted = "interrupted before anything was measured";
        ensure!(!self.interruption.came(), interrupted);
        let built = build().with_context(|| format!("building {site}"));
        ensure!(!self.interruption.came(), interrupted);
        self.places.insert(site, built?);
        Ok(())
    }

    /// What stands at a site.
    #[must_use]
    pub fn place(&self, site: Site) -> Option<&dyn Place> {
        self.places.get(&site).map(AsRef::as_ref)
    }

    /// Makes each run once, in the order of [`shuffle::round`]; `progress` hears of each one that is done. Where that is interrupted, the round
    /// has those that were made before.
    pub fn round(
        &mut self,
        runs: &BTreeSet<Run>,
        duration: Duration,
        mut progress: impl FnMut(Run, &Reading),
    ) -> Result<Vec<(Run, Reading)>> {
        let mut round = Vec::with_capacity(runs.len());
        for run in shuffle::round(runs, &mut self.random) {
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
        let place = self.place(run.subject.site()).context("nothing was built for it")?;
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
