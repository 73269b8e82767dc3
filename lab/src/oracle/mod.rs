//! The judge of differential tests: the daemon's networks as Linux bridges with nftables.
//!
//! One bridge a network, with a static port for each endpoint; masquerade, published ports, isolation and the guards
//! against forgery as rules. Bridged packets are tracked too (br_netfilter), as Docker has it: without it, siblings
//! could not meet by published ports. MAC addresses are those of the [`Plan`], so that the same frame means the same
//! in both worlds.

mod rules;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::frame::Mac;
use crate::host::Host;
use crate::lan::Lan;
use crate::link::Link;
use crate::namespace::Namespace;

/// The networks of a host.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Networks; each is a bridge `br<position>`.
    pub networks: Vec<Network>,
    /// Published ports, TCP and UDP. A specific address comes before the wildcard of the same port.
    pub publications: Vec<Publication>,
    /// MAC addresses of the host's uplink and of the LAN machine.
    pub uplink: [Mac; 2],
}

/// One network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Subnets, IPv4 and IPv6.
    pub subnets: [String; 2],
    /// Addresses of the gateway.
    pub gateways: [IpAddr; 2],
    /// Its MAC address.
    pub gateway_mac: Mac,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Whether endpoints may reach each other.
    pub icc: bool,
    /// Whether there is no outside.
    pub internal: bool,
    /// Endpoints.
    pub members: Vec<Member>,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: [IpAddr; 2],
    /// Its MAC address.
    pub mac: Mac,
}

/// One published port.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The host's address; none for all.
    pub address: Option<IpAddr>,
    /// The host's port.
    pub port: u16,
    /// The endpoint that serves it: network and position there.
    pub target: (usize, usize),
    /// Its port.
    pub target_port: u16,
}

impl Plan {
    /// The endpoint of a publication.
    #[must_use]
    pub fn target(&self, publication: &Publication) -> &Member {
        &self.networks[publication.target.0].members[publication.target.1]
    }

    /// Every endpoint with its network.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.networks.iter().enumerate().flat_map(|(n, network)| network.members.iter().map(move |member| (n, member)))
    }
}

/// A host on a LAN whose networks are bridges.
#[derive(Debug)]
pub struct Oracle {
    /// Endpoints, in the plan's order; their interface is `eth0`.
    pub members: Vec<Namespace>,
    /// The host.
    pub host: Namespace,
    /// What is around it.
    pub lan: Lan,
    _reservations: Vec<Socket>,
}

impl Oracle {
    /// Builds what the plan says.
    pub fn build(plan: &Plan) -> Result<Self> {
        let (lan, host) = (Lan::new()?, Namespace::new("oracle")?);
        lan.join(&host)?;
        host.ip(&format!("link set {} address {}", Host::UPLINK, plan.uplink[0]))?;
        lan.machine.ip(&format!("link set {} address {}", Lan::TO_HOST, plan.uplink[1]))?;
        host.forward()?;
        for (setting, value) in SETTINGS {
            host.sysctl(setting, value)?;
        }
        let mut members = Vec::new();
        for (number, network) in plan.networks.iter().enumerate() {
            add_bridge(&host, number, network)?;
            for member in &network.members {
                members.push(join(&host, number, network, member)?);
            }
        }
        host.run_with_input("nft", ["-f", "-"], &rules::text(plan)).context("load the oracle's rules")?;
        let _reservations = host.enter(|| reserve(plan))?;
        Ok(Self { members, host, lan, _reservations })
    }
}

