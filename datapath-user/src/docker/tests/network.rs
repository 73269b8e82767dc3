//! The files in `captured` are what dockerd 20.10.24 answered, with `"iptables": false` and `"userland-proxy": false`.

use super::*;

fn read(json: &str) -> (Members, Vec<String>) {
    members(&serde_json::from_str(json).expect("a network")).expect("of the bridge driver")
}

fn captured(json: &str) -> Members {
    let (members, causes) = read(json);
    assert_eq!(causes, Vec::<String>::new());
    members
}

fn with_options(options: &str) -> (DockerNetwork, Vec<String>) {
    let json = format!(
        r#"{{"Id":"0123456789abcdef","Name":"n","Driver":"bridge","Scope":"local","EnableIPv6":true,"Options":{options},
            "IPAM":{{"Config":[{{"Subnet":"10.1.0.0/24"}},{{"Subnet":"fd00:1::/64"}}]}}}}"#
    );
    let (members, causes) = read(&json);
    (members.network, causes)
}

fn gateways(network: &DockerNetwork) -> String {
    network.gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_default_bridge() {
    let members = captured(include_str!("captured/network-bridge.json"));
    let network = &members.network;
    assert_eq!((network.name.as_str(), network.bridge.as_str()), ("bridge", "docker0"));
    assert_eq!(network.subnets, ["172.17.0.0/16".parse().expect("a subnet")]);
    assert_eq!(gateways(network), "172.17.0.1");
    assert!(network.masquerade, "dockerd says false, because of iptables=false");
    assert!(network.icc && !network.internal);
    assert_eq!(
        (network.mtu, network.gateway_mode, network.gateway_mode_ipv6),
        (1500, GatewayMode::Nat, GatewayMode::Nat)
    );
    let [web] = members.attached.as_slice() else { panic!("{members:?}") };
    assert_eq!(web.name, "web");
    assert_eq!(web.mac.to_string(), "02:42:ac:11:00:02");
    assert_eq!(web.addresses, ["172.17.0.2".parse::<IpAddr>().expect("an address")]);
    assert_eq!((web.container.len(), web.endpoint.len()), (64, 64));
}

#[test]
fn networks_of_users() {
    let back = captured(include_str!("captured/network-back.json")).network;
    assert!(back.internal && back.icc && back.masquerade);
    assert_eq!((back.bridge.as_str(), gateways(&back).as_str()), ("br-e43608f12133", "172.18.0.1"));

    let front = captured(include_str!("captured/network-front.json")).network;
    assert_eq!((front.bridge.as_str(), front.mtu), ("br-fixed", 1400));
    assert!(!front.icc && !front.masquerade && !front.internal);

    let dual = captured(include_str!("captured/network-dual.json"));
    assert_eq!(gateways(&dual.network), "10.77.0.128 fd00:d:1::1", "as its bridge had them");
    assert_eq!(dual.network.subnets.len(), 2);
    assert_eq!(dual.attached.len(), 2);
    let six = dual.attached.iter().find(|attached| attached.name == "six").expect("six");
    let addresses: Vec<_> = six.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.77.0.130", "fd00:d:1::3"]);
}

#[test]
fn fields_of_newer_versions() {
    // API 1.52 (dockerd 29): EnableIPv4, Status with counts of addresses, prefix lengths nowhere.
    let members = captured(
        r#"{"Name":"v6only","Id":"aabbccddeeff00112233","Created":"2026-02-03T10:00:00.5Z","Scope":"local","Driver":"bridge",
        "EnableIPv4":false,"EnableIPv6":true,"IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"10.9.0.0/24",
        "Gateway":"10.9.0.1"},{"Subnet":"fd00:9::/64","IPRange":"","Gateway":"fd00:9::1"}]},"Internal":false,
        "Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,
        "Options":{"com.docker.network.bridge.gateway_mode_ipv6":"routed"},"Labels":{},
        "Containers":{"c1":{"Name":"a","EndpointID":"e1","MacAddress":"8a:fd:92:00:00:01","IPv4Address":"",
        "IPv6Address":"fd00:9::2/64"},"ep-e2":{"Name":"b","EndpointID":"e2","MacAddress":"","IPv4Address":"","IPv6Address":""}},
        "Status":{"IPAM":{"Subnets":{"fd00:9::/64":{"IPsInUse":3,"DynamicIPsAvailable":18446744073709551613}}}}}"#,
    );
    assert_eq!(gateways(&members.network), "fd00:9::1", "IPv4 is off");
    assert_eq!(members.network.gateway_mode_ipv6, GatewayMode::Routed);
    assert_eq!(members.network.gateway_mode, GatewayMode::Nat);
    assert_eq!(members.attached.len(), 1, "what no container has joined is left out: {members:?}");
}

