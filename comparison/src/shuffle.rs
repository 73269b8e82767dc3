//! A shuffled order, so that no scenario always runs after the same other one.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use crate::Run;

/// A small random generator (SplitMix64).
pub struct Random(u64);

impl Random {
    /// Another one each time.
    pub fn seeded() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `bound`, which is small.
    pub fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }

    /// Fisher and Yates's.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}

/// The order of a round. Runs of one load by one IP version, which are those that are compared, follow each other in shuffled
/// order, as the machine may be another one a minute later; and so do the loads.
pub fn round(runs: &BTreeSet<Run>, random: &mut Random) -> Vec<Run> {
    let mut compared: BTreeMap<_, Vec<Run>> = BTreeMap::new();
    for run in runs {
        compared.entry((run.load, run.family)).or_default().push(*run);
    }
    let mut compared: Vec<_> = compared.into_values().collect();
    random.shuffle(&mut compared);
    for runs in &mut compared {
        random.shuffle(runs);
    }
    compared.concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lab::Family;

    use super::{Random, round};
    use crate::{Load, Run, Subject};

    #[test]
    fn what_is_compared_is_measured_back_to_back_and_in_another_order_each_time() {
        let subjects = (1..=20).map(Subject::Published);
        let loads = [Load::REQUESTS, Load::CONNECTIONS, Load::STREAM, Load::DATAGRAMS];
        let mut runs = BTreeSet::new();
        for subject in subjects {
            for load in loads {
                runs.extend(Family::ALL.map(|family| Run { subject, family, load }));
            }
        }
        let mut random = Random(1);
        let order = round(&runs, &mut random);
        assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), runs);
        assert_eq!(order.len(), runs.len());
        let mut groups: Vec<_> = order.iter().map(|run| (run.load, run.family)).collect();
        groups.dedup();
        assert_eq!(groups.len(), loads.len() * Family::ALL.len(), "each load by each IP version once: {order:?}");
        let again = round(&runs, &mut random);
        assert_ne!(groups, again.chunks(20).map(|runs| (runs[0].load, runs[0].family)).collect::<Vec<_>>());
        let subjects = |runs: &[Run]| runs.iter().map(|run| run.subject).collect::<Vec<_>>();
        assert_ne!(subjects(&order[..20]), subjects(&order[20..40]));
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..20).collect();
        Random(1).shuffle(&mut items);
        assert_ne!(items, (0..20).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..20).collect::<Vec<_>>());
    }
}
