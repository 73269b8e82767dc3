//! Addresses of devices.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};

use super::{Netlink, collect, error_number, unless_missing};

/// An address that a device of the namespace has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalAddress {
    /// The device.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// Bits of its subnet.
    pub prefix: u8,
    /// Scope as in rtnetlink: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// Another address of the same subnet comes first (IPv4), or it is a temporary one (IPv6).
    pub secondary: bool,
    /// Usable as a source now: neither tentative nor deprecated nor a found duplicate.
    pub usable: bool,
}

impl LocalAddress {
    fn read(message: &AddressMessage) -> Option<Self> {
        let mut own = None;
        let mut remote_or_own = None;
        let mut flags = AddressFlags::empty();
        for attribute in &message.attributes {
            match attribute {
                // On point-to-point devices IFA_ADDRESS is the other end.
                AddressAttribute::Local(address) => own = Some(*address),
                AddressAttribute::Address(address) => remote_or_own = Some(*address),
                AddressAttribute::Flags(found) => flags = *found,
                _ => {}
            }
        }
        let unusable = AddressFlags::Tentative | AddressFlags::Deprecated | AddressFlags::Dadfailed;
        Some(Self {
            ifindex: message.header.index,
            address: own.or(remote_or_own)?,
            prefix: message.header.prefix_len,
            scope: message.header.scope.into(),
            secondary: flags.contains(AddressFlags::Secondary),
            usable: !flags.intersects(unusable),
        })
    }

    /// Whether other hosts can know it: not of the host or link only.
    pub fn is_global(&self) -> bool {
        self.scope < u8::from(AddressScope::Link)
    }
}

impl Netlink {
    /// Every address of every device.
    pub async fn addresses(&self) -> Result<Vec<LocalAddress>> {
        collect("addresses", self.handle.address().get().execute(), |message| LocalAddress::read(&message)).await
    }

    /// Adds an address, usable at once: nobody else can have it, so no duplicate detection. It may be there already.
    pub async fn add_address(&self, ifindex: u32, address: IpNet) -> Result<()> {
        let mut request = self.handle.address().add(ifindex, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await {
            Err(error) if error_number(&error) == Some(libc::EEXIST) => Ok(()),
            result => result.with_context(|| format!("{address} cannot be added to device {ifindex}")),
        }
    }

    /// Removes an address. It need not be there.
    pub async fn delete_address(&self, ifindex: u32, address: IpNet) -> Result<()> {
        let message = self.handle.address().add(ifindex, address.addr(), address.prefix_len()).message_mut().clone();
        let deleted = unless_missing(self.handle.address().del(message).execute().await);
        deleted.with_context(|| format!("{address} cannot be removed from device {ifindex}"))
    }
}