#[test]
fn gateway_modes() {
    let modes = |options: &str| {
        let (network, causes) = with_options(options);
        (network.gateway_mode, network.gateway_mode_ipv6, network.internal, gateways(&network), causes.len())
    };
    let (nat, both) = (GatewayMode::Nat, "10.1.0.1 fd00:1::1".to_owned());
    let (ipv4, ipv6) = (MODE_IPV4, MODE_IPV6);
    assert_eq!(modes("null"), (nat, nat, false, both.clone(), 0));
    assert_eq!(
        modes(&format!(r#"{{"{ipv4}":"nat-unprotected"}}"#)),
        (GatewayMode::NatUnprotected, nat, false, both.clone(), 0)
    );
    assert_eq!(
        modes(&format!(r#"{{"{ipv4}":"routed","{ipv6}":"nat"}}"#)),
        (GatewayMode::Routed, nat, false, both.clone(), 0)
    );
    let isolated = format!(r#"{{"{ipv4}":"isolated","{ipv6}":"isolated"}}"#);
    assert_eq!(modes(&isolated), (nat, nat, true, String::new(), 0), "internal, and the host is not on it");
    assert_eq!(modes(&format!(r#"{{"{ipv4}":"isolated"}}"#)), (nat, nat, true, "fd00:1::1".to_owned(), 0));
    assert_eq!(modes(&format!(r#"{{"{ipv6}":"upside-down"}}"#)), (nat, nat, false, both, 1));
}

#[test]
fn options() {
    let masquerade = |value: &str| with_options(&format!(r#"{{"{MASQUERADE}":"{value}"}}"#)).0.masquerade;
    assert!(masquerade("") && masquerade("1") && masquerade("T") && !masquerade("0") && !masquerade("False"));
    let (garbled, causes) = with_options(&format!(r#"{{"{ICC}":"maybe","{MTU}":"big","{BRIDGE_NAME}":""}}"#));
    assert!(garbled.icc);
    assert_eq!((garbled.mtu, garbled.bridge.as_str()), (1500, "br-0123456789ab"));
    assert_eq!(causes.len(), 2, "{causes:?}");
    assert_eq!(with_options(&format!(r#"{{"{MTU}":"0"}}"#)).0.mtu, 1500);
    assert_eq!(with_options(&format!(r#"{{"{MTU}":"9000"}}"#)).0.mtu, 9000);
    assert_eq!(with_options(&format!(r#"{{"{DEFAULT_BRIDGE}":"true"}}"#)).0.bridge, "docker0");
    let unfollowed = |value: &str| {
        let options: Vec<_> = NOT_FOLLOWED.iter().map(|(name, _)| format!(r#""{name}":"{value}""#)).collect();
        with_options(&format!("{{{}}}", options.join(","))).1.len()
    };
    assert_eq!((unfollowed("192.0.2.7"), unfollowed("")), (NOT_FOLLOWED.len(), 0), "each is named");
}

#[test]
fn what_is_not_ours() {
    for other in [
        "{}",
        r#"{"Id":"a","Name":"host","Driver":"host","Scope":"local"}"#,
        r#"{"Id":"a","Name":"none","Driver":"null","Scope":"local"}"#,
        r#"{"Id":"a","Name":"m","Driver":"macvlan","Scope":"local"}"#,
        r#"{"Id":"a","Name":"o","Driver":"overlay","Scope":"swarm"}"#,
        r#"{"Id":"a","Name":"o","Driver":"bridge","Scope":"swarm"}"#,
        r#"{"Id":"a","Name":"c","Driver":"bridge","Scope":"local","ConfigOnly":true}"#,
        r#"{"Id":"","Name":"c","Driver":"bridge","Scope":"local"}"#,
    ] {
        assert_eq!(members(&serde_json::from_str(other).expect("a network")), None, "{other}");
    }
}

#[test]
fn odd_names_and_garbage_among_the_members() {
    let (members, causes) = read(
        r#"{"Id":"ab","Name":"odd / n\u00e4me\n\"x\u0000","Driver":"bridge","Containers":{
        "c1":{"Name":"no mac","EndpointID":"e1","MacAddress":"","IPv4Address":"10.0.0.2/24"},
        "c2":{"Name":"bad ip","EndpointID":"e2","MacAddress":"02:42:00:00:00:02","IPv4Address":"10.0.0/24","IPv6Address":"::9/64"},
        "c3":{"Name":"no endpoint","MacAddress":"02:42:00:00:00:03"}}}"#,
    );
    assert_eq!(members.network.name, "odd / n\u{e4}me\n\"x\0");
    assert_eq!(members.network.bridge, "br-ab");
    let [bad_ip] = members.attached.as_slice() else { panic!("{members:?}") };
    assert_eq!((bad_ip.name.as_str(), bad_ip.addresses.len()), ("bad ip", 1));
    assert_eq!(causes.len(), 2, "{causes:?}");
    assert!(
        causes.iter().any(|cause| cause.contains("10.0.0/24")) && causes.iter().any(|cause| cause.contains("no mac"))
    );
}
