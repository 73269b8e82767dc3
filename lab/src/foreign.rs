//! What others do to the hooks: a tcx program that is not ours (two instructions, in front of all others or behind
//! them), and links that are detached by force.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::namespace::Namespace;

/// `TC_ACT_UNSPEC`: on to the next program.
pub const PASS: i32 = -1;
/// `TC_ACT_SHOT`: dropped.
pub const DROP: i32 = 2;

// bpf(2) commands and constants (include/uapi/linux/bpf.h).
const PROG_LOAD: i64 = 5;
const OBJ_GET: i64 = 7;
const OBJ_GET_INFO_BY_FD: i64 = 15;
pub(crate) const LINK_CREATE: i64 = 28;
const LINK_DETACH: i64 = 34;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const TCX_INGRESS: u32 = 46;
const F_BEFORE: u32 = 1 << 3;
const F_AFTER: u32 = 1 << 4;

/// The `union bpf_attr` of one call, as words; large enough for the commands used here.
pub(crate) type Attribute = [u64; 16];

/// Somebody else's program on the tcx ingress of an interface; detached when this is dropped.
#[derive(Debug)]
pub struct ForeignProgram {
    link: OwnedFd,
    _program: OwnedFd,
}

impl ForeignProgram {
    /// Attaches a program that returns `verdict` in front of all others.
    pub fn attach_first(namespace: &Namespace, interface: &str, verdict: i32) -> Result<Self> {
        Self::attach(namespace, interface, verdict, F_BEFORE)
    }

    /// Attaches a program that returns `verdict` behind all others: it sees what they let through.
    pub fn attach_last(namespace: &Namespace, interface: &str, verdict: i32) -> Result<Self> {
        Self::attach(namespace, interface, verdict, F_AFTER)
    }

    fn attach(namespace: &Namespace, interface: &str, verdict: i32, order: u32) -> Result<Self> {
        let program = load(PROG_TYPE_SCHED_CLS, verdict).context("load a program")?;
        let ifindex = namespace.ifindex(interface)?;
        let mut attribute: Attribute = [0; 16];
        attribute[0] = pair(program.as_raw_fd().cast_unsigned(), ifindex);
        attribute[1] = pair(TCX_INGRESS, order);
        let link = namespace.enter(|| bpf(LINK_CREATE, &mut attribute)).context("attach a program by tcx")?;
        // SAFETY: LINK_CREATE returned a descriptor that nobody else owns.
        Ok(Self { link: unsafe { OwnedFd::from_raw_fd(link) }, _program: program })
    }

    /// Whether it is still attached.
    pub fn is_attached(&self) -> io::Result<bool> {
        // struct bpf_link_info: type and id, program id, then ifindex and attach type.
        let mut info = [0u64; 16];
        let mut attribute: Attribute = [0; 16];
        attribute[0] = pair(self.link.as_raw_fd().cast_unsigned(), size_of_val(&info) as u32);
        attribute[1] = info.as_mut_ptr() as u64;
        bpf(OBJ_GET_INFO_BY_FD, &mut attribute)?;
        let ifindex = info[2] as u32;
        Ok(ifindex != 0)
    }
}

/// Detaches the link pinned at `path` from its interface, as `bpftool link detach` does. The pin stays.
pub fn detach_pinned(path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attribute: Attribute = [0; 16];
    attribute[0] = name.as_ptr() as u64;
    let link = bpf(OBJ_GET, &mut attribute).with_context(|| format!("open {}", path.display()))?;
    // SAFETY: OBJ_GET returned a descriptor that nobody else owns.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    let mut attribute: Attribute = [0; 16];
    attribute[0] = pair(link.as_raw_fd().cast_unsigned(), 0);
    bpf(LINK_DETACH, &mut attribute).with_context(|| format!("detach {}", path.display())).map(drop)
}

/// Loads a program of this type that returns `verdict`.
pub(crate) fn load(kind: u32, verdict: i32) -> io::Result<OwnedFd> {
    // r0 = verdict; exit.
    let program: [u64; 2] = [0xb7 | u64::from(verdict.cast_unsigned()) << 32, 0x95];
    let license = c"GPL";
    let mut attribute: Attribute = [0; 16];
    attribute[0] = pair(kind, program.len() as u32);
    attribute[1] = program.as_ptr() as u64;
    attribute[2] = license.as_ptr() as u64;
    let program = bpf(PROG_LOAD, &mut attribute)?;
    // SAFETY: PROG_LOAD returned a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(program) })
}

/// Two 32-bit fields that follow each other.
pub(crate) fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

pub(crate) fn bpf(command: i64, attribute: &mut Attribute) -> io::Result<i32> {
    // SAFETY: the attribute and everything it points to live in the callers for longer than the call, and are as large
    // as the fields beside them say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), size_of::<Attribute>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or(-1)) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::client::{Client, Protocol};
    use crate::lan::address;
    use crate::{Link, Server};

    #[test]
    fn it_passes_drops_and_goes() {
        let (a, b) = (Namespace::new("a").expect("a"), Namespace::new("b").expect("b"));
        let link = Link { namespace: &a, name: "eth0", addresses: &["10.50.0.2/24"] };
        link.join(&Link { namespace: &b, name: "eth0", addresses: &["10.50.0.3/24"] }).expect("joins");
        let _server = Server::start(&b, "b", 80).expect("serves");
        let target = SocketAddr::new(address("10.50.0.3"), 80);
        let client = Client::new(&a).timeout(Duration::from_millis(300));
        let pass = ForeignProgram::attach_first(&b, "eth0", PASS).expect("attaches");
        client.exchange(Protocol::Tcp, target).expect("passes");
        let drop_all = ForeignProgram::attach_last(&b, "eth0", DROP).expect("attaches");
        client.exchange(Protocol::Tcp, target).expect_err("drops");
        drop(drop_all);
        client.exchange(Protocol::Tcp, target).expect("passes again");
        assert!(pass.is_attached().expect("query"));
        a.ip("link del eth0").expect("deletes");
        assert!(!pass.is_attached().expect("query"), "its device has gone");
    }
}
