//! One-byte request/response, and connect-request-close.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Path, Placement};

/// How fast requests were answered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Latency {
    /// Answers a second.
    pub rate: f64,
    /// Half of the answers took no longer.
    pub p50: Duration,
    /// 99 of 100 answers took no longer.
    pub p99: Duration,
}

/// One connection, one byte there and one back, again and again for `duration`.
pub fn request_response(path: Path<'_>, placement: Placement, duration: Duration) -> Result<Latency> {
    with_server(path, placement, duration, |placement| {
        let mut stream = TcpStream::connect_timeout(&path.target, Duration::from_secs(2))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.set_nonblocking(placement.polls())?;
        let mut times = Vec::with_capacity(1 << 17);
        let start = Instant::now();
        while start.elapsed() < duration {
            let asked = Instant::now();
            stream.write_all(b"x")?;
            read_byte(&mut stream, placement)?;
            times.push(asked.elapsed());
        }
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        times.sort_unstable();
        ensure!(!times.is_empty(), "no request was answered");
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
        Ok(Latency { rate, p50: at(50), p99: at(99) })
    })
}

/// Connect, one byte there and one back, close; connections a second over `duration`.
pub fn connect_rate(path: Path<'_>, placement: Placement, duration: Duration) -> Result<f64> {
    with_server(path, placement, duration, |placement| {
        let (start, mut made) = (Instant::now(), 0u64);
        while start.elapsed() < duration {
            let mut stream = TcpStream::connect_timeout(&path.target, Duration::from_secs(2))
                .with_context(|| format!("connection {made}"))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.set_nonblocking(placement.polls())?;
            stream.write_all(b"x")?;
            read_byte(&mut stream, placement)?;
            made += 1;
        }
        Ok(made as f64 / start.elapsed().as_secs_f64())
    })
}

/// Runs `load` as the client while a server answers every byte with one byte.
fn with_server<T: Send>(
    path: Path<'_>,
    placement: Placement,
    duration: Duration,
    load: impl FnOnce(Placement) -> Result<T> + Send,
) -> Result<T> {
    let listener = path.server.enter(|| TcpListener::bind(path.bind)).with_context(|| path.bind.to_string())?;
    let listening = socket2::SockRef::from(&listener);
    listening.listen(4096)?;
    std::thread::scope(|scope| {
        let served = &listener;
        let server = scope.spawn(move || answer(served, placement, duration));
        let result = path.client.enter(|| {
            placement.pin_client()?;
            load(placement)
        });
        // Wakes the accept of the server, which then ends.
        let _ = listening.shutdown(Shutdown::Both);
        let answered = server.join().map_err(|_| anyhow::anyhow!("the server panicked"))?;
        let result = result?;
        answered.context("the server")?;
        Ok(result)
    })
}

fn answer(listener: &TcpListener, placement: Placement, duration: Duration) -> io::Result<()> {
    placement.pin_server()?;
    // Connections come one after the other, so one thread serves them in turn.
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(duration + Duration::from_secs(2)))?;
        stream.set_nonblocking(placement.polls())?;
        // The client's end of the connection ends this loop, whether it closes or resets.
        while let Ok(true) = read_byte(&mut stream, placement) {
            if stream.write_all(b"y").is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Reads a byte; `false` at the end of the stream.
fn read_byte(stream: &mut TcpStream, placement: Placement) -> io::Result<bool> {
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Err(error) if placement.polls() && error.kind() == io::ErrorKind::WouldBlock => std::hint::spin_loop(),
            result => return Ok(result? == 1),
        }
    }
}
