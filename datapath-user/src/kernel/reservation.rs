//! Host ports held by bound, silent sockets (P7): nobody else can take a published port, and translation comes before
//! the lookup of sockets, so nothing ever arrives at these.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, getsockname, setsockopt, socket, sockopt,
};
use serde::{Deserialize, Serialize};

use super::port_owner::{Owner, owner_of};

/// A protocol whose ports can be held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Why a port cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Somebody has it.
    #[error("port {port}/{transport} of {address} is in use by {}; stop it or choose another host port", shown(.owner))]
    Taken {
        /// The host address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// The protocol.
        transport: Transport,
        /// Who, if the kernel tells.
        owner: Option<Owner>,
    },
    /// The host has no such address.
    #[error("this host has no address {0}; choose one that `ip address` lists")]
    NoSuchAddress(IpAddr),
    /// No run of ports is free.
    #[error("no {count} consecutive host ports are free for {transport}")]
    NoneFree {
        /// How many were wanted.
        count: u16,
        /// The protocol.
        transport: Transport,
    },
    /// Anything else.
    #[error("port {port}/{transport} of {address} cannot be held: {error}")]
    Failed {
        /// The host address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// The protocol.
        transport: Transport,
        /// What the kernel said.
        error: io::Error,
    },
}

fn shown(owner: &Option<Owner>) -> String {
    owner.as_ref().map_or_else(|| "another socket".into(), Owner::to_string)
}

/// A held port. Dropping it lets the port go.
#[derive(Debug)]
pub struct Reservation {
    socket: OwnedFd,
    port: u16,
}

impl Reservation {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl AsRawFd for Reservation {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

/// Holds a port; port 0 takes any. The wildcard addresses `0.0.0.0` and `::` are one family each.
pub fn reserve(address: IpAddr, port: u16, transport: Transport) -> Result<Reservation, ReserveError> {
    hold(address, port, transport, false)
}

/// Holds a port of an address that the host may not have (yet), as when state is restored before the network is up.
pub fn reserve_ahead(address: IpAddr, port: u16, transport: Transport) -> Result<Reservation, ReserveError> {
    hold(address, port, transport, true)
}

fn hold(address: IpAddr, port: u16, transport: Transport, ahead: bool) -> Result<Reservation, ReserveError> {
    match bound(address, port, transport, ahead) {
        Ok(reservation) => Ok(reservation),
        Err(Errno::EADDRINUSE) => {
            Err(ReserveError::Taken { address, port, transport, owner: owner_of(address, port, transport) })
        }
        Err(Errno::EADDRNOTAVAIL) => Err(ReserveError::NoSuchAddress(address)),
        Err(error) => Err(ReserveError::Failed { address, port, transport, error: error.into() }),
    }
}

/// Never listens, never reads: a SYN that got here would be refused, a datagram thrown away for lack of room.
fn bound(address: IpAddr, port: u16, transport: Transport, ahead: bool) -> Result<Reservation, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match transport {
        Transport::Tcp => SockType::Stream,
        Transport::Udp => SockType::Datagram,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if ahead {
        free_bind(&socket, address)?;
    }
    setsockopt(&socket, sockopt::RcvBuf, &0)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, port)))?;
    let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let port = match (name.as_sockaddr_in(), name.as_sockaddr_in6()) {
        (Some(name), _) => name.port(),
        (_, Some(name)) => name.port(),
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    Ok(Reservation { socket, port })
}

/// Binds to addresses that are not there yet.
fn free_bind(socket: &OwnedFd, address: IpAddr) -> Result<(), Errno> {
    let (level, option) = match address {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_FREEBIND),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND),
    };
    let enable: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&enable)).expect("four bytes");
    // SAFETY: the option takes an int, which outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const enable).cast(), length) };
    Errno::result(result).map(drop)
}

