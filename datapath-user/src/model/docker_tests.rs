//! Following dockerd, by example and from anywhere.

use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-01-01T00:00:00Z";

fn host() -> Host {
    let address = |text: &str, on: &str| (text.parse().expect("a prefix"), on.to_owned());
    let addresses = vec![address("192.0.2.1/24", "eth0"), address("172.17.0.1/16", "br-000000000001")];
    Host { addresses, routes: Vec::new() }
}

fn id(kind: &str, number: u8) -> String {
    format!("{kind}{number:02x}{:a<61}", "")
}

fn mac(number: u8) -> Mac {
    Mac([2, 0x42, 172, 17, 0, number])
}

fn network(number: u8) -> DockerNetwork {
    DockerNetwork {
        id: id("n", number),
        name: format!("net{number}"),
        bridge: format!("br-{number:012}"),
        subnets: vec![format!("172.{}.0.0/16", 16 + number).parse().expect("a subnet")],
        gateways: vec![format!("172.{}.0.1", 16 + number).parse().expect("an address")],
        mtu: 1_500,
        icc: true,
        internal: false,
        masquerade: true,
        gateway_mode: GatewayMode::Nat,
        gateway_mode_ipv6: GatewayMode::Nat,
    }
}

fn endpoint(number: u8, on: u8) -> DockerEndpoint {
    DockerEndpoint {
        id: id("e", number),
        container: id("c", number),
        name: format!("web{number}"),
        aliases: Vec::new(),
        network: id("n", on),
        mac: mac(number),
        ipv4: Some(std::net::Ipv4Addr::new(172, 16 + on, 0, number)),
        ipv6: None,
    }
}

fn port(of: u8, on: u8, host: u16) -> DockerPort {
    DockerPort {
        container: id("c", of),
        network: id("n", on),
        host_ip: None,
        host: PortRange::one(host),
        target: PortRange::one(80),
        protocol: Protocol::Tcp,
    }
}

/// The bridges of the inventory with a port for each endpoint.
fn devices(inventory: &Inventory) -> Bridges {
    let mut devices = Bridges::default();
    for (number, network) in (10..).zip(&inventory.networks) {
        let bridge = Bridge { ifindex: number, mac: mac(200), addresses: network.gateways.clone() };
        devices.bridges.insert(network.bridge.clone(), bridge);
        for endpoint in inventory.endpoints.iter().filter(|e| e.network == network.id) {
            let ifindex = 10 * number + u32::from(endpoint.mac.0[5]);
            let port = BridgePort { ifindex, device: format!("veth{ifindex}"), ifname: "eth0".to_owned() };
            devices.ports.entry((network.bridge.clone(), endpoint.mac)).or_default().push(port);
        }
    }
    devices
}

fn follow(model: &mut Model, inventory: &Inventory) -> Unfollowed {
    model.follow_docker(inventory, &devices(inventory), &host(), NOW).expect("followed")
}

fn with_own() -> Model {
    let mut model = Model::default();
    let request = NetworkRequest { name: "own".to_owned(), ..NetworkRequest::default() };
    model.create_network(&request, random_ula([1; 7]), &host()).expect("a network");
    let request = AttachRequest {
        netns: "/run/netns/mine".to_owned(),
        network: "own".to_owned(),
        name: Some("mine".to_owned()),
        ..AttachRequest::default()
    };
    model.attach(&request, (4, 1), &[], NOW.to_owned()).expect("an endpoint");
    model.publish(&"9000:80".parse().expect("a port"), "mine", None, &[]).expect("published");
    model
}

#[test]
fn what_dockerd_has_is_followed_and_forgotten() {
    let mut model = with_own();
    let before = model.clone();
    let inventory =
        Inventory { networks: vec![network(1)], endpoints: vec![endpoint(2, 1)], ports: vec![port(2, 1, 8080)] };
    assert_eq!(follow(&mut model, &inventory), Unfollowed::default());
    assert_eq!(model.networks["net1"].device(), "br-000000000001");
    let web = model.endpoints_named("web2")[0].clone();
    assert_eq!((web.device().as_str(), web.netns.as_str()), ("veth102", "container:c02aaaaaaaaa"));
    let published = model.publications.values().find(|p| p.docker.is_some()).expect("published").clone();
    assert_eq!(
        (published.describe(), published.target.as_ref().expect("leads there").index),
        ("8080/tcp".to_owned(), web.index)
    );
    let again = model.clone();
    follow(&mut model, &inventory);
    assert_eq!(model, again, "nothing has changed");
    model.forget_docker().expect("forgotten");
    assert_eq!(Model { counters: before.counters.clone(), ..model }, before);
}

