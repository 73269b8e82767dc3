//! ICMP echo.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::frame::internet_checksum;
use crate::namespace::Namespace;

/// Sends one echo request with this identifier and returns who answered it.
pub fn ping(namespace: &Namespace, target: IpAddr, identifier: u16, timeout: Duration) -> io::Result<IpAddr> {
    let protocol = if target.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let address = SocketAddr::new(target, 0);
    let socket = namespace.enter(|| Socket::new(Domain::for_address(address), Type::RAW, Some(protocol)))?;
    socket.send_to(&request(target, identifier), &address.into())?;
    let end = Instant::now() + timeout;
    let mut buffer = [MaybeUninit::uninit(); 2048];
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        let (length, source) = match socket.recv_from(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            other => other?,
        };
        // SAFETY: recv_from says that it has written the first `length` bytes.
        let bytes: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
        let source = source.as_socket().map(|source| source.ip());
        if let Some(source) = source.filter(|_| is_reply(target, &bytes, identifier)) {
            return Ok(source);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn request(target: IpAddr, identifier: u16) -> Vec<u8> {
    let kind = if target.is_ipv4() { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend([0, 1]);
    message.extend(b"datapath");
    // The kernel calculates the checksum of ICMPv6 (RFC 3542 section 3.1), and of ICMP not.
    if target.is_ipv4() {
        let checksum = internet_checksum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// Raw IPv4 sockets give the IP header too, raw ICMPv6 sockets do not.
fn is_reply(target: IpAddr, bytes: &[u8], identifier: u16) -> bool {
    let (header, kind) =
        if target.is_ipv4() { (usize::from(bytes.first().copied().unwrap_or(0) & 0xf) * 4, 0) } else { (0, 129) };
    bytes.get(header) == Some(&kind) && bytes.get(header + 4..header + 6) == Some(&identifier.to_be_bytes()[..])
}
