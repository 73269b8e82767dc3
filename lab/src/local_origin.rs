//! Packets that a host sends by itself, made by the test to the last byte.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

/// Linux's IPPROTO_RAW: a socket that is given whole IP packets, of any protocol (raw(7)).
const ANY_PROTOCOL: i32 = 255;

/// Raw sockets through which the host's own stack sends: its routes, its rules and its loopback apply.
#[derive(Debug)]
pub struct LocalOrigin {
    ipv4: Socket,
    ipv6: Socket,
}

impl LocalOrigin {
    /// Sends as this host.
    pub fn open(host: &Namespace) -> Result<Self> {
        let open = |family| Socket::new(family, Type::RAW, Some(Protocol::from(ANY_PROTOCOL)));
        Ok(host.enter(|| io::Result::Ok(Self { ipv4: open(Domain::IPV4)?, ipv6: open(Domain::IPV6)? }))?)
    }

    /// Sends an IP packet with its header, to the destination in it. What the host refuses to send is not sent.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let Some((socket, destination)) = self.way_of(packet) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no whole IP header"));
        };
        match socket.send_to(packet, &SocketAddr::new(destination, 0).into()) {
            Err(error) if !is_refusal(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn way_of(&self, packet: &[u8]) -> Option<(&Socket, IpAddr)> {
        if packet.first()? >> 4 == 4 {
            let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some((&self.ipv4, Ipv4Addr::from(octets).into()))
        } else {
            let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some((&self.ipv6, Ipv6Addr::from(octets).into()))
        }
    }
}

/// Rules (EPERM), routes and the path MTU may refuse what a host sends; that is an outcome, and no fault of the test.
fn is_refusal(error: &io::Error) -> bool {
    const REFUSALS: [i32; 7] = [
        libc::EPERM,
        libc::EACCES,
        libc::EINVAL,
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::ECONNREFUSED,
        libc::EMSGSIZE,
    ];
    error.raw_os_error().is_some_and(|code| REFUSALS.contains(&code))
}
