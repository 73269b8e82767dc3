//! What was measured beside what is asked for.

use std::fmt;

use comparison::{quartiles::Quartiles, table::Table};
use serde::Serialize;

/// What a number must be.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
    /// Between these two.
    Within(f64, f64),
}

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A rate by another one.
    Ratio,
    /// Milliseconds.
    Milliseconds,
    /// Nanoseconds.
    Nanoseconds,
    /// Millions a second.
    MillionsASecond,
    /// MiB.
    Mebibytes,
    /// Bytes.
    Bytes,
    /// Pieces.
    Count,
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The median is not what it must be.
    Missed,
    /// There is no number.
    NotMeasured,
    /// The median is what it must be.
    Met,
    /// And what would be better.
    Reached,
}

/// One line of the judgement.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Judgement {
    /// What of what.
    pub row: String,
    /// Under which conditions.
    pub detail: String,
    /// What is counted.
    pub unit: Unit,
    /// Of all rounds in which it was measured.
    pub measured: Option<Quartiles>,
    /// In how many it was.
    pub samples: usize,
    /// What the median must be.
    pub must: Bound,
    /// What would be better.
    pub reach: Option<f64>,
}

impl Bound {
    /// Whether a number is what it must be.
    #[must_use]
    pub fn holds(self, number: f64) -> bool {
        match self {
            Self::AtLeast(least) => number >= least,
            Self::AtMost(most) => number <= most,
            Self::Within(least, most) => (least..=most).contains(&number),
        }
    }

    /// The edges that a number must not pass.
    #[must_use]
    pub fn edges(self) -> Vec<f64> {
        match self {
            Self::AtLeast(edge) | Self::AtMost(edge) => vec![edge],
            Self::Within(least, most) => vec![least, most],
        }
    }
}

impl Judgement {
    /// How it ended, by the median.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let Some(Quartiles { median, .. }) = self.measured else { return Verdict::NotMeasured };
        let reached = match (self.must, self.reach) {
            (_, None) | (Bound::Within(..), _) => false,
            (Bound::AtLeast(_), Some(better)) => median >= better,
            (Bound::AtMost(_), Some(better)) => median <= better,
        };
        match (self.must.holds(median), reached) {
            (false, _) => Verdict::Missed,
            (true, true) => Verdict::Reached,
            (true, false) => Verdict::Met,
        }
    }

    /// Whether one quartile lies beyond the bound and the other does not: another run may end otherwise.
    #[must_use]
    pub fn is_close(&self) -> bool {
        let within = |number| self.must.holds(number);
        self.measured.is_some_and(|measured| within(measured.lower) != within(measured.upper))
    }

    /// Median and quartiles with the unit's digits.
    #[must_use]
    pub fn shown(&self) -> String {
        let Some(measured) = self.measured else { return "–".to_owned() };
        match self.unit {
            Unit::Ratio => measured.to_string(),
            Unit::Milliseconds => format!("{measured} ms"),
            Unit::Nanoseconds => format!("{measured:.0} ns"),
            Unit::MillionsASecond => format!("{measured:.1} M/s"),
            Unit::Mebibytes => format!("{measured:.0} MiB"),
            Unit::Bytes => format!("{measured:.0} B"),
            Unit::Count => format!("{measured:.0}"),
        }
    }

    /// The median with its unit.
    #[must_use]
    pub fn middle(&self) -> String {
        let Some(Quartiles { median, .. }) = self.measured else { return "–".to_owned() };
        match self.unit {
            Unit::Ratio => format!("{median:.2} ×"),
            Unit::Milliseconds => format!("{median:.1} ms"),
            Unit::Nanoseconds => format!("{median:.0} ns"),
            Unit::MillionsASecond => format!("{median:.1} M/s"),
            Unit::Mebibytes => format!("{median:.0} MiB"),
            Unit::Bytes => format!("{median:.0} B"),
            Unit::Count => format!("{median:.0}"),
        }
    }

    /// What is asked for.
    #[must_use]
    pub fn wanted(&self) -> String {
        match self.unit {
            Unit::Ratio => self.must.to_string(),
            Unit::Milliseconds => format!("{} ms", self.must),
            Unit::Nanoseconds => format!("{} ns", self.must),
            Unit::MillionsASecond => format!("{} M/s", self.must),
            Unit::Mebibytes => format!("{} MiB", self.must),
            Unit::Bytes => format!("{} B", self.must),
            Unit::Count => self.must.to_string(),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least:.2}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::Within(least, most) => write!(f, "{least:.2}–{most:.2}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missed => "missed",
            Self::NotMeasured => "not measured",
            Self::Met => "met",
            Self::Reached => "met, goal reached",
        })
    }
}

