//! The tables of the guard of uplinks: the user's rules, and where the XDP program holds them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::Pod;
use datapath_common::abi::{DropReason, Guard, GuardDevice, map};
use ipnet::{IpNet, Ipv4Net};

use super::map::{Counters, Map};
use super::subnets::Prefix;

/// Key of the trie of IPv4 (`struct bpf_lpm_trie_key`): prefix length, then the address in wire order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct PrefixV4 {
    length: u32,
    address: [u8; 4],
}

// SAFETY: repr(C), integers only, and 4 + 4 bytes leave no padding.
unsafe impl Pod for PrefixV4 {}

impl From<Ipv4Net> for PrefixV4 {
    fn from(prefix: Ipv4Net) -> Self {
        Self { length: prefix.prefix_len().into(), address: prefix.network().octets() }
    }
}

impl PrefixV4 {
    fn prefix(self) -> Result<IpNet> {
        let length = u8::try_from(self.length).context("a prefix of the deny list is too long")?;
        Ok(IpNet::new(IpAddr::V4(Ipv4Addr::from(self.address)), length)?)
    }
}

/// What the value of a denied prefix is.
const DENIED: u32 = 1;

/// The rules and counters of the guard.
#[derive(Debug)]
pub struct GuardTables {
    rules: Map<u32, Guard>,
    devices: Map<u32, GuardDevice>,
    denied_v4: Map<PrefixV4, u32>,
    denied_v6: Map<Prefix, u32>,
    counters: Counters,
}

impl GuardTables {
    /// Opens the tables in the pin directory.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        Ok(Self {
            rules: Map::open(pin_dir, map::GUARD)?,
            devices: Map::open(pin_dir, map::GUARD_DEVICES)?,
            denied_v4: Map::open(pin_dir, map::DENIED_V4)?,
            denied_v6: Map::open(pin_dir, map::DENIED_V6)?,
            counters: Counters::open(pin_dir, map::GUARDED)?,
        })
    }

    /// What is looked at, and the limits.
    pub fn rules(&self) -> Result<Guard> {
        Ok(self.rules.get(&0)?.unwrap_or_default())
    }

    /// Sets what is looked at, and the limits: from the next packet on.
    pub fn set_rules(&self, rules: &Guard) -> Result<()> {
        self.rules.set(&0, rules)
    }

    /// Denies these prefixes, or none of them.
    pub fn deny(&self, prefixes: &[IpNet]) -> Result<()> {
        let (v4, v6) = by_version(prefixes);
        self.denied_v4.set_all(&v4, &DENIED)?;
        let denied = self.denied_v6.set_all(&v6, &DENIED);
        if denied.is_err() {
            self.denied_v4.remove_all(&v4)?;
        }
        denied
    }

    /// Denies these prefixes no more.
    pub fn undeny(&self, prefixes: &[IpNet]) -> Result<()> {
        let (v4, v6) = by_version(prefixes);
        self.denied_v4.remove_all(&v4)?;
        self.denied_v6.remove_all(&v6)
    }

    /// Every denied prefix.
    pub fn denied(&self) -> Result<Vec<IpNet>> {
        let v4 = self.denied_v4.entries()?.into_iter().map(|(prefix, _)| prefix.prefix());
        let v6 = self.denied_v6.entries()?.into_iter().map(|(prefix, _)| prefix.prefix_v6());
        v4.chain(v6).collect()
    }

    /// Tells the XDP program of a device that it is to be attached to.
    ///
    /// # Errors
    /// When the device's place is another one's.
    pub fn set_device(&self, device: &GuardDevice) -> Result<()> {
        let place = GuardDevice::place(device.ifindex);
        let there = self.devices.get(&place)?.unwrap_or_default().ifindex;
        ensure!(
            there == 0 || there == device.ifindex,
            "its number {} and that of device {there} have the same place in {}",
            device.ifindex,
            map::GUARD_DEVICES
        );
        self.devices.set(&place, device)
    }

    /// Forgets a device.
    pub fn remove_device(&self, ifindex: u32) -> Result<()> {
        let place = GuardDevice::place(ifindex);
        if self.devices.get(&place)?.unwrap_or_default().ifindex == ifindex {
            self.devices.set(&place, &GuardDevice::default())?;
        }
        Ok(())
    }

    /// Frames that the XDP program has passed.
    pub fn passed(&self) -> Result<u64> {
        Ok(self.counters.sum(0)?.unwrap_or(0))
    }

    /// Frames that the XDP program has dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> Result<u64> {
        Ok(self.counters.sum(reason as u32)?.unwrap_or(0))
    }
}

fn by_version(prefixes: &[IpNet]) -> (Vec<PrefixV4>, Vec<Prefix>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        match prefix {
            IpNet::V4(prefix) => v4.push((*prefix).into()),
            IpNet::V6(_) => v6.push(Prefix::from(*prefix)),
        }
    }
    (v4, v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_back() {
        let texts = ["192.0.2.0/24", "198.51.100.7/32", "0.0.0.0/0", "2001:db8::/32", "::/0", "2001:db8::1/128"];
        let prefixes: Vec<IpNet> = texts.iter().map(|text| text.parse().expect("a literal")).collect();
        let (v4, v6) = by_version(&prefixes);
        let back: Result<Vec<_>> =
            v4.into_iter().map(PrefixV4::prefix).chain(v6.into_iter().map(Prefix::prefix_v6)).collect();
        assert_eq!(back.expect("just made"), prefixes);
    }
}
