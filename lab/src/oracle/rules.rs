//! The oracle's nftables rules.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Member, Network, Plan};
use crate::host::Host;
use crate::lan::Lan;

/// The name of a network's bridge.
pub(super) fn bridge(number: usize) -> String {
    format!("br{number}")
}

/// The name of an endpoint's port on it.
pub(super) fn port(member: &Member) -> String {
    format!("port-{}", member.name)
}

/// The ports of a network, as elements of a set.
fn ports(network: &Network) -> String {
    network.members.iter().map(port).collect::<Vec<_>>().join(", ")
}

/// All rules.
pub(super) fn text(plan: &Plan) -> String {
    let guards: String = plan.members().map(|(n, member)| guard(&plan.networks[n], member)).collect();
    let jumps: String = plan
        .members()
        .map(|(_, member)| format!("    iifname {0:?} jump from-{1}\n", port(member), member.name))
        .collect();
    format!(
        "table bridge guard {{\n{guards}  chain prerouting {{\n    type filter hook prerouting priority -300;\n{jumps}  }}\n{}{}}}\n\
         table inet filter {{\n{}{}{}{}}}\ntable inet nat {{\n{}}}\n",
        to_bridge(plan),
        between_ports(plan),
        before_tracking(plan),
        to_host(plan),
        from_host(),
        forwarded(plan),
        translation(plan),
    )
}

/// What no endpoint may send (S1).
fn guard(network: &Network, member: &Member) -> String {
    let ([ipv4, ipv6], mac) = (member.addresses, member.mac);
    let mut chain = format!("  chain from-{} {{\n", member.name);
    let mut rule = |text: &str| {
        let _ = writeln!(chain, "    {text}");
    };
    rule("ether type { 8021q, 8021ad } drop");
    rule(&format!("ether saddr != {mac} drop"));
    rule("ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop");
    rule(&format!("ether type ip ip saddr != {ipv4} drop"));
    rule(&format!("ip daddr {{ {ipv4}, 127.0.0.0/8 }} drop"));
    rule(&format!("ether type arp arp saddr ether != {mac} drop"));
    rule(&format!("ether type arp arp saddr ip != {{ {ipv4}, 0.0.0.0 }} drop"));
    if network.ipv6 {
        rule("ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } accept");
        rule(&format!("ether type ip6 ip6 saddr != {ipv6} drop"));
        rule(&format!("ip6 daddr {{ {ipv6}, ::1 }} drop"));
    } else {
        rule("ether type ip6 drop");
    }
    // A unicast IP address inside a group frame is a trick, not traffic (RFC 1122 section 3.3.6).
    let group = "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00";
    let broadcast = last_address(network.gateways[0]);
    rule(&format!("{group} ip daddr != {{ 224.0.0.0/4, 255.255.255.255, {broadcast} }} drop"));
    rule(&format!("{group} ip6 daddr != ff00::/8 drop"));
    // Only the first fragment has a message's header; of the others, nftables would read data in its place.
    rule("ip frag-off & 0x1fff != 0 accept");
    rule("frag frag-off != 0 accept");
    rule("icmp type redirect drop");
    rule("ether type ip udp sport 67 drop");
    rule("icmpv6 type { nd-router-advert, nd-redirect } drop");
    // The target, 8 bytes into the message.
    rule(&format!("icmpv6 type nd-neighbor-advert @th,64,128 != {:#034x} drop", bits(ipv6)));
    rule("ether type ip6 udp sport 547 drop");
    chain + "  }\n"
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The broadcast address of the /24 in which `gateway` is.
fn last_address(gateway: IpAddr) -> IpAddr {
    match gateway {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 255])
        }
        IpAddr::V6(_) => unreachable!("IPv6 has no broadcast"),
    }
}

/// A sibling is reached by its own MAC address, never by the gateway's.
fn to_bridge(plan: &Plan) -> String {
    let mut chain = "  chain input {\n    type filter hook input priority 0;\n".to_owned();
    for network in &plan.networks {
        let (ports, unicast) = (ports(network), "meta pkttype { host, other }");
        for ((family, subnet), gateway) in ["ip", "ip6"].iter().zip(&network.subnets).zip(&network.gateways) {
            let _ = writeln!(
                chain,
                "    iifname {{ {ports} }} {unicast} {family} daddr {subnet} {family} daddr != {gateway} drop"
            );
        }
    }
    chain + "  }\n"
}

/// ICC, and the unicast frames that are judged by MAC and IP address of the present owner (B5). The two ways of a published
/// port between siblings have their mark.
fn between_ports(plan: &Plan) -> String {
    let mut chain = "  chain forward {\n    type filter hook forward priority 0;\n".to_owned();
    for (_, member) in plan.members() {
        let (port, mac, [ipv4, ipv6]) = (port(member), member.mac, member.addresses);
        let _ = writeln!(chain, "    iifname {port} oifname {port} ether daddr != {mac} drop");
        let _ = writeln!(chain, "    oifname {port} ether daddr {mac} ip daddr != {ipv4} drop");
        let _ = writeln!(chain, "    oifname {port} ether daddr {mac} ip6 daddr != {ipv6} drop");
    }
    let _ = writeln!(chain, "    meta mark {PUBLISHED} accept");
    for network in plan.networks.iter().filter(|network| !network.icc) {
        let _ = writeln!(chain, "    iifname {{ {0} }} drop", ports(network));
    }
    chain + "  }\n"
}

/// The mark of packets that a published port has translated.
const PUBLISHED: u32 = 1;

