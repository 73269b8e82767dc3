//! Being asked to stop (Ctrl-C, a terminal that is closed, or SIGTERM) in a measurement that takes long: what was measured is told, and nothing is left
//! behind. Who asks twice is obeyed at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether this process was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Interruption(Arc<AtomicBool>);

impl Interruption {
    /// Listens from now on.
    pub fn listen() -> io::Result<Self> {
        let interruption = Self::default();
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status")?);
        // What this was started to ignore, as nohup does, it goes on ignoring.
        for signal in [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| ignored & 1 << (signal - 1) == 0) {
            // In this order, so that the first signal does not find the flag set by itself.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&interruption.0))?;
            flag::register(signal, Arc::clone(&interruption.0))?;
        }
        Ok(interruption)
    }

    /// Whether it was.
    #[must_use]
    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A bit for each ignored signal, from 1 on, of the text of /proc/self/status.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_signal_is_noticed_and_does_not_end_the_process() {
        let interruption = Interruption::listen().expect("listens");
        assert!(!interruption.came());
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).expect("raises");
        assert!(interruption.came());
    }

    #[test]
    fn ignored_signals_are_read() {
        let of_nohup = ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n");
        assert_eq!(of_nohup & 1 << (SIGHUP - 1), 1);
        assert_eq!(of_nohup & 1 << (SIGINT - 1), 0);
        assert_eq!(ignored(""), 0);
    }
}
