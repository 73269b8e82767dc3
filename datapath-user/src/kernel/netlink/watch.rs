//! Notice of changes. What changed is not told: whoever waits looks at everything, so that a lost message loses nothing.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Tells when links or addresses of the namespace it was opened in have changed. Routes are read when they are asked for.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<OwnedFd>,
}

/// Multicast groups by their bit: links, IPv4 addresses, IPv6 addresses.
const GROUPS: u32 = libc::RTMGRP_LINK as u32 | libc::RTMGRP_IPV4_IFADDR as u32 | libc::RTMGRP_IPV6_IFADDR as u32;

impl Watch {
    /// Begins to watch the namespace of the calling thread. Needs a tokio runtime.
    pub fn open() -> Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
            .context("no netlink socket can be opened")?;
        // A larger buffer only makes overruns rarer; the default works too.
        if let Err(error) = setsockopt(&socket, sockopt::RcvBufForce, &(1 << 20)) {
            tracing::debug!(%error, "the netlink buffer stays at its default");
        }
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).context("link changes cannot be watched")?;
        // SAFETY: the socket owns its one descriptor as long as it lives.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self { socket: socket.map_err(|error| anyhow::anyhow!("link changes cannot be watched: {error}"))? })
    }

    /// Waits until something has changed since the last call (or since `open`). May be dropped while it waits.
    pub async fn changed(&mut self) -> Result<()> {
        loop {
            let mut ready = self.socket.readable().await.context("link changes cannot be watched")?;
            match ready.try_io(|socket| drain(socket.get_ref())) {
                Ok(seen) => {
                    if seen.context("link changes cannot be watched")? {
                        return Ok(());
                    }
                }
                Err(_would_block) => {}
            }
        }
    }
}

/// Reads everything that is waiting. An overrun is a change like any other.
fn drain(socket: &OwnedFd) -> io::Result<bool> {
    let mut seen = false;
    let mut buffer = [0; 32_768];
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(nix::errno::Errno::ENOBUFS) => seen = true,
            Err(nix::errno::Errno::EINTR) => {}
            Err(nix::errno::Errno::EAGAIN) if seen => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
