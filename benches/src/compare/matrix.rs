//! Which runs a round has: all that the targets ask for, and what is worth seeing beside it.

use std::collections::BTreeSet;
use std::time::Duration;

use comparison::{Load, Run, Subject, family_name};
use lab::load::Placement;
use lab::{Family, reference::Backend};

use super::targets;
use Backend::{Legacy, Nft};

/// How much is measured, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of every round.
    pub runs: BTreeSet<Run>,
    /// How many rounds there are of these.
    pub rounds: usize,
    /// Those that need more rounds.
    pub flatness: BTreeSet<Run>,
    /// How many rounds these have, the others included.
    pub flatness_rounds: usize,
    /// How long a run lasts.
    pub run: Duration,
}

/// Numbers of published ports that are plotted, beside 1. Bridges have no more than [`BRIDGE_PORTS`] of them.
pub const PORTS: [u32; 4] = [100, 1_000, 10_000, 100_000];
/// Rules for more of them take minutes to load.
pub const BRIDGE_PORTS: u32 = 10_000;
/// Numbers of endpoints that are plotted.
pub const ENDPOINTS: [u32; 3] = [10, 100, 1_000];
/// Numbers of flows that are plotted.
pub const FLOWS: [u16; 4] = [1, 4, 16, 64];
/// The way from one container to another, as the wire, Docker and we have it.
pub const EAST_WEST: [Subject; 3] = [Subject::Wire, Subject::Bridge(Some(Nft)), Subject::Switched];
/// The way to a published port, likewise.
pub const NORTH_SOUTH: [Subject; 3] = [Subject::Routed, Subject::BridgePublished(Nft, 1), Subject::Published(1)];

impl Plan {
    /// Under two minutes: every target, and little else.
    #[must_use]
    pub fn quick() -> Self {
        let mut runs = targeted();
        for subject in [EAST_WEST, NORTH_SOUTH].concat() {
            runs.insert(Run { subject, family: Family::V4, load: Load::REQUESTS.placed(Placement::Spin) });
        }
        for ports in [1, 1_000, BRIDGE_PORTS] {
            let subject = Subject::BridgePublished(Nft, ports);
            runs.insert(Run { subject, family: Family::V4, load: Load::CONNECTIONS });
        }
        Self { runs, rounds: 6, flatness: BTreeSet::new(), flatness_rounds: 0, run: Duration::from_millis(120) }
    }

    /// Under thirty minutes: everything.
    #[must_use]
    pub fn full() -> Self {
        let mut runs = targeted();
        for family in Family::ALL {
            runs.extend(references(family));
        }
        runs.extend(many_ports());
        runs.extend(big_tcp());
        runs.extend(placements());
        runs.extend(flows());
        runs.extend(endpoints());
        let flatness = flat_runs();
        Self { runs, rounds: 12, flatness, flatness_rounds: 30, run: Duration::from_millis(400) }
    }
}

impl Plan {
    /// Leaves only runs whose family and load have each of these words, and of these subjects if any are named.
    pub fn keep(&mut self, words: &[String], subjects: &[String]) {
        for runs in [&mut self.runs, &mut self.flatness] {
            runs.retain(|run| {
                let name = format!("{}, {}", family_name(run.family), run.load);
                let named = subjects.is_empty() || subjects.contains(&run.subject.to_string());
                named && words.iter().all(|word| name.contains(word.as_str()))
            });
        }
    }

    /// How many runs there are in all rounds.
    #[must_use]
    pub fn total(&self) -> usize {
        let more = self.flatness_rounds.saturating_sub(self.rounds);
        self.runs.len() * self.rounds + self.flatness.len() * more
    }
}

fn targeted() -> BTreeSet<Run> {
    targets::all().iter().flat_map(targets::Target::runs).collect()
}

/// Those whose ratio must be very near to one.
fn flat_runs() -> BTreeSet<Run> {
    let flat = targets::all().into_iter().filter(|target| matches!(target.must, crate::judge::Bound::Within(..)));
    flat.flat_map(|target| target.runs()).collect()
}

