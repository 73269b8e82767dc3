//! Attachment of the XDP program, in the driver or not at all: by pinned links, like those of tcx.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpError, XdpLink};
use aya::programs::{ProgramError, Xdp, XdpMode, loaded_programs};
use aya::sys::SyscallError;

use super::netlink::Link;
use super::{bpf, pins};

/// What the pins are named for, and the program in the object.
pub const PROGRAM: &str = "guard";

/// Why a device does not have the XDP program. `from_uplink` makes the same checks there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It is one end of a veth pair, and nobody has asked for it there.
    Veth,
    /// It has no Ethernet header.
    NoEthernet,
    /// Somebody else's program is there: its name, as far as the kernel tells.
    Foreign(String),
    /// Its driver has no native XDP.
    Driver,
    /// Something else; in the kernel's words.
    Failed(String),
}

impl Refused {
    /// Whether it may be otherwise later on. A driver that refuses is asked once: some reset the link even for that.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Veth => f.write_str(
                "it is a veth: XDP there switches segmentation offload off at its peer, which costs streams most of their \
                 speed; --xdp-on-veth if that does not matter",
            ),
            Self::NoEthernet => f.write_str("its packets have no Ethernet header"),
            Self::Foreign(name) => write!(f, "somebody else's XDP program is on it ({name})"),
            Self::Driver => f.write_str("its driver has no native XDP"),
            Self::Failed(why) => write!(f, "its driver refuses the program: {why}"),
        }
    }
}

fn pin_path(pin_dir: &Path, ifindex: u32) -> PathBuf {
    pins::links(pin_dir).join(format!("{PROGRAM}-{ifindex}"))
}

/// Attaches the program to a device, or replaces the one of an earlier daemon in one step.
///
/// # Errors
/// What has nothing to do with the device. What has is [`Refused`].
pub fn attach(pin_dir: &Path, program: &mut Xdp, link: &Link) -> Result<Result<(), Refused>> {
    let pin = pin_path(pin_dir, link.index);
    let replaced = pins::replace_in::<XdpLink>(&pin, |old| {
        let id = program.attach_to_link(old)?;
        program.take_link(id).map(drop)
    })?;
    if replaced {
        return Ok(Ok(()));
    }
    if let Some(id) = link.xdp {
        return Ok(Err(Refused::Foreign(name_of(id))));
    }
    let id = match program.attach_to_if_index(link.index, XdpMode::Driver) {
        Ok(id) => id,
        Err(error) => return Ok(Err(refused(error))),
    };
    // aya takes to netlink where the kernel has no link for it: such a program would end with us.
    let attached: FdLink = match program.take_link(id)?.try_into() {
        Ok(attached) => attached,
        Err(_) => return Ok(Err(Refused::Failed("it takes no link".to_owned()))),
    };
    attached.pin(&pin).with_context(|| format!("the link cannot be pinned at {}", pin.display()))?;
    Ok(Ok(()))
}

fn refused(error: ProgramError) -> Refused {
    let number = match &error {
        ProgramError::SyscallError(SyscallError { io_error, .. }) => io_error.raw_os_error(),
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    };
    match number {
        Some(libc::EOPNOTSUPP) => Refused::Driver,
        // It has come since the device was looked at.
        Some(libc::EBUSY | libc::EEXIST) => Refused::Foreign("just attached".to_owned()),
        _ => Refused::Failed(format!("{:#}", anyhow::Error::new(error))),
    }
}

fn name_of(id: u32) -> String {
    let mut programs = loaded_programs().filter_map(Result::ok);
    let name = programs.find(|program| program.id() == id).and_then(|program| Some(program.name_as_str()?.to_owned()));
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unnamed".to_owned())
}

/// Detaches the program from a device. Says whether it was attached.
pub fn detach(pin_dir: &Path, ifindex: u32) -> Result<bool> {
    pins::remove_link(&pin_path(pin_dir, ifindex))
}

/// Every device with a pinned link, and whether the link is still on it.
pub fn attached(pin_dir: &Path) -> Result<Vec<(u32, bool)>> {
    let mut found = Vec::new();
    for name in pins::names_in(&pins::links(pin_dir))? {
        let Some(ifindex) = name.strip_prefix(PROGRAM).and_then(|rest| rest.strip_prefix('-')?.parse().ok()) else {
            continue;
        };
        let link: bpf::LinkInfo = pins::link_at(&pin_path(pin_dir, ifindex))?;
        found.push((ifindex, link.ifindex == ifindex));
    }
    Ok(found)
}

impl pins::FromPin for XdpLink {
    fn from_pin(old: PinnedLink) -> Result<Self> {
        Ok(FdLink::from(old).try_into()?)
    }
}