/// Holds `count` consecutive ports that are free on every one of `addresses` (host port 0 of a publication). Returns
/// the first port.
pub fn reserve_free(
    addresses: &[IpAddr],
    transport: Transport,
    count: u16,
) -> Result<(u16, Vec<Reservation>), ReserveError> {
    const ATTEMPTS: usize = 256;
    let none_free = ReserveError::NoneFree { count, transport };
    let Some(&first_address) = addresses.first() else { return Err(none_free) };
    for _ in 0..ATTEMPTS {
        // The kernel's own choice, let go again: a random port of the local range that is free here.
        let first = reserve(first_address, 0, transport)?.port();
        let Some(last) = count.checked_sub(1).and_then(|more| first.checked_add(more)) else { continue };
        let wanted = addresses.iter().flat_map(|&address| (first..=last).map(move |port| (address, port)));
        let held: Result<Vec<_>, _> = wanted.map(|(address, port)| bound(address, port, transport, false)).collect();
        match held {
            Ok(held) => return Ok((first, held)),
            Err(Errno::EADDRINUSE) => {}
            Err(error) => {
                let (address, port) = (first_address, first);
                return Err(ReserveError::Failed { address, port, transport, error: error.into() });
            }
        }
    }
    Err(none_free)
}

/// Lets this process have as many open files as the kernel gives any: two sockets for each published port. Without the
/// capability to raise its hard limit (CAP_SYS_RESOURCE) it has as many as that. Returns how many.
pub fn raise_file_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open")?.trim().parse().unwrap_or(hard).max(hard);
    if setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok() {
        return Ok(most);
    }
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use super::*;
    use crate::kernel::scratch;

    const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const ANY_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

    #[test]
    fn a_held_port_is_nobody_elses() {
        scratch::in_namespace(|| {
            let held = [
                reserve(ANY_V4, 8_080, Transport::Tcp).expect("free"),
                reserve(ANY_V6, 8_080, Transport::Tcp).expect("the other family"),
                reserve(ANY_V4, 8_080, Transport::Udp).expect("the other protocol"),
            ];
            assert!(TcpListener::bind((ANY_V4, 8_080)).is_err(), "held for IPv4");
            assert!(TcpListener::bind((ANY_V6, 8_080)).is_err(), "held for IPv6");
            assert!(UdpSocket::bind((ANY_V4, 8_080)).is_err(), "held for UDP");
            drop(held);
            TcpListener::bind((ANY_V4, 8_080)).expect("let go");
        });
    }

    #[test]
    fn the_owner_is_named() {
        scratch::in_namespace(|| {
            for address in [ANY_V4, ANY_V6] {
                let listener = TcpListener::bind((address, 0)).expect("free");
                let port = listener.local_addr().expect("bound").port();
                let error = reserve(address, port, Transport::Tcp).expect_err("taken");
                let ReserveError::Taken { owner: Some(owner), .. } = &error else { panic!("{error}") };
                assert_eq!(owner.pid, std::process::id());
                assert!(error.to_string().contains(&format!("pid {}", owner.pid)), "{error}");
            }
            let socket = UdpSocket::bind((ANY_V4, 0)).expect("free");
            let port = socket.local_addr().expect("bound").port();
            let error = reserve(ANY_V4, port, Transport::Udp).expect_err("taken");
            assert!(matches!(error, ReserveError::Taken { owner: Some(_), .. }), "{error}");
        });
    }

    #[test]
    fn addresses_of_others_are_refused_unless_ahead() {
        scratch::in_namespace_async(async || {
            // Without any local address the kernel takes every address for a broadcast address.
            let netlink = crate::kernel::netlink::Netlink::open().expect("a socket");
            let loopback = netlink.link_named("lo").await.expect("readable").expect("there");
            netlink.set_up(loopback.index).await.expect("up");
            let foreign: IpAddr = "192.0.2.77".parse().expect("a literal");
            let error = reserve(foreign, 80, Transport::Tcp).expect_err("not ours");
            assert!(matches!(error, ReserveError::NoSuchAddress(_)), "{error}");
            reserve_ahead(foreign, 80, Transport::Tcp).expect("ahead of time");
            reserve_ahead("2001:db8::7".parse().expect("a literal"), 80, Transport::Udp).expect("ahead of time");
        });
    }

    #[test]
    fn free_ranges_are_found() {
        scratch::in_namespace(|| {
            let (first, held) = reserve_free(&[ANY_V4, ANY_V6], Transport::Tcp, 5).expect("an empty namespace");
            assert_eq!(held.len(), 10);
            for port in first..first + 5 {
                assert!(TcpListener::bind((ANY_V4, port)).is_err(), "{port} is held");
            }
        });
    }
}
