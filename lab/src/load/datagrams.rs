//! Small datagrams: as many as go through.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Direction, Manner, PATIENCE, Path};

/// Payload of the small datagrams: with headers, the smallest Ethernet frame.
const SMALL: usize = 18;
/// Sent between two looks at the clock.
const BURST: usize = 64;
/// Room for what arrives while the receiver does not run: 80 ms of the fastest wire. It catches up when the sender has ended.
const RECEIVE_BUFFER: usize = 32 << 20;
/// The first datagram of a flow may be lost to a neighbour that is not known yet.
const GREETING: Duration = Duration::from_millis(100);

/// Small datagrams as fast as they can be sent, from each flow in turn; datagrams a second that arrived.
///
/// The receiver does not tell the sender to slow down. Only where it has a core of its own and polls
/// ([`super::Placement::Spin`]) is what arrives bounded by the way, and not by the receiver.
pub fn datagram_rate(path: Path<'_>, manner: Manner, direction: Direction) -> Result<f64> {
    let server = path.server.enter(|| UdpSocket::bind(path.bind)).with_context(|| path.bind.to_string())?;
    let mut flows = Vec::new();
    for _ in 0..manner.flows {
        flows.push(greet(path, &server)?);
    }
    let clients: Vec<&UdpSocket> = flows.iter().map(|(client, _)| client).collect();
    let (senders, receivers): (Vec<Sender<'_>>, Vec<&UdpSocket>) = match direction {
        Direction::ToServer => (clients.iter().map(|socket| Sender { socket, to: None }).collect(), vec![&server]),
        Direction::ToClient => {
            (flows.iter().map(|(_, peer)| Sender { socket: &server, to: Some(*peer) }).collect(), clients)
        }
    };
    for receiver in &receivers {
        setsockopt(receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        receiver.set_nonblocking(manner.placement.polls() || receivers.len() > 1)?;
        receiver.set_read_timeout(Some(Duration::from_millis(20)))?;
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            manner.pin_receiver(direction)?;
            count(&receivers, &done)
        });
        let sending = scope.spawn(|| {
            manner.pin_sender(direction)?;
            send(&senders, manner.duration)
        });
        let sent = sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
        done.store(true, Ordering::Relaxed);
        let received = counting.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        ensure!(received > 0, "no datagram arrived");
        Ok(received as f64 / sent?.as_secs_f64())
    })
}

/// A client that the server has heard, and by which address.
fn greet(path: Path<'_>, server: &UdpSocket) -> Result<(UdpSocket, SocketAddr)> {
    let client = path.client.enter(|| -> io::Result<UdpSocket> {
        let any: SocketAddr = if path.target.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let client = UdpSocket::bind(any)?;
        client.connect(path.target)?;
        Ok(client)
    })?;
    let (mut buffer, start) = ([0; SMALL], Instant::now());
    server.set_nonblocking(false)?;
    server.set_read_timeout(Some(GREETING))?;
    while start.elapsed() < PATIENCE {
        // Refused while the server is not known yet, perhaps: the answer counts.
        let _ = client.send(&buffer);
        if let Ok((_, peer)) = server.recv_from(&mut buffer) {
            return Ok((client, peer));
        }
    }
    anyhow::bail!("no datagram to {} arrives", path.target)
}

/// Sends to its peer, where it is not connected.
struct Sender<'a> {
    socket: &'a UdpSocket,
    to: Option<SocketAddr>,
}

fn send(senders: &[Sender<'_>], duration: Duration) -> io::Result<Duration> {
    let (payload, start, mut turn) = ([0; SMALL], Instant::now(), senders.iter().cycle());
    while start.elapsed() < duration {
        for Sender { socket, to } in turn.by_ref().take(BURST) {
            // A full queue or a refused datagram is not counted by the receiver, and that is the measure.
            let _ = match to {
                Some(peer) => socket.send_to(&payload, peer),
                None => socket.send(&payload),
            };
        }
    }
    Ok(start.elapsed())
}

fn count(receivers: &[&UdpSocket], done: &AtomicBool) -> io::Result<u64> {
    let (mut buffer, mut received) = ([0; 64], 0);
    loop {
        // First, so that what was sent before is counted.
        let last = done.load(Ordering::Relaxed);
        let before = received;
        for receiver in receivers {
            match receiver.recv(&mut buffer) {
                Ok(_) => received += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if last && received == before {
            return Ok(received);
        }
    }
}
