//! A tunnel between namespaces: two tun devices, and a thread that carries their packets across.

#![expect(unsafe_code, reason = "a tun device is made by an ioctl")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::link::Link;

/// How soon the thread sees that it is to end, in milliseconds.
const ATTENTION: u16 = 50;

/// A tunnel, as long as this lives.
#[derive(Debug)]
pub struct Tunnel {
    over: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Joins the two ends by devices without link header, addresses them and sets both up.
    pub fn join(one: &Link<'_>, other: &Link<'_>) -> Result<Self> {
        let ends = [open(one)?, open(other)?];
        for end in [one, other] {
            end.configure()?;
        }
        let over = Arc::new(AtomicBool::new(false));
        let carrier = std::thread::spawn({
            let over = over.clone();
            move || carry(ends, &over)
        });
        Ok(Self { over, carrier: Some(carrier) })
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.carrier.take().map(JoinHandle::join) {
            eprintln!("the carrier of a tunnel has ended: {panic:?}");
        }
    }
}

/// Makes the device at one end, which is there as long as the file is open (Documentation/networking/tuntap.rst of Linux).
fn open(end: &Link<'_>) -> Result<File> {
    let name = CString::new(end.name)?;
    let make = || -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        // SAFETY: all zeroes is a valid value of this plain C struct.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()).take(libc::IFNAMSIZ - 1) {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes an ifreq, which lives longer than the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(file)
    };
    end.namespace.enter(make).with_context(|| format!("{} in {}", end.name, end.namespace.name()))
}

/// Carries packets both ways until it is over, or a device is gone.
fn carry(mut ends: [File; 2], over: &AtomicBool) {
    let mut packet = vec![0; 64 << 10];
    while !over.load(Ordering::Relaxed) {
        let mut waiting = ends.each_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        if poll(&mut waiting, PollTimeout::from(ATTENTION)).is_err() {
            continue;
        }
        for (from, to) in [(0, 1), (1, 0)] {
            loop {
                match ends[from].read(&mut packet) {
                    // What the other end cannot take is lost, as on any wire.
                    Ok(length) => drop(ends[to].write(&packet[..length])),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return,
                }
            }
        }
    }
}