#[test]
fn a_renamed_container_keeps_its_flows() {
    let mut model = Model::default();
    let mut inventory =
        Inventory { networks: vec![network(1)], endpoints: vec![endpoint(2, 1)], ports: vec![port(2, 1, 8080)] };
    follow(&mut model, &inventory);
    let before = model.clone();
    inventory.endpoints[0].name = "shop".to_owned();
    inventory.networks[0].name = "front".to_owned();
    follow(&mut model, &inventory);
    let (old, new) = (before.endpoints_named("web2")[0], model.endpoints_named("shop")[0]);
    assert_eq!((old.generation, old.index), (new.generation, new.index));
    assert_eq!(new.network, "front");
    let generations = |model: &Model| model.publications.values().map(|p| p.generation).collect::<Vec<_>>();
    assert_eq!(model.publications.values().next().expect("still").endpoint, "shop");
    assert_ne!(generations(&model), Vec::<u32>::new());
}

#[test]
fn another_interface_is_another_endpoint() {
    let mut model = Model::default();
    let inventory = Inventory { networks: vec![network(1)], endpoints: vec![endpoint(2, 1)], ports: Vec::new() };
    follow(&mut model, &inventory);
    let before = model.endpoints_named("web2")[0].generation;
    let mut moved = devices(&inventory);
    moved.ports.values_mut().flatten().for_each(|port| port.ifindex += 50);
    model.follow_docker(&inventory, &moved, &host(), NOW).expect("followed");
    assert!(model.endpoints_named("web2")[0].generation > before);
}

#[test]
fn a_sibling_that_takes_the_mac_address_takes_nothing_else() {
    let mut model = Model::default();
    let inventory =
        Inventory { networks: vec![network(1)], endpoints: vec![endpoint(2, 1), endpoint(3, 1)], ports: Vec::new() };
    follow(&mut model, &inventory);
    let before = model.clone();
    let mut forged = devices(&inventory);
    let key = |number| ("br-000000000001".to_owned(), mac(number));
    let liar = forged.ports.remove(&key(3)).expect("its port");
    forged.ports.entry(key(2)).or_default().extend(liar);
    model.follow_docker(&inventory, &forged, &host(), NOW).expect("followed");
    assert_eq!(model.endpoints_named("web2"), before.endpoints_named("web2"));
    assert!(model.endpoints_named("web3").is_empty(), "nobody knows whose port it is");
}

#[test]
fn what_is_not_there_yet_is_waited_for() {
    let mut model = Model::default();
    let inventory =
        Inventory { networks: vec![network(1)], endpoints: vec![endpoint(2, 1)], ports: vec![port(2, 1, 8080)] };
    let mut there = devices(&inventory);
    there.ports.clear();
    let unfollowed = model.follow_docker(&inventory, &there, &host(), NOW).expect("followed");
    assert!(unfollowed.waiting.len() == 1 && unfollowed.problems.is_empty(), "{unfollowed:?}");
    assert_eq!((model.networks.len(), model.endpoints.len(), model.publications.len()), (1, 0, 0));
    assert!(follow(&mut model, &inventory).waiting.is_empty());
    assert_eq!((model.endpoints.len(), model.publications.len()), (1, 1));
}

#[test]
fn what_is_in_the_way_is_named_and_the_rest_goes_on() {
    let mut model = with_own();
    let mut overlapping = network(3);
    overlapping.subnets = vec!["172.17.128.0/17".parse().expect("a subnet")];
    let mut uplink = network(4);
    uplink.subnets = vec!["192.0.2.0/25".parse().expect("a subnet")];
    let inventory = Inventory {
        networks: vec![network(1), overlapping, uplink],
        endpoints: vec![endpoint(2, 1), endpoint(3, 3)],
        ports: vec![port(2, 1, 9000), port(2, 1, 9001)],
    };
    let problems = follow(&mut model, &inventory).problems;
    let said = |part: &str| assert!(problems.iter().any(|p| p.contains(part)), "{problems:?} should say {part:?}");
    said("\"net3\" (br-000000000003) is closed: its subnet 172.17.128.0/17 overlaps 172.17.0.0/16 of network net1");
    said("overlaps 192.0.2.1/32 of eth0 of this host");
    said("port 9000/tcp of container \"web2\" leads nowhere: 9000/tcp is published by mine");
    assert_eq!(problems.len(), 3);
    assert_eq!((model.networks.len(), model.endpoints.len(), model.publications.len()), (2, 2, 2));
}

#[test]
fn names_that_are_taken_or_not_ours_give_way_to_ids() {
    let mut model = with_own();
    let mut odd = network(1);
    odd.name = "a/b\n".to_owned();
    let mut taken = network(2);
    taken.name = "own".to_owned();
    let mut same = endpoint(2, 1);
    same.name = "mine".to_owned();
    let inventory = Inventory { networks: vec![odd, taken], endpoints: vec![same], ports: Vec::new() };
    assert_eq!(follow(&mut model, &inventory), Unfollowed::default());
    let names: Vec<_> = model.networks.keys().map(String::as_str).collect();
    assert_eq!(names, ["br-000000000001", "br-000000000002", "own"]);
    assert_eq!(model.endpoints_on("br-000000000001").next().expect("joined").name, "c02aaaaaaaaa");
}

