//! ICMP errors as a program is told of them (ip(7), `IP_RECVERR`).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};

use crate::client::{Client, set_hops};

/// An ICMP error about a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// ICMP or ICMPv6 type.
    pub kind: u8,
    /// ICMP or ICMPv6 code.
    pub code: u8,
    /// Who sent the error.
    pub sender: IpAddr,
    /// Where the datagram went, as its sender sees it.
    pub target: SocketAddr,
}

/// A UDP socket that keeps the ICMP errors about its datagrams.
#[derive(Debug)]
pub struct Inquirer(UdpSocket);

impl Inquirer {
    /// A socket of this client for targets of the family of `target`.
    pub fn new(client: &Client<'_>, target: SocketAddr) -> io::Result<Self> {
        let socket = client.datagrams(target)?;
        if target.is_ipv4() {
            setsockopt(&socket, Ipv4RecvErr, &true)
        } else {
            setsockopt(&socket, Ipv6RecvErr, &true)
        }?;
        Ok(Self(socket))
    }

    /// The socket.
    #[must_use]
    pub const fn socket(&self) -> &UdpSocket {
        &self.0
    }

    /// Sends a datagram with this TTL or hop limit.
    pub fn send(&self, target: SocketAddr, ttl: u8, payload: &[u8]) -> io::Result<()> {
        set_hops(&self.0, target, ttl)?;
        self.0.send_to(payload, target).map(drop)
    }

    /// The next error, or `None` when none comes for this long.
    pub fn error(&self, timeout: Duration) -> io::Result<Option<IcmpError>> {
        let end = Instant::now() + timeout;
        loop {
            match self.queued() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other.map(Some),
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // POLLERR needs no asking for.
            let mut sockets = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
            poll(&mut sockets, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))?;
        }
    }

    fn queued(&self) -> io::Result<IcmpError> {
        let mut payload = [0; 2048];
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let mut parts = [IoSliceMut::new(&mut payload)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let target = message.address.and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
        });
        let told = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Ipv4RecvErr(error, sender) => {
                let address = Ipv4Addr::from(u32::from_be(sender?.sin_addr.s_addr));
                Some((error.ee_type, error.ee_code, IpAddr::from(address)))
            }
            ControlMessageOwned::Ipv6RecvErr(error, sender) => {
                let address = Ipv6Addr::from(sender?.sin6_addr.s6_addr);
                Some((error.ee_type, error.ee_code, IpAddr::from(address)))
            }
            _ => None,
        });
        match (told, target) {
            (Some((kind, code, sender)), Some(target)) => Ok(IcmpError { kind, code, sender, target }),
            _ => Err(io::Error::other("the error queue does not say who sent the error about what")),
        }
    }
}
