//! The ways that are measured, and the runs of a round.

use std::collections::BTreeSet;
use std::fmt;

use comparison::{Load, Results, Run, Site, Subject};
use lab::Family;
use lab::reference::Backend;
use serde::Serialize;

use super::report::{Comparison, Figure, Row};
use super::{Change, Options};

/// What is measured on each way.
const LOADS: [Load; 4] = [Load::REQUESTS, Load::CONNECTIONS, Load::STREAM, Load::DATAGRAMS];

/// A way that packets of containers go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Between two containers of one network.
    Across,
    /// From outside to a published port.
    Published,
    /// From a container to the outside, masqueraded.
    Out,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Across, Self::Published, Self::Out];

    /// Nothing in between but a wire, or a router without rules.
    const fn bare(self) -> Subject {
        match self {
            Self::Across => Subject::Wire,
            Self::Published => Subject::Routed,
            Self::Out => Subject::RoutedOut,
        }
    }

    /// With dockerd's rules.
    fn ruled(self, backend: Backend, ports: u16) -> Subject {
        match self {
            Self::Across => Subject::Bridge(Some(backend)),
            Self::Published => Subject::BridgePublished(backend, ports.into()),
            Self::Out => Subject::BridgeOut(backend),
        }
    }

    /// With the datapath.
    fn ours(self, ports: u16) -> Subject {
        match self {
            Self::Across => Subject::Switched,
            Self::Published => Subject::Published(ports.into()),
            Self::Out => Subject::Out,
        }
    }
}

/// For people.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Across => "container to container",
            Self::Published => "published port, from outside",
            Self::Out => "container to outside, masqueraded",
        })
    }
}

/// What has to stand: for one of the rules, or for everything else.
pub fn sites(backend: Option<Backend>, ports: u16) -> BTreeSet<Site> {
    let subjects = Way::ALL.into_iter().flat_map(|way| match backend {
        Some(backend) => vec![way.ruled(backend, ports)],
        None => vec![way.bare(), way.ours(ports)],
    });
    subjects.map(Subject::site).collect()
}

/// What is measured.
pub struct Plan {
    /// In each round.
    pub runs: BTreeSet<Run>,
    /// How many rounds there are.
    pub rounds: usize,
    family: Family,
    ports: u16,
    backends: Vec<Backend>,
}

impl Plan {
    /// Every load, on every way, of every subject.
    pub fn new(options: Options, backends: &[Backend]) -> Self {
        let Options { rounds, ports, family, .. } = options;
        let mut runs = BTreeSet::new();
        for way in Way::ALL {
            let ruled = backends.iter().map(|backend| way.ruled(*backend, ports));
            for subject in ruled.chain([way.bare(), way.ours(ports)]) {
                runs.extend(LOADS.map(|load| Run { subject, family, load }));
            }
        }
        Self { runs, rounds, family, ports, backends: backends.to_vec() }
    }

    /// What it came to: beside each of the rules; where there are none, beside the bare way.
    pub fn compare(&self, results: &Results) -> Vec<Comparison> {
        let backends: Vec<_> = self.backends.iter().copied().map(Some).collect();
        let beside = if backends.is_empty() { vec![None] } else { backends };
        let comparison = |backend: Option<Backend>| Comparison {
            iptables: backend.map(|backend| backend.to_string()),
            rows: Way::ALL
                .into_iter()
                .flat_map(|way| LOADS.map(|load| self.row(results, way, load, backend)))
                .flatten()
                .collect(),
        };
        beside.into_iter().map(comparison).collect()
    }

    /// None where no round has all of it.
    fn row(&self, results: &Results, way: Way, load: Load, backend: Option<Backend>) -> Option<Row> {
        let run = |subject| Run { subject, family: self.family, load };
        let figure = |subject| {
            let [p50_microseconds, p99_microseconds] = results.percentiles(run(subject));
            Some(Figure { rate: results.rate(run(subject))?, p50_microseconds, p99_microseconds })
        };
        let (bare, ours) = (way.bare(), way.ours(self.ports));
        let ruled = backend.map(|backend| way.ruled(backend, self.ports));
        let ratios = results.ratios(run(ours), ruled.unwrap_or(bare));
        Some(Row {
            way,
            measure: load.measure.to_string(),
            unit: load.measure.unit(),
            bare: figure(bare)?,
            ruled: match ruled {
                Some(subject) => Some(figure(subject)?),
                None => None,
            },
            datapath: figure(ours)?,
            rounds: ratios.len(),
            change: Change::of(&ratios),
            ratio: comparison::quartiles::Quartiles::of(ratios)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use comparison::Reading;

    use super::*;
    use crate::bench::Wanted;

    const OPTIONS: Options = Options { rounds: 9, ports: 20, family: Family::V6, iptables: Wanted::Both };

    #[test]
    fn every_run_has_a_place_to_stand() {
        let backends = [Backend::Nft, Backend::Legacy];
        let standing: BTreeSet<Site> = [None, Some(Backend::Nft), Some(Backend::Legacy)]
            .into_iter()
            .flat_map(|backend| sites(backend, 20))
            .collect();
        let plan = Plan::new(OPTIONS, &backends);
        assert_eq!(plan.runs.len(), 3 * 4 * 4);
        assert!(plan.runs.iter().all(|run| standing.contains(&run.subject.site()) && run.family == Family::V6));
    }

    #[test]
    fn ours_is_beside_rules_and_without_them_beside_the_bare_way() {
        let rate = |run: &Run| match run.subject.site() {
            Site::Own(_) => 90.0,
            Site::Bridge(_) | Site::BridgePublished(..) => 60.0,
            _ => 100.0,
        };
        for (backends, expected, median) in [(vec![Backend::Nft], Change::Gain, 1.5), (vec![], Change::Loss, 0.9)] {
            let plan = Plan::new(OPTIONS, &backends);
            let mut results = Results::default();
            for _ in 0..plan.rounds {
                results.add(plan.runs.iter().map(|run| (*run, Reading { rate: rate(run), times: None })));
            }
            let comparisons = plan.compare(&results);
            assert_eq!((comparisons.len(), comparisons[0].rows.len()), (1, 12));
            for row in &comparisons[0].rows {
                assert_eq!((row.change, row.rounds, row.ruled.is_some()), (expected, 9, !backends.is_empty()));
                assert!((row.ratio.median - median).abs() < 1e-9, "{row:?}");
            }
        }
        assert!(Plan::new(OPTIONS, &[]).compare(&Results::default())[0].rows.is_empty());
    }
}
