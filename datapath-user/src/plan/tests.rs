//! The plan leads to what is desired, from anywhere, and in the right order.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::model::{AttachRequest, Host, NetworkRequest, random_ula};

fn model_with(endpoints: &[(&str, &str)], ports: &[&str]) -> Model {
    let mut model = Model::default();
    for name in ["app", "db"] {
        let request = NetworkRequest { name: name.to_owned(), ipv6: name == "app", ..NetworkRequest::default() };
        model.create_network(&request, random_ula([1; 7]), &Host::default()).expect("a network");
    }
    for (number, (name, network)) in (0..).zip(endpoints) {
        let request = AttachRequest {
            netns: (*name).to_owned(),
            network: (*network).to_owned(),
            name: Some((*name).to_owned()),
            ..AttachRequest::default()
        };
        model.attach(&request, (4, number), &[], String::new()).expect("an endpoint");
    }
    for port in ports {
        model.publish(&port.parse().expect("a port"), endpoints[0].0, None, &[]).expect("published");
    }
    model
}

fn devices_of(model: &Model) -> Devices {
    let gateway = |id: u32| Gateway { ifindex: 100 + id, far_ifindex: Some(200 + id) };
    let gateways = model.networks.values().map(|n| (n.id, gateway(n.id)));
    let ports =
        model.endpoints.values().map(|e| (e.generation, Port { ifindex: 1_000 + e.generation, bridged: false }));
    Devices { gateways: gateways.collect(), ports: ports.collect() }
}

fn contents_of(model: &Model) -> Contents {
    desired(model, &devices_of(model), &Contents::default())
}

fn position(plan: &[Change], which: impl Fn(&Change) -> bool) -> usize {
    plan.iter().position(which).expect("a change in the plan")
}

/// Carries out the plan on plain data, and says what is wrong on the way, if anything.
fn carry_out(plan: &[Change], from: &Contents) -> Contents {
    let mut actual = from.clone();
    for change in plan {
        actual.note(change);
        for index in actual.by_ifindex.values() {
            assert!(actual.endpoints.contains_key(index), "after {change:?}: a key leads to no endpoint");
        }
        for ifindex in actual.members.values() {
            assert!(actual.by_ifindex.contains_key(ifindex), "after {change:?}: a member that is no endpoint's");
        }
        for (network, value) in &actual.networks {
            for position in 0..value.members {
                assert!(actual.members.contains_key(&(*network, position)), "after {change:?}: a hole in the members");
            }
        }
    }
    actual
}

#[test]
fn devices_minus_devices() {
    let model = model_with(&[("web", "app"), ("sql", "db")], &[]);
    let nothing = Devices::default();
    let plan = devices(&model, &nothing);
    assert_eq!((plan.build_gateways.len(), plan.build_ports.len()), (2, 2));
    assert_eq!(devices(&model, &devices_of(&model)), DevicePlan::default());
    let plan = devices(&Model::default(), &devices_of(&model));
    assert_eq!((plan.remove_ports.len(), plan.remove_gateways.len()), (2, 2));
}

#[test]
fn contents_of_a_network_and_its_endpoint() {
    let contents = contents_of(&model_with(&[("web", "app")], &["8000-8002:80-82"]));
    let app = contents.networks[&1];
    assert_eq!((app.members, app.mtu, app.gateway_ifindex), (1, 1_500, 101));
    assert_eq!(IpAddr::from(app.gateway_ipv4).to_string(), "10.208.0.1");
    assert_eq!(
        contents.by_address.values().filter(|index| **index == 0).count(),
        4,
        "both of app, its link-local, and db's"
    );
    let web = contents.endpoints[&1];
    assert_eq!(IpAddr::from(web.ipv4).to_string(), "10.208.0.2");
    assert_eq!(web.publications, 3);
    assert_eq!(contents.by_address.values().filter(|index| **index == 1).count(), 3, "IPv4, IPv6 and link-local");
    assert_eq!(contents.by_address.keys().filter(|(network, _)| *network == 2).count(), 1, "IPv4 gateway only");
    let published = &contents.publications[1];
    assert_eq!((published.keys.count(), published.value.count), (6, 3));
    assert!(published.keys.iter().any(|key| key.port == 8_000u16.to_be()));
}

#[test]
fn values_come_before_keys_and_go_after_them() {
    let contents = contents_of(&model_with(&[("web", "app")], &["80:80"]));
    let coming = changes(&contents, &Contents::default());
    let value = position(&coming, |c| matches!(c, Change::SetEndpoint(..)));
    assert!(position(&coming, |c| matches!(c, Change::ZeroUsage(_))) < value);
    assert!(value < position(&coming, |c| matches!(c, Change::SetIfindex(..))));
    assert!(value < position(&coming, |c| matches!(c, Change::SetMember(..))));
    let publication = position(&coming, |c| matches!(c, Change::SetPublication(..)));
    assert!(publication < position(&coming, |c| matches!(c, Change::Publish(..))));
    let going = changes(&Contents::default(), &contents);
    let value = position(&going, |c| matches!(c, Change::ClearEndpoint(_)));
    for key in [
        position(&going, |c| matches!(c, Change::RemoveIfindex(_))),
        position(&going, |c| matches!(c, Change::RemoveMember(..))),
        position(&going, |c| matches!(c, Change::Unpublish(..))),
    ] {
        assert!(key < value);
    }
}

