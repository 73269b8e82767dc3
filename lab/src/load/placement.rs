//! On which cores the two ends run.

use std::io;
use std::sync::OnceLock;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::{Direction, Manner};

/// On which cores client and server run: the first two of those that this process may use, by `taskset` or a control group's
/// `cpuset`. Where there is but one, it is both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Placement {
    /// Both on the first core.
    Same,
    /// The client on the first core, the server on the second, both blocking.
    Across,
    /// The client on the first core, the server on the second, both busy polling; on one core, both blocking.
    Spin,
}

impl Placement {
    /// Pins the calling thread as the client.
    pub(super) fn pin_client(self) -> io::Result<()> {
        pin(cores()[0])
    }

    /// Pins the calling thread as the server.
    pub(super) fn pin_server(self) -> io::Result<()> {
        pin(cores()[usize::from(self != Self::Same)])
    }

    /// Whether sockets are polled instead of waited for.
    pub(super) fn polls(self) -> bool {
        self == Self::Spin && cores()[0] != cores()[1]
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

/// Does something once on each core that the process may use, and says how many those are.
pub fn on_each_core<T: Send>(work: impl Fn() -> io::Result<T> + Sync) -> io::Result<usize> {
    let allowed = sched_getaffinity(Pid::this())?;
    let cores: Vec<usize> = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false)).collect();
    for &core in &cores {
        let done = std::thread::scope(|scope| scope.spawn(|| pin(core).and_then(|()| work())).join());
        done.map_err(|_| io::Error::other("the work panicked"))??;
    }
    Ok(cores.len())
}

/// The cores of the two ends. They are asked of the process and not of the calling thread, which may be pinned already.
fn cores() -> [usize; 2] {
    static CORES: OnceLock<[usize; 2]> = OnceLock::new();
    *CORES.get_or_init(|| first_two(&sched_getaffinity(Pid::this()).unwrap_or_default()))
}

/// The first two that are set; one twice if there is no other.
fn first_two(allowed: &CpuSet) -> [usize; 2] {
    let mut set = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
    let first = set.next().unwrap_or(0);
    [first, set.next().unwrap_or(first)]
}

fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_where_the_process_may_be() {
        let of = |cores: &[usize]| {
            let mut allowed = CpuSet::new();
            cores.iter().for_each(|&core| allowed.set(core).expect("in range"));
            first_two(&allowed)
        };
        assert_eq!(of(&[0, 1, 2]), [0, 1]);
        assert_eq!(of(&[3, 6]), [3, 6]);
        assert_eq!(of(&[5]), [5, 5]);
    }
}
