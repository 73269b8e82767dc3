//! Whose socket has a port: from /proc, so that a refusal names the process.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::reservation::Transport;

/// A process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// Its name, as `ps` shows it.
    pub name: String,
    /// Its number.
    pub pid: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (pid {})", self.name, self.pid)
    }
}

/// The process with a socket that keeps `address:port` from being bound. Nobody, if it cannot be found out.
pub fn owner_of(address: IpAddr, port: u16, transport: Transport) -> Option<Owner> {
    let tables: &[&str] = match transport {
        Transport::Tcp => &["tcp", "tcp6"],
        Transport::Udp => &["udp", "udp6"],
    };
    // The thread's own directory: /proc/net is that of the process's first thread.
    let read = |table: &&str| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
    let inodes: Vec<u64> = tables.iter().flat_map(|table| sockets_at(&read(table), address, port)).collect();
    inodes.into_iter().filter(|&inode| inode != 0).find_map(process_with_socket)
}

/// Inodes of the sockets in a table of /proc/net that conflict with `address:port`.
fn sockets_at(table: &str, address: IpAddr, port: u16) -> Vec<u64> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, inode) = (fields.get(1)?, fields.get(9)?);
        let (bound, number) = local.split_once(':')?;
        let conflicts = u16::from_str_radix(number, 16).ok()? == port && conflicts(parse(bound)?, address);
        conflicts.then(|| inode.parse().ok())?
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// Whether a socket on `bound` keeps `wanted` from being bound: the same address, or a wildcard on either side. `::`
/// may stand for IPv4 as well.
fn conflicts(bound: IpAddr, wanted: IpAddr) -> bool {
    bound == wanted
        || bound == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        || (bound.is_ipv4() == wanted.is_ipv4() && (bound.is_unspecified() || wanted.is_unspecified()))
}

/// Addresses are written as native words in hexadecimal.
fn parse(text: &str) -> Option<IpAddr> {
    let word = |index: usize| u32::from_str_radix(text.get(index * 8..index * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?);
            Some(address.to_ipv4_mapped().map_or(address.into(), IpAddr::from))
        }
        _ => None,
    }
}

fn process_with_socket(inode: u64) -> Option<Owner> {
    let wanted = format!("socket:[{inode}]");
    let has_it = |pid: u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let is_it = |entry: fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == &*wanted);
        descriptors.flatten().any(is_it).then_some(pid)
    };
    let processes = fs::read_dir("/proc").ok()?;
    let pid = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(has_it)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Owner { name: name.trim_end().to_owned(), pid })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0
";

    #[test]
    fn sockets_are_found_by_address_and_port() {
        let at = |address: &str, port| sockets_at(TABLE, address.parse().expect("a literal"), port);
        if cfg!(target_endian = "little") {
            assert_eq!(at("127.0.0.1", 8_080), [4711]);
            assert_eq!(at("0.0.0.0", 8_080), [4711]);
            assert_eq!(at("192.0.2.1", 80), [4712]);
            assert!(at("192.0.2.1", 8_080).is_empty());
            assert!(at("127.0.0.1", 81).is_empty());
        }
    }
}