/// What all references make of the four loads.
fn references(family: Family) -> Vec<Run> {
    let mut runs = Vec::new();
    let bridges = [None, Some(Nft), Some(Legacy)].map(Subject::Bridge);
    let published = [Nft, Legacy].map(|backend| Subject::BridgePublished(backend, 1));
    let ours = [Subject::Published(1), Subject::AdoptedPublished, Subject::Routed];
    for load in [Load::REQUESTS, Load::CONNECTIONS, Load::STREAM, Load::DATAGRAMS] {
        for subject in bridges.into_iter().chain(published).chain(ours) {
            runs.push(Run { subject, family, load });
        }
    }
    for load in [Load::REQUESTS, Load::CONNECTIONS] {
        for subject in [Subject::RoutedOut, Subject::BridgeOut(Legacy)] {
            runs.push(Run { subject, family, load });
        }
    }
    runs
}

fn many_ports() -> Vec<Run> {
    let mut runs = Vec::new();
    for ports in PORTS {
        let bridges = [Nft, Legacy].map(|backend| Subject::BridgePublished(backend, ports));
        let bridges = bridges.into_iter().filter(|_| ports <= BRIDGE_PORTS);
        for subject in bridges.chain([Subject::Published(ports)]) {
            for load in [Load::REQUESTS, Load::CONNECTIONS] {
                runs.push(Run { subject, family: Family::V4, load });
            }
        }
    }
    runs
}

/// BIG TCP beside what it is without: between endpoints, and where its packets are cut into segments.
fn big_tcp() -> Vec<Run> {
    let mut runs = Vec::new();
    for family in Family::ALL {
        for load in [Load::STREAM, Load::STREAM.back(), Load::STREAM.with_flows(4), Load::REQUESTS] {
            for subject in [Subject::Wire, Subject::Switched, Subject::SwitchedBig] {
                runs.push(Run { subject, family, load });
            }
        }
        for subject in [Subject::Out, Subject::OutBig] {
            runs.push(Run { subject, family, load: Load::STREAM });
        }
    }
    runs
}

/// Other placements, and the other direction.
fn placements() -> Vec<Run> {
    let mut runs = Vec::new();
    for subject in [EAST_WEST, NORTH_SOUTH].concat() {
        for load in [
            Load::REQUESTS.placed(Placement::Spin),
            Load::REQUESTS.placed(Placement::Across),
            Load::STREAM.back(),
            Load::DATAGRAMS.back(),
            Load::DATAGRAMS.placed(Placement::Spin),
        ] {
            runs.push(Run { subject, family: Family::V4, load });
        }
    }
    runs
}

fn flows() -> Vec<Run> {
    let mut runs = Vec::new();
    for subject in [EAST_WEST, NORTH_SOUTH].concat() {
        for flows in FLOWS {
            for load in [Load::REQUESTS, Load::STREAM, Load::DATAGRAMS] {
                runs.push(Run { subject, family: Family::V4, load: load.with_flows(flows) });
            }
        }
    }
    runs
}

fn endpoints() -> Vec<Run> {
    let crowds = ENDPOINTS.map(Subject::SwitchedAmong);
    let runs = crowds
        .into_iter()
        .flat_map(|subject| [Load::REQUESTS, Load::CONNECTIONS].map(|load| Run { subject, family: Family::V4, load }));
    runs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lengths_measure_every_target() {
        for plan in [Plan::quick(), Plan::full()] {
            for target in targets::all() {
                for run in target.runs() {
                    assert!(plan.runs.contains(&run), "{run}");
                }
            }
            assert!(plan.flatness.is_subset(&plan.runs));
        }
    }

    /// With what a run takes beside its load (a server that starts, flows that are forgotten): 40 ms.
    #[test]
    fn they_take_as_long_as_they_should() {
        let time = |plan: &Plan| (plan.run + Duration::from_millis(40)) * u32::try_from(plan.total()).expect("few");
        assert!(time(&Plan::quick()) < Duration::from_secs(85), "{:?}", time(&Plan::quick()));
        assert!(time(&Plan::full()) < Duration::from_secs(25 * 60), "{:?}", time(&Plan::full()));
        assert!(Plan::full().rounds >= 12 && Plan::full().flatness_rounds >= 30);
    }
}
