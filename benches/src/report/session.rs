//! When, where and how it was measured.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use comparison::Site;
use comparison::machine::{Disturbance, Machine, Watch};
use serde::{Serialize, Serializer};

/// The circumstances of a measurement.
#[derive(Debug, Serialize)]
pub struct Session {
    /// The short one.
    pub quick: bool,
    /// When it began, RFC 3339.
    pub date: String,
    /// How long it took.
    #[serde(serialize_with = "seconds")]
    pub took: Duration,
    /// How long a run of a round lasted.
    #[serde(serialize_with = "seconds")]
    pub run: Duration,
    /// What the sources were, if git knows.
    pub commit: Option<String>,
    /// Where.
    #[serde(flatten)]
    pub machine: Machine,
    /// What else happened there.
    #[serde(flatten)]
    pub disturbance: Disturbance,
    /// What our programs dropped meanwhile, by site and reason.
    #[serde(skip)]
    pub drops: BTreeMap<Site, BTreeMap<String, u64>>,
    #[serde(skip)]
    began: Instant,
    #[serde(skip)]
    watch: Watch,
}

impl Session {
    /// Begins now, on this machine.
    #[must_use]
    pub fn begin(quick: bool, run: Duration) -> Self {
        Self {
            quick,
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            took: Duration::ZERO,
            run,
            commit: commit(),
            machine: Machine::here(),
            disturbance: Disturbance::default(),
            drops: BTreeMap::new(),
            began: Instant::now(),
            watch: Watch::begin(),
        }
    }

    /// Ends now.
    pub fn end(&mut self) {
        self.took = self.began.elapsed();
        self.disturbance = self.watch.end();
    }

    /// In a sentence.
    #[must_use]
    pub fn told(&self) -> String {
        format!(
            "{}, commit {}, Linux {}, {} cores of {}; load before {:.2} and after {:.2}; {} min {} s, runs of {} ms",
            self.date,
            self.commit.as_deref().unwrap_or("unknown"),
            self.machine.kernel,
            self.machine.cores,
            self.machine.processor,
            self.disturbance.load[0],
            self.disturbance.load[1],
            self.took.as_secs() / 60,
            self.took.as_secs() % 60,
            self.run.as_millis()
        )
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
