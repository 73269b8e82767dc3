//! What a measurement came to, as `--json` has it.

use std::collections::BTreeMap;
use std::time::Duration;

use comparison::machine::{Disturbance, Machine};
use comparison::{family_name, quartiles::Quartiles};
use lab::Family;
use serde::{Serialize, Serializer};

use super::{Change, Way};

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When it began, RFC 3339.
    pub date: String,
    /// How long it took, in seconds.
    #[serde(rename = "took_seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// How long each run of a round lasted, in seconds.
    #[serde(rename = "run_seconds", serialize_with = "seconds")]
    pub run: Duration,
    /// It was stopped before its last round.
    pub interrupted: bool,
    /// `IPv4` or `IPv6`.
    #[serde(serialize_with = "family")]
    pub family: Family,
    /// How many published ports were there.
    pub published_ports: u16,
    /// Where.
    #[serde(flatten)]
    pub machine: Machine,
    /// What else happened there.
    #[serde(flatten)]
    pub disturbance: Disturbance,
    /// The datapath beside each iptables; beside nothing but the bare way where there is none.
    pub comparisons: Vec<Comparison>,
    /// What is not measured, and why.
    pub left_out: Vec<String>,
    /// What our programs dropped meanwhile, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// The datapath beside one other.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// `iptables-nft` or `iptables-legacy`.
    pub iptables: Option<String>,
    /// Every way and load.
    pub rows: Vec<Row>,
}

/// One load on one way.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The way.
    pub way: Way,
    /// What is counted.
    pub measure: String,
    /// In which unit.
    pub unit: &'static str,
    /// By a bare wire, or a router without rules.
    #[serde(rename = "no_rules")]
    pub bare: Figure,
    /// By a bridge with dockerd's rules.
    #[serde(rename = "iptables")]
    pub ruled: Option<Figure>,
    /// By the datapath.
    #[serde(rename = "datapath")]
    pub datapath: Figure,
    /// In so many rounds.
    pub rounds: usize,
    /// The datapath by iptables, or by the bare way where there is no iptables; inside each round.
    pub ratio: Quartiles,
    /// What that is called.
    pub change: Change,
}

/// What one subject did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figure {
    /// In the unit of the row.
    pub rate: Quartiles,
    /// Half of the requests waited no longer; of request/response.
    pub p50_microseconds: Option<f64>,
    /// 99 of 100 waited no longer.
    pub p99_microseconds: Option<f64>,
}

impl Report {
    /// The most rounds that anything was measured in.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.comparisons.iter().flat_map(|comparison| &comparison.rows).map(|row| row.rounds).max().unwrap_or(0)
    }
}

/// Of several hosts together.
pub(super) fn sum(hosts: Vec<BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
    let mut drops = BTreeMap::new();
    for (reason, count) in hosts.into_iter().flatten() {
        *drops.entry(reason).or_default() += count;
    }
    drops
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn family<S: Serializer>(family: &Family, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(family_name(*family))
}
