//! The machine that is measured on, and what else happens there.

use std::time::Duration;

use serde::Serialize;

/// So long is looked at how busy the machine is.
const LOOK: Duration = Duration::from_millis(500);

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor.
    pub processor: String,
    /// Its cores that this process may use.
    pub cores: usize,
    /// Others may have part of the processor: there is a hypervisor below the kernel.
    pub virtual_machine: bool,
    /// What the kernel does about Spectre v2; empty where it says nothing. By retpolines each hook of netfilter and each
    /// device costs more, as they are called by pointers.
    pub spectre_v2: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            processor: processor(&cpuinfo),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            virtual_machine: cpuinfo
                .lines()
                .find(|line| line.starts_with("flags"))
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            spectre_v2: mitigation(&read("/sys/devices/system/cpu/vulnerabilities/spectre_v2")),
        }
    }
}

/// What else happened while something was measured.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Disturbance {
    /// Processes that ran or waited to, in the mean of the minute before: at the beginning, and at the end.
    pub load: [f64; 2],
    /// The share of the processor's time that was in use just before, 0 to 1. (A mean of the minute before would have an
    /// earlier measurement in it.)
    pub busy: f64,
    /// The share of the processor's time that the hypervisor gave to others meanwhile, 0 to 1.
    pub stolen: f64,
}

/// Sees what else happens.
#[derive(Debug)]
pub struct Watch {
    load: f64,
    busy: f64,
    ticks: Ticks,
}

impl Watch {
    /// From now on; half a second is taken to see how busy it is.
    #[must_use]
    pub fn begin() -> Self {
        let (load, before) = (load(), Ticks::now());
        std::thread::sleep(LOOK);
        let ticks = Ticks::now();
        Self { load, busy: ticks.share_since(before, |ticks| ticks.all - ticks.idle), ticks }
    }

    /// Until now.
    #[must_use]
    pub fn end(&self) -> Disturbance {
        let stolen = Ticks::now().share_since(self.ticks, |ticks| ticks.stolen);
        Disturbance { load: [self.load, load()], busy: self.busy, stolen }
    }
}

/// Time of all processors since boot.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Ticks {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl Ticks {
    fn now() -> Self {
        Self::of(&read("/proc/stat"))
    }

    /// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of user
    /// and nice (proc_stat(5)).
    fn of(stat: &str) -> Self {
        let times = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
        let times: Vec<u64> = times.map_while(|time| time.parse().ok()).collect();
        let of = |column: usize| times.get(column).copied().unwrap_or(0);
        Self { all: times.iter().sum(), idle: of(3) + of(4), stolen: of(7) }
    }

    /// What some of the time since then was of all of it.
    fn share_since(self, before: Self, some: fn(Self) -> u64) -> f64 {
        let all = self.all.saturating_sub(before.all);
        if all == 0 { 0.0 } else { some(self).saturating_sub(some(before)) as f64 / all as f64 }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

fn processor(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|line| line.split_once(": "))
        .map_or_else(|| "an unnamed processor".to_owned(), |(_, name)| name.to_owned())
}

/// The first of what it lists.
fn mitigation(vulnerability: &str) -> String {
    let first = vulnerability.split(';').next().unwrap_or_default();
    first.strip_prefix("Mitigation: ").unwrap_or(first).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: b\n"), "Some CPU @ 2 GHz");
        assert_eq!(processor(""), "an unnamed processor");
    }

    #[test]
    fn what_the_kernel_does_is_told_in_a_word() {
        assert_eq!(mitigation("Mitigation: Retpolines; STIBP: disabled; RSB filling"), "Retpolines");
        assert_eq!(mitigation("Not affected"), "Not affected");
        assert_eq!(mitigation(""), "");
    }

    #[test]
    fn times_are_shares_of_all() {
        let before = Ticks::of("cpu  100 0 100 790 10 0 0 0 0 0\ncpu0 50 0 50 400 0 0 0 0 0 0\n");
        let after = Ticks::of("cpu  150 0 130 880 20 0 0 20 0 0\n");
        assert_eq!((before.all, after), (1_000, Ticks { all: 1_200, idle: 900, stolen: 20 }));
        let shares = [after.share_since(before, |ticks| ticks.stolen), after.share_since(before, |ticks| ticks.idle)];
        assert!((shares[0] - 0.1).abs() < 1e-9 && (shares[1] - 0.5).abs() < 1e-9, "{shares:?}");
        assert_eq!(before.share_since(before, |ticks| ticks.all).to_bits(), 0.0f64.to_bits());
    }
}