/// Whether all are met. Where everything was to be measured (`complete`), what was not is not met either.
#[must_use]
pub fn all_met(judgements: &[Judgement], complete: bool) -> bool {
    judgements.iter().all(|judgement| match judgement.verdict() {
        Verdict::Missed => false,
        Verdict::NotMeasured => !complete,
        Verdict::Met | Verdict::Reached => true,
    })
}

/// All of them, for a terminal.
#[must_use]
pub fn table(judgements: &[Judgement]) -> Table {
    let mut table = Table::new(&["", "what", "how", "measured", "must", "rounds", "verdict"]);
    for judgement in judgements {
        let verdict = judgement.verdict();
        let mark = match verdict {
            Verdict::Missed => "✗",
            Verdict::NotMeasured => "–",
            Verdict::Met | Verdict::Reached => "✓",
        };
        let close = if judgement.is_close() { ", close" } else { "" };
        table.row([
            mark.to_owned(),
            judgement.row.clone(),
            judgement.detail.clone(),
            judgement.shown(),
            judgement.wanted(),
            judgement.samples.to_string(),
            format!("{verdict}{close}"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(must: Bound, reach: Option<f64>, [lower, median, upper]: [f64; 3]) -> (Verdict, bool) {
        let measured = Some(Quartiles { lower, median, upper });
        let (row, detail) = (String::new(), String::new());
        let judgement = Judgement { row, detail, unit: Unit::Ratio, measured, samples: 1, must, reach };
        (judgement.verdict(), judgement.is_close())
    }

    #[test]
    fn the_median_decides() {
        let least = Bound::AtLeast(0.9);
        assert_eq!(judged(least, Some(0.95), [0.85, 0.89, 0.95]), (Verdict::Missed, true));
        assert_eq!(judged(least, Some(0.95), [0.89, 0.90, 0.95]), (Verdict::Met, true));
        assert_eq!(judged(least, Some(0.95), [0.94, 0.95, 0.96]), (Verdict::Reached, false));
        assert_eq!(judged(least, None, [0.94, 0.95, 0.96]), (Verdict::Met, false));
        let most = Bound::AtMost(1.0);
        assert_eq!(judged(most, Some(0.2), [0.1, 0.2, 1.5]), (Verdict::Reached, true));
        assert_eq!(judged(most, Some(0.2), [1.1, 1.2, 1.5]), (Verdict::Missed, false));
        let within = Bound::Within(0.95, 1.05);
        assert_eq!(judged(within, None, [1.0, 1.06, 1.07]), (Verdict::Missed, true));
        assert_eq!(judged(within, None, [0.96, 1.0, 1.04]), (Verdict::Met, false));
    }

    #[test]
    fn nothing_measured_is_neither_met_nor_missed_and_misses_where_all_is_asked_for() {
        let judgement = Judgement {
            row: "a".into(),
            detail: "b".into(),
            unit: Unit::Milliseconds,
            measured: None,
            samples: 0,
            must: Bound::AtMost(1.0),
            reach: None,
        };
        assert_eq!((judgement.verdict(), judgement.is_close()), (Verdict::NotMeasured, false));
        assert!(all_met(std::slice::from_ref(&judgement), false));
        assert!(!all_met(std::slice::from_ref(&judgement), true));
        assert!(table(&[judgement]).aligned().contains("–  a     b    –         ≤ 1 ms  0       not measured"));
    }
}
