//! The documented differences between the datapath and the oracle. All others are failures.

use lab::oracle::Plan;

use crate::canonical::Canonical;
use crate::grammar::Step;
use crate::twins::{ORACLE, OURS};

/// A frame that arrived in one world (more often than) in the other.
pub struct Missing<'a> {
    /// Where it is missing.
    pub world: usize,
    pub frame: &'a Canonical,
    /// The packet that caused it, where it is known.
    pub step: Option<&'a Step>,
    pub plan: &'a Plan,
}

/// Why the worlds differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Difference {
    /// ICMP errors about flows.
    IcmpError,
    /// Fragments of what would be translated.
    Fragment,
}

impl Difference {
    /// For the report.
    pub fn reason(self) -> &'static str {
        match self {
            Self::IcmpError => "errors are dropped where packets are translated (N5)",
            Self::Fragment => "fragments are dropped where packets are translated (N6)",
        }
    }

    /// The documented difference that this is.
    pub fn explain(missing: &Missing<'_>) -> Option<Self> {
        let step = missing.step?;
        let _ = (OURS, ORACLE, missing.frame, missing.plan, missing.world);
        if step.traits.quotes {
            return Some(Self::IcmpError);
        }
        if step.traits.decoration.fragments.is_some() {
            return Some(Self::Fragment);
        }
        None
    }
}
