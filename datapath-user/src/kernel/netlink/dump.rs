//! The list of devices, message by message. rtnetlink parses a whole dump before it hands out any of it, which takes 16 KiB for each
//! device: more, with a thousand of them, than all that the daemon keeps.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

/// What the kernel sends at once, at most (`NLMSG_GOODSIZE` and what it grows to, Linux 4.9, commit db65a3aaf29e).
const ROOM: usize = 32 << 10;

/// The kernel answers at once, but for the time that others hold its lock.
const PATIENCE: i64 = 10;

/// A socket of the namespace it was opened in, for one dump at a time.
#[derive(Clone, Debug)]
pub(super) struct Dumps(Arc<Mutex<Socket>>);

#[derive(Debug)]
struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
}

impl Dumps {
    /// Opens a socket in the namespace of the calling thread.
    pub(super) fn open() -> nix::Result<Self> {
        let descriptor =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        nix::sys::socket::bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&descriptor, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self(Arc::new(Mutex::new(Socket { descriptor, sequence: 0 }))))
    }

    /// What `read` makes of each answer. Blocks, as every system call here does: the kernel makes the answer while it is read.
    pub(super) fn collect<T>(
        &self,
        request: RouteNetlinkMessage,
        mut read: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        socket.sequence = socket.sequence.wrapping_add(1);
        let (descriptor, sequence) = (socket.descriptor.as_raw_fd(), socket.sequence);
        send(descriptor, &encoded(request, sequence), MsgFlags::empty())?;
        let (mut buffer, mut list) = (vec![0; ROOM], Vec::new());
        loop {
            let length = recv(descriptor, &mut buffer, MsgFlags::MSG_TRUNC)?;
            let mut rest = buffer.get(..length).context("an answer is longer than the kernel makes them")?;
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)?;
                // Lengths are rounded up to four bytes (NLMSG_ALIGN).
                let length = (message.header.length as usize).next_multiple_of(4).min(rest.len());
                rest = &rest[length..];
                // Of a dump that was given up.
                if message.header.sequence_number != sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(list),
                    NetlinkPayload::Error(error) => bail!(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => list.extend(read(message)),
                    _ => {}
                }
            }
        }
    }
}

fn encoded(request: RouteNetlinkMessage, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
