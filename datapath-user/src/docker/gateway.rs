//! Which of a container's networks its published ports lead through.

use std::cmp::Reverse;

use super::container::Joined;
use super::ports::Way;
use crate::model::DockerNetwork;

/// The networks that lead out by IPv4 and by IPv6; none: no network leads out.
///
/// As dockerd orders a container's endpoints (moby, libnetwork/sandbox.go, `Endpoint.Less`): the greater priority first
/// (always 0 before 28), then those with gateways of both IP versions, then by the name of the network; and takes the first
/// with a gateway of the version (default_gateway.go, `getGatewayEndpoint`). Versions before 28 publish both IP versions
/// by the first endpoint with an IPv4 gateway; as their networks all have IPv4 and IPv6 then follows the endpoint that has
/// both, the outcome is the same. Internal networks come last there and are never published through: left out.
pub fn ways_out<'a>(joined: impl Iterator<Item = (&'a Joined, &'a DockerNetwork)>) -> Option<(Way<'a>, Way<'a>)> {
    let mut candidates: Vec<_> =
        joined.filter(|(joined, network)| !network.internal && (joined.gateway_ipv4 || joined.gateway_ipv6)).collect();
    candidates.sort_by_key(|(joined, network)| {
        (Reverse(joined.priority), !(joined.gateway_ipv4 && joined.gateway_ipv6), network.name.as_str())
    });
    let ipv4 = candidates.iter().find(|(joined, _)| joined.gateway_ipv4);
    let ipv6 = candidates.iter().find(|(joined, _)| joined.gateway_ipv6);
    // Without a gateway of a version, that version's host addresses lead to the other's (what docker-proxy does).
    let (ipv4, ipv6) = (ipv4.or(ipv6)?.1, ipv6.or(ipv4)?.1);
    Some((Way { network: &ipv4.id, mode: ipv4.gateway_mode }, Way { network: &ipv6.id, mode: ipv6.gateway_mode_ipv6 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GatewayMode;

    fn network(name: &str, internal: bool) -> DockerNetwork {
        DockerNetwork {
            id: name.to_owned(),
            name: name.to_owned(),
            bridge: String::new(),
            subnets: vec![],
            gateways: vec![],
            mtu: 1500,
            icc: true,
            internal,
            masquerade: true,
            gateway_mode: GatewayMode::Nat,
            gateway_mode_ipv6: GatewayMode::Nat,
        }
    }

    /// Endpoints as (network, gateways, priority), `!` in front of internal networks, and the networks of IPv4 and IPv6.
    fn chosen(endpoints: &[(&str, &str, i64)]) -> Option<(String, String)> {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(name, gateways, priority)| {
                let joined = Joined {
                    network: String::new(),
                    endpoint: String::new(),
                    priority: *priority,
                    gateway_ipv4: gateways.contains('4'),
                    gateway_ipv6: gateways.contains('6'),
                    aliases: vec![],
                };
                (joined, network(name.trim_start_matches('!'), name.starts_with('!')))
            })
            .collect();
        let (ipv4, ipv6) = ways_out(endpoints.iter().map(|(joined, network)| (joined, network)))?;
        Some((ipv4.network.to_owned(), ipv6.network.to_owned()))
    }

    #[test]
    fn order_of_endpoints() {
        let both = |name: &str| Some((name.to_owned(), name.to_owned()));
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[("!a", "4", 0)]), None, "internal");
        assert_eq!(chosen(&[("a", "", 0)]), None, "no gateway");
        assert_eq!(chosen(&[("b", "4", 0), ("a", "4", 0)]), both("a"), "by name");
        assert_eq!(chosen(&[("B", "4", 0), ("a", "4", 0)]), both("B"), "by the bytes of the name");
        assert_eq!(chosen(&[("!a", "46", 0), ("b", "4", 0)]), both("b"), "not internal first");
        assert_eq!(chosen(&[("a", "4", 0), ("b", "46", 0)]), both("b"), "both versions first");
        assert_eq!(chosen(&[("a", "46", 0), ("b", "4", 7)]), Some(("b".to_owned(), "a".to_owned())), "priority first");
        assert_eq!(chosen(&[("a", "4", -1), ("b", "4", 0)]), both("b"), "priorities may be negative");
        assert_eq!(chosen(&[("a", "6", 0), ("b", "4", 0)]), Some(("b".to_owned(), "a".to_owned())), "each its own");
        assert_eq!(chosen(&[("a", "6", 0)]), both("a"));
    }
}
