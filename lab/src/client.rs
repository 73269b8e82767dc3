//! Clients that report both sides of an exchange.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::namespace::Namespace;

/// How an exchange is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// A TCP connection.
    Tcp,
    /// UDP from a socket that is not connected: the answer's source is what recvfrom says.
    Udp,
    /// UDP from a connected socket: the kernel drops answers from elsewhere.
    ConnectedUdp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::ConnectedUdp];
}

/// What both sides saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// The name of the server that answered.
    pub server: String,
    /// The client's address as the server saw it.
    pub seen: SocketAddr,
    /// The server's own address.
    pub served_on: SocketAddr,
    /// The server's address as the client sees it: getpeername, or recvfrom.
    pub peer: SocketAddr,
    /// The client's own address: getsockname.
    pub local: SocketAddr,
}

/// A client in a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    namespace: &'a Namespace,
    source: Option<SocketAddr>,
    timeout: Duration,
    hops: Option<u8>,
}

impl<'a> Client<'a> {
    /// A client with any source address, that gives up after three seconds.
    #[must_use]
    pub fn new(namespace: &'a Namespace) -> Self {
        Self { namespace, source: None, timeout: Duration::from_secs(3), hops: None }
    }

    /// Binds to this address (port 0: any) first.
    #[must_use]
    pub fn from(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Binds to this address, with any port, first.
    #[must_use]
    pub fn from_address(self, source: IpAddr) -> Self {
        self.from(SocketAddr::new(source, 0))
    }

    /// Sends packets with this TTL or hop limit.
    #[must_use]
    pub fn hops(mut self, hops: u8) -> Self {
        self.hops = Some(hops);
        self
    }

    /// Gives up after this long.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// One exchange with an echo server: greeting, a few bytes there and back.
    pub fn exchange(&self, protocol: Protocol, target: SocketAddr) -> io::Result<Exchange> {
        match protocol {
            Protocol::Tcp => {
                let mut conversation = self.connect(target)?;
                conversation.say(b"0123456789")?;
                Ok(conversation.exchange)
            }
            Protocol::Udp => ask(&self.datagrams(target)?, target, b"0123456789"),
            Protocol::ConnectedUdp => {
                let socket = self.datagrams(target)?;
                socket.connect(target)?;
                ask_connected(&socket, b"0123456789")
            }
        }
    }

    /// Opens a TCP connection and reads the greeting.
    pub fn connect(&self, target: SocketAddr) -> io::Result<Conversation> {
        let stream = self.stream(target)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let exchange = parse_greeting(line.as_bytes(), stream.peer_addr()?, stream.local_addr()?)?;
        Ok(Conversation { exchange, stream, reader })
    }

    /// Opens a TCP connection without a word.
    pub fn stream(&self, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.socket(target, Type::STREAM)?;
        socket.connect_timeout(&target.into(), self.timeout)?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket.into())
    }

    /// A UDP socket of the family of `target`, bound to the source but not connected.
    pub fn datagrams(&self, target: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.socket(target, Type::DGRAM)?;
        if self.source.is_none() {
            let any = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            socket.bind(&SocketAddr::new(any, 0).into())?;
        }
        Ok(socket.into())
    }

    /// Sends `length` patterned bytes through a TCP echo server and checks every byte that returns.
    pub fn transfer(&self, target: SocketAddr, length: usize) -> io::Result<()> {
        let conversation = self.connect(target)?;
        let mut writer = conversation.stream.try_clone()?;
        let sender = std::thread::spawn(move || -> io::Result<()> {
            let pattern = pattern();
            let mut sent = 0;
            while sent < length {
                let part = (length - sent).min(pattern.len() - sent % PATTERN);
                writer.write_all(&pattern[sent % PATTERN..][..part])?;
                sent += part;
            }
            writer.shutdown(std::net::Shutdown::Write)
        });
        let received = verify(conversation.reader, length);
        sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
        received
    }

    fn socket(&self, target: SocketAddr, kind: Type) -> io::Result<Socket> {
        self.namespace.enter(|| {
            let socket = Socket::new(Domain::for_address(target), kind, None)?;
            socket.set_read_timeout(Some(self.timeout))?;
            socket.set_write_timeout(Some(self.timeout))?;
            if let Some(hops) = self.hops {
                set_hops(&socket, target, hops)?;
            }
            if let Some(source) = self.source {
                socket.set_reuse_address(kind == Type::STREAM)?;
                bind(&socket, source)?;
            }
            Ok(socket)
        })
    }
}