#[test]
fn what_is_dockers_is_refused_to_our_commands() {
    let mut model = Model::default();
    let inventory =
        Inventory { networks: vec![network(1)], endpoints: vec![endpoint(2, 1)], ports: vec![port(2, 1, 8080)] };
    follow(&mut model, &inventory);
    let request = AttachRequest { netns: "x".to_owned(), network: "net1".to_owned(), ..AttachRequest::default() };
    let refusals = [
        model.clone().remove_network("net1").expect_err("refused").to_string(),
        model.clone().detach("web2", None).expect_err("refused").to_string(),
        model.clone().attach(&request, (4, 2), &[], NOW.to_owned()).expect_err("refused").to_string(),
        model.clone().unpublish(&"8080".parse().expect("a port")).expect_err("refused").to_string(),
    ];
    assert!(refusals.iter().all(|refusal| refusal.contains("Docker")), "{refusals:?}");
    model.publish(&"9000:80".parse().expect("a port"), "web2", None, &[]).expect("a further port of ours");
}

#[test]
fn gateway_modes_are_of_each_ip_version() {
    let mut model = Model::default();
    let mut mixed = network(1);
    mixed.subnets.push("fd00:1::/64".parse().expect("a subnet"));
    mixed.gateways.push("fd00:1::1".parse().expect("an address"));
    mixed.gateway_mode_ipv6 = GatewayMode::Routed;
    let mut web = endpoint(2, 1);
    web.ipv6 = Some("fd00:1::2".parse().expect("an address"));
    let inventory = Inventory { networks: vec![mixed], endpoints: vec![web], ports: vec![port(2, 1, 8080)] };
    assert_eq!(follow(&mut model, &inventory), Unfollowed::default());
    let answered: Vec<_> = model
        .publications
        .values()
        .flat_map(|p| p.answered().into_iter().map(|address| format!("{address} {}", p.answered_ports())))
        .collect();
    assert_eq!(answered, ["0.0.0.0 8080", "fd00:1::2 80"]);
}

#[test]
fn routed_containers_may_all_have_the_same_port() {
    let mut model = Model::default();
    let mut routed = network(1);
    routed.gateway_mode = GatewayMode::Routed;
    let inventory = Inventory {
        networks: vec![routed, network(2)],
        endpoints: vec![endpoint(2, 1), endpoint(3, 1), endpoint(4, 2)],
        ports: vec![port(2, 1, 80), port(3, 1, 80), port(4, 2, 80)],
    };
    assert_eq!(follow(&mut model, &inventory), Unfollowed::default());
    assert_eq!(model.publications.len(), 3);
    assert_eq!(follow(&mut model, &inventory), Unfollowed::default());
}

prop_compose! {
    fn inventories()(
        networks in prop::collection::btree_set(1u8..5, 0..4),
        endpoints in prop::collection::btree_set((2u8..9, 1u8..5), 0..10),
        ports in prop::collection::btree_set((2u8..9, 1u8..5, 8_998u16..9_003), 0..6),
        renamed in 0u8..3,
    ) -> Inventory {
        let mut endpoints: Vec<_> = endpoints.into_iter().map(|(number, on)| DockerEndpoint {
            id: id("e", number * 16 + on),
            ..endpoint(number, on)
        }).collect();
        for endpoint in endpoints.iter_mut().filter(|e| e.mac.0[5] % 3 == renamed) {
            endpoint.name = "mine".to_owned();
        }
        // dockerd gives a host port once.
        let mut given = std::collections::BTreeSet::new();
        let ports = ports.into_iter().filter(|(.., host)| given.insert(*host)).map(|(of, on, host)| port(of, on, host));
        Inventory { networks: networks.into_iter().map(network).collect(), endpoints, ports: ports.collect() }
    }
}

proptest! {
    #[test]
    fn the_last_inventory_counts(first in inventories(), last in inventories()) {
        let mut model = with_own();
        let own = model.clone();
        follow(&mut model, &first);
        follow(&mut model, &last);
        let again = model.clone();
        follow(&mut model, &last);
        prop_assert_eq!(&model, &again);
        let mut direct = with_own();
        follow(&mut direct, &last);
        let names = |model: &Model| model.endpoints.values().map(|e| (e.network.clone(), e.name.clone(), e.ipv4)).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(names(&model), names(&direct));
        let ports = |model: &Model| model.publications.values().map(|p| (p.describe(), p.endpoint.clone(), p.target.as_ref().map(|t| t.ipv4))).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(ports(&model), ports(&direct));
        model.forget_docker().expect("forgotten");
        let counters = own.counters.clone();
        prop_assert_eq!(Model { counters, ..model }, own);
    }
}
