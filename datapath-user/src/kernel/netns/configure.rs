//! A container's interface, configured from inside its namespace.
//!
//! The first interface with a gateway gets the default route. Each one has a table of its own, chosen by source address as
//! soon as there is another interface, so that replies leave by the one the request came in on (I4). When the interface
//! with the default route goes, another one's gateway takes its place.
//!
//! A container with a single interface gets no rule: from the first one on, the kernel walks all rules for each route it looks
//! up there (Linux 3.6, commit f4530fa574df), which makes a small UDP packet a tenth dearer.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::Netns;
use crate::kernel::netlink::{LocalAddress, MAIN_TABLE, Netlink, Route, Rule};
use crate::kernel::sysctl;

/// What a container's interface is to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContainerInterface {
    /// Name in the container; the interface exists.
    pub name: String,
    /// MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// IPv4 address with the network's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// IPv6 address with the network's prefix length.
    pub ipv6: Option<Ipv6Net>,
    /// Default router for IPv4; none on internal networks.
    pub gateway_v4: Option<std::net::Ipv4Addr>,
    /// Default router for IPv6.
    pub gateway_v6: Option<std::net::Ipv6Addr>,
}

/// Our tables are numbered from here on, by ifindex in the container.
const FIRST_TABLE: u32 = 0x0da7_0000;
/// How many ifindices the numbers have room for.
const TABLES: u32 = 0x1_0000;
/// Ahead of the main table's rule (32766).
const RULE_PRIORITY: u32 = 20_000;

impl ContainerInterface {
    /// Address and default router of each family that has both.
    fn routed(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let v4 = self.ipv4.zip(self.gateway_v4).map(|(own, gateway)| (own.addr().into(), gateway.into()));
        let v6 = self.ipv6.zip(self.gateway_v6).map(|(own, gateway)| (own.addr().into(), gateway.into()));
        v4.into_iter().chain(v6)
    }

    fn addresses(&self) -> impl Iterator<Item = IpNet> {
        self.ipv4.map(IpNet::from).into_iter().chain(self.ipv6.map(IpNet::from))
    }
}

/// Configures an interface that was created in the namespace. What it did is undone by
/// [`deconfigure_container`], and by deleting the interface but for the rules.
pub async fn configure_container(netns: &Netns, interface: &ContainerInterface) -> Result<()> {
    let interface = interface.clone();
    let shown = format!("{} in the container cannot be configured", interface.name);
    netns.run_async(move || async move { configure(&interface).await }).await.context(shown)
}

/// Takes the configuration of an interface back, before the interface is deleted. It need not exist any more.
pub async fn deconfigure_container(netns: &Netns, interface: &ContainerInterface) -> Result<()> {
    let interface = interface.clone();
    let shown = format!("{} in the container cannot be taken down", interface.name);
    netns.run_async(move || async move { deconfigure(&interface).await }).await.context(shown)
}

async fn configure(interface: &ContainerInterface) -> Result<()> {
    let netlink = Netlink::open()?;
    let link = netlink.link_named(&interface.name).await?.context("it does not exist")?;
    if let Some(loopback) = netlink.link_named("lo").await?.filter(|lo| !lo.up) {
        netlink.set_up(loopback.index).await?;
    }
    for (path, value) in settings(interface) {
        sysctl::write(&path, value)?;
    }
    if link.mac != Some(interface.mac) {
        netlink.set_mac(link.index, interface.mac).await?;
    }
    if link.mtu != interface.mtu {
        netlink.set_mtu(link.index, interface.mtu).await?;
    }
    for address in interface.addresses() {
        netlink.add_address(link.index, address).await?;
    }
    netlink.set_up(link.index).await?;
    for (own, gateway) in interface.routed() {
        add_default(&netlink, link.index, own, gateway).await?;
    }
    route_by_source(&netlink).await
}