/// Sets the TTL or hop limit of what a socket sends to `target` and the like.
pub fn set_hops(socket: &impl AsFd, target: SocketAddr, hops: u8) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if target.is_ipv4() { socket.set_ttl_v4(hops.into()) } else { socket.set_unicast_hops_v6(hops.into()) }
}

/// Binds a socket. A socket that was closed just now lives on for a moment in every program that another thread is
/// starting, until that begins to run.
fn bind(socket: &Socket, source: SocketAddr) -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs(1);
    loop {
        match socket.bind(&source.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// An open TCP connection to an echo server.
#[derive(Debug)]
pub struct Conversation {
    /// What the greeting said.
    pub exchange: Exchange,
    /// The connection.
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Conversation {
    /// Sends these bytes and waits for their echo.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        let mut echo = vec![0; bytes.len()];
        self.reader.read_exact(&mut echo)?;
        if echo == bytes { Ok(()) } else { Err(io::Error::other(format!("sent {bytes:?}, echoed {echo:?}"))) }
    }

    /// Ends our direction and reads what the server still sends.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        self.stream.shutdown(std::net::Shutdown::Write)?;
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// How many segments of ours the kernel had to send again.
    pub fn retransmissions(&self) -> io::Result<u32> {
        crate::probe::retransmissions(&self.stream)
    }
}

/// Sends a datagram to an echo server and reads its answer.
pub fn ask(socket: &UdpSocket, target: SocketAddr, payload: &[u8]) -> io::Result<Exchange> {
    socket.send_to(payload, target)?;
    let end = Instant::now() + socket.read_timeout()?.unwrap_or(Duration::from_secs(1));
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer)?;
        match parse_answer(&buffer[..length], payload, peer, socket.local_addr()?) {
            // An answer to an earlier datagram, late.
            Err(error) if error.kind() == io::ErrorKind::InvalidData && Instant::now() < end => {}
            result => return result,
        }
    }
}

/// Sends a datagram on a connected socket and reads its answer.
pub fn ask_connected(socket: &UdpSocket, payload: &[u8]) -> io::Result<Exchange> {
    socket.send(payload)?;
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer)?;
    parse_answer(&buffer[..length], payload, socket.peer_addr()?, socket.local_addr()?)
}

fn parse_answer(answer: &[u8], payload: &[u8], peer: SocketAddr, local: SocketAddr) -> io::Result<Exchange> {
    let end = answer.iter().position(|byte| *byte == b'\n').map_or(answer.len(), |at| at + 1);
    if &answer[end..] != payload {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer does not echo what was sent"));
    }
    parse_greeting(&answer[..end], peer, local)
}

fn parse_greeting(line: &[u8], peer: SocketAddr, local: SocketAddr) -> io::Result<Exchange> {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_whitespace();
    let (server, seen, served_on) = (words.next(), words.next(), words.next());
    match (server, seen.map(str::parse), served_on.map(str::parse)) {
        (Some(server), Some(Ok(seen)), Some(Ok(served_on))) => {
            Ok(Exchange { server: server.to_owned(), seen, served_on, peer, local })
        }
        _ if text.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Err(io::Error::other(format!("not a greeting: {text:?}"))),
    }
}

/// A prime, so that no segment size divides it and a segment lost or swapped shows.
const PATTERN: usize = 65_521;

fn pattern() -> Vec<u8> {
    (0..PATTERN).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn verify(mut reader: impl Read, length: usize) -> io::Result<()> {
    let (pattern, mut buffer, mut received) = (pattern(), vec![0; 256 << 10], 0);
    loop {
        let part = reader.read(&mut buffer)?;
        if part == 0 {
            break;
        }
        for byte in &buffer[..part] {
            if *byte != pattern[received % PATTERN] {
                return Err(io::Error::other(format!("byte {received} is wrong")));
            }
            received += 1;
        }
    }
    if received == length { Ok(()) } else { Err(io::Error::other(format!("{received} of {length} bytes returned"))) }
}
