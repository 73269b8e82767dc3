//! What the host looks like, read by netlink.

use std::collections::HashMap;

use anyhow::Result;
use datapath_common::abi::Address;
use ipnet::IpNet;
use rustc_hash::FxHashMap;

use crate::DEVICE_PREFIX;
use crate::kernel::netlink::{Link, LocalAddress, Netlink, UplinkInterface, UplinkRule, uplinks};
use crate::model::Host;

/// ARPHRD_LOOPBACK.
const LOOPBACK: u16 = 772;

/// Links and addresses at one moment.
pub struct View {
    /// Every device.
    pub links: Vec<Link>,
    /// Every address.
    pub addresses: Vec<LocalAddress>,
    by_index: FxHashMap<u32, usize>,
    by_name: FxHashMap<String, usize>,
}

impl View {
    /// Reads everything.
    pub async fn read(netlink: &Netlink) -> Result<Self> {
        let (links, addresses) = (netlink.links().await?, netlink.addresses().await?);
        let by_index = links.iter().zip(0..).map(|(link, place)| (link.index, place)).collect();
        let by_name = links.iter().zip(0..).map(|(link, place)| (link.name.clone(), place)).collect();
        Ok(Self { links, addresses, by_index, by_name })
    }

    /// Destinations of routes that are not ours. Read only where they are asked for: a host with many containers has
    /// several for each of them, and the host is looked at with every change of a device.
    pub async fn foreign_routes(&self, netlink: &Netlink) -> Result<Vec<IpNet>> {
        let ours = |ifindex: Option<u32>| ifindex.and_then(|ifindex| self.link(ifindex)).is_some_and(is_ours);
        let routes = netlink.routes().await?;
        let routes = routes.iter().filter(|route| !route.is_default() && !ours(route.ifindex));
        Ok(routes.map(|route| route.destination).collect())
    }

    /// The device with this index.
    pub fn link(&self, ifindex: u32) -> Option<&Link> {
        self.by_index.get(&ifindex).map(|&place| &self.links[place])
    }

    /// The device of this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.by_name.get(name).map(|&place| &self.links[place])
    }

    /// The namespace's lo.
    pub fn loopback(&self) -> Option<u32> {
        self.links.iter().find(|link| link.hardware == LOOPBACK).map(|link| link.index)
    }

    /// What the model must respect, but for routes.
    pub fn host(&self) -> Host {
        let foreign = self.addresses.iter().filter_map(|address| {
            let link = self.link(address.ifindex).filter(|link| !is_ours(link))?;
            Some((IpNet::new(address.address, address.prefix).ok()?, link.name.clone()))
        });
        Host { addresses: foreign.collect(), routes: Vec::new() }
    }

    /// Every local address, ours included.
    pub fn local_addresses(&self) -> HashMap<Address, u32> {
        self.addresses.iter().map(|address| (Address::from(address.address), address.ifindex)).collect()
    }

    /// The uplinks among the devices; `names` narrows them. Bridges of dockerd's are none.
    pub fn uplinks(&self, names: &[String], is_docker_bridge: impl Fn(&Link) -> bool) -> Vec<UplinkInterface> {
        let adopted: Vec<u32> =
            self.links.iter().filter(|link| is_docker_bridge(link)).map(|link| link.index).collect();
        let rule = UplinkRule { own_prefix: DEVICE_PREFIX, names, adopted_bridges: &adopted };
        uplinks(&self.links, &self.addresses, &rule)
    }
}

/// Whether a device is one we made: a veth named `dp-`, a letter for what it is, and a number.
pub fn is_ours(link: &Link) -> bool {
    let number = link.name.strip_prefix(DEVICE_PREFIX).and_then(|rest| rest.strip_prefix(['g', 'x', 'e']));
    link.kind.as_deref() == Some("veth")
        && number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
