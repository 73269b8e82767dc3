//! On which cores the two ends run.

use std::io;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::{Direction, Manner};

/// On which cores client and server run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Placement {
    /// Both on core 0.
    Same,
    /// The client on core 0, the server on core 1, both blocking.
    Across,
    /// The client on core 0, the server on core 1, both busy polling.
    Spin,
}

impl Placement {
    /// Pins the calling thread as the client.
    pub(super) fn pin_client(self) -> io::Result<()> {
        pin(0)
    }

    /// Pins the calling thread as the server.
    pub(super) fn pin_server(self) -> io::Result<()> {
        pin(usize::from(self != Self::Same))
    }

    /// Whether sockets are polled instead of waited for.
    pub(super) fn polls(self) -> bool {
        self == Self::Spin
    }
}

impl Manner {
    /// Pins the calling thread as the end that sends.
    pub(super) fn pin_sender(self, direction: Direction) -> io::Result<()> {
        match direction {
            Direction::ToServer => self.placement.pin_client(),
            Direction::ToClient => self.placement.pin_server(),
        }
    }

    /// Pins the calling thread as the end that receives.
    pub(super) fn pin_receiver(self, direction: Direction) -> io::Result<()> {
        match direction {
            Direction::ToServer => self.placement.pin_server(),
            Direction::ToClient => self.placement.pin_client(),
        }
    }
}

fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}
