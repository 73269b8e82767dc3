//! The rules of the model, by example.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

fn host() -> Host {
    Host { addresses: vec![("192.0.2.1/24".parse().expect("a prefix"), "eth0".to_owned())], routes: Vec::new() }
}

fn ula() -> IpNet {
    random_ula([1; 7])
}

fn network(name: &str, subnets: &[&str]) -> NetworkRequest {
    let subnets = subnets.iter().map(|text| text.parse().expect("a subnet")).collect();
    NetworkRequest { name: name.to_owned(), subnets, ..NetworkRequest::default() }
}

fn endpoint(name: &str, on: &str) -> AttachRequest {
    AttachRequest {
        netns: format!("/run/netns/{name}"),
        network: on.to_owned(),
        name: Some(name.to_owned()),
        ..AttachRequest::default()
    }
}

fn with_network(subnets: &[&str]) -> Model {
    let mut model = Model::default();
    model.create_network(&network("app", subnets), ula(), &host()).expect("a network");
    model
}

fn attach(model: &mut Model, name: &str, on: &str, netns: u64) -> Endpoint {
    model.attach(&endpoint(name, on), (4, netns), &[], String::new()).expect("an endpoint")
}

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>, part: &str) {
    let refusal = result.expect_err(part);
    assert!(refusal.to_string().contains(part), "{refusal} should say {part:?}");
}

#[test]
fn a_network_gets_what_was_left_open() {
    let mut model = Model::default();
    let request = NetworkRequest { ipv6: true, ..network("app", &[]) };
    let made = model.create_network(&request, ula(), &host()).expect("a network");
    assert_eq!(made.subnets, ["10.208.0.0/24".parse().expect("a subnet"), ula()]);
    assert_eq!(made.gateways[0].to_string(), "10.208.0.1");
    assert_eq!((made.id, made.mtu, made.icc, made.masquerade), (1, 1_500, true, true));
    let second = model.create_network(&network("two", &[]), ula(), &host()).expect("a network");
    assert_eq!(second.subnets[0].to_string(), "10.208.1.0/24");
    assert_ne!(second.mac, made.mac);
}

#[test]
fn the_hosts_routes_are_avoided_when_choosing() {
    let host = Host { routes: vec!["10.208.0.0/16".parse().expect("a subnet")], ..Host::default() };
    let made = Model::default().create_network(&network("app", &[]), ula(), &host).expect("a network");
    assert_eq!(made.subnets[0].to_string(), "10.209.0.0/24");
}

#[test]
fn networks_that_are_refused() {
    let mut model = with_network(&["10.1.0.0/24"]);
    let before = model.clone();
    for (request, part) in [
        (network("app", &["10.2.0.0/24"]), "exists already"),
        (network("a/b", &[]), "contains '/'"),
        (network("two", &["10.1.0.128/25"]), "overlaps 10.1.0.0/24 of network app"),
        (network("two", &["10.0.0.0/8"]), "overlaps 10.1.0.0/24 of network app"),
        (network("two", &["192.0.2.128/25"]), "an address of this host (on eth0)"),
        (network("two", &["10.2.0.0/31"]), "no room"),
        (network("two", &["10.2.0.1/24"]), "an address, not a subnet"),
        (network("two", &["10.2.0.0/24", "10.3.0.0/24"]), "second subnet"),
        (network("two", &["127.0.0.0/16"]), "reserved"),
        (network("two", &["224.0.0.0/24"]), "reserved"),
        (network("two", &["fe80::/64"]), "reserved"),
        (network("two", &["10.0.0.0/7"]), "wider"),
        (NetworkRequest { mtu: Some(0), ..network("two", &[]) }, "MTU 0"),
        (NetworkRequest { mtu: Some(67), ..network("two", &[]) }, "MTU 67"),
        (NetworkRequest { mtu: Some(65_536), ..network("two", &[]) }, "MTU 65536"),
        (NetworkRequest { mtu: Some(1_279), ipv6: true, ..network("two", &[]) }, "1280"),
        (NetworkRequest { ageing: Some(30), ..network("two", &[]) }, "add --learning"),
        (NetworkRequest { learning: true, ageing: Some(0), ..network("two", &[]) }, "between 1 and 65535"),
        (NetworkRequest { learning: true, ageing: Some(65_536), ..network("two", &[]) }, "between 1 and 65535"),
        (
            NetworkRequest {
                gateways: vec!["10.9.0.1".parse().expect("an address")],
                ..network("two", &["10.2.0.0/24"])
            },
            "in no subnet",
        ),
        (
            NetworkRequest {
                gateways: vec!["10.2.0.255".parse().expect("an address")],
                ..network("two", &["10.2.0.0/24"])
            },
            "broadcast",
        ),
    ] {
        refused(model.create_network(&request, ula(), &host()), part);
        assert_eq!(model.networks, before.networks);
    }
    refused(model.remove_network("two"), "no network \"two\"");
}

