use bollard::models::{ContainerInspectResponse, NetworkInspect};

use super::*;
use crate::docker::network::members;

fn captured() -> Known {
    let mut known = Known::default();
    for json in [
        include_str!("captured/network-bridge.json"),
        include_str!("captured/network-back.json"),
        include_str!("captured/network-front.json"),
        include_str!("captured/network-dual.json"),
    ] {
        let from: NetworkInspect = serde_json::from_str(json).expect("a network");
        let id = from.id.clone().expect("an id");
        assert!(known.learn_network(&id, members(&from).map(|(members, _)| members)));
    }
    for json in [
        include_str!("captured/container-web.json"),
        include_str!("captured/container-multi.json"),
        include_str!("captured/container-six.json"),
        include_str!("captured/container-shares.json"),
    ] {
        let from: ContainerInspectResponse = serde_json::from_str(json).expect("a container");
        let id = from.id.clone().expect("an id");
        let container = Container::inspected(&id, &from).0;
        assert!(known.learn_container(&id, Some(container.clone())));
        assert!(!known.learn_container(&id, Some(container)), "no news");
    }
    known
}

fn id_of(known: &Known, name: &str) -> String {
    let found = known.networks.values().find(|members| members.network.name == name);
    found.map(|members| members.network.id.clone()).expect("the network")
}

fn ports(known: &mut Known) -> Vec<String> {
    let inventory = known.inventory();
    let name = |id: &str| inventory.networks.iter().find(|n| n.id == id).map_or("?", |n| n.name.as_str());
    let mut ports: Vec<_> = inventory
        .ports
        .iter()
        .map(|port| {
            let ip = port.host_ip.map_or("*".to_owned(), |ip| ip.to_string());
            format!("{} {ip} {}:{}/{}", name(&port.network), port.host, port.target, port.protocol)
        })
        .collect();
    ports.sort();
    ports
}

#[test]
fn the_inventory_of_what_was_captured() {
    let mut known = captured();
    let inventory = known.inventory();
    assert_eq!(inventory.networks.len(), 4);
    let mut endpoints: Vec<_> =
        inventory.endpoints.iter().map(|e| (e.name.as_str(), e.aliases.join(" "), e.ipv4)).collect();
    endpoints.sort();
    let expected = [
        ("multi", "", [10, 77, 0, 129]),
        ("multi", "api", [172, 19, 0, 2]),
        ("multi", "db", [172, 18, 0, 2]),
        ("six", "", [10, 77, 0, 130]),
        ("web", "", [172, 17, 0, 2]),
    ];
    assert_eq!(endpoints, expected.map(|(name, alias, ip)| (name, alias.to_owned(), Some(ip.into()))));
    assert_eq!(
        ports(&mut known),
        [
            "bridge 0.0.0.0 8080:80/tcp",
            "bridge 127.0.0.1 8000-8005:9000-9005/udp",
            "dual * 7070:70/tcp",
            "dual * 9090:90/tcp",
            "dual * 9443-9444:443-444/tcp",
            "dual ::1 7071:71/tcp",
        ]
    );
}

#[test]
fn ports_go_with_the_endpoint() {
    let mut known = captured();
    let front = id_of(&known, "front");
    let dual = id_of(&known, "dual");
    let mut members = known.networks[&dual].clone();
    members.attached.retain(|attached| attached.name != "multi");
    known.learn_network(&dual, Some(members));
    let of_multi = |known: &mut Known| ports(known).into_iter().filter(|port| port.contains(" 9")).count();
    assert_eq!(
        ports(&mut known).iter().filter(|port| port.starts_with("front")).count(),
        2,
        "it publishes by the next"
    );
    known.learn_network(&front, None);
    assert_eq!(of_multi(&mut known), 0, "what is left is internal");
    let id = known.inventory().endpoints.iter().find(|e| e.name == "multi").map(|e| e.container.clone());
    assert_eq!(known.networks_of(&id.expect("multi is on back")).len(), 1);

    let mut restarted = known.networks[&dual].clone();
    restarted.attached[0].endpoint = "0".repeat(64);
    known.learn_network(&dual, Some(restarted));
    assert_eq!(ports(&mut known).len(), 2, "six was started again: its old ports belong to an endpoint that is gone");
}

#[test]
fn ports_are_put_together_again_when_they_change() {
    let mut known = captured();
    let before = ports(&mut known);
    let web = known.containers.iter().find(|(_, container)| container.name == "web").map(|(id, _)| id.clone());
    let web = web.expect("web runs");
    let mut changed = known.containers[&web].clone();
    changed.bindings.retain(|binding| binding.host != Some(8080));
    assert!(known.learn_container(&web, Some(changed)));
    let expected: Vec<_> = before.iter().filter(|port| !port.contains("8080:80")).cloned().collect();
    assert_eq!(ports(&mut known), expected);

    let dual = id_of(&known, "dual");
    let mut members = known.networks[&dual].clone();
    members.network.gateway_mode = GatewayMode::Routed;
    assert!(known.learn_network(&dual, Some(members)));
    assert!(ports(&mut known).contains(&"dual 0.0.0.0 90:90/tcp".to_owned()), "IPv4 is routed now");

    assert!(known.learn_container(&web, None));
    assert!(!ports(&mut known).iter().any(|port| port.starts_with("bridge")), "it is gone");
}

#[test]
fn what_only_the_network_knows() {
    let mut known = captured();
    let containers: Vec<_> = known.containers.keys().cloned().collect();
    for id in containers {
        assert!(known.learn_container(&id, None));
    }
    let inventory = known.inventory();
    assert_eq!((inventory.endpoints.len(), inventory.ports.len()), (5, 0), "endpoints do not wait for containers");
}

#[test]
fn names_for_log_lines() {
    let id = "0123456789abcdef";
    assert_eq!(describe("network", Some("a\nb\" \u{1b}[31m"), id), r#"network "a\nb\" \u{1b}[31m" (0123456789ab)"#);
    assert_eq!(describe("container", Some(""), id), "container 0123456789ab");
    assert_eq!(describe("container", None, "1"), "container 1");
}
