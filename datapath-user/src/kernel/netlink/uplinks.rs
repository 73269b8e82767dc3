//! Which devices are uplinks: a pure choice from what netlink tells.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath_common::abi::{Address, Uplink};

use super::{Link, LocalAddress};

/// How uplinks are chosen.
#[derive(Clone, Copy, Debug)]
pub struct UplinkRule<'a> {
    /// Devices whose name begins so are ours.
    pub own_prefix: &'a str,
    /// If not empty, only these.
    pub names: &'a [String],
    /// Bridges of adopted networks; they and their ports are not uplinks.
    pub adopted_bridges: &'a [u32],
}

/// An interface towards the outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UplinkInterface {
    /// The device.
    pub ifindex: u32,
    /// Its name at the moment.
    pub name: String,
    /// Bytes of link header in its packets: 14, or 0 for tunnels.
    pub link_header: u32,
    /// Whether packets go on inside others, to an end that the driver may ask their routes for.
    pub tunnel: bool,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// First IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// First IPv6 address that is not link-local.
    pub ipv6: Option<Ipv6Addr>,
}

impl UplinkInterface {
    /// As the programs see it; `guarded`: the XDP program holds the user's rules on it.
    pub fn to_map(&self, guarded: bool) -> Uplink {
        Uplink {
            link_header: self.link_header,
            mtu: self.mtu,
            ipv4: self.ipv4.map_or(Address::NONE, |address| IpAddr::from(address).into()),
            ipv6: self.ipv6.map_or(Address::NONE, |address| IpAddr::from(address).into()),
            guarded: guarded.into(),
            tunnel: self.tunnel.into(),
        }
    }
}

/// Link layers, as in linux/if_arp.h.
mod hardware {
    pub const ETHERNET: u16 = 1;
    pub const LOOPBACK: u16 = 772;
    /// tun and WireGuard devices.
    pub const NONE: u16 = 0xfffe;
    /// Tunnels and point-to-point devices whose packets begin with the IP header.
    pub const HEADERLESS: [u16; 5] = [512, 519, 768, 769, 776];
}

/// Kinds of tunnels whose packets begin with an Ethernet header.
const ETHERNET_TUNNELS: [&str; 6] = ["vxlan", "geneve", "gretap", "erspan", "ip6gretap", "ip6erspan"];

/// Bytes of link header; nothing for link layers that the programs cannot read.
fn link_header(hardware: u16) -> Option<u32> {
    match hardware {
        hardware::ETHERNET => Some(14),
        hardware::NONE => Some(0),
        other => hardware::HEADERLESS.contains(&other).then_some(0),
    }
}

/// The uplinks among `links`: with an address that is not link-local only, not lo, not ours, not (a port of) an
/// adopted bridge.
pub fn uplinks(links: &[Link], addresses: &[LocalAddress], rule: &UplinkRule<'_>) -> Vec<UplinkInterface> {
    links.iter().filter(|link| may_be_uplink(link, rule)).filter_map(|link| with_addresses(link, addresses)).collect()
}

fn may_be_uplink(link: &Link, rule: &UplinkRule<'_>) -> bool {
    let adopted = |index: u32| rule.adopted_bridges.contains(&index);
    link.hardware != hardware::LOOPBACK
        && !link.name.starts_with(rule.own_prefix)
        && !adopted(link.index)
        && !link.master.is_some_and(adopted)
        && (rule.names.is_empty() || rule.names.contains(&link.name))
}

fn with_addresses(link: &Link, addresses: &[LocalAddress]) -> Option<UplinkInterface> {
    let mut candidates: Vec<&LocalAddress> =
        addresses.iter().filter(|address| address.ifindex == link.index && !is_link_local(address.address)).collect();
    // Global before narrower scopes, usable before not, primary before secondary; else in the kernel's order.
    candidates.sort_by_key(|address| (!address.is_global(), !address.usable, address.secondary));
    let ipv4 = candidates.iter().find_map(|address| match address.address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let ipv6 = candidates.iter().find_map(|address| match address.address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    });
    if ipv4.is_none() && ipv6.is_none() {
        return None;
    }
    let link_header = link_header(link.hardware)?;
    let tunnel = link_header == 0 || link.kind.as_deref().is_some_and(|kind| ETHERNET_TUNNELS.contains(&kind));
    Some(UplinkInterface {
        ifindex: link.index,
        name: link.name.clone(),
        link_header,
        tunnel,
        mtu: link.mtu,
        ipv4,
        ipv6,
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, hardware: u16, master: Option<u32>) -> Link {
        Link {
            index,
            name: name.into(),
            kind: None,
            mac: None,
            mtu: 1_500,
            hardware,
            up: true,
            running: true,
            master,
            peer_index: None,
            peer_netns: None,
            alias: None,
            xdp: None,
            largest_tcp: [65_536; 2],
        }
    }

    fn address(ifindex: u32, text: &str, scope: u8) -> LocalAddress {
        let address = text.parse().expect("a literal");
        LocalAddress { ifindex, address, prefix: 24, scope, secondary: false, usable: true }
    }

    #[test]
    fn uplinks_are_told_from_the_rest() {
        let links = [
            link(1, "lo", 772, None),
            link(2, "eth0", 1, None),
            link(3, "dp-web", 1, None),
            link(4, "tun0", 0xfffe, None),
            link(5, "docker0", 1, None),
            link(6, "veth1", 1, Some(5)),
            link(7, "eth1", 1, None),
            link(8, "ib0", 32, None),
            Link { kind: Some("vxlan".into()), ..link(9, "overlay", 1, None) },
        ];
        let addresses = [
            address(1, "127.0.0.1", 254),
            address(2, "fe80::1", 253),
            address(2, "10.0.0.2", 0),
            address(2, "fd00::2", 0),
            address(3, "10.1.0.1", 0),
            address(4, "10.8.0.2", 0),
            address(5, "172.17.0.1", 0),
            address(6, "172.17.0.9", 0),
            address(7, "fe80::7", 253),
            address(8, "10.9.0.1", 0),
            address(9, "10.10.0.1", 0),
        ];
        let rule = UplinkRule { own_prefix: "dp-", names: &[], adopted_bridges: &[5] };
        let found = uplinks(&links, &addresses, &rule);
        let names: Vec<_> =
            found.iter().map(|uplink| (uplink.name.as_str(), uplink.link_header, uplink.tunnel)).collect();
        assert_eq!(names, [("eth0", 14, false), ("tun0", 0, true), ("overlay", 14, true)]);
        assert_eq!(found[0].ipv4, Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(found[0].ipv6, Some("fd00::2".parse().expect("a literal")));
        let narrowed = UplinkRule { names: &["tun0".into()], ..rule };
        assert_eq!(uplinks(&links, &addresses, &narrowed).len(), 1);
    }
}