/// Netfilter tracks as our tables do: no checksum is a reason to leave a packet untranslated, no connection is picked up
/// in its middle, windows are not judged, and flows live as long.
const SETTINGS: [(&str, &str); 16] = [
    ("bridge/bridge-nf-call-iptables", "1"),
    ("bridge/bridge-nf-call-ip6tables", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("netfilter/nf_conntrack_checksum", "0"),
    ("netfilter/nf_conntrack_tcp_be_liberal", "1"),
    ("netfilter/nf_conntrack_tcp_loose", "0"),
    ("netfilter/nf_conntrack_udp_timeout", "300"),
    ("netfilter/nf_conntrack_udp_timeout_stream", "300"),
    ("netfilter/nf_conntrack_icmp_timeout", "60"),
    ("netfilter/nf_conntrack_icmpv6_timeout", "60"),
    ("netfilter/nf_conntrack_tcp_timeout_syn_sent", "240"),
    ("netfilter/nf_conntrack_tcp_timeout_syn_recv", "240"),
    ("netfilter/nf_conntrack_tcp_timeout_close", "240"),
    ("netfilter/nf_conntrack_tcp_timeout_last_ack", "240"),
    ("netfilter/nf_conntrack_tcp_timeout_close_wait", "240"),
];

fn add_bridge(host: &Namespace, number: usize, network: &Network) -> Result<()> {
    let device = rules::bridge(number);
    let mac = network.gateway_mac;
    let mut batch = format!("link add {device} address {mac} type bridge mcast_snooping 0\n");
    batch += &format!("addr add {}/24 dev {device}\n", network.gateways[0]);
    if network.ipv6 {
        batch += &format!("addr add {}/64 dev {device} nodad\n", network.gateways[1]);
    } else {
        host.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    }
    batch += &format!("link set {device} up");
    host.ip(&batch)?;
    // The host's own clients of published ports come from 127.0.0.1 until masquerade.
    host.sysctl(&format!("ipv4/conf/{device}/route_localnet"), "1")?;
    host.sysctl("ipv6/conf/default/disable_ipv6", "0")
}

/// Joins an endpoint by a port that is as ours are: nothing is learnt and nothing unknown is flooded; what a published
/// port leads back to its own client goes out where it came in.
fn join(host: &Namespace, number: usize, network: &Network, member: &Member) -> Result<Namespace> {
    let namespace = Namespace::new(&member.name)?;
    let (port, device, mac) = (rules::port(member), rules::bridge(number), member.mac);
    let link = Link { namespace: host, name: &port, addresses: &[] };
    link.join(&Link { namespace: &namespace, name: "eth0", addresses: &[] })?;
    namespace.ip(&format!("link set eth0 address {mac}"))?;
    host.ip(&format!("link set {port} master {device}"))?;
    host.run("bridge", ["link", "set", "dev", &port, "learning", "off", "flood", "off", "hairpin", "on"])?;
    host.run("bridge", ["fdb", "replace", &mac.to_string(), "dev", &port, "master", "static"])?;
    for address in &member.addresses[..if network.ipv6 { 2 } else { 1 }] {
        host.ip(&format!("neigh replace {address} lladdr {mac} dev {device} nud permanent"))?;
    }
    Ok(namespace)
}

/// Published ports are bound, as the daemon and dockerd bind them: without a listener, but nobody else's.
fn reserve(plan: &Plan) -> Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for publication in &plan.publications {
        let addresses = publication.address.map_or(vec!["0.0.0.0".parse()?, "::".parse()?], |address| vec![address]);
        for address in addresses {
            for (kind, protocol) in [(Type::STREAM, Protocol::TCP), (Type::DGRAM, Protocol::UDP)] {
                let address: IpAddr = address;
                let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
                let socket = Socket::new(domain, kind, Some(protocol))?;
                if address.is_ipv6() {
                    socket.set_only_v6(true)?;
                }
                socket.set_reuse_address(true)?;
                socket.bind(&SocketAddr::new(address, publication.port).into())?;
                sockets.push(socket);
            }
        }
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, Exchange};
    use crate::lan::address;
    use crate::{Protocol, Server};

    fn network(number: u8, icc: bool) -> Network {
        let at = |host: u8| [address(&format!("10.20.{number}.{host}")), address(&format!("fd20:{number}::{host}"))];
        let member = |host: u8| Member {
            name: format!("m{number}-{host}"),
            addresses: at(host),
            mac: Mac([2, 0, 0, 0, number, host]),
        };
        Network {
            subnets: [format!("10.20.{number}.0/24"), format!("fd20:{number}::/64")],
            gateways: at(1),
            gateway_mac: Mac([2, 0, 0, 0, number, 1]),
            ipv6: true,
            icc,
            internal: false,
            members: vec![member(10), member(11)],
        }
    }

    /// The judge itself: endpoints with a stack reach what they may, and not what they may not.
    #[test]
    fn bridges_and_rules_do_what_is_asked_of_networks() {
        let publication = Publication { address: None, port: 8080, target: (0, 0), target_port: 80 };
        let plan = Plan {
            networks: vec![network(1, true), network(2, false)],
            publications: vec![publication],
            uplink: [Mac([2, 0, 0, 1, 0, 1]), Mac([2, 0, 0, 1, 0, 2])],
        };
        let oracle = Oracle::build(&plan).expect("the oracle stands");
        for ((number, member), namespace) in plan.members().zip(&oracle.members) {
            let [v4, v6] = member.addresses;
            let [gateway4, gateway6] = plan.networks[number].gateways;
            namespace.ip(&format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\nlink set eth0 up\nroute add default via {gateway4}\nroute add default via {gateway6}")).expect("addresses");
        }
        let _inside =
            [&oracle.members[0], &oracle.members[2]].map(|one| Server::start(one, "inside", 80).expect("serves"));
        let _outside = Server::start(&oracle.lan.internet, "outside", 80).expect("serves");
        let try_all = |from: &Namespace, targets: [IpAddr; 2], port: u16, patience: u64| -> Vec<Option<Exchange>> {
            let both = targets.map(|target| SocketAddr::new(target, port));
            let timeout = std::time::Duration::from_millis(patience);
            let attempts =
                both.into_iter().flat_map(|target| [Protocol::Tcp, Protocol::Udp].map(|kind| (kind, target)));
            attempts.map(|(kind, target)| Client::new(from).timeout(timeout).exchange(kind, target).ok()).collect()
        };
        let (a, c) = (plan.networks[0].members[0].addresses, plan.networks[1].members[0].addresses);
        let (host, internet) = (Lan::HOST.map(address), Lan::INTERNET.map(address));
        let [of_a, of_b, _, of_d] = &oracle.members[..] else { unreachable!("four endpoints") };
        let reached: [(&str, &Namespace, [IpAddr; 2], u16); 6] = [
            ("the outside", of_a, internet, 80),
            ("a sibling", of_b, a, 80),
            ("a published port from outside", &oracle.lan.internet, host, 8080),
            ("a published port of a sibling", of_b, host, 8080),
            ("a published port of its own", of_a, host, 8080),
            ("a published port of another network", of_d, host, 8080),
        ];
        for (what, from, targets, port) in reached {
            // A neighbour whose first solicitation is lost on a busy machine is asked again after a second.
            let attempts = try_all(from, targets, port, 5_000);
            assert!(attempts.iter().all(Option::is_some), "{what}: {attempts:?}");
        }
        let refused: [(&str, &Namespace, [IpAddr; 2]); 3] = [
            ("a sibling without ICC", of_d, c),
            ("another network", of_b, c),
            ("direct routing", &oracle.lan.machine, a),
        ];
        oracle
            .lan
            .machine
            .ip("route add 10.20.0.0/16 via 192.0.2.1\nroute add fd20::/16 via 2001:db8:2::1")
            .expect("routes");
        for (what, from, targets) in refused {
            let attempts = try_all(from, targets, 80, 300);
            assert!(attempts.iter().all(Option::is_none), "{what}: {attempts:?}");
        }
    }
}
