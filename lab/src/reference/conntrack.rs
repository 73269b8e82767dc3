//! Forgetting the connections that netfilter tracks, as `conntrack -F` does, which few hosts have.

use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::namespace::Namespace;

/// `IPCTNL_MSG_CT_DELETE` of the subsystem `NFNL_SUBSYS_CTNETLINK` (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const DELETE: u16 = 1 << 8 | 2;
/// A header (netlink(7)), and `struct nfgenmsg`: any family, version 0.
const LENGTH: u8 = 16 + 4;

/// Forgets all that is tracked in this namespace.
pub(super) fn flush(host: &Namespace) -> Result<()> {
    host.enter(ask).with_context(|| format!("forgetting the tracked connections of {}", host.name()))
}

/// Asks the kernel to delete connections without saying which: that is all of them.
fn ask() -> io::Result<()> {
    let protocol = SockProtocol::NetlinkNetFilter;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let mut request = [0; LENGTH as usize];
    request[0] = LENGTH;
    request[4..6].copy_from_slice(&DELETE.to_ne_bytes());
    request[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // The answer to NLM_F_ACK is `struct nlmsgerr`: a negative error, or 0.
    match answer[..length].get(16..20).and_then(|error| error.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
