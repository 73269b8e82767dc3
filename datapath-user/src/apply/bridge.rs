//! dockerd's bridges and their ports: they carry our programs, and are otherwise left as they are. Without an entry in the
//! maps they are closed.

use anyhow::Result;
use datapath_common::abi::Program;

use super::Kernel;

/// Attaches the programs to a bridge device, or replaces those of an earlier daemon.
///
/// # Errors
/// When the kernel refuses, or the device is gone.
pub fn guard_bridge(kernel: &Kernel, ifindex: u32) -> Result<()> {
    kernel.datapath.attach(Program::ToHost, ifindex)?;
    kernel.datapath.attach(Program::FromHost, ifindex)
}

/// Takes the programs off a bridge device.
///
/// # Errors
/// When the kernel refuses.
pub fn release_bridge(kernel: &Kernel, ifindex: u32) -> Result<()> {
    kernel.datapath.detach(Program::FromHost, ifindex)?;
    kernel.datapath.detach(Program::ToHost, ifindex)
}

/// Attaches the programs to the host's side of an endpoint, or replaces those of an earlier daemon.
///
/// # Errors
/// When the kernel refuses, or the device is gone.
pub fn guard_port(kernel: &Kernel, ifindex: u32) -> Result<()> {
    kernel.datapath.attach(Program::FromContainer, ifindex)?;
    kernel.datapath.attach(Program::ToContainer, ifindex)
}

/// Takes the programs off the host's side of an endpoint.
///
/// # Errors
/// When the kernel refuses.
pub fn release_port(kernel: &Kernel, ifindex: u32) -> Result<()> {
    kernel.datapath.detach(Program::FromContainer, ifindex)?;
    kernel.datapath.detach(Program::ToContainer, ifindex)
}