/// Sysctls of the interface, as paths below /proc/sys. Those of IPv6 only where the kernel has IPv6.
fn settings(interface: &ContainerInterface) -> Vec<(String, &'static str)> {
    let directory = format!("net/ipv6/conf/{}", interface.name);
    if !sysctl::exists(&directory) {
        return Vec::new();
    }
    let setting = |name: &str, value| (format!("{directory}/{name}"), value);
    if interface.ipv6.is_none() {
        return vec![setting("disable_ipv6", "1")];
    }
    vec![
        // Addresses come from the daemon alone.
        setting("accept_ra", "0"),
        // The link-local address is the one that the endpoint's entry names: made from the MAC address.
        setting("addr_gen_mode", "0"),
        setting("use_tempaddr", "0"),
        // The datapath answers for every address: there can be no duplicate, so do not wait for one.
        setting("dad_transmits", "0"),
        setting("accept_dad", "0"),
        setting("disable_ipv6", "0"),
    ]
}

async fn add_default(netlink: &Netlink, ifindex: u32, own: IpAddr, gateway: IpAddr) -> Result<()> {
    let routes = netlink.routes().await?;
    let taken = routes.iter().any(|route| route.is_of(own) && route.is_default() && route.table == MAIN_TABLE);
    if !taken {
        netlink.add_route(&Route::default_via(gateway, ifindex, MAIN_TABLE)).await?;
    }
    let table = table_of(ifindex);
    let own_subnet = routes
        .iter()
        .find(|route| route.ifindex == Some(ifindex) && route.table == MAIN_TABLE && route.destination.contains(&own));
    if let Some(&subnet) = own_subnet {
        netlink.add_route(&Route { table, metric: 0, ..subnet }).await?;
    }
    netlink.add_route(&Route::default_via(gateway, ifindex, table)).await
}

/// Has every table of ours used for its interface's addresses, where there is more than one interface to choose from.
async fn route_by_source(netlink: &Netlink) -> Result<()> {
    let mut addresses = netlink.addresses().await?;
    addresses.retain(LocalAddress::is_global);
    if addresses.iter().all(|address| address.ifindex == addresses[0].ifindex) {
        return Ok(());
    }
    for route in netlink.routes().await?.iter().filter(|route| route.is_default() && is_ours(route.table)) {
        let its_own = addresses.iter().filter(|own| Some(own.ifindex) == route.ifindex && route.is_of(own.address));
        for own in its_own {
            let rule = Rule { source: own.address, table: route.table, priority: RULE_PRIORITY };
            netlink.add_rule(&rule).await?;
        }
    }
    Ok(())
}

async fn deconfigure(interface: &ContainerInterface) -> Result<()> {
    let netlink = Netlink::open()?;
    let own: Vec<IpAddr> = interface.addresses().map(|address| address.addr()).collect();
    for rule in netlink.rules().await?.iter().filter(|rule| is_ours(rule.table) && own.contains(&rule.source)) {
        netlink.delete_rule(rule).await?;
    }
    let index = netlink.link_named(&interface.name).await?.map(|link| link.index);
    let routes = netlink.routes().await?;
    for route in routes.iter().filter(|route| index.is_some() && route.ifindex == index) {
        if is_ours(route.table) {
            netlink.delete_route(route).await?;
        }
        if route.table == MAIN_TABLE && route.is_default() {
            netlink.delete_route(route).await?;
        }
    }
    promote(&netlink, index).await
}

/// The table of an interface.
const fn table_of(ifindex: u32) -> u32 {
    FIRST_TABLE + ifindex % TABLES
}

fn is_ours(table: u32) -> bool {
    (FIRST_TABLE..FIRST_TABLE + TABLES).contains(&table)
}

/// Gives each family that has lost its default route the one of another interface of ours.
async fn promote(netlink: &Netlink, leaving: Option<u32>) -> Result<()> {
    let mut defaults = netlink.routes().await?;
    defaults.retain(|route| route.is_default() && route.ifindex != leaving);
    for is_ipv4 in [true, false] {
        let mut defaults = defaults.iter().filter(|route| route.destination.addr().is_ipv4() == is_ipv4);
        if defaults.clone().any(|route| route.table == MAIN_TABLE) {
            continue;
        }
        if let Some(&next) = defaults.find(|route| is_ours(route.table)) {
            netlink.add_route(&Route { table: MAIN_TABLE, ..next }).await?;
        }
    }
    Ok(())
}
