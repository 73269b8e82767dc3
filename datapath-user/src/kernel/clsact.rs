//! Attachment by clsact filters, where the kernel has no tcx. A filter stays when the daemon ends; a restarted one
//! replaces the program in it atomically. A qdisc that somebody else added is never removed.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::links::Link;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, SchedClassifier};
use datapath_common::abi::Program;

use super::netlink::{Direction, Filter, Netlink};
use super::pins;
use super::programs::{Hook, Place, device_name};

/// Marks a filter as ours.
pub const HANDLE: TcHandle = TcHandle::new(0xda7a, 1);
/// [`HANDLE`] as the kernel holds it.
pub const HANDLE_NUMBER: u32 = 0xda7a_0001;

/// Lower is earlier.
pub const fn priority(place: Place) -> u16 {
    match place {
        Place::First => 1,
        Place::Last => 0xff00,
    }
}

fn error_number(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::NetlinkError(error) | ProgramError::TcError(TcError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    }
}

/// Attaches a program to a device, or replaces the one of an earlier daemon.
pub fn attach(pin_dir: &Path, classifier: &mut SchedClassifier, program: Program, ifindex: u32) -> Result<()> {
    let hook = Hook::of(program);
    let device = device_name(ifindex)?;
    add_qdisc(pin_dir, &device, ifindex)?;
    let priority = priority(hook.place);
    let options = TcAttachOptions::Netlink(NlOptions { priority, handle: HANDLE, classid: None });
    let id = match classifier.attach_with_options(&device, hook.direction, options) {
        Err(error) if error_number(&error) == Some(libc::EEXIST) => {
            let old = SchedClassifierLink::attached(&device, hook.direction, priority, HANDLE, None)?;
            classifier.attach_to_link(old)
        }
        result => result,
    };
    let id = id.with_context(|| format!("{} cannot be attached to {device} by a clsact filter", hook.name))?;
    // aya detaches a filter when it drops the link; this one is to outlive the process.
    std::mem::forget(classifier.take_link(id)?);
    Ok(())
}

fn add_qdisc(pin_dir: &Path, device: &str, ifindex: u32) -> Result<()> {
    match tc::qdisc_add_clsact(device) {
        Ok(()) => {
            let marker = pins::qdiscs(pin_dir).join(ifindex.to_string());
            match fs::create_dir(&marker) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    Err(error).with_context(|| format!("{} cannot be created", marker.display()))
                }
                _ => Ok(()),
            }
        }
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{device} does not take a clsact qdisc")),
    }
}

/// Detaches our filter from a device. Says whether there was one.
pub fn detach(program: Program, ifindex: u32) -> Result<bool> {
    let hook = Hook::of(program);
    let Ok(device) = device_name(ifindex) else { return Ok(false) };
    let link = match SchedClassifierLink::attached(&device, hook.direction, priority(hook.place), HANDLE, None) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(false),
        result => result?,
    };
    match link.detach() {
        Ok(()) => Ok(true),
        // No such filter, no qdisc at all, or no device any more.
        Err(error) if matches!(error_number(&error), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be detached from {device}", hook.name)),
    }
}

/// Every filter of ours on the devices of the namespace, by program and device.
pub async fn attached(netlink: &Netlink) -> Result<Vec<(Program, u32)>> {
    let mut found = Vec::new();
    for link in netlink.links().await? {
        for direction in [Direction::Ingress, Direction::Egress] {
            for filter in netlink.filters(link.index, direction).await? {
                found.extend(program_of(&filter, direction).map(|program| (program, link.index)));
            }
        }
    }
    Ok(found)
}

/// Which program of ours a filter holds: by handle, name, place and direction.
fn program_of(filter: &Filter, direction: Direction) -> Option<Program> {
    Program::ALL.into_iter().map(|(program, _)| program).find(|&program| {
        let hook = Hook::of(program);
        filter.handle == HANDLE_NUMBER
            && filter.program.as_deref() == Some(hook.name)
            && filter.priority == priority(hook.place)
            && direction == hook.netlink_direction()
    })
}
