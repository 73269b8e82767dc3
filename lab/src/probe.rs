//! The three probes of the fault tests (behaviours F): each runs beside a fault and says what was lost.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::{Client, Protocol};
use crate::namespace::Namespace;

/// How often the segments of this connection were sent again.
pub fn retransmissions(stream: &TcpStream) -> io::Result<u32> {
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the pointers lead to locals that outlive the call, `length` is the size of `info`.
    let result = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info.tcpi_total_retrans) }
}

/// What the probes found.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Datagrams sent, one a millisecond.
    pub datagrams: u64,
    /// Those whose echo did not return.
    pub datagrams_lost: u64,
    /// Segments that the long connection sent again.
    pub retransmissions: u32,
    /// Bytes that went through the long connection.
    pub bytes: u64,
    /// Connections opened, one every 20 ms.
    pub connections: u64,
    /// Those that failed or had to repeat a segment, and why.
    pub connections_failed: Vec<String>,
}

impl Findings {
    /// Zero loss: no gap, no retransmission, every connection at the first attempt.
    pub fn check_zero_loss(&self) -> Result<()> {
        ensure!(self.datagrams > 0 && self.bytes > 0 && self.connections > 0, "the probes did not run: {self:?}");
        let clean = self.datagrams_lost == 0 && self.retransmissions == 0 && self.connections_failed.is_empty();
        ensure!(clean, "something was lost: {self:?}");
        Ok(())
    }
}

/// Three probes at work against one echo server.
#[derive(Debug)]
pub struct Probes {
    stop: Arc<AtomicBool>,
    datagrams: JoinHandle<io::Result<(u64, u64)>>,
    flow: JoinHandle<io::Result<(u64, u32)>>,
    connections: JoinHandle<(u64, Vec<String>)>,
}

impl Probes {
    /// Starts them in `namespace` against the echo server at `target`.
    pub fn start(namespace: &Namespace, target: SocketAddr) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let client = Client::new(namespace);
        let socket = client.datagrams(target)?;
        let long = client.connect(target)?.stream;
        let datagrams = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || probe_datagrams(&socket, target, &stop)
        });
        let flow = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || probe_flow(long, &stop)
        });
        let connections = namespace.spawn({
            let stop = Arc::clone(&stop);
            move || probe_connections(target, &stop)
        });
        Ok(Self { stop, datagrams, flow, connections })
    }

    /// Stops them and collects what they found.
    pub fn stop(self) -> Result<Findings> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = || anyhow::anyhow!("a probe panicked");
        let (datagrams, datagrams_lost) = self.datagrams.join().map_err(|_| panicked())??;
        let (bytes, retransmissions) = self.flow.join().map_err(|_| panicked())??;
        let (connections, connections_failed) = self.connections.join().map_err(|_| panicked())?;
        Ok(Findings { datagrams, datagrams_lost, retransmissions, bytes, connections, connections_failed })
    }
}

/// Sequenced UDP, 1,000 a second; the sequence numbers return in the echo.
fn probe_datagrams(socket: &UdpSocket, target: SocketAddr, stop: &AtomicBool) -> io::Result<(u64, u64)> {
    socket2::SockRef::from(socket).set_recv_buffer_size(8 << 20)?;
    let (start, mut sent, mut missing) = (Instant::now(), 0u64, BTreeSet::new());
    socket.set_nonblocking(true)?;
    let mut buffer = [0; 256];
    let mut collect = |missing: &mut BTreeSet<u64>| {
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            if let Some(bytes) = buffer[..length].last_chunk::<8>() {
                missing.remove(&u64::from_be_bytes(*bytes));
            }
        }
    };
    while !stop.load(Ordering::Relaxed) {
        // By the clock, so that a late wake-up is made good.
        while u128::from(sent) < start.elapsed().as_millis() {
            missing.insert(sent);
            // One that cannot even be sent (no route, a full queue) stays missing.
            let _ = socket.send_to(&sent.to_be_bytes(), target);
            sent += 1;
        }
        collect(&mut missing);
        std::thread::sleep(Duration::from_millis(1));
    }
    let end = Instant::now() + Duration::from_millis(500);
    while !missing.is_empty() && Instant::now() < end {
        collect(&mut missing);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((sent, missing.len() as u64))
}

/// One long connection, 16 KiB there and back every 2 ms.
fn probe_flow(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<(u64, u32)> {
    let (chunk, mut echo, mut bytes) = ([0x5a; 16 << 10], [0; 16 << 10], 0);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&chunk)?;
        stream.read_exact(&mut echo)?;
        bytes += chunk.len() as u64;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok((bytes, retransmissions(&stream)?))
}

/// A new connection every 20 ms, each with one exchange.
fn probe_connections(target: SocketAddr, stop: &AtomicBool) -> (u64, Vec<String>) {
    let (mut made, mut failed) = (0, Vec::new());
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        made += 1;
        if let Err(error) = connect_once(target) {
            failed.push(format!("connection {made}: {error}"));
        }
        next += Duration::from_millis(20);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    (made, failed)
}

fn connect_once(target: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    match retransmissions(&stream)? {
        0 => Ok(()),
        count => Err(io::Error::other(format!("{count} retransmissions"))),
    }
}

/// The answer that a probe expects of every protocol; for tests that try a target before they start probes.
pub fn check_reachable(namespace: &Namespace, target: SocketAddr) -> io::Result<()> {
    for protocol in Protocol::ALL {
        Client::new(namespace).exchange(protocol, target)?;
    }
    Ok(())
}
