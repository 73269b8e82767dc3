//! Taking many datagrams at once, so that the receiver is a small part of what is measured.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Taken at once, at most.
const MANY: usize = 64;
/// Payload that is looked at: none. What is longer is cut off.
const LOOKED_AT: usize = 0;

/// Takes what a socket has.
pub(super) struct Drain {
    headers: Vec<libc::mmsghdr>,
    _place: Box<libc::iovec>,
}

impl Drain {
    /// With room for many headers.
    pub(super) fn new() -> Self {
        let mut place = Box::new(libc::iovec { iov_base: std::ptr::null_mut(), iov_len: LOOKED_AT });
        // SAFETY: integers and pointers, for all of which zero is a value: no name, no control data.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_iov = &raw mut *place;
        header.msg_hdr.msg_iovlen = 1;
        Self { headers: vec![header; MANY], _place: place }
    }

    /// Takes what is there now, [`MANY`] at most, and says how many; does not wait.
    pub(super) fn take(&mut self, socket: &UdpSocket) -> io::Result<u64> {
        let (count, nothing) = (self.headers.len() as libc::c_uint, std::ptr::null_mut());
        // SAFETY: as many headers as it says, each with one place of no length, all of which live as long as `self`.
        let taken = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, nothing)
        };
        match u64::try_from(taken) {
            Ok(taken) => Ok(taken),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                error => Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted() {
        let receiver = UdpSocket::bind(("127.0.0.1", 0)).expect("binds");
        let sender = UdpSocket::bind(("127.0.0.1", 0)).expect("binds");
        let target = receiver.local_addr().expect("bound");
        let mut drain = Drain::new();
        assert_eq!(drain.take(&receiver).expect("nothing is no error"), 0);
        for _ in 0..MANY + 3 {
            sender.send_to(&[0; 18], target).expect("sends");
        }
        assert_eq!(drain.take(&receiver).expect("takes"), MANY as u64);
        assert_eq!(drain.take(&receiver).expect("takes"), 3);
    }
}
