//! The daemon among many endpoints: how long it takes to start on what is pinned, and how much memory it has then.

use anyhow::{Context as _, Result};

use super::timed;
use crate::compare::place::own::Own;

const STARTS: usize = 5;

/// Kills it and starts it again, until it says that it is ready; milliseconds.
pub(super) fn times(own: &Own) -> Result<Vec<f64>> {
    let host = own.host();
    let start = |_| {
        host.kill_daemon()?;
        timed(|| host.start_daemon())
    };
    (0..STARTS).map(start).collect()
}

/// Its resident memory now, in MiB.
pub(super) fn memory(own: &Own) -> Result<Vec<f64>> {
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
