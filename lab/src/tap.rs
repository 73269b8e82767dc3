//! A port that the test alone speaks and hears on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};

use crate::capture::Captured;
use crate::foreign::{DROP, ForeignProgram};
use crate::namespace::Namespace;
use crate::packet_socket::PacketSocket;

/// An interface whose namespace stays silent: what arrives is seen here, and then dropped before any protocol answers
/// it. What is sent here is all that is sent.
#[derive(Debug)]
pub struct Tap {
    socket: PacketSocket,
    _silence: ForeignProgram,
}

impl Tap {
    /// Takes an interface over.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let silence = ForeignProgram::attach_first(namespace, interface, DROP)?;
        let socket = namespace
            .enter(|| PacketSocket::open(interface))
            .with_context(|| format!("a tap on {interface} in {}", namespace.name()))?;
        socket.set_nonblocking()?;
        Ok(Self { socket, _silence: silence })
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame)
    }

    /// All that has arrived since the last time.
    pub fn drain(&self) -> io::Result<Vec<Captured>> {
        let mut buffer = vec![0; 128 << 10];
        let mut arrived = Vec::new();
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(received) if received.outgoing => {}
                Ok(received) => arrived.extend(Captured::of(&received, &buffer)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(arrived),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
