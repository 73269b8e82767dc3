//! What was given out last. Persisted, so that nothing is given to a second owner too soon, or ever.

use serde::{Deserialize, Serialize};

use super::Refusal;

/// Counters of everything that is handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Last network id; goes round.
    pub network: u32,
    /// Last endpoint index; goes round.
    pub endpoint: u32,
    /// Last publication index; goes round.
    pub publication: u32,
    /// Last generation, of endpoints and publications alike; never goes round.
    pub generation: u32,
    /// Last MAC address; never goes round.
    pub mac: u32,
    /// Last host port chosen for a publication; goes round.
    pub host_port: u16,
}

impl Counters {
    /// A generation that nothing had before.
    ///
    /// # Errors
    /// After four billion of them.
    pub fn next_generation(&mut self) -> Result<u32, Refusal> {
        self.generation = self.generation.checked_add(1).ok_or_else(|| used_up("generations"))?;
        Ok(self.generation)
    }

    /// A MAC address that nothing had before.
    ///
    /// # Errors
    /// After four billion of them.
    pub fn next_mac(&mut self) -> Result<super::Mac, Refusal> {
        self.mac = self.mac.checked_add(1).ok_or_else(|| used_up("MAC addresses"))?;
        Ok(super::Mac::counted(self.mac))
    }
}

fn used_up(what: &str) -> Refusal {
    Refusal::conflict(
        format!("all {what} have been used"),
        "stop the daemon, run `datapath daemon --cleanup` and begin anew",
    )
}

/// The next number after `last`, going round in `1..limit`, that `taken` does not know: a number that became free is
/// given again as late as possible.
pub fn next_in_round(last: u32, limit: u32, taken: impl Fn(u32) -> bool) -> Option<u32> {
    (last.saturating_add(1)..limit).chain(1..limit.min(last.saturating_add(1))).find(|number| !taken(*number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn goes_round_and_skips_what_is_taken() {
        assert_eq!(next_in_round(0, 4, |_| false), Some(1));
        assert_eq!(next_in_round(1, 4, |n| n == 2), Some(3));
        assert_eq!(next_in_round(3, 4, |n| n == 1), Some(2));
        assert_eq!(next_in_round(2, 4, |n| n != 2), Some(2));
        assert_eq!(next_in_round(2, 4, |_| true), None);
    }

    proptest! {
        #[test]
        fn finds_one_whenever_there_is_one(last in 0u32..40, limit in 1u32..40, taken in prop::collection::hash_set(1u32..40, 0..40)) {
            let free = (1..limit).any(|n| !taken.contains(&n));
            let found = next_in_round(last, limit, |n| taken.contains(&n));
            prop_assert_eq!(found.is_some(), free);
            if let Some(number) = found {
                prop_assert!(number >= 1 && number < limit && !taken.contains(&number));
            }
        }
    }
}
