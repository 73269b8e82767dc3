//! The daemon among many endpoints: how long it takes to start on what is pinned, what becomes of packets meanwhile, and how much
//! memory it has then.

use std::time::Duration;

use anyhow::{Context as _, Result};
use comparison::own::Own;
use lab::DaemonOptions;

use super::stream::Stream;
use super::timed;

const STARTS: usize = 7;
/// So long it has run when its memory is looked at: it has looked at the host, and swept the flows, more than once.
const SETTLED: Duration = Duration::from_secs(12);

/// Kills it and starts it again, until it says that it is ready; milliseconds, and how many packets were lost in all.
pub(super) fn again(own: &Own) -> Result<(Vec<f64>, u64)> {
    starts(own, |_| own.host().start_daemon())
}

/// The same with another setting each time, so that the programs are others, as in an upgrade.
pub(super) fn other_programs(own: &Own) -> Result<(Vec<f64>, u64)> {
    let with = |number| DaemonOptions::with_config(&format!("icmp_error_rate = {}\n", 2_000 + number));
    let measured = starts(own, |number| own.host().start_daemon_with(with(number)))?;
    own.host().kill_daemon()?;
    own.host().start_daemon_with(DaemonOptions::default())?;
    Ok(measured)
}

fn starts(own: &Own, start: impl Fn(usize) -> Result<()>) -> Result<(Vec<f64>, u64)> {
    let (mut times, mut lost) = (Vec::new(), 0);
    for number in 0..STARTS {
        let stream = Stream::begin(own)?;
        own.host().kill_daemon()?;
        times.push(timed(|| start(number))?);
        lost += stream.end()?;
    }
    Ok((times, lost))
}

/// Its resident memory, in MiB.
pub(super) fn memory(own: &Own) -> Result<Vec<f64>> {
    std::thread::sleep(SETTLED);
    let status = std::fs::read_to_string(format!("/proc/{}/status", own.host().daemon_pid()?))?;
    Ok(vec![resident(&status).context("a process has resident memory")? / 1024.0])
}

/// KiB, of the text of `/proc/PID/status`.
fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::resident;

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(resident("VmHWM:\t   900 kB\nVmRSS:\t   812 kB\nRssAnon:\t 1 kB\n"), Some(812.0));
        assert_eq!(resident("Name:\tkthreadd\n"), None);
    }
}
