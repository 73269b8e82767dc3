//! Echo servers that say who they are and whom they see.
//!
//! A TCP connection is greeted with one line, then echoed until its end. A datagram is answered by the same line
//! followed by itself. So one exchange tells all there is to assert.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::SockaddrStorage;
use socket2::{Domain, Socket, Type};

use crate::client::Protocol;
use crate::namespace::Namespace;

/// A connection nobody uses for this long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// TCP and UDP echo servers of one name in one namespace.
#[derive(Debug)]
pub struct Server {
    name: Arc<str>,
    seen: Arc<Mutex<Vec<(Protocol, SocketAddr)>>>,
    stop: Arc<AtomicBool>,
    sockets: Vec<Socket>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves `port` by TCP and UDP on all addresses of the namespace.
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> Result<Self> {
        let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        Self::on(namespace, name, &any.map(|address| SocketAddr::new(address, port)))
    }

    /// Serves exactly these addresses by TCP and UDP.
    pub fn on(namespace: &Namespace, name: &str, addresses: &[SocketAddr]) -> Result<Self> {
        let mut server = Self {
            name: name.into(),
            seen: Arc::default(),
            stop: Arc::default(),
            sockets: Vec::new(),
            threads: Vec::new(),
        };
        for address in addresses {
            let bind = |kind| {
                namespace
                    .enter(|| listen(*address, kind))
                    .with_context(|| format!("{name} cannot serve {address} in {}", namespace.name()))
            };
            server.serve_tcp(bind(Type::STREAM)?)?;
            server.serve_udp(bind(Type::DGRAM)?)?;
        }
        Ok(server)
    }

    /// Everybody who has reached it, as it saw them.
    #[must_use]
    pub fn seen(&self) -> Vec<(Protocol, SocketAddr)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn serve_tcp(&mut self, socket: Socket) -> io::Result<()> {
        let listener = socket.try_clone()?;
        self.sockets.push(socket);
        let (name, seen, stop) = (Arc::clone(&self.name), Arc::clone(&self.seen), Arc::clone(&self.stop));
        self.threads.push(std::thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // A connection that was reset before it was accepted may have no address any more.
                let Some(peer) = peer.as_socket() else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((Protocol::Tcp, peer));
                let name = Arc::clone(&name);
                // Ends with its connection; a connection that breaks is the client's to report.
                std::thread::spawn(move || drop(echo_stream(&name, stream.into(), peer)));
            }
        }));
        Ok(())
    }

    fn serve_udp(&mut self, socket: Socket) -> io::Result<()> {
        let datagrams: UdpSocket = socket.try_clone()?.into();
        let local = datagrams.local_addr()?;
        self.sockets.push(socket);
        let (name, seen, stop) = (Arc::clone(&self.name), Arc::clone(&self.seen), Arc::clone(&self.stop));
        self.threads.push(std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                // Not by std, which panics when there is no sender: when the socket is shut down. An error is that of an
                // earlier answer, by ICMP; the next client is served.
                let received = nix::sys::socket::recvfrom::<SockaddrStorage>(datagrams.as_raw_fd(), &mut buffer);
                let Ok((length, Some(peer))) = received else { continue };
                let Some(peer) = socket_address(&peer) else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((Protocol::Udp, peer));
                let mut answer = greeting(&name, peer, local).into_bytes();
                answer.extend(&buffer[..length]);
                let _ = datagrams.send_to(&answer, peer);
            }
        }));
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            // Wakes accept and recvfrom; UDP sockets that are not connected say ENOTCONN and wake all the same.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn listen(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(kind == Type::STREAM)?;
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(1024)?;
    } else {
        socket.set_recv_buffer_size(4 << 20)?;
    }
    Ok(socket)
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
}

fn greeting(name: &str, peer: SocketAddr, local: SocketAddr) -> String {
    format!("{name} {peer} {local}\n")
}

fn echo_stream(name: &str, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    stream.write_all(greeting(name, peer, stream.local_addr()?).as_bytes())?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
    }
}
