//! What the datapath should come to beside the references: the table of docs/performance.md, for IPv4 and IPv6, and for
//! our own networks and adopted ones.

use comparison::{Load, Results, Run, Subject, family_name};
use lab::{Family, reference::Backend};

use crate::judge::{Bound, Judgement, Unit};

/// A ratio that is asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    /// What is measured.
    pub run: Run,
    /// Beside what.
    pub reference: Subject,
    /// What the ratio must be.
    pub must: Bound,
    /// What would be better.
    pub reach: Option<f64>,
}

const B1N: Subject = Subject::Bridge(Some(Backend::Nft));
const B2N: Subject = Subject::BridgePublished(Backend::Nft, 1);
/// Numbers of published ports that must make no difference to one.
pub const PORTS: [u32; 3] = [1_000, 10_000, 100_000];

/// All targets.
#[must_use]
pub fn all() -> Vec<Target> {
    Family::ALL.into_iter().flat_map(of_family).collect()
}

fn of_family(family: Family) -> Vec<Target> {
    let at_least = |subject, load, reference, least, reach: f64| Target {
        run: Run { subject, family, load },
        reference,
        must: Bound::AtLeast(least),
        reach: (reach > 0.0).then_some(reach),
    };
    let mut targets = Vec::new();
    for subject in [Subject::Switched, Subject::Adopted] {
        targets.extend([
            at_least(subject, Load::REQUESTS, Subject::Wire, 0.90, 0.95),
            at_least(subject, Load::REQUESTS, B1N, 1.30, 0.0),
            at_least(subject, Load::CONNECTIONS, Subject::Wire, 0.88, 0.94),
            at_least(subject, Load::CONNECTIONS, B1N, 1.30, 0.0),
            at_least(subject, Load::STREAM, Subject::Wire, 0.95, 0.0),
            at_least(subject, Load::DATAGRAMS, Subject::Wire, 0.90, 0.95),
            at_least(subject, Load::DATAGRAMS, B1N, 1.50, 0.0),
        ]);
    }
    targets.push(at_least(Subject::SwitchedBig, Load::STREAM, Subject::Wire, 0.95, 1.25));
    for subject in [Subject::Published(1), Subject::AdoptedPublished] {
        targets.extend([
            at_least(subject, Load::REQUESTS, Subject::Routed, 1.00, 1.05),
            at_least(subject, Load::REQUESTS, B2N, 1.35, 0.0),
            at_least(subject, Load::CONNECTIONS, Subject::Routed, 0.93, 0.97),
            at_least(subject, Load::DATAGRAMS, Subject::Routed, 1.05, 1.15),
            at_least(subject, Load::DATAGRAMS, B2N, 1.50, 0.0),
        ]);
    }
    targets.extend(PORTS.map(|ports| Target {
        run: Run { subject: Subject::Published(ports), family, load: Load::CONNECTIONS },
        reference: Subject::Published(1),
        must: Bound::Within(0.95, 1.05),
        reach: None,
    }));
    for subject in [Subject::Out, Subject::AdoptedOut] {
        for load in [Load::REQUESTS, Load::CONNECTIONS] {
            targets.push(at_least(subject, load, Subject::BridgeOut(Backend::Nft), 1.35, 1.45));
        }
    }
    targets
}

impl Target {
    /// The two runs that it is taken from.
    #[must_use]
    pub const fn runs(&self) -> [Run; 2] {
        [self.run, Run { subject: self.reference, ..self.run }]
    }

    /// What was measured beside what is asked for.
    #[must_use]
    pub fn judge(&self, results: &Results) -> Judgement {
        Judgement {
            row: format!("{} / {}", self.run.subject, self.reference),
            detail: format!("{}, {}", self.run.load, family_name(self.run.family)),
            unit: Unit::Ratio,
            measured: results.ratio(self.run, self.reference),
            samples: self.runs().into_iter().map(|run| results.rounds_of(run)).min().unwrap_or(0),
            must: self.must,
            reach: self.reach,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_there_once_for_each_family() {
        let targets = all();
        let distinct: BTreeSet<_> = targets.iter().map(|target| target.runs()).collect();
        assert_eq!((targets.len(), distinct.len()), (64, 64));
        for family in Family::ALL {
            assert_eq!(targets.iter().filter(|target| target.run.family == family).count(), 32);
        }
        assert!(targets.iter().all(|target| target.run.subject.is_ours()));
    }
}
