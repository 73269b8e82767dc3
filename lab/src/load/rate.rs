//! One-byte request/response, and connect-request-close.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Latency, Manner, PATIENCE, Path, Placement};

/// One byte there and one back, again and again; over several connections, one request is under way on each.
pub fn request_response(path: Path<'_>, manner: Manner) -> Result<Latency> {
    with_server(path, manner, || {
        let mut streams = Vec::new();
        for _ in 0..manner.flows {
            let stream = connected(path, manner.placement)?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let (mut times, mut asked) = (Latency::histogram(), vec![Instant::now(); streams.len()]);
        let start = Instant::now();
        while start.elapsed() < manner.duration {
            for (stream, asked) in streams.iter_mut().zip(&mut asked) {
                *asked = Instant::now();
                stream.write_all(b"x")?;
            }
            for (stream, asked) in streams.iter_mut().zip(&asked) {
                ensure!(read_byte(stream, manner.placement)?, "the server closed the connection");
                times.saturating_record(u64::try_from(asked.elapsed().as_nanos())?);
            }
        }
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        ensure!(!times.is_empty(), "no request was answered");
        Ok(Latency { rate, times })
    })
}

/// Connect, one byte there and one back, close, one after the other; connections a second over `duration`.
pub fn connect_rate(path: Path<'_>, placement: Placement, duration: Duration) -> Result<f64> {
    with_server(path, Manner::single(placement, duration), || {
        let (start, mut made) = (Instant::now(), 0u64);
        while start.elapsed() < duration {
            let mut stream = connected(path, placement).with_context(|| format!("connection {made}"))?;
            stream.write_all(b"x")?;
            ensure!(read_byte(&mut stream, placement)?, "the server closed connection {made}");
            made += 1;
        }
        Ok(made as f64 / start.elapsed().as_secs_f64())
    })
}

fn connected(path: Path<'_>, placement: Placement) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&path.target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nonblocking(placement.polls())?;
    Ok(stream)
}

/// Runs `load` as the client while a server answers every byte with one byte.
fn with_server<T: Send>(path: Path<'_>, manner: Manner, load: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let listener = path.server.enter(|| TcpListener::bind(path.bind)).with_context(|| path.bind.to_string())?;
    let listening = socket2::SockRef::from(&listener);
    listening.listen(4096)?;
    std::thread::scope(|scope| {
        let served = &listener;
        let server = scope.spawn(move || answer(served, manner));
        let result = path.client.enter(|| {
            manner.placement.pin_client()?;
            load()
        });
        // Wakes the accept of the server, which then ends.
        let _ = listening.shutdown(Shutdown::Both);
        let answered = server.join().map_err(|_| anyhow::anyhow!("the server panicked"))?;
        let result = result?;
        answered.context("the server")?;
        Ok(result)
    })
}

/// Serves as many connections at a time as there are flows, in the order in which the client asks on them. So one thread
/// is enough, and neither end spends time on finding out who is ready.
fn answer(listener: &TcpListener, manner: Manner) -> io::Result<()> {
    manner.placement.pin_server()?;
    loop {
        let mut streams = Vec::with_capacity(manner.flows.into());
        for _ in 0..manner.flows {
            let Ok((stream, _)) = listener.accept() else { return Ok(()) };
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(manner.duration + PATIENCE))?;
            stream.set_nonblocking(manner.placement.polls())?;
            streams.push(stream);
        }
        // The client's end of a connection ends this, whether it closes or resets.
        while streams.iter_mut().all(|stream| answer_one(stream, manner.placement)) {}
    }
}

fn answer_one(stream: &mut TcpStream, placement: Placement) -> bool {
    matches!(read_byte(stream, placement), Ok(true)) && stream.write_all(b"y").is_ok()
}

/// Reads a byte; `false` at the end of the stream.
fn read_byte(stream: &mut TcpStream, placement: Placement) -> io::Result<bool> {
    let (mut byte, mut since) = ([0], None);
    loop {
        match stream.read(&mut byte) {
            Err(error) if placement.polls() && error.kind() == io::ErrorKind::WouldBlock => {
                // A lost answer must end a busy poll too.
                if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                std::hint::spin_loop();
            }
            result => return Ok(result? == 1),
        }
    }
}
