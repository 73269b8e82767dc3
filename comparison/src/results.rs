//! What was measured, round by round.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hdrhistogram::Histogram;
use lab::Family;

use crate::quartiles::Quartiles;
use crate::{Load, Reading, Subject};

/// One thing that a round does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Run {
    /// What is measured.
    pub subject: Subject,
    /// By IPv4 or IPv6.
    pub family: Family,
    /// What of it.
    pub load: Load,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.subject, family_name(self.family), self.load)
    }
}

/// For people.
#[must_use]
pub const fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Results {
    rounds: Vec<BTreeMap<Run, f64>>,
    times: BTreeMap<Run, Histogram<u64>>,
}

impl Results {
    /// Adds a round.
    pub fn add(&mut self, round: impl IntoIterator<Item = (Run, Reading)>) {
        let mut rates = BTreeMap::new();
        for (run, reading) in round {
            rates.insert(run, reading.rate);
            let Some(times) = reading.times else { continue };
            let sum = self.times.entry(run).or_insert_with(lab::load::Latency::histogram);
            sum.add(times).expect("all have the same bounds");
        }
        self.rounds.push(rates);
    }

    /// Every run that was made in some round.
    #[must_use]
    pub fn runs(&self) -> BTreeSet<Run> {
        self.rounds.iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// In how many rounds a run was made.
    #[must_use]
    pub fn rounds_of(&self, run: Run) -> usize {
        self.rounds.iter().filter(|rates| rates.contains_key(&run)).count()
    }

    /// The rate of a run.
    #[must_use]
    pub fn rate(&self, run: Run) -> Option<Quartiles> {
        Quartiles::of(self.rounds.iter().filter_map(|rates| rates.get(&run).copied()))
    }

    /// The rate of one subject by that of another, inside each round that has both.
    #[must_use]
    pub fn ratios(&self, run: Run, reference: Subject) -> Vec<f64> {
        let other = Run { subject: reference, ..run };
        self.rounds.iter().filter_map(|rates| Some(rates.get(&run)? / rates.get(&other)?)).collect()
    }

    /// What those ratios come to.
    #[must_use]
    pub fn ratio(&self, run: Run, reference: Subject) -> Option<Quartiles> {
        Quartiles::of(self.ratios(run, reference))
    }

    /// Half, and 99 of 100, of the requests of a run waited no longer, in microseconds.
    #[must_use]
    pub fn percentiles(&self, run: Run) -> [Option<f64>; 2] {
        [0.5, 0.99].map(|share| self.times(run).map(|times| times.value_at_quantile(share) as f64 / 1e3))
    }

    /// How long the requests of a run waited, of all rounds together, in nanoseconds.
    #[must_use]
    pub fn times(&self, run: Run) -> Option<&Histogram<u64>> {
        self.times.get(&run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(subject: Subject) -> Run {
        Run { subject, family: Family::V4, load: Load::REQUESTS }
    }

    fn reading(rate: f64, time: u64) -> Reading {
        let mut times = lab::load::Latency::histogram();
        times.record(time).expect("in bounds");
        Reading { rate, times: Some(times) }
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut results = Results::default();
        let (wire, ours) = (run(Subject::Wire), run(Subject::Switched));
        results.add([(wire, reading(100.0, 1_000)), (ours, reading(90.0, 1_100))]);
        results.add([(wire, reading(200.0, 500)), (ours, reading(160.0, 600))]);
        // A round without the reference says nothing of the ratio.
        results.add([(ours, reading(1.0, 700))]);
        let ratio = results.ratio(ours, Subject::Wire).expect("measured");
        assert!((ratio.median - 0.85).abs() < 1e-9, "{ratio}");
        assert_eq!((results.rounds_of(wire), results.rounds_of(ours)), (2, 3));
        assert_eq!(results.ratio(ours, Subject::Routed), None);
        assert_eq!(results.times(ours).map(Histogram::len), Some(3));
        assert_eq!(results.runs().len(), 2);
    }
}
