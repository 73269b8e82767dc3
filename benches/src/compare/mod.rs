//! The paired comparison.
//!
//! All scenarios stand at once. A round runs each of them once, briefly, in shuffled order, and ratios are taken
//! inside a round: absolute numbers move by half on a shared machine, in-round ratios by a few hundredths.

mod scenario;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use lab::load::{Placement, connect_rate, request_response};
pub use scenario::Scenario;

use crate::{quartiles::Quartiles, shuffle};

/// What is measured of a scenario.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Measure {
    /// One-byte requests answered a second, over one connection.
    RequestResponse,
    /// Connections made, used and closed a second.
    ConnectRate,
}

impl Measure {
    /// Both.
    pub const ALL: [Self; 2] = [Self::RequestResponse, Self::ConnectRate];

    /// What it is, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestResponse => "request/response",
            Self::ConnectRate => "connect rate",
        }
    }

    fn take(self, scenario: &Scenario, duration: Duration) -> Result<f64> {
        match self {
            Self::RequestResponse => Ok(request_response(scenario.path(), Placement::Same, duration)?.rate),
            Self::ConnectRate => {
                scenario.forget_flows()?;
                connect_rate(scenario.path(), Placement::Same, duration)
            }
        }
    }
}

/// What one round measured: rates by scenario and measure.
pub type Round = BTreeMap<(&'static str, Measure), f64>;

/// All that was measured.
#[derive(Debug, Default)]
pub struct Results {
    rounds: Vec<Round>,
}

impl Results {
    /// Measures every scenario in each of `rounds` rounds; `progress` hears of each round, and what it measured.
    pub fn take(
        scenarios: &[Scenario],
        rounds: usize,
        duration: Duration,
        mut progress: impl FnMut(usize, &Round),
    ) -> Result<Self> {
        let mut random = shuffle::Random::seeded();
        let mut results = Self::default();
        for round in 0..rounds {
            let mut runs: Vec<(&Scenario, Measure)> =
                scenarios.iter().flat_map(|scenario| Measure::ALL.map(|measure| (scenario, measure))).collect();
            random.shuffle(&mut runs);
            let mut rates = Round::new();
            for (scenario, measure) in runs {
                let rate = measure
                    .take(scenario, duration)
                    .with_context(|| format!("{} of {} in round {round}", measure.name(), scenario.name()))?;
                rates.insert((scenario.name(), measure), rate);
            }
            progress(round + 1, &rates);
            results.rounds.push(rates);
        }
        Ok(results)
    }

    /// The rate of one scenario.
    #[must_use]
    pub fn rate(&self, scenario: &'static str, measure: Measure) -> Option<Quartiles> {
        Quartiles::of(self.rounds.iter().filter_map(|rates| rates.get(&(scenario, measure)).copied()))
    }

    /// The rate of one scenario by that of another, inside each round.
    #[must_use]
    pub fn ratio(&self, scenario: &'static str, reference: &'static str, measure: Measure) -> Option<Quartiles> {
        Quartiles::of(
            self.rounds
                .iter()
                .filter_map(|rates| Some(rates.get(&(scenario, measure))? / rates.get(&(reference, measure))?)),
        )
    }
}
