//! Streams and small datagrams.

use std::io::{self, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, SockRef, Socket, Type};

use super::{Path, Placement};

/// Payload of the small datagrams: with headers, the smallest Ethernet frame.
const SMALL: usize = 18;

/// One stream with cubic for `duration`; Gbit/s as the receiver counts them.
pub fn stream_rate(path: Path<'_>, placement: Placement, duration: Duration) -> Result<f64> {
    let listener = path.server.enter(|| TcpListener::bind(path.bind)).with_context(|| path.bind.to_string())?;
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive_stream(&listener, placement));
        let sent = path.client.enter(|| -> Result<()> {
            placement.pin_client()?;
            let socket = Socket::new(Domain::for_address(path.target), Type::STREAM, None)?;
            socket.set_tcp_congestion(b"cubic")?;
            socket.set_write_timeout(Some(Duration::from_secs(2)))?;
            socket.connect_timeout(&path.target.into(), Duration::from_secs(2))?;
            let (mut stream, chunk) = (std::net::TcpStream::from(socket), vec![0; 128 << 10]);
            let start = Instant::now();
            while start.elapsed() < duration {
                stream.write_all(&chunk)?;
            }
            Ok(())
        });
        if sent.is_err() {
            // Nobody will connect any more.
            let _ = SockRef::from(&listener).shutdown(std::net::Shutdown::Both);
        }
        let received = receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
        sent.context("the sender")?;
        Ok(received?)
    })
}

fn receive_stream(listener: &TcpListener, placement: Placement) -> io::Result<f64> {
    placement.pin_server()?;
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let (mut buffer, mut bytes, start) = (vec![0; 256 << 10], 0u64, Instant::now());
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(bytes as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9);
        }
        bytes += length as u64;
    }
}

/// Small datagrams as fast as they can be sent for `duration`; datagrams a second that arrived.
pub fn datagram_rate(path: Path<'_>, placement: Placement, duration: Duration) -> Result<f64> {
    let receiver = path.server.enter(|| UdpSocket::bind(path.bind)).with_context(|| path.bind.to_string())?;
    receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counter = scope.spawn(|| count_datagrams(&receiver, placement, &done));
        let sent = path.client.enter(|| send_datagrams(path, placement, duration));
        done.store(true, Ordering::Relaxed);
        let received = counter.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        let seconds = sent?.as_secs_f64();
        ensure!(received > 0, "no datagram arrived");
        Ok(received as f64 / seconds)
    })
}

fn send_datagrams(path: Path<'_>, placement: Placement, duration: Duration) -> Result<Duration> {
    placement.pin_client()?;
    let socket = Socket::new(Domain::for_address(path.target), Type::DGRAM, None)?;
    socket.connect(&path.target.into())?;
    let (payload, start) = ([0; SMALL], Instant::now());
    while start.elapsed() < duration {
        for _ in 0..64 {
            // A full queue or a refused datagram is not counted by the receiver, and that is the measure.
            let _ = socket.send(&payload);
        }
    }
    Ok(start.elapsed())
}

fn count_datagrams(receiver: &UdpSocket, placement: Placement, done: &AtomicBool) -> io::Result<u64> {
    placement.pin_server()?;
    let (mut buffer, mut received) = ([0; 64], 0);
    loop {
        match receiver.recv(&mut buffer) {
            Ok(_) => received += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if done.load(Ordering::Relaxed) {
                    return Ok(received);
                }
            }
            Err(error) => return Err(error),
        }
    }
}
