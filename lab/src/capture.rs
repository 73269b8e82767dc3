//! Watching an interface, and putting frames on it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::frame::View;
use crate::namespace::Namespace;
use crate::packet_socket::{PacketSocket, Received};

/// How long a capture waits for one frame before it looks whether it shall stop.
const TICK: Duration = Duration::from_millis(10);
/// A capture that is told to stop goes on until nothing has come for this long.
const SETTLE: Duration = Duration::from_millis(40);

/// How many frames are told of when a test has failed.
const TOLD: usize = 30;

/// One captured frame.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The frame, parsed.
    pub view: View,
    /// Whether this namespace sent it; otherwise it arrived.
    pub outgoing: bool,
    /// Whether the transport checksum was left to a device to complete, which a veth pair never does.
    pub checksum_to_come: bool,
    /// The frame as it was, without a tag that the kernel had taken out. What a tunnel had without a link header, has one
    /// from nobody to nobody.
    pub bytes: Vec<u8>,
}

impl Captured {
    /// What the socket put into `buffer`; `None` when it is too short for a frame.
    pub(crate) fn of(received: &Received, buffer: &[u8]) -> Option<Self> {
        let Received { outgoing, checksum_to_come, bare, .. } = *received;
        let mut bytes = Vec::new();
        if let Some(ethertype) = bare {
            bytes.extend([0; 12]);
            bytes.extend(ethertype.to_be_bytes());
        }
        bytes.extend(&buffer[..received.length]);
        Some(Self { view: View::of(&bytes, received.vlan)?, outgoing, checksum_to_come, bytes })
    }
}

/// A running capture of all frames on one interface.
///
/// Dropped by a panic, it tells what it has seen.
#[derive(Debug)]
pub struct Capture {
    place: String,
    frames: Arc<Mutex<Vec<Captured>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts to capture; every frame from now on is recorded.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = namespace
            .enter(|| PacketSocket::open(interface))
            .with_context(|| format!("capture on {interface} in {}", namespace.name()))?;
        Self::of(socket, format!("{interface} in {}", namespace.name()))
    }

    /// Starts to capture on every interface of the namespace, those that appear later too.
    pub fn start_everywhere(namespace: &Namespace) -> Result<Self> {
        Self::of(namespace.enter(PacketSocket::open_everywhere)?, namespace.name().to_owned())
    }

    fn of(socket: PacketSocket, place: String) -> Result<Self> {
        socket.set_timeout(TICK)?;
        let (frames, stop) = (Arc::<Mutex<Vec<Captured>>>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (frames, stop) = (Arc::clone(&frames), Arc::clone(&stop));
            move || record(&socket, &frames, &stop)
        });
        Ok(Self { place, frames, stop, thread: Some(thread) })
    }

    /// Waits until a frame like this has come, and returns it.
    pub fn wait_for(&self, timeout: Duration, wanted: impl Fn(&Captured) -> bool) -> Option<Captured> {
        let end = Instant::now() + timeout;
        loop {
            let found = self.lock().iter().find(|captured| wanted(captured)).cloned();
            if found.is_some() || Instant::now() > end {
                return found;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops when the interface is quiet, and returns all that was seen.
    #[must_use]
    pub fn stop(mut self) -> Vec<Captured> {
        self.join();
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Captured>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let frames = self.lock();
        let first = frames.len().saturating_sub(TOLD);
        eprintln!("--- the last of {} frames on {} ---", frames.len(), self.place);
        for Captured { view, outgoing, .. } in &frames[first..] {
            eprintln!("{} {view:?}", if *outgoing { "sent" } else { "came" });
        }
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A capture that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.join();
        if std::thread::panicking() {
            self.tell();
        }
    }
}

fn record(socket: &PacketSocket, frames: &Mutex<Vec<Captured>>, stop: &AtomicBool) {
    let mut buffer = vec![0; 128 << 10];
    let mut stopped: Option<Instant> = None;
    let mut quiet_since = Instant::now();
    loop {
        match socket.receive(&mut buffer) {
            Ok(received) => {
                quiet_since = Instant::now();
                if let Some(captured) = Captured::of(&received, &buffer) {
                    frames.lock().unwrap_or_else(PoisonError::into_inner).push(captured);
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // The interface has gone; nothing more will come.
            Err(_) => return,
        }
        if stop.load(Ordering::Relaxed) {
            let since = stopped.get_or_insert_with(Instant::now);
            // Never longer than a second, however busy the interface is.
            if quiet_since.max(*since).elapsed() > SETTLE || since.elapsed() > Duration::from_secs(1) {
                return;
            }
        }
    }
}

/// Sends a frame of TCP without options out of an interface, to be cut into segments with `size` bytes of data.
pub fn send_in_segments(namespace: &Namespace, interface: &str, frame: &[u8], size: u16) -> Result<()> {
    let socket = namespace.enter(|| PacketSocket::open(interface))?;
    let sent = socket.send_in_segments(frame, size);
    sent.with_context(|| format!("send a large frame on {interface} in {}", namespace.name()))
}

/// Sends frames out of an interface, as they are.
pub fn send_frames(namespace: &Namespace, interface: &str, frames: &[Vec<u8>]) -> Result<()> {
    let socket = namespace.enter(|| PacketSocket::open(interface))?;
    for frame in frames {
        socket.send(frame).with_context(|| format!("send a frame on {interface} in {}", namespace.name()))?;
    }
    Ok(())
}
