//! XDP of others: a program of two instructions in the driver of a device, and floods of frames that no socket could send.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::foreign::{Attribute, LINK_CREATE, bpf, load, pair};
use crate::namespace::Namespace;

/// `XDP_DROP`.
const DROP: i32 = 1;
/// `XDP_PASS`.
pub const PASS: i32 = 2;
/// `XDP_TX`: out of the device that it came in by.
const SEND_BACK: i32 = 3;

// linux/bpf.h.
const PROG_TEST_RUN: i64 = 10;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const DRIVER_MODE: u32 = 1 << 2;
const LIVE_FRAMES: u32 = 1 << 1;
/// Frames that go out together; the most there can be.
const BATCH: u32 = 256;

/// Somebody else's XDP program, in the driver of a device; detached when this is dropped.
#[derive(Debug)]
pub struct ForeignXdp {
    _link: OwnedFd,
    _program: OwnedFd,
}

impl ForeignXdp {
    /// Attaches a program that passes everything.
    pub fn attach(namespace: &Namespace, interface: &str) -> Result<Self> {
        let program = load(PROG_TYPE_XDP, PASS).context("load an XDP program")?;
        let ifindex = namespace.ifindex(interface)?;
        let mut attribute: Attribute = [0; 16];
        attribute[0] = pair(program.as_raw_fd().cast_unsigned(), ifindex);
        attribute[1] = pair(ATTACH_XDP, DRIVER_MODE);
        let link = namespace.enter(|| bpf(LINK_CREATE, &mut attribute)).context("attach a program by XDP")?;
        // SAFETY: LINK_CREATE returned a descriptor that nobody else owns.
        Ok(Self { _link: unsafe { OwnedFd::from_raw_fd(link) }, _program: program })
    }
}

/// A program that drops everything, and is attached nowhere: what all others are measured against.
#[derive(Debug)]
pub struct Dropper(OwnedFd);

impl Dropper {
    /// Loads it.
    pub fn load() -> Result<Self> {
        Ok(Self(load(PROG_TYPE_XDP, DROP).context("load an XDP program")?))
    }

    /// The mean time of so many runs on a frame, in nanoseconds, as the kernel counts it.
    pub fn time(&self, frame: &[u8], runs: u32) -> io::Result<u32> {
        let mut attribute: Attribute = [0; 16];
        attribute[0] = pair(self.0.as_raw_fd().cast_unsigned(), 0);
        attribute[1] = pair(frame.len() as u32, 0);
        attribute[2] = frame.as_ptr() as u64;
        attribute[4] = pair(runs, 0);
        bpf(PROG_TEST_RUN, &mut attribute)?;
        let [_, _, _, _, a, b, c, d] = attribute[4].to_ne_bytes();
        Ok(u32::from_ne_bytes([a, b, c, d]))
    }
}

/// Sends one frame out of a device again and again, as fast as this CPU can (BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18): without
/// sockets and without socket buffers. The device at the other end must have XDP or GRO on (veth).
#[derive(Debug)]
pub struct Flood {
    program: OwnedFd,
    ifindex: u32,
    frame: Vec<u8>,
}

impl Flood {
    /// A flood out of a device of the namespace.
    pub fn new(namespace: &Namespace, interface: &str, frame: Vec<u8>) -> Result<Self> {
        let program = load(PROG_TYPE_XDP, SEND_BACK).context("load an XDP program")?;
        Ok(Self { program, ifindex: namespace.ifindex(interface)?, frame })
    }

    /// Sends so many frames. Must be called in the namespace.
    pub fn send(&self, frames: u32) -> io::Result<()> {
        let length = self.frame.len() as u32;
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, length, 0, self.ifindex, 0, 0];
        let mut attribute: Attribute = [0; 16];
        attribute[0] = pair(self.program.as_raw_fd().cast_unsigned(), 0);
        attribute[1] = pair(length, 0);
        attribute[2] = self.frame.as_ptr() as u64;
        attribute[4] = pair(frames, 0);
        attribute[5] = pair(size_of_val(&context) as u32, 0);
        attribute[6] = context.as_ptr() as u64;
        attribute[8] = pair(LIVE_FRAMES, 0);
        attribute[9] = pair(BATCH, 0);
        bpf(PROG_TEST_RUN, &mut attribute).map(drop)
    }
}
