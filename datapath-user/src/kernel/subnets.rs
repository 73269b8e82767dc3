//! The table of subnets: prefixes in one form for both families.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use aya::Pod;
use datapath_common::abi::{Address, Subnet, map};
use ipnet::IpNet;

use super::map::Map;

/// Key of the trie (`struct bpf_lpm_trie_key`): prefix length, then the address in wire order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    length: u32,
    address: [u8; 16],
}

// SAFETY: repr(C), integers only, and 4 + 16 bytes leave no padding.
unsafe impl Pod for Prefix {}

/// Bits that the mapped form puts before an IPv4 prefix.
const MAPPED: u8 = 96;

impl From<IpNet> for Prefix {
    fn from(subnet: IpNet) -> Self {
        let length = subnet.prefix_len() + if subnet.addr().is_ipv4() { MAPPED } else { 0 };
        Self { length: length.into(), address: Address::from(subnet.network()).bytes() }
    }
}

impl Prefix {
    /// The prefix in a table of IPv6 alone, where `::ffff:0:0/96` is no IPv4.
    pub(super) fn prefix_v6(self) -> Result<IpNet> {
        let length = u8::try_from(self.length).context("a prefix is too long")?;
        Ok(IpNet::new(std::net::Ipv6Addr::from(self.address).into(), length)?)
    }

    fn subnet(self) -> Result<IpNet> {
        let address = IpAddr::from(Address::v6(self.address));
        let mapped = if address.is_ipv4() { MAPPED } else { 0 };
        let length = u8::try_from(self.length).ok().and_then(|length| length.checked_sub(mapped));
        let length = length.with_context(|| format!("{} holds a prefix of {} bits", map::SUBNETS, self.length))?;
        Ok(IpNet::new(address, length)?)
    }
}

/// Subnets of our networks.
#[derive(Debug)]
pub struct Subnets(Map<Prefix, Subnet>);

impl Subnets {
    /// Opens the table in the pin directory.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        Ok(Self(Map::open(pin_dir, map::SUBNETS)?))
    }

    /// Gives a subnet to a network.
    pub fn set(&self, subnet: IpNet, network: u32) -> Result<()> {
        self.0.set(&subnet.into(), &Subnet { network, padding: 0 })
    }

    /// Takes a subnet back.
    pub fn remove(&self, subnet: IpNet) -> Result<()> {
        self.0.remove(&subnet.into()).map(drop)
    }

    /// Every subnet with its network.
    pub fn entries(&self) -> Result<Vec<(IpNet, u32)>> {
        self.0.entries()?.into_iter().map(|(prefix, subnet)| Ok((prefix.subnet()?, subnet.network))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_both_families_come_back() {
        for (text, length) in [("10.1.0.0/16", 112), ("0.0.0.0/0", 96), ("fd00:1::/64", 64), ("10.9.8.7/32", 128)] {
            let subnet: IpNet = text.parse().expect("a literal");
            let prefix = Prefix::from(subnet);
            assert_eq!(prefix.length, length, "{text}");
            assert_eq!(prefix.subnet().expect("just made"), subnet);
        }
    }
}
