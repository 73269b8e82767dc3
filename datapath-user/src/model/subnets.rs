//! Subnets of networks and the gateways in them: which may be, and which are chosen.

use std::net::IpAddr;

use ipnet::IpNet;

use super::allocate::{free_subnet, next_address, number, overlap, usable_range};
use super::{Host, Model, NetworkRequest, Refusal};

impl Model {
    /// The subnets of a new network, the IPv4 one first; a free one is found where none is asked for.
    ///
    /// # Errors
    /// When one of them cannot be a subnet, or is in the way of another network or of the host.
    pub(super) fn choose_subnets(
        &self,
        request: &NetworkRequest,
        ula: IpNet,
        host: &Host,
    ) -> Result<Vec<IpNet>, Refusal> {
        let mut subnets = request.subnets.clone();
        for (position, subnet) in subnets.iter().enumerate() {
            check_subnet(subnet)?;
            if subnets[..position].iter().any(|other| is_v4(other) == is_v4(subnet)) {
                return Err(Refusal::invalid(
                    format!("{subnet} is a second subnet of the same IP version"),
                    "give at most one IPv4 and one IPv6 subnet",
                ));
            }
            self.check_free(subnet, host)?;
        }
        if subnets.is_empty() {
            let free = free_subnet(|candidate| {
                self.check_free(candidate, host).is_err() || host.routes.iter().any(|route| overlap(route, candidate))
            });
            subnets.push(free.ok_or_else(|| {
                Refusal::conflict(
                    "no free /24 is left in 10.208.0.0/12",
                    "give one with --subnet, such as --subnet 172.30.5.0/24",
                )
            })?);
        }
        if request.ipv6 && subnets.iter().all(is_v4) {
            self.check_free(&ula, host)?;
            subnets.push(ula);
        }
        subnets.sort_by_key(|subnet| !is_v4(subnet));
        Ok(subnets)
    }

    fn check_free(&self, subnet: &IpNet, host: &Host) -> Result<(), Refusal> {
        for network in self.networks.values() {
            if let Some(theirs) = network.subnets.iter().find(|theirs| overlap(theirs, subnet)) {
                return Err(Refusal::conflict(
                    format!("subnet {subnet} overlaps {theirs} of network {}", network.name),
                    "choose another subnet, or leave out --subnet to have a free one chosen",
                ));
            }
        }
        if let Some((theirs, interface)) = host.addresses.iter().find(|(theirs, _)| overlap(&theirs.trunc(), subnet)) {
            return Err(Refusal::conflict(
                format!("subnet {subnet} overlaps {theirs}, an address of this host (on {interface})"),
                "choose another subnet, or leave out --subnet to have a free one chosen",
            ));
        }
        Ok(())
    }
}

pub(super) fn is_v4(subnet: &IpNet) -> bool {
    matches!(subnet, IpNet::V4(_))
}

fn check_subnet(subnet: &IpNet) -> Result<(), Refusal> {
    if subnet.trunc() != *subnet {
        return Err(Refusal::invalid(
            format!("{subnet} is an address, not a subnet"),
            format!("write {}, and the host's address with --gateway", subnet.trunc()),
        ));
    }
    if usable_range(*subnet).is_none() {
        return Err(Refusal::invalid(
            format!("subnet {subnet} has no room for a gateway and an endpoint"),
            "use /30 or wider for IPv4, /126 or wider for IPv6",
        ));
    }
    let widest = if is_v4(subnet) { 8 } else { 16 };
    if subnet.prefix_len() < widest {
        return Err(Refusal::invalid(format!("subnet {subnet} is wider than /{widest}"), "use a narrower one"));
    }
    let special = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/16", "fe80::/10", "ff00::/8"];
    if let Some(reserved) = special.iter().find(|text| text.parse().is_ok_and(|range: IpNet| overlap(&range, subnet))) {
        return Err(Refusal::invalid(
            format!("subnet {subnet} is in {reserved}, which is reserved"),
            "choose a private one, such as 10.5.0.0/24 or fd00:5::/64",
        ));
    }
    Ok(())
}

/// A gateway address for each subnet: the one asked for, or the first.
pub(super) fn choose_gateways(subnets: &[IpNet], requested: &[IpAddr]) -> Result<Vec<IpAddr>, Refusal> {
    for (position, gateway) in requested.iter().enumerate() {
        let Some(subnet) = subnets.iter().find(|subnet| subnet.contains(gateway)) else {
            return Err(Refusal::invalid(
                format!("gateway {gateway} is in no subnet of the network"),
                format!(
                    "choose an address in {}",
                    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
                ),
            ));
        };
        if !is_usable(*subnet, *gateway) {
            return Err(Refusal::invalid(
                format!("gateway {gateway} is the network, broadcast or an anycast address of {subnet}"),
                "choose another address of the subnet",
            ));
        }
        if requested[..position].iter().any(|other| subnet.contains(other)) {
            return Err(Refusal::invalid(format!("subnet {subnet} has two gateways"), "give one for each subnet"));
        }
    }
    let chosen = subnets.iter().filter_map(|subnet| {
        let given = requested.iter().find(|gateway| subnet.contains(*gateway));
        given.copied().or_else(|| next_address(*subnet, None, |_| false))
    });
    Ok(chosen.collect())
}

/// Whether a gateway or endpoint of the subnet may have this address.
pub(super) fn is_usable(subnet: IpNet, address: IpAddr) -> bool {
    let number = number(address);
    subnet.contains(&address) && usable_range(subnet).is_some_and(|(first, last)| (first..=last).contains(&number))
}
