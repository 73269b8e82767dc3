//! How far a long measurement is, on standard error: one line that changes on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Elsewhere than on a terminal, a line is written so often.
const PAUSE: Duration = Duration::from_secs(15);

/// Where it is.
pub struct Progress {
    terminal: bool,
    began: Instant,
    said: Option<Instant>,
    done: usize,
    all: usize,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// At the beginning.
    #[must_use]
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), began: Instant::now(), said: None, done: 0, all: 0 }
    }

    /// Says something that stays.
    pub fn say(&mut self, text: &str) {
        write(&format!("{}{text}\n", if self.terminal { "\r\x1b[K" } else { "" }));
    }

    /// From here on, so many steps are to be made.
    pub fn begin(&mut self, steps: usize) {
        (self.began, self.done, self.all) = (Instant::now(), 0, steps);
    }

    /// One step more is done.
    pub fn step(&mut self, text: &str) {
        self.done += 1;
        let due = self.said.is_none_or(|said| said.elapsed() >= PAUSE);
        if !self.terminal && !due {
            return;
        }
        self.said = Some(Instant::now());
        let line = format!("{} {text}", clock(remaining(self.began.elapsed(), self.done, self.all)));
        if self.terminal {
            write(&format!("\r\x1b[K{}", line.chars().take(100).collect::<String>()));
        } else {
            write(&format!("{line}\n"));
        }
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if self.terminal {
            write("\r\x1b[K");
        }
    }
}

/// Progress that cannot be shown, to a pipe that is closed, is no reason to stop.
fn write(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// The steps that are left take as long as those before them.
fn remaining(elapsed: Duration, done: usize, all: usize) -> Duration {
    elapsed.mul_f64(all.saturating_sub(done) as f64 / done.max(1) as f64)
}

fn clock(time: Duration) -> String {
    format!("{}:{:02} left,", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done() {
        assert_eq!(remaining(Duration::from_secs(30), 10, 40), Duration::from_secs(90));
        assert_eq!(remaining(Duration::from_secs(30), 40, 40), Duration::ZERO);
        assert_eq!(clock(Duration::from_secs(125)), "2:05 left,");
    }
}
