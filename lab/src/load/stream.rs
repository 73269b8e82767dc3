//! Streams: as much as goes through.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use super::{Direction, Manner, PATIENCE, Path};

/// Written at a time, and read at most.
const CHUNK: usize = 128 << 10;

/// A stream by cubic on each flow; Gbit/s as the receivers count them, all together.
pub fn stream_rate(path: Path<'_>, manner: Manner, direction: Direction) -> Result<f64> {
    let pairs = connect(path, manner.flows)?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (client, server) in &pairs {
            let (sender, receiver) = match direction {
                Direction::ToServer => (client, server),
                Direction::ToClient => (server, client),
            };
            let sending = scope.spawn(move || {
                manner.pin_sender(direction)?;
                send(sender, manner.duration)
            });
            let receiving = scope.spawn(move || {
                manner.pin_receiver(direction)?;
                receive(receiver)
            });
            threads.push((sending, receiving));
        }
        let mut bytes = 0;
        for (sending, receiving) in threads {
            let received = receiving.join().map_err(|_| anyhow::anyhow!("a receiver panicked"))?;
            sending.join().map_err(|_| anyhow::anyhow!("a sender panicked"))?.context("a sender")?;
            bytes += received.context("a receiver")?;
        }
        Ok(bytes as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9)
    })
}

/// Client and server of each connection. A socket stays in the namespace that it was made in, whoever uses it.
fn connect(path: Path<'_>, flows: u16) -> Result<Vec<(TcpStream, TcpStream)>> {
    let listener = path.server.enter(|| -> Result<Socket> {
        let socket = socket(path)?;
        socket.set_reuse_address(true)?;
        socket.bind(&path.bind.into()).with_context(|| path.bind.to_string())?;
        socket.listen(flows.into())?;
        Ok(socket)
    })?;
    let clients = path.client.enter(|| -> Result<Vec<TcpStream>> {
        let mut clients = Vec::new();
        for _ in 0..flows {
            let socket = socket(path)?;
            socket.connect_timeout(&path.target.into(), PATIENCE)?;
            clients.push(limited(socket)?);
        }
        Ok(clients)
    })?;
    clients.into_iter().map(|client| Ok((client, limited(listener.accept()?.0)?))).collect()
}

/// With cubic, which an accepted connection has from its listener.
fn socket(path: Path<'_>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(path.target), Type::STREAM, None)?;
    socket.set_tcp_congestion(b"cubic")?;
    Ok(socket)
}

fn limited(socket: Socket) -> io::Result<TcpStream> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

fn send(mut stream: &TcpStream, duration: Duration) -> io::Result<()> {
    let (chunk, start) = (vec![0; CHUNK], Instant::now());
    while start.elapsed() < duration {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)
}

fn receive(mut stream: &TcpStream) -> io::Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0u64);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes),
            length => bytes += length as u64,
        }
    }
}
