//! AF_PACKET sockets: the lab's one door to whole frames.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Linux's `TP_STATUS_VLAN_VALID` (`include/uapi/linux/if_packet.h`).
const VLAN_VALID: u32 = 1 << 4;
/// Linux's `TP_STATUS_CSUMNOTREADY`.
const CHECKSUM_NOT_READY: u32 = 1 << 3;

/// A raw packet socket on one interface of the namespace it was made in.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    ifindex: i32,
}

/// One frame as the socket saw it.
pub(crate) struct Received {
    pub(crate) length: usize,
    pub(crate) outgoing: bool,
    pub(crate) vlan: Option<u16>,
    pub(crate) checksum_to_come: bool,
    /// Where the device has no link header: the ethertype of the packet.
    pub(crate) bare: Option<u16>,
}

impl PacketSocket {
    /// Opens a socket on `interface`, in the namespace of the calling thread.
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        Self::open_index(nix::net::if_::if_nametoindex(interface)?.cast_signed())
    }

    /// Opens a socket that hears every interface of the namespace of the calling thread, later ones too.
    pub(crate) fn open_everywhere() -> io::Result<Self> {
        Self::open_index(0)
    }

    fn open_index(ifindex: i32) -> io::Result<Self> {
        // Protocol 0 receives nothing until the bind below names interface and protocol together, so that no frame of
        // another interface gets in between.
        // SAFETY: plain system call without pointers.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a descriptor just opened, owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        let packet = Self { socket, ifindex };
        packet.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        packet.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 32 << 20)?;
        let address = packet.address();
        // SAFETY: the pointer and the length describe `address`, which outlives the call.
        let bound =
            unsafe { libc::bind(raw, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        match packet.link_layer()? {
            // Of every interface.
            0 | libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK | libc::ARPHRD_NONE => Ok(packet),
            other => Err(io::Error::other(format!("frames of link layer {other} cannot be read here"))),
        }
    }

    /// ARPHRD_… of the interface.
    fn link_layer(&self) -> io::Result<u16> {
        let mut address = self.address();
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointers lead to locals that outlive the call, with their true length.
        let known = unsafe { libc::getsockname(self.socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
        if known < 0 { Err(io::Error::last_os_error()) } else { Ok(address.sll_hatype) }
    }

    /// The longest that [`Self::receive`] waits.
    pub(crate) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let value =
            libc::timeval { tv_sec: timeout.as_secs().cast_signed(), tv_usec: i64::from(timeout.subsec_micros()) };
        // SAFETY: the pointer and the length describe `value`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const value).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// From now on nothing waits: what is not there is [`io::ErrorKind::WouldBlock`].
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        nix::fcntl::fcntl(&self.socket, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        Ok(())
    }

    /// Sends a frame as it is.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        let address = self.address();
        // SAFETY: the pointers and lengths describe `frame` and `address`, which outlive the call.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends a frame of TCP without options that the kernel is to cut into segments with `size` bytes of data, as a virtual machine
    /// does with its frames: `struct virtio_net_hdr` of `include/uapi/linux/virtio_net.h` is in front of it.
    pub(crate) fn send_in_segments(&self, frame: &[u8], size: u16) -> io::Result<()> {
        const NEEDS_CHECKSUM: u8 = 1;
        const TCP_V4: u8 = 1;
        const TCP_V6: u8 = 4;

        self.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        let (kind, transport) = if frame[12..14] == [8, 0] { (TCP_V4, 34u16) } else { (TCP_V6, 54) };
        let mut header = vec![NEEDS_CHECKSUM, kind];
        for field in [transport + 20, size, transport, 16] {
            header.extend(field.to_ne_bytes());
        }
        header.extend(frame);
        self.send(&header)
    }

    /// Receives one frame into `buffer`.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = [0u64; 16];
        // SAFETY: all-zero is a valid value of these plain C structures.
        let (mut source, mut message) = unsafe { (zeroed::<libc::sockaddr_ll>(), zeroed::<libc::msghdr>()) };
        message.msg_name = (&raw mut source).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: every pointer in `message` leads to a local that outlives the call, with its true length.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        let status = auxiliary(&message);
        Ok(Received {
            length: length.unsigned_abs(),
            outgoing: source.sll_pkttype == libc::PACKET_OUTGOING,
            vlan: status.filter(|said| said.tp_status & VLAN_VALID != 0).map(|said| said.tp_vlan_tci),
            checksum_to_come: status.is_some_and(|said| said.tp_status & CHECKSUM_NOT_READY != 0),
            bare: (source.sll_hatype == libc::ARPHRD_NONE).then_some(u16::from_be(source.sll_protocol)),
        })
    }

    fn address(&self) -> libc::sockaddr_ll {
        // SAFETY: all-zero is a valid value of this plain C structure.
        let mut address = unsafe { zeroed::<libc::sockaddr_ll>() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = self.ifindex;
        address
    }

    fn set(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        // SAFETY: the pointer and the length describe `value`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the kernel says about the frame: the VLAN tag that it took out, and whether the checksum is still to be completed.
fn auxiliary(message: &libc::msghdr) -> Option<libc::tpacket_auxdata> {
    // SAFETY: `message` was filled by recvmsg, and its control buffer is still alive in the caller.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return headers inside the control buffer, or null.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        if level == libc::SOL_PACKET && kind == libc::PACKET_AUXDATA {
            // SAFETY: the kernel puts a tpacket_auxdata into messages of this type; it may be unaligned.
            return Some(unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() });
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}
