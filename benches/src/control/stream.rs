//! Packets that go on while something else happens: between two endpoints, and masqueraded to the LAN, by both IP versions.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use comparison::own::Own;
use lab::Family;
use lab::load::Path;

/// From one packet of a way to the next.
const PACE: Duration = Duration::from_millis(1);
/// A packet that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is under way.
pub(super) struct Stream {
    stop: Arc<AtomicBool>,
    ways: Vec<Way>,
}

struct Way {
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<u64>>,
}

impl Stream {
    /// Begins, and returns when a packet of each way has arrived.
    pub(super) fn begin(own: &Own) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let paths = Family::ALL.into_iter().flat_map(|family| [own.across(family), own.outward(family)]);
        let ways = paths.map(|path| Way::begin(path, &stop)).collect::<Result<_>>()?;
        Ok(Self { stop, ways })
    }

    /// Ends, and says how many packets were lost.
    pub(super) fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.ways.into_iter().map(Way::lost).sum()
    }
}

impl Way {
    fn begin(path: Path<'_>, stop: &Arc<AtomicBool>) -> Result<Self> {
        let server = path.server.enter(|| UdpSocket::bind(path.bind))?;
        let any = if path.target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let client = path.client.enter(|| -> std::io::Result<_> {
            let client = UdpSocket::bind(any)?;
            client.connect(path.target)?;
            Ok(client)
        })?;
        server.set_read_timeout(Some(PATIENCE))?;
        client.send(&[])?;
        server.recv(&mut [0; 8]).with_context(|| format!("nothing comes to {}", path.target))?;
        let stop = Arc::clone(stop);
        let sender = spawn(move || {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                client.send(&[0; 8])?;
                sent += 1;
                sleep(PACE);
            }
            Ok(sent)
        });
        // It waits until none has come for so long: the sender has ended then.
        let receiver = spawn(move || {
            let mut received = 0;
            while server.recv(&mut [0; 8]).is_ok() {
                received += 1;
            }
            Ok(received)
        });
        Ok(Self { sender, receiver })
    }

    fn lost(self) -> Result<u64> {
        let ended = |thread: JoinHandle<Result<u64>>| thread.join().ok().context("a thread of the stream panicked")?;
        let (sent, received) = (ended(self.sender)?, ended(self.receiver)?);
        ensure!(sent >= received, "{received} packets came of {sent}");
        Ok(sent - received)
    }
}
