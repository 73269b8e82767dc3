//! Small datagrams: as many as go through.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::drain::Drain;
use super::{Direction, Manner, PATIENCE, Path, Placement};

/// Payload of the small datagrams: with headers, the smallest Ethernet frame.
const PAYLOAD: [u8; 18] = [0; 18];
/// Sent between two looks at the clock. The queue of a CPU for packets between its devices has 1,000 places.
const BURST: usize = 64;
/// Room for what arrives while the receiver does not run: 80 ms of the fastest wire. It catches up when the sender has ended.
const RECEIVE_BUFFER: usize = 32 << 20;
/// The first datagram of a flow may be lost to a neighbour that is not known yet.
const GREETING: Duration = Duration::from_millis(100);

/// Small datagrams as fast as they can be sent, from each flow in turn; datagrams a second that arrived.
///
/// On one core ([`Placement::Same`]) one thread sends a burst and takes it out at the other end, so that nothing is lost and
/// nobody has to be woken. Otherwise the receiver is a thread on a core of its own, and does not tell the sender to slow down.
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
    }
    let (received, time) = if manner.placement == Placement::Same {
        in_turns(&senders, &receivers, manner)?
    } else {
        apart(&senders, &receivers, manner, direction)?
    };
    ensure!(received > 0, "no datagram arrived");
    Ok(received as f64 / time.as_secs_f64())
}

/// Sends and receives on one thread.
fn in_turns(senders: &[Sender<'_>], receivers: &[&UdpSocket], manner: Manner) -> Result<(u64, Duration)> {
    std::thread::scope(|scope| {
        let both = scope.spawn(|| -> io::Result<(u64, Duration)> {
            manner.placement.pin_client()?;
            let (mut turn, mut drain, mut received) = (senders.iter().cycle(), Drain::new(), 0);
            let start = Instant::now();
            while start.elapsed() < manner.duration {
                turn.by_ref().take(BURST).for_each(Sender::send);
                received += take_all(&mut drain, receivers)?;
            }
            Ok((received, start.elapsed()))
        });
        Ok(both.join().map_err(|_| anyhow::anyhow!("the load panicked"))??)
    })
}

/// Sends on one thread and receives on another.
fn apart(
    senders: &[Sender<'_>],
    receivers: &[&UdpSocket],
    manner: Manner,
    direction: Direction,
) -> Result<(u64, Duration)> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            manner.pin_receiver(direction)?;
            count(receivers, manner.placement, &done)
        });
        let sending = scope.spawn(|| -> io::Result<Duration> {
            manner.pin_sender(direction)?;
            let (mut turn, start) = (senders.iter().cycle(), Instant::now());
            while start.elapsed() < manner.duration {
                turn.by_ref().take(BURST).for_each(Sender::send);
            }
            Ok(start.elapsed())
        });
        let sent = sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
        done.store(true, Ordering::Relaxed);
        let received = counting.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        Ok((received, sent?))
    })
}

/// A client that the server has heard and answered, and by which address. To netfilter a flow without an answer is a new one
/// with every packet, which then goes by all rules for new ones; few flows are like that.
fn greet(path: Path<'_>, server: &UdpSocket) -> Result<(UdpSocket, SocketAddr)> {
    let client = path.client.enter(|| -> io::Result<UdpSocket> {
        let any: SocketAddr = if path.target.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let client = UdpSocket::bind(any)?;
        client.connect(path.target)?;
        client.set_read_timeout(Some(GREETING))?;
        Ok(client)
    })?;
    let (mut buffer, start) = (PAYLOAD, Instant::now());
    server.set_nonblocking(false)?;
    server.set_read_timeout(Some(GREETING))?;
    while start.elapsed() < PATIENCE {
        // Refused while the server is not known yet, perhaps: the answer counts.
        let _ = client.send(&buffer);
        let Ok((_, peer)) = server.recv_from(&mut buffer) else { continue };
        if server.send_to(&PAYLOAD, peer).is_ok() && client.recv(&mut buffer).is_ok() {
            return Ok((client, peer));
        }
    }
    anyhow::bail!("no datagram to {} is answered", path.target)
}

/// Sends to its peer, where it is not connected.
struct Sender<'a> {
    socket: &'a UdpSocket,
    to: Option<SocketAddr>,
}

impl Sender<'_> {
    fn send(&self) {
        // A full queue or a refused datagram is not counted by the receiver, and that is the measure.
        let _ = match self.to {
            Some(peer) => self.socket.send_to(&PAYLOAD, peer),
            None => self.socket.send(&PAYLOAD),
        };
    }
}

fn take_all(drain: &mut Drain, receivers: &[&UdpSocket]) -> io::Result<u64> {
    receivers.iter().map(|receiver| drain.take(receiver)).sum()
}

/// Counts until nothing comes any more after `done`.
fn count(receivers: &[&UdpSocket], placement: Placement, done: &AtomicBool) -> io::Result<u64> {
    let (mut drain, mut received) = (Drain::new(), 0);
    loop {
        // First, so that what was sent before is counted.
        let last = done.load(Ordering::Relaxed);
        let taken = take_all(&mut drain, receivers)?;
        received += taken;
        match taken {
            0 if last => return Ok(received),
            0 if placement.polls() => std::hint::spin_loop(),
            0 => wait(receivers)?,
            _ => {}
        }
    }
}

/// Until one of the sockets has something, or a moment has passed.
fn wait(receivers: &[&UdpSocket]) -> io::Result<()> {
    let mut waited: Vec<PollFd<'_>> =
        receivers.iter().map(|receiver| PollFd::new(receiver.as_fd(), PollFlags::POLLIN)).collect();
    Ok(poll(&mut waited, PollTimeout::from(20u8)).map(drop)?)
}
