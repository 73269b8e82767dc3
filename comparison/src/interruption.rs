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
        for signal in [SIGHUP, SIGINT, SIGTERM] {
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
}
