//! Which numbers are drawn together.

use comparison::quartiles::Quartiles;
use comparison::{Load, Measure, Results, Run, Subject, family_name};
use hdrhistogram::Histogram;
use lab::{Family, load::Placement, reference::Backend};

use super::bars::{Bar, Row};
use super::curves::{Curve, distribution};
use crate::compare::matrix::{BRIDGE_PORTS, EAST_WEST, ENDPOINTS, FLOWS, NORTH_SOUTH, PORTS};

use Backend::{Legacy, Nft};

/// Latencies are shown up to so many times the slowest median: beyond, it is the machine's other work that is seen.
const LONGEST_TAIL: f64 = 2.0;

/// The class of a subject's colour.
#[must_use]
pub const fn class(subject: Subject) -> &'static str {
    match subject {
        Subject::Wire | Subject::Routed | Subject::RoutedOut => "limit",
        Subject::Bridge(None) => "plain",
        Subject::Bridge(Some(Nft)) | Subject::BridgePublished(Nft, _) | Subject::BridgeOut(Nft) => "nft",
        Subject::Bridge(Some(Legacy)) | Subject::BridgePublished(Legacy, _) | Subject::BridgeOut(Legacy) => "legacy",
        Subject::Adopted | Subject::AdoptedPublished | Subject::AdoptedOut => "adopted",
        Subject::Switched
        | Subject::SwitchedAmong(_)
        | Subject::SwitchedBig
        | Subject::Published(_)
        | Subject::Out
        | Subject::OutBig => "ours",
    }
}

/// Subjects by the share of a reference that they have, a row for each load and family.
#[must_use]
pub fn beside(results: &Results, reference: Subject, subjects: &[Subject], loads: &[Load]) -> Vec<Row> {
    let mut rows = Vec::new();
    for load in loads {
        for family in Family::ALL {
            let bars: Vec<Bar> = subjects
                .iter()
                .filter_map(|&subject| {
                    let measured = results.ratio(Run { subject, family, load: *load }, reference)?;
                    Some(Bar { class: class(subject), name: subject.to_string(), measured, verdict: None })
                })
                .collect();
            if !bars.is_empty() {
                let (label, detail) = (load.measure.to_string(), load_detail(*load, family, reference));
                rows.push(Row { label, detail, bars, must: None, reach: None });
            }
        }
    }
    rows
}

fn load_detail(load: Load, family: Family, reference: Subject) -> String {
    let placement = comparison::load::placement_name(load.placement);
    format!("{placement}, {}, {reference} = 1", family_name(family))
}

/// How the latencies of requests are spread, up to some times the slowest median.
#[must_use]
pub fn latencies(results: &Results, subjects: &[Subject], placement: Placement) -> Vec<Curve> {
    let times = |&subject: &Subject| {
        let load = Load { placement, ..Load::REQUESTS };
        Some((subject, results.times(Run { subject, family: Family::V4, load })?))
    };
    let measured: Vec<_> = subjects.iter().filter_map(times).collect();
    let median = |times: &Histogram<u64>| times.value_at_quantile(0.5) as f64 / 1e3;
    let most = LONGEST_TAIL * measured.iter().map(|(_, times)| median(times)).fold(0.0, f64::max);
    let curve = |(subject, times): (Subject, &Histogram<u64>)| {
        let name = format!("{subject}, {:.1} µs", median(times));
        Curve { class: class(subject), name, points: distribution(times, most) }
    };
    measured.into_iter().map(curve).collect()
}

/// Microseconds for each of what is counted, by the number of published ports.
#[must_use]
pub fn by_ports(results: &Results, load: Load) -> Vec<Curve> {
    let ports = || [1].into_iter().chain(PORTS);
    let bridge = |backend| {
        let points = ports().filter(|ports| *ports <= BRIDGE_PORTS);
        costs(results, load, points.map(|ports| (ports, Subject::BridgePublished(backend, ports))))
    };
    vec![
        Curve { class: "nft", name: "B2n".into(), points: bridge(Nft) },
        Curve { class: "legacy", name: "B2l".into(), points: bridge(Legacy) },
        Curve {
            class: "ours",
            name: "N-S".into(),
            points: costs(results, load, ports().map(|ports| (ports, Subject::Published(ports)))),
        },
    ]
}

/// Microseconds for each of what is counted, by the number of endpoints.
#[must_use]
pub fn by_endpoints(results: &Results, load: Load, name: &str, class: &'static str) -> Curve {
    let crowds = ENDPOINTS.into_iter().map(|endpoints| (endpoints, Subject::SwitchedAmong(endpoints)));
    let points = costs(results, load, [(2, Subject::Switched)].into_iter().chain(crowds));
    // Without the crowds there is nothing to see.
    Curve { class, name: name.to_owned(), points: if points.len() > 1 { points } else { Vec::new() } }
}

fn costs(results: &Results, load: Load, at: impl Iterator<Item = (u32, Subject)>) -> Vec<(f64, Quartiles)> {
    let cost = |subject| results.rate(Run { subject, family: Family::V4, load }).map(inverse);
    at.filter_map(|(number, subject)| Some((f64::from(number), cost(subject)?))).collect()
}

/// Microseconds of each, where so many are a second's.
fn inverse(rate: Quartiles) -> Quartiles {
    Quartiles { lower: 1e6 / rate.upper, median: 1e6 / rate.median, upper: 1e6 / rate.lower }
}

/// A rate by the number of flows that there are at the same time.
#[must_use]
pub fn by_flows(results: &Results, subjects: &[Subject], load: Load) -> Vec<Curve> {
    let unit = if matches!(load.measure, Measure::Stream(_)) { 1.0 } else { 1e3 };
    let scaled =
        |rate: Quartiles| Quartiles { lower: rate.lower / unit, median: rate.median / unit, upper: rate.upper / unit };
    let curves = subjects.iter().map(|&subject| {
        let points: Vec<_> = FLOWS
            .into_iter()
            .filter_map(|flows| {
                let rate = results.rate(Run { subject, family: Family::V4, load: load.with_flows(flows) })?;
                Some((f64::from(flows), scaled(rate)))
            })
            .collect();
        let points = if points.len() > 1 { points } else { Vec::new() };
        Curve { class: class(subject), name: subject.to_string(), points }
    });
    curves.collect()
}

/// The ways whose latencies are shown, in pairs of title and subjects.
#[must_use]
pub fn ways() -> [(&'static str, Vec<Subject>); 2] {
    [
        ("Within the host", EAST_WEST.into_iter().chain([Subject::Adopted]).collect()),
        ("To a published port", NORTH_SOUTH.into_iter().chain([Subject::AdoptedPublished]).collect()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use comparison::Reading;

    #[test]
    fn what_is_fast_costs_little() {
        let mut results = Results::default();
        for rate in [10_000.0, 20_000.0] {
            let run = |ports| Run { subject: Subject::Published(ports), family: Family::V4, load: Load::CONNECTIONS };
            results.add([1, 1_000].map(|ports| (run(ports), Reading { rate, times: None })));
        }
        let curves = by_ports(&results, Load::CONNECTIONS);
        let points: Vec<_> = curves[2].points.iter().map(|(ports, cost)| (*ports, cost.median.round())).collect();
        assert_eq!(points, [(1.0, 67.0), (1_000.0, 67.0)]);
        assert!(curves[2].points[0].1.lower < curves[2].points[0].1.upper);
        assert!(curves[0].points.is_empty());
        assert!(by_endpoints(&results, Load::CONNECTIONS, "E-W", "ours").points.is_empty());
    }
}
