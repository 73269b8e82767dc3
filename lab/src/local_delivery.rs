//! What a host's own IP stack takes in: packets that are delivered to it, and not those that it forwards.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

/// Raw sockets for these protocols in both families: ICMP, TCP, UDP, GRE, ESP, SCTP, UDP-Lite, and one for experiments.
const PROTOCOLS: [u8; 8] = [1, 6, 17, 47, 50, 132, 136, 253];
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A packet that was delivered to the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// Whose it is.
    pub source: IpAddr,
    /// Its protocol.
    pub protocol: u8,
    /// IPv4: the packet with its header. IPv6: what follows the headers, for raw sockets tell no more.
    pub bytes: Vec<u8>,
}

/// Raw sockets that get a copy of every packet that the host takes for itself, after its input rules.
#[derive(Debug)]
pub struct LocalDelivery {
    /// Each with its protocol. The standard library has no type for raw sockets, but all that is needed here is alike.
    sockets: Vec<(UdpSocket, u8)>,
}

impl LocalDelivery {
    /// Listens in this namespace.
    pub fn open(namespace: &Namespace) -> Result<Self> {
        let sockets = namespace.enter(|| {
            let both = [Domain::IPV4, Domain::IPV6].into_iter().flat_map(|family| PROTOCOLS.map(|p| (family, p)));
            both.map(|(family, protocol)| listen(family, protocol)).collect::<io::Result<_>>()
        })?;
        Ok(Self { sockets })
    }

    /// All that was delivered since the last time, each protocol by itself in order.
    pub fn drain(&self) -> io::Result<Vec<Delivered>> {
        let mut delivered = Vec::new();
        for (socket, protocol) in &self.sockets {
            while let Some((source, bytes)) = receive(socket)? {
                delivered.push(Delivered { source, protocol: *protocol, bytes });
            }
        }
        Ok(delivered)
    }

    /// What to wait for.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|(socket, _)| socket.as_fd())
    }
}

fn listen(family: Domain, protocol: u8) -> io::Result<(UdpSocket, u8)> {
    let protocol = if family == Domain::IPV6 && protocol == ICMP { ICMPV6 } else { protocol };
    let socket = Socket::new(family, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(8 << 20)?;
    Ok((socket.into(), protocol))
}

fn receive(socket: &UdpSocket) -> io::Result<Option<(IpAddr, Vec<u8>)>> {
    let mut buffer = vec![0; 64 << 10];
    match socket.recv_from(&mut buffer) {
        Ok((length, source)) => {
            buffer.truncate(length);
            Ok(Some((source.ip(), buffer)))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
