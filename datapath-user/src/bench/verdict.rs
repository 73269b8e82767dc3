//! Whether a difference is one, or may be noise.
//!
//! By the sign test, which asks nothing of how rates are distributed: if there were no difference, each round would be as
//! likely on one side as on the other. A median that is far off, but in rounds that disagree, is none.

use comparison::quartiles::Quartiles;
use serde::Serialize;

/// Differences up to this share are none. Two alike references differ by 1 % here and there, all rounds long: where their
/// memory happens to lie is not drawn anew each round.
pub const SAME: f64 = 0.03;
/// How sure a difference is: rounds as one-sided as these come in one of a hundred measurements of two alike things.
pub const CERTAINTY: f64 = 0.99;

/// What became of a rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// More, by more than [`SAME`].
    Gain,
    /// Less, by more than [`SAME`].
    Loss,
    /// It is too little, or rounds lie on both sides.
    NoDifference,
    /// Most rounds lie on one side, but so many may by chance.
    Unclear,
    /// So few rounds may agree by chance.
    TooFewRounds,
}

impl Change {
    /// That of these ratios, one of each round.
    pub fn of(ratios: &[f64]) -> Self {
        let count = ratios.len();
        let agreeing = |side: fn(f64) -> bool| ratios.iter().filter(|ratio| side(**ratio)).count();
        if !is_certain(count, count) {
            Self::TooFewRounds
        } else if is_certain(agreeing(|ratio| ratio > 1.0 + SAME), count) {
            Self::Gain
        } else if is_certain(agreeing(|ratio| ratio < 1.0 - SAME), count) {
            Self::Loss
        } else if Quartiles::of(ratios.iter().copied()).is_some_and(is_one_sided) {
            Self::Unclear
        } else {
            Self::NoDifference
        }
    }
}

/// Whether the middle half of the rounds lies on one side.
fn is_one_sided(quartiles: Quartiles) -> bool {
    quartiles.lower > 1.0 + SAME || quartiles.upper < 1.0 - SAME
}

/// Whether so many of `count` tosses of a coin, or more, fall on one side seldom enough. Either side would be a difference.
fn is_certain(agreeing: usize, count: usize) -> bool {
    let mut chance = 0.5f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut sum = 0.0;
    // All on one side, then all but one, and so on: binomial coefficients from the end.
    for others in 0..=count.saturating_sub(agreeing) {
        sum += chance;
        chance *= (count - others) as f64 / (others + 1) as f64;
    }
    2.0 * sum <= 1.0 - CERTAINTY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(ratio: f64, count: usize) -> Vec<f64> {
        vec![ratio; count]
    }

    #[test]
    fn rounds_must_agree() {
        assert_eq!(Change::of(&repeated(1.3, 12)), Change::Gain);
        assert_eq!(Change::of(&repeated(0.8, 12)), Change::Loss);
        assert_eq!(Change::of(&[repeated(1.3, 11), repeated(0.9, 1)].concat()), Change::Gain);
        // One of 26 measurements of two alike things has as many of 12 on one side.
        assert_eq!(Change::of(&[repeated(1.3, 10), repeated(0.9, 2)].concat()), Change::Unclear);
        assert_eq!(Change::of(&[repeated(0.7, 10), repeated(1.1, 2)].concat()), Change::Unclear);
        // A median of 1.3 all the same.
        assert_eq!(Change::of(&[repeated(1.3, 8), repeated(0.9, 4)].concat()), Change::NoDifference);
        assert_eq!(Change::of(&[repeated(1.3, 6), repeated(0.7, 6)].concat()), Change::NoDifference);
    }

    #[test]
    fn little_is_no_difference_however_sure() {
        assert_eq!(Change::of(&repeated(1.02, 100)), Change::NoDifference);
        assert_eq!(Change::of(&repeated(0.98, 100)), Change::NoDifference);
        assert_eq!(Change::of(&repeated(1.04, 100)), Change::Gain);
        assert_eq!(Change::of(&repeated(0.96, 100)), Change::Loss);
    }

    #[test]
    fn few_rounds_say_nothing() {
        for count in 0..8 {
            assert_eq!(Change::of(&repeated(2.0, count)), Change::TooFewRounds, "{count}");
        }
        assert_eq!(Change::of(&repeated(2.0, 8)), Change::Gain);
    }

    /// Two-sided chances of the binomial distribution, by hand.
    #[test]
    fn the_chance_is_that_of_coins() {
        // 2/2^8 = .0078, 2·(1+8)/2^8 = .07; 2·(1+12)/2^12 = .0063, 2·(1+12+66)/2^12 = .039.
        assert_eq!([is_certain(8, 8), is_certain(7, 8)], [true, false]);
        assert_eq!([is_certain(11, 12), is_certain(10, 12)], [true, false]);
        // The normal approximation asks for 500 + 2.576·√1000/2 + ½ = 541.2.
        assert_eq!([is_certain(542, 1_000), is_certain(540, 1_000)], [true, false]);
    }

    /// Noise alone: of many measurements of two alike things, no more than one of a hundred is called a difference.
    #[test]
    fn noise_is_no_gain() {
        let mut random = comparison::shuffle::Random::seeded();
        let called = (0..2_000).filter(|_| {
            let ratios: Vec<f64> = (0..12).map(|_| 0.5 + f64::from(random.below(1_001)) / 1_000.0).collect();
            matches!(Change::of(&ratios), Change::Gain | Change::Loss)
        });
        // 13 are expected with no share for SAME; 40 would be more than seven standard deviations too many.
        assert!(called.count() < 40);
    }
}
