//! When, where and how it was measured.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};

use crate::compare::Site;

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
    /// The kernel's release.
    pub kernel: String,
    /// The processor.
    pub processor: String,
    /// Its cores.
    pub cores: usize,
    /// Processes that ran or waited to, in the mean of the minute before: at the beginning, and at the end.
    pub load: [String; 2],
    /// What our programs dropped meanwhile, by site and reason.
    #[serde(skip)]
    pub drops: BTreeMap<Site, BTreeMap<String, u64>>,
    #[serde(skip)]
    began: Instant,
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
            kernel: read("/proc/sys/kernel/osrelease"),
            processor: processor(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load: [load(), String::new()],
            drops: BTreeMap::new(),
            began: Instant::now(),
        }
    }

    /// Ends now.
    pub fn end(&mut self) {
        self.took = self.began.elapsed();
        self.load[1] = load();
    }

    /// In a sentence.
    #[must_use]
    pub fn told(&self) -> String {
        format!(
            "{}, commit {}, Linux {}, {} cores of {}; load before {} and after {}; {} min {} s, runs of {} ms",
            self.date,
            self.commit.as_deref().unwrap_or("unknown"),
            self.kernel,
            self.cores,
            self.processor,
            self.load[0],
            self.load[1],
            self.took.as_secs() / 60,
            self.took.as_secs() % 60,
            self.run.as_millis()
        )
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn load() -> String {
    read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned()
}

fn processor(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|line| line.split_once(": "))
        .map_or_else(|| "an unnamed processor".to_owned(), |(_, name)| name.to_owned())
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::processor;

    #[test]
    fn the_processor_is_named() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: b\n"), "Some CPU @ 2 GHz");
        assert_eq!(processor(""), "an unnamed processor");
    }
}