#[test]
fn a_network_stays_while_something_is_attached() {
    let mut model = with_network(&["10.1.0.0/24"]);
    attach(&mut model, "web", "app", 1);
    refused(model.remove_network("app"), "1 endpoint attached: web");
    model.detach("web", None).expect("detached");
    model.remove_network("app").expect("removed");
}

#[test]
fn endpoints_get_the_next_of_everything() {
    let mut model = with_network(&["10.1.0.0/29", "fd00:1::/64"]);
    let first = attach(&mut model, "a", "app", 1);
    assert_eq!(first.ipv4.map(|ip| ip.to_string()).as_deref(), Some("10.1.0.2"));
    assert_eq!(first.ipv6.map(|ip| ip.to_string()).as_deref(), Some("fd00:1::2"));
    assert_eq!((first.index, first.ifname.as_str()), (1, "eth0"));
    model.detach("a", None).expect("detached");
    let second = attach(&mut model, "a", "app", 1);
    assert_ne!(
        (second.index, second.generation, second.mac, second.ipv4),
        (first.index, first.generation, first.mac, first.ipv4)
    );
    for name in ["b", "c", "d", "e"] {
        attach(&mut model, name, "app", 2);
    }
    refused(model.attach(&endpoint("f", "app"), (4, 9), &[], String::new()), "no free address left in 10.1.0.0/29");
}

#[test]
fn a_name_on_two_networks() {
    let mut model = with_network(&["10.1.0.0/24"]);
    model.create_network(&network("db", &["10.2.0.0/24"]), ula(), &host()).expect("a network");
    attach(&mut model, "web", "app", 1);
    assert_eq!(attach(&mut model, "web", "db", 1).ifname, "eth1");
    refused(model.attach(&endpoint("web", "db"), (4, 1), &[], String::new()), "on network db already");
    refused(model.detach("web", Some("none")), "no network");
    model.detach("web", Some("app")).expect("detached");
    refused(model.detach("web", Some("app")), "it is on db");
    refused(model.attach(&endpoint("web", "app"), (4, 2), &[], String::new()), "another container");
    model.detach("web", None).expect("detached");
    refused(model.detach("web", None), "no endpoint \"web\"");
}

#[test]
fn endpoints_that_are_refused() {
    let mut model = with_network(&["10.1.0.0/24"]);
    let web = attach(&mut model, "web", "app", 1);
    let ip = |text: &str| vec![text.parse().expect("an address")];
    let other = || endpoint("other", "app");
    for (request, part) in [
        (AttachRequest { name: Some("a\nb".to_owned()), ..other() }, "contains '\\n'"),
        (AttachRequest { network: "none".to_owned(), ..other() }, "no network"),
        (AttachRequest { ips: ip("10.2.0.9"), ..other() }, "in no subnet of network app"),
        (AttachRequest { ips: ip("10.1.0.1"), ..other() }, "address of the gateway"),
        (AttachRequest { ips: ip("10.1.0.2"), ..other() }, "address of web"),
        (AttachRequest { ips: ip("10.1.0.0"), ..other() }, "network, broadcast"),
        (AttachRequest { ips: ip("fd00::9"), ..other() }, "in no subnet"),
        (AttachRequest { mac: Some(web.mac), ..other() }, "06:d9"),
        (AttachRequest { aliases: vec!["../x".to_owned()], ..other() }, "alias"),
        (AttachRequest { ifname: Some("a/b".to_owned()), ..other() }, "interface name"),
    ] {
        refused(model.attach(&request, (4, 2), &[], String::new()), part);
    }
    let same_interface = AttachRequest { ifname: Some("eth0".to_owned()), ..other() };
    refused(model.attach(&same_interface, (4, 1), &[], String::new()), "eth0 in /run/netns/other is endpoint web");
    refused(model.attach(&same_interface, (4, 2), &["eth0".to_owned()], String::new()), "an interface eth0 already");
    let mac = AttachRequest { mac: Some(Mac([2, 0, 0, 0, 0, 1])), ..other() };
    model.attach(&mac, (4, 2), &[], String::new()).expect("a chosen MAC");
    refused(
        model.attach(&AttachRequest { name: Some("third".to_owned()), ..mac }, (4, 3), &[], String::new()),
        "MAC address of other",
    );
}