#[test]
fn the_last_member_moves_into_the_hole() {
    let mut model = model_with(&[("a", "app"), ("b", "app"), ("c", "app")], &[]);
    let before = contents_of(&model);
    model.detach("a", None).expect("detached");
    let after = desired(&model, &devices_of(&model), &before);
    assert_eq!(after.members.into_iter().collect::<Vec<_>>(), [((1, 0), 1_003), ((1, 1), 1_002)]);
}

#[test]
fn a_count_that_a_crash_left_wrong_is_set_right() {
    let wanted = contents_of(&model_with(&[("a", "app"), ("b", "app")], &[]));
    let mut found = wanted.clone();
    found.networks.entry(1).and_modify(|network| network.members = 1);
    assert_eq!(changes(&wanted, &found), [Change::SetNetwork(1, wanted.networks[&1])]);
}

#[test]
fn what_waits_has_no_keys_and_keeps_its_count() {
    let mut model = model_with(&[("web", "app")], &["80:80"]);
    let before = contents_of(&model);
    model.detach("web", None).expect("detached");
    let waiting = desired(&model, &devices_of(&model), &before);
    assert!(waiting.publications[1].keys.is_empty());
    assert_eq!(waiting.publications[1].value.endpoint_generation, 0);
    let plan = changes(&before, &waiting);
    assert!(!plan.iter().any(|change| matches!(change, Change::ZeroHits(_))));
}

#[test]
fn a_new_target_overwrites_without_a_gap() {
    let mut model = model_with(&[("web", "app")], &["80:80"]);
    let before = contents_of(&model);
    let request = AttachRequest { netns: "web".to_owned(), network: "app".to_owned(), ..AttachRequest::default() };
    model.detach("web", None).expect("detached");
    model.attach(&request, (4, 77), &[], String::new()).expect("attached again");
    let plan = changes(&desired(&model, &devices_of(&model), &before), &before);
    assert!(
        !plan.iter().any(|change| matches!(change, Change::Publish(..) | Change::Unpublish(..) | Change::ZeroHits(_)))
    );
    assert!(plan.iter().any(|change| matches!(change, Change::SetPublication(..))));
}

proptest! {
    #[test]
    fn leads_from_anything_to_anything(
        one in prop::collection::vec(any::<bool>(), 1..8),
        two in prop::collection::vec(any::<bool>(), 1..8),
        ports_one in 0usize..4,
        ports_two in 0usize..4,
    ) {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let ports = ["80:80", "81:80/udp", "8000-8010:80-90"];
        let build = |on_app: &[bool], ports: &[&str]| {
            let endpoints: Vec<_> = names.into_iter().zip(on_app).map(|(name, app)| (name, if *app { "app" } else { "db" })).collect();
            model_with(&endpoints, ports)
        };
        let (from, to) = (build(&one, &ports[..ports_one.min(3)]), build(&two, &ports[3 - ports_two.min(3)..]));
        let from = contents_of(&from);
        let to = desired(&to, &devices_of(&to), &from);
        let (wanted, reached) = (to.clone(), carry_out(&changes(&to, &from), &from));
        prop_assert_eq!(&reached, &wanted);
        prop_assert!(changes(&wanted, &reached).is_empty());
    }

    #[test]
    fn what_differs_is_enough(
        from in prop::collection::btree_set(0usize..5, 0..5),
        to in prop::collection::btree_set(0usize..5, 0..5),
        without_port in any::<bool>(),
    ) {
        let ports = ["80:80", "81:80/udp", "8000-8010:80-90", "192.0.2.1:82:80", "80:80/sctp"];
        let publish = |which: &BTreeSet<usize>| {
            model_with(&[("web", "app"), ("sql", "db")], &which.iter().map(|port| ports[*port]).collect::<Vec<_>>())
        };
        let (from, to) = (publish(&from), publish(&to));
        let mut devices = devices_of(&from);
        if without_port {
            devices.ports.pop_first();
        }
        let before = desired(&from, &devices, &Contents::default());
        let basis = Basis { model: from, devices: devices.clone() };
        prop_assert_eq!(desired_after(&basis, &to, &devices, &before), desired(&to, &devices, &before));
        let elsewhere = devices_of(&Model::default());
        prop_assert_eq!(desired_after(&basis, &to, &elsewhere, &before), desired(&to, &elsewhere, &before));
    }
}
