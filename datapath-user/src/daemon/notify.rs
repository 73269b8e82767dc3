//! Telling systemd (`sd_notify(3)`).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context, Result};

/// Sends a message to the manager that started us, if one did.
pub fn systemd(message: &str) -> Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let address = address.context("NOTIFY_SOCKET names no socket")?;
    UnixDatagram::unbound()?
        .send_to_addr(message.as_bytes(), &address)
        .context("NOTIFY_SOCKET does not take messages")?;
    Ok(())
}