/// Sources and destinations that cannot come from outside (S2, P6), and direct routing (P10).
fn before_tracking(plan: &Plan) -> String {
    let mut chain = "  chain raw {\n    type filter hook prerouting priority raw;\n".to_owned();
    for (position, family) in ["ip", "ip6"].iter().enumerate() {
        let subnets = plan.networks.iter().map(|network| network.subnets[position].as_str());
        let subnets = subnets.collect::<Vec<_>>().join(", ");
        let _ = writeln!(chain, "    iifname {} {family} daddr {{ {subnets} }} drop", Host::UPLINK);
        let _ = writeln!(chain, "    iifname {} {family} saddr {{ {subnets} }} drop", Host::UPLINK);
        // P6: before a published port of loopback is looked for.
        let _ =
            writeln!(chain, "    iifname {} {family} daddr {} drop", Host::UPLINK, ["127.0.0.0/8", "::1"][position]);
    }
    chain += "  }\n  chain marked {\n    type filter hook prerouting priority dstnat + 1;\n";
    let _ = writeln!(chain, "    ct status dnat meta mark set {PUBLISHED}");
    chain + "  }\n"
}

/// Networks do not reach each other's gateways, and an internal one nothing but its own (I2, I3).
fn to_host(plan: &Plan) -> String {
    let mut chain = "  chain input {\n    type filter hook input priority 0;\n".to_owned();
    for (position, family) in ["ip", "ip6"].iter().enumerate() {
        for (number, network) in plan.networks.iter().enumerate() {
            let (device, own) = (bridge(number), network.gateways[position]);
            let others = plan.networks.iter().filter(|other| other.gateways[position] != own);
            let others = others.map(|other| other.gateways[position].to_string()).collect::<Vec<_>>().join(", ");
            let _ = writeln!(chain, "    iifname {device} {family} daddr {{ {others} }} drop");
            if network.internal {
                let groups = if *family == "ip" { "224.0.0.0/4, 255.255.255.255" } else { "ff00::/8" };
                let broadcast = if *family == "ip" { format!(", {}", last_address(own)) } else { String::new() };
                let _ = writeln!(chain, "    iifname {device} {family} daddr != {{ {own}, {groups}{broadcast} }} drop");
            }
        }
    }
    chain + "  }\n"
}

/// Redirects are the one thing that a router says and ours does not; IPv6 has no setting for it.
fn from_host() -> &'static str {
    "  chain output {\n    type filter hook output priority 0;\n    icmpv6 type nd-redirect drop\n  }\n"
}

/// Between networks, and to the outside.
fn forwarded(plan: &Plan) -> String {
    let mut chain = "  chain forward {\n    type filter hook forward priority 0; policy drop;\n".to_owned();
    for number in 0..plan.networks.len() {
        let _ = writeln!(chain, "    iifname {0} oifname {0} accept", bridge(number));
    }
    let _ = writeln!(chain, "    iifname {} ip6 saddr {} drop", Host::UPLINK, Lan::HOST[1]);
    chain += "    ct state invalid drop\n    ct state established,related accept\n";
    for (number, _) in plan.networks.iter().enumerate().filter(|(_, network)| network.internal) {
        let _ = writeln!(chain, "    iifname {0} drop\n    oifname {0} drop", bridge(number));
    }
    chain += "    ct status dnat accept\n";
    for number in 0..plan.networks.len() {
        let _ = writeln!(chain, "    iifname {} oifname {} accept", bridge(number), Host::UPLINK);
    }
    chain + "  }\n"
}

/// Published ports and masquerade.
fn translation(plan: &Plan) -> String {
    let mut text = "  chain published {\n".to_owned();
    for (number, _) in plan.networks.iter().enumerate().filter(|(_, network)| network.internal) {
        let _ = writeln!(text, "    iifname {} return", bridge(number));
    }
    for publication in &plan.publications {
        let ipv6 = plan.networks[publication.target.0].ipv6;
        for (family, target) in ["ip", "ip6"].iter().zip(plan.target(publication).addresses) {
            if publication.address.is_some_and(|address| address.is_ipv4() != target.is_ipv4())
                || target.is_ipv6() && !ipv6
            {
                continue;
            }
            let to = std::net::SocketAddr::new(target, publication.target_port);
            let wanted = publication.address.map_or_else(String::new, |address| format!("{family} daddr {address} "));
            for protocol in ["tcp", "udp"] {
                let _ = writeln!(text, "    {wanted}{protocol} dport {} dnat {family} to {to}", publication.port);
            }
        }
    }
    text += "  }\n  chain prerouting {\n    type nat hook prerouting priority dstnat;\n    fib daddr type local jump published\n  }\n";
    text += "  chain output {\n    type nat hook output priority -100;\n    fib daddr type local jump published\n  }\n";
    text += "  chain postrouting {\n    type nat hook postrouting priority srcnat;\n";
    for (number, network) in plan.networks.iter().enumerate() {
        let _ = writeln!(text, "    ip saddr 127.0.0.0/8 oifname {} masquerade", bridge(number));
        for (family, subnet) in ["ip", "ip6"].iter().zip(&network.subnets) {
            let _ = writeln!(text, "    {family} saddr {subnet} oifname {} masquerade", Host::UPLINK);
        }
        for member in &network.members {
            for (family, address) in ["ip", "ip6"].iter().zip(member.addresses) {
                let _ = writeln!(text, "    {family} saddr {address} {family} daddr {address} masquerade");
            }
        }
    }
    text + "  }\n"
}