#[test]
fn ports_and_their_owners() {
    let mut model = with_network(&["10.1.0.0/24", "fd00:1::/64"]);
    attach(&mut model, "web", "app", 1);
    let mut publish = |text: &str| model.publish(&text.parse().expect("a form"), "web", None, &[]);
    publish("8080:80").expect("published");
    refused(
        publish("8080:81"),
        "port 8080/tcp is already published by web (network app); unpublish it or choose another host port",
    );
    refused(publish("[::]:8080:81"), "already published");
    refused(publish("8000-8100:8000-8100"), "port 8080/tcp is already published");
    publish("8080:80/udp").expect("another protocol");
    publish("192.0.2.1:8080:90").expect("a specific address beats the wildcard");
    publish("192.0.2.2:8080:91").expect("another address");
    refused(publish("192.0.2.2:8080:92"), "port 192.0.2.2:8080/tcp is already published");
    let any = publish("0:80").expect("a chosen port");
    let next = publish("0:80").expect("another chosen port");
    assert_ne!(any.host, next.host);
    publish("[::1]:80:80").expect("IPv6");
    let mut only_v4 = with_network(&["10.1.0.0/24"]);
    attach(&mut only_v4, "web", "app", 1);
    refused(only_v4.publish(&"[::1]:80:80".parse().expect("a form"), "web", None, &[]), "no IPv6 address");
}

#[test]
fn a_range_is_one_publication() {
    let mut model = with_network(&["10.1.0.0/24"]);
    attach(&mut model, "web", "app", 1);
    model.publish(&"8000-8010:80-90".parse().expect("a form"), "web", None, &[]).expect("published");
    assert_eq!(model.publications.len(), 1);
    refused(model.unpublish(&"8003".parse().expect("a form")), "`datapath unpublish 8000-8010/tcp`");
    refused(model.unpublish(&"8000-8010/udp".parse().expect("a form")), "is not published");
    model.unpublish(&"8000-8010".parse().expect("a form")).expect("unpublished");
    assert!(model.publications.is_empty());
}

#[test]
fn publications_wait_for_their_endpoint() {
    let mut model = with_network(&["10.1.0.0/24"]);
    attach(&mut model, "web", "app", 1);
    let first = model.publish(&"80:80".parse().expect("a form"), "web", None, &[]).expect("published");
    model.detach("web", None).expect("detached");
    assert_eq!(model.publications[first.index].target, None);
    let again = attach(&mut model, "web", "app", 2);
    let now = &model.publications[first.index];
    assert_eq!(now.target.as_ref().map(|target| target.generation), Some(again.generation));
    assert!(now.generation > first.generation);
    refused(model.publish(&"81:80".parse().expect("a form"), "nobody", None, &[]), "no endpoint \"nobody\"");
}

#[test]
fn nothing_is_published_to_internal_networks() {
    let mut model = Model::default();
    let internal = NetworkRequest { internal: true, ..network("db", &["10.2.0.0/24"]) };
    model.create_network(&internal, ula(), &host()).expect("a network");
    attach(&mut model, "web", "db", 1);
    let spec: PortSpec = "80:80".parse().expect("a form");
    refused(model.publish(&spec, "web", None, &[]), "network db is internal");
    model.create_network(&network("app", &["10.1.0.0/24"]), ula(), &host()).expect("a network");
    refused(model.publish(&spec, "web", Some("app"), &[]), "it is on db");
    attach(&mut model, "web", "app", 1);
    let published = model.publish(&spec, "web", None, &[]).expect("the first that is not internal");
    assert_eq!(published.target.map(|target| target.network).as_deref(), Some("app"));
    refused(model.publish(&"81:80".parse().expect("a form"), "web", Some("db"), &[]), "internal");
}

#[test]
fn state_survives_being_written() {
    let mut model = with_network(&["10.1.0.0/24", "fd00:1::/64"]);
    attach(&mut model, "web", "app", 1);
    model.publish(&"[::1]:8000-8010:80-90/udp".parse().expect("a form"), "web", None, &[]).expect("published");
    fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
        let text = serde_json::to_string(value).expect("JSON");
        assert_eq!(&serde_json::from_str::<T>(&text).expect("the same"), value);
    }
    survives(&model.networks["app"]);
    survives(model.endpoints[&1].as_ref());
    survives(model.publications[1].as_ref());
    survives(&model.counters);
}

#[test]
fn ports_of_networks_that_learn_have_tables_of_their_own() {
    let mut model = with_network(&["10.1.0.0/24"]);
    let learning = |name: &str, ageing| NetworkRequest { learning: true, ageing, ..network(name, &["10.2.0.0/16"]) };
    let made = model.create_network(&learning("vms", None), ula(), &host()).expect("a network");
    assert_eq!(made.ageing, Some(300), "IEEE 802.1Q's");
    assert_eq!(model.networks["app"].ageing, None);
    assert_eq!(attach(&mut model, "web", "app", 1).stations, 0);
    let most = u64::from(datapath_common::abi::STATION_TABLES) - 1;
    let given: Vec<_> = (1..=most).map(|n| attach(&mut model, &format!("vm{n}"), "vms", 10 + n).stations).collect();
    assert!(given.iter().copied().eq(1..=most as u16));
    let one_more = model.attach(&endpoint("more", "vms"), (4, 9_999), &[], String::new());
    refused(one_more, "the most there can be");
    model.detach("vm7", None).expect("detached");
    assert_eq!(attach(&mut model, "more", "vms", 9_999).stations, 7);
}
