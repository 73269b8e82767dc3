//! Choosing addresses and subnets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Where IPv4 subnets are taken from when none is given: 4,096 times a /24.
const POOL_V4: (u32, u32) = (u32::from_be_bytes([10, 208, 0, 0]), 4_096);

/// First and last address that a gateway or endpoint may have, as numbers. IPv4: without network and broadcast address.
/// IPv6: without the subnet-router anycast address (RFC 4291 section 2.6.1) and the reserved anycast ones at the end
/// (RFC 2526). `None`: no room for a gateway and one endpoint.
#[must_use]
pub fn usable_range(subnet: IpNet) -> Option<(u128, u128)> {
    let (first, last) = match subnet {
        IpNet::V4(v4) => (number(v4.network().into()) + 1, number(v4.broadcast().into()).checked_sub(1)?),
        IpNet::V6(v6) => {
            let reserved = if v6.prefix_len() <= 120 { 128 } else { 0 };
            (number(v6.network().into()) + 1, number(v6.broadcast().into()) - reserved)
        }
    };
    (last > first).then_some((first, last))
}

/// The next free address of `subnet` after `last`, going round: one that became free is given again as late as possible.
pub fn next_address(subnet: IpNet, last: Option<IpAddr>, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (first, end) = usable_range(subnet)?;
    let begin = last.map(number).filter(|last| (first..end).contains(last)).map_or(first, |last| last + 1);
    (begin..=end).chain(first..begin).map(|n| address(n, subnet)).find(|candidate| !taken(*candidate))
}

/// The first free /24 of the pool, where `overlaps` says whose subnet is in the way.
pub fn free_subnet(overlaps: impl Fn(&IpNet) -> bool) -> Option<IpNet> {
    let (base, count) = POOL_V4;
    (0..count)
        .filter_map(|n| Ipv4Net::new(Ipv4Addr::from(base + (n << 8)), 24).ok())
        .map(IpNet::V4)
        .find(|candidate| !overlaps(candidate))
}

/// The unique local /64 of these random bytes: fd00::/8, 40 bits of global id, 16 of subnet id (RFC 4193 section 3.1).
#[must_use]
pub fn random_ula(random: [u8; 7]) -> IpNet {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random);
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(octets), 64))
}

/// Whether two subnets have an address in common.
#[must_use]
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// The address as a number, to count with.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn address(number: u128, like: IpNet) -> IpAddr {
    match like {
        // The number came from a range of IPv4 addresses, so the upper bits are zero.
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a subnet")
    }

    #[test]
    fn gives_in_order_and_reuses_late() {
        let subnet = net("10.0.0.0/29");
        let gateway: IpAddr = "10.0.0.1".parse().expect("an address");
        let mut last = None;
        let mut given = Vec::new();
        for _ in 0..7 {
            let next = next_address(subnet, last, |a| a == gateway).expect("room");
            given.push(next.to_string());
            last = Some(next);
        }
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(next_address(subnet, last, |_| true), None);
    }

    #[test]
    fn room() {
        for none in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "fd00::/128"] {
            assert_eq!(usable_range(net(none)), None, "{none}");
        }
        for some in ["10.0.0.0/30", "10.0.0.0/8", "fd00::/126", "fd00::/64"] {
            assert!(usable_range(net(some)).is_some(), "{some}");
        }
    }

    #[test]
    fn free_subnet_steps_over_what_is_there() {
        let taken = [net("10.208.0.0/16"), net("10.209.0.0/24")];
        let found = free_subnet(|candidate| taken.iter().any(|t| overlap(t, candidate)));
        assert_eq!(found, Some(net("10.209.1.0/24")));
        assert_eq!(free_subnet(|_| true), None);
    }

    #[test]
    fn ula() {
        assert_eq!(random_ula([1, 2, 3, 4, 5, 6, 7]), net("fd01:203:405:607::/64"));
    }

    proptest! {
        #[test]
        fn always_inside_and_free(prefix in 20u8..=30, base: u32, last: Option<u32>, taken in prop::collection::hash_set(0u32..4, 0..4)) {
            let subnet = IpNet::V4(Ipv4Net::new(base.into(), prefix).expect("a prefix").trunc());
            let first = u32::from(Ipv4Addr::from(base)) & (u32::MAX << (32 - prefix));
            let taken: HashSet<IpAddr> = taken.into_iter().map(|n| IpAddr::V4((first + n).into())).collect();
            let last = last.map(|n| IpAddr::V4(n.into()));
            if let Some(found) = next_address(subnet, last, |a| taken.contains(&a)) {
                prop_assert!(subnet.contains(&found));
                prop_assert!(found != IpAddr::V4(first.into()) && !taken.contains(&found));
                prop_assert!(found != subnet.broadcast());
            } else {
                // Only a /30 has so few addresses that those taken can be all.
                prop_assert!(prefix == 30);
            }
        }
    }
}
