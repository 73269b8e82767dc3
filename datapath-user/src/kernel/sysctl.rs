//! Sysctls: set with the old value remembered, and restored.
//!
//! /proc/sys/net is that of the namespace of the thread that opens a file there.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use super::port_set::PortSet;
pub use super::reserved_ports::ReservedPorts;

/// A value that was changed, and what it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Path below /proc/sys.
    pub path: String,
    /// The value before.
    pub previous: String,
}

fn file(path: &str) -> PathBuf {
    Path::new("/proc/sys").join(path)
}

/// Whether there is a file or directory of this name.
pub fn exists(path: &str) -> bool {
    file(path).exists()
}

/// Reads a value.
pub fn read(path: &str) -> Result<String> {
    const USUAL: usize = 4_096;
    read_up_to(path, USUAL)
}

/// Reads a value of up to `length` bytes. In one call: of lists the kernel gives nothing to a second one.
pub(super) fn read_up_to(path: &str, length: usize) -> Result<String> {
    let failed = || format!("/proc/sys/{path} cannot be read");
    let mut value = vec![0; length];
    let count = fs::File::open(file(path)).and_then(|mut file| file.read(&mut value)).with_context(failed)?;
    value.truncate(count);
    Ok(String::from_utf8(value).with_context(failed)?.trim_end().to_owned())
}

/// Writes a value.
pub fn write(path: &str, value: &str) -> Result<()> {
    put(path, value).with_context(|| format!("/proc/sys/{path} cannot be set to {value}"))
}

/// The end of the line makes it a write even where the value is empty.
fn put(path: &str, value: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(file(path))?.write_all(format!("{value}\n").as_bytes())
}

/// Sets a value; says what it was if it was another one.
pub fn set(path: &str, value: &str) -> Result<Option<Change>> {
    let previous = read(path)?;
    if previous == value {
        return Ok(None);
    }
    write(path, value)?;
    Ok(Some(Change { path: path.to_owned(), previous }))
}

/// Sets all values, or none of them. Says what has changed.
pub fn set_all(settings: &[(String, &str)]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for (path, value) in settings {
        match set(path, value) {
            Ok(change) => changes.extend(change),
            Err(error) => {
                let failed = restore(&changes);
                return Err(failed.into_iter().fold(error, |error, undo| error.context(format!("{undo:#}"))));
            }
        }
    }
    Ok(changes)
}

/// Puts the old values back, last first. Devices that are gone have taken theirs along. Returns what failed.
pub fn restore(changes: &[Change]) -> Vec<anyhow::Error> {
    let put_back = |change: &Change| match put(&change.path, &change.previous) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        result => result.with_context(|| format!("/proc/sys/{} cannot be restored", change.path)).err(),
    };
    changes.iter().rev().filter_map(put_back).collect()
}

/// What `from_loopback` needs: replies of containers come in on lo, to 127.0.0.1 and from addresses of the host.
/// Nothing from outside can arrive there.
pub fn loopback_settings() -> Vec<(String, &'static str)> {
    vec![("net/ipv4/conf/lo/route_localnet".into(), "1"), ("net/ipv4/conf/lo/accept_local".into(), "1")]
}

/// What a bridge of dockerd's needs, and dockerd sets when it starts: route lookups of the programs name it, and judge
/// whether *it* forwards.
pub fn forwarding_settings(device: &str) -> Vec<(String, &'static str)> {
    let versions = ["ipv4", "ipv6"].map(|version| format!("net/{version}/conf/{device}/forwarding"));
    versions.into_iter().filter(|path| exists(path)).map(|path| (path, "1")).collect()
}

/// What a gateway device needs: route lookups of the programs name it, and judge whether *it* forwards. Global
/// forwarding stays as found, so that the kernel cannot route past the programs.
pub fn gateway_settings(device: &str) -> Vec<(String, &'static str)> {
    let mut settings = vec![
        (format!("net/ipv4/conf/{device}/forwarding"), "1"),
        // What comes in there was judged by the programs; the reverse route may well be an uplink.
        (format!("net/ipv4/conf/{device}/rp_filter"), "0"),
        (format!("net/ipv4/conf/{device}/send_redirects"), "0"),
    ];
    let ipv6 = format!("net/ipv6/conf/{device}");
    if exists(&ipv6) {
        settings.extend([
            (format!("{ipv6}/accept_ra"), "0"),
            // Nobody else can have the gateway's address: usable at once.
            (format!("{ipv6}/accept_dad"), "0"),
            (format!("{ipv6}/dad_transmits"), "0"),
            // The link-local address is the one that the network's entry names: made from the MAC address.
            (format!("{ipv6}/addr_gen_mode"), "0"),
            (format!("{ipv6}/forwarding"), "1"),
        ]);
    }
    settings
}

/// What a host-side veth, or the far end of a gateway pair, needs: it has no address, ever.
pub fn port_settings(device: &str) -> Vec<(String, &'static str)> {
    let ipv6 = format!("net/ipv6/conf/{device}/disable_ipv6");
    if exists(&ipv6) { vec![(ipv6, "1")] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::scratch;

    #[test]
    fn values_are_set_and_restored() {
        scratch::in_namespace(|| {
            let path = "net/ipv4/conf/lo/route_localnet";
            let before = read(path).expect("readable");
            let changes = set_all(&loopback_settings()).expect("settable");
            assert_eq!(read(path).expect("readable"), "1");
            assert!(set_all(&loopback_settings()).expect("again").is_empty(), "nothing left to change");
            assert!(restore(&changes).is_empty());
            assert_eq!(read(path).expect("readable"), before);
        });
    }

    #[test]
    fn a_failure_undoes_what_came_before() {
        scratch::in_namespace(|| {
            let path = "net/ipv4/conf/lo/accept_local";
            let before = read(path).expect("readable");
            let settings = [(path.to_owned(), "1"), ("net/ipv4/conf/kt-missing/forwarding".to_owned(), "1")];
            let error = set_all(&settings).expect_err("no such device");
            assert!(format!("{error:#}").contains("kt-missing"));
            assert_eq!(read(path).expect("readable"), before);
        });
    }
}
