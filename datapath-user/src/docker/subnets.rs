//! Subnets and gateways of a network, as Docker's address management takes them.

use std::net::IpAddr;

use bollard::models::{IpamConfig, NetworkInspect};
use ipnet::IpNet;

/// Subnets with their gateways, at most one of each IP version (the bridge driver's own limit), IPv4 first.
/// What cannot be understood is left out and named in `causes`.
pub fn subnets(network: &NetworkInspect, causes: &mut Vec<String>) -> Vec<(IpNet, IpAddr)> {
    let configs = network.ipam.as_ref().and_then(|ipam| ipam.config.as_deref()).unwrap_or_default();
    let mut found: Vec<(IpNet, IpAddr)> = Vec::new();
    for config in configs {
        let Some(subnet) = subnet(config, causes) else { continue };
        let enabled = match subnet {
            IpNet::V4(_) => network.enable_ipv4.unwrap_or(true),
            IpNet::V6(_) => network.enable_ipv6.unwrap_or(false),
        };
        if !enabled {
            continue;
        }
        if found.iter().any(|(other, _)| other.network().is_ipv4() == subnet.network().is_ipv4()) {
            causes.push(format!("the subnet {subnet} is left out: a bridge has one of each IP version"));
            continue;
        }
        found.push((subnet, gateway(config, subnet, causes)));
    }
    found.sort_by_key(|(subnet, _)| subnet.network().is_ipv6());
    found
}

fn subnet(config: &IpamConfig, causes: &mut Vec<String>) -> Option<IpNet> {
    let text = config.subnet.as_deref().filter(|text| !text.is_empty())?;
    match text.parse::<IpNet>() {
        // The driver "null" of address management says 0.0.0.0/0 for "none".
        Ok(subnet) if subnet.prefix_len() == 0 => None,
        Ok(subnet) => Some(subnet.trunc()),
        Err(_) => {
            causes.push(format!("the subnet {text:?} cannot be understood and is left out"));
            None
        }
    }
}

fn gateway(config: &IpamConfig, subnet: IpNet, causes: &mut Vec<String>) -> IpAddr {
    let first = first_address(subnet, config.ip_range.as_deref().and_then(|range| range.parse().ok()));
    let Some(text) = config.gateway.as_deref().filter(|text| !text.is_empty()) else { return first };
    // Some versions write a prefix length behind it.
    let address = text.split_once('/').map_or(text, |(address, _)| address).parse::<IpAddr>();
    match address.map(|address| address.to_canonical()) {
        Ok(address) if address.is_ipv4() == subnet.network().is_ipv4() => address,
        _ => {
            causes.push(format!("the gateway {text:?} of {subnet} cannot be understood, {first} is taken"));
            first
        }
    }
}

/// The first address that Docker gives out, which the gateway gets when none is named: the first of the range that
/// containers' addresses are taken from, other than the subnet's own number. An IPv4 subnet of one or two addresses has
/// no such number (moby, libnetwork/ipam: `getAddress` with the range, and `newAddressMask`, which reserves number 0).
fn first_address(subnet: IpNet, range: Option<IpNet>) -> IpAddr {
    let start = range.filter(|range| subnet.contains(range)).unwrap_or(subnet).network();
    if start != subnet.network() {
        return start;
    }
    match subnet {
        IpNet::V4(v4) if v4.prefix_len() >= 31 => start,
        IpNet::V4(v4) => IpAddr::V4((u32::from(v4.network()) + 1).into()),
        IpNet::V6(v6) => IpAddr::V6((u128::from(v6.network()) | 1).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(configs: &str, ipv6: bool) -> (String, Vec<String>) {
        let json =
            format!(r#"{{"EnableIPv6":{ipv6},"IPAM":{{"Driver":"default","Options":{{}},"Config":{configs}}}}}"#);
        let mut causes = Vec::new();
        let found = subnets(&serde_json::from_str(&json).expect("a network"), &mut causes);
        (found.iter().map(|(subnet, gateway)| format!("{subnet} {gateway}")).collect::<Vec<_>>().join(", "), causes)
    }

    #[test]
    fn gateways() {
        for (config, expected) in [
            (r#"[{"Subnet":"172.17.0.0/16","Gateway":"172.17.0.1"}]"#, "172.17.0.0/16 172.17.0.1"),
            (r#"[{"Subnet":"172.17.0.0/16"}]"#, "172.17.0.0/16 172.17.0.1"),
            (r#"[{"Subnet":"172.17.0.0/16","Gateway":""}]"#, "172.17.0.0/16 172.17.0.1"),
            (r#"[{"Subnet":"172.18.0.0/16","Gateway":"172.18.0.9/16"}]"#, "172.18.0.0/16 172.18.0.9"),
            (r#"[{"Subnet":"172.28.0.0/16","IPRange":"172.28.5.0/24"}]"#, "172.28.0.0/16 172.28.5.0"),
            (r#"[{"Subnet":"172.28.0.0/16","IPRange":"172.28.0.0/24"}]"#, "172.28.0.0/16 172.28.0.1"),
            (r#"[{"Subnet":"172.28.0.0/16","IPRange":"10.0.0.0/24"}]"#, "172.28.0.0/16 172.28.0.1"),
            (r#"[{"Subnet":"10.0.0.4/31"}]"#, "10.0.0.4/31 10.0.0.4"),
            (r#"[{"Subnet":"10.0.0.77/24"}]"#, "10.0.0.0/24 10.0.0.1"),
        ] {
            assert_eq!(read(config, false), (expected.to_owned(), vec![]), "{config}");
        }
    }

    #[test]
    fn ipv6_only_where_it_is_enabled() {
        let both = r#"[{"Subnet":"fd00:1::/64","Gateway":"fd00:1::9/64"},{"Subnet":"10.1.0.0/24"}]"#;
        assert_eq!(read(both, true).0, "10.1.0.0/24 10.1.0.1, fd00:1::/64 fd00:1::9");
        assert_eq!(read(both, false).0, "10.1.0.0/24 10.1.0.1");
        assert_eq!(read(r#"[{"Subnet":"fd00:1::/64"}]"#, true).0, "fd00:1::/64 fd00:1::1");
    }

    #[test]
    fn one_of_each_version() {
        let (found, causes) = read(r#"[{"Subnet":"10.1.0.0/24"},{"Subnet":"10.2.0.0/24"}]"#, false);
        assert_eq!(found, "10.1.0.0/24 10.1.0.1");
        assert!(causes.len() == 1 && causes[0].contains("10.2.0.0/24"), "{causes:?}");
    }

    #[test]
    fn garbage() {
        let (found, causes) = read(r#"[{"Subnet":"ten"},{"Subnet":"10.2.0.0/24","Gateway":"fd00::1"}]"#, false);
        assert_eq!(found, "10.2.0.0/24 10.2.0.1");
        assert_eq!(causes.len(), 2, "{causes:?}");
        assert_eq!(read("null", false), (String::new(), vec![]));
        assert_eq!(read(r#"[{"Subnet":"0.0.0.0/0"},{}]"#, false), (String::new(), vec![]));
    }
}
