//! The program that runs in the laboratory's Docker containers, alone in their image beside busybox.
//!
//! - `inside serve NAME PORT…` is the echo server of `lab::server`, as process 1 of a container.
//! - `inside flood ADDRESS:PORT…` sends to all of these from its first instruction on, without end.
//!
//! `build.rs` links it statically, so that the image needs no libraries; it uses nothing but std.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

unsafe extern "C" {
    fn signal(number: i32, action: extern "C" fn(i32)) -> usize;
    fn _exit(status: i32) -> !;
}

const SIGTERM: i32 = 15;

/// Process 1 of a container ignores every signal without an action of its own, and `docker stop` would wait 10 s.
extern "C" fn end(_signal: i32) {
    // SAFETY: `_exit` is one of the functions that POSIX lets signal handlers call.
    unsafe { _exit(0) }
}

fn main() -> ExitCode {
    // SAFETY: the action has the type that C wants, and does nothing that is forbidden in a signal handler.
    unsafe { signal(SIGTERM, end) };
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [_, "serve", name, ports @ ..] if !ports.is_empty() => serve(name, ports),
        [_, "flood", targets @ ..] if !targets.is_empty() => flood(targets),
        _ => Err(io::Error::other("usage: inside serve NAME PORT… | inside flood ADDRESS:PORT…")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("inside: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(name: &str, ports: &[&str]) -> io::Result<()> {
    let name: &'static str = name.to_owned().leak();
    let mut threads = Vec::new();
    for port in ports {
        let port = port.parse().map_err(|_| io::Error::other(format!("{port} is no port")))?;
        // Both families by one socket; a container without IPv6 has these sockets all the same.
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        // Who waits for the listener finds both.
        let datagrams = UdpSocket::bind(any)?;
        let listener = TcpListener::bind(any)?;
        threads.push(std::thread::spawn(move || serve_tcp(name, &listener)));
        threads.push(std::thread::spawn(move || serve_udp(name, &datagrams)));
    }
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a server panicked"))?;
    }
    Ok(())
}

fn serve_tcp(name: &'static str, listener: &TcpListener) {
    loop {
        // An error is that of one connection, which was reset before it was accepted.
        let Ok((stream, peer)) = listener.accept() else { continue };
        std::thread::spawn(move || drop(echo(name, stream, peer)));
    }
}

fn echo(name: &str, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(greeting(name, peer, stream.local_addr()?).as_bytes())?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn serve_udp(name: &str, socket: &UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        // Errors are those of earlier answers, by ICMP.
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        let Ok(local) = socket.local_addr() else { continue };
        let mut answer = greeting(name, peer, local).into_bytes();
        answer.extend(&buffer[..length]);
        let _ = socket.send_to(&answer, peer);
    }
}

/// One line: who answers, whom it sees, and by which of its addresses.
fn greeting(name: &str, peer: SocketAddr, local: SocketAddr) -> String {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    format!("{name} {} {}\n", plain(peer), plain(local))
}

fn flood(targets: &[&str]) -> io::Result<()> {
    let targets: Result<Vec<SocketAddr>, _> = targets.iter().map(|target| target.parse()).collect();
    let targets = targets.map_err(io::Error::other)?;
    let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    loop {
        for target in &targets {
            let socket = if target.is_ipv4() { &v4 } else { &v6 };
            // Refused or not: what counts is what arrives.
            let _ = socket.send_to(b"flood", target);
            match TcpStream::connect_timeout(target, Duration::from_millis(1)) {
                Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(error),
                _ => {}
            }
        }
    }
}
