//! Behaviour B4: networks that learn MAC addresses, with bridges and machines behind the ports.

mod support;

use std::net::IpAddr;
use std::time::Duration;

use lab::capture::{Captured, send_frames};
use lab::client::Client;
use lab::frame::{Arp, Ethernet, ethertype};
use lab::ping::ping;
use lab::{Capture, Family, Lan, Mac, PATIENCE, Protocol};
use support::nest::{Learning, PAUSE, STRANGER, between, fdb, mac_of, plain, send};
use support::{REFUSAL, Scene, address, assert_no_leak, at, endpoint, fail, gateway, of, reach, reach_all, serve};

#[test]
fn b4_stations_behind_different_ports_reach_each_other() {
    let net = Learning::start("");
    let [s, t] = net.stations();
    let _servers = [serve(&t.namespace, "t", 80), serve(&net.nests[1].container.namespace, "b", 80)];
    let uplink = net.scene.watch_uplink();
    let first = net.watch_third();
    for target in t.addresses {
        assert_eq!(ping(&s.namespace, target, 1, PATIENCE).expect("answers"), target);
    }
    assert!(between(&first.stop(), s.mac, Mac::BROADCAST) > 0, "a question for a station is one for all");
    assert_eq!(net.learnt(s.mac).as_deref(), Some("a"));
    assert_eq!(net.learnt(t.mac).as_deref(), Some("b"));

    let third = net.watch_third();
    reach_all(&s.namespace, t.addresses, 80, "t", s.addresses);
    for target in t.addresses {
        Client::new(&s.namespace).transfer(at(target, 80), 8 << 20).expect("every byte, in large segments");
    }
    // Between stations and endpoints, both ways.
    reach_all(&s.namespace, endpoint(1, 11), 80, "b", s.addresses);
    reach_all(&net.nests[0].container.namespace, t.addresses, 80, "t", endpoint(1, 10));
    let frames = third.stop();
    let seen = frames.iter().filter(|frame| [s.mac, t.mac].contains(&frame.view.destination_mac)).count();
    assert_eq!(seen, 0, "what is for known stations reaches nobody else: {frames:?}");
    assert_no_leak(uplink);
    net.scene.check_no_other_means().expect("nothing but the programs forwards");

    net.scene.detach_programs().expect("detaches");
    fail(&s.namespace, Protocol::Tcp, at(t.addresses[0], 80));
}

#[test]
fn b4_endpoints_keep_what_they_have_on_any_network() {
    let net = Learning::start("");
    let far = serve(&net.scene.lan().internet, "far", 80);
    let _b = serve(&net.nests[1].container.namespace, "b", 80);
    net.scene.publish("8080:80", "b");
    let host = Lan::HOST.map(address);
    let [a, b] = net.nests.each_ref().map(|nest| &nest.container.namespace);
    reach_all(a, endpoint(1, 11), 80, "b", endpoint(1, 10));
    reach_all(a, Lan::INTERNET.map(address), 80, "far", host);
    reach_all(&net.scene.lan().machine, host, 8080, "b", Lan::MACHINE.map(address));
    reach_all(&net.third.namespace, host, 8080, "b", endpoint(1, 12));
    let third = net.watch_third();
    for target in endpoint(1, 11).into_iter().chain(gateway(1)) {
        a.ip("neigh flush dev br0").expect("flushed");
        assert_eq!(ping(a, target, 1, PATIENCE).expect("answers"), target);
    }
    let frames = third.stop();
    // Announcements are flooded, questions are not.
    let asked = |frame: &&Captured| frame.view.is_neighbour_discovery() && frame.view.source != frame.view.destination;
    let asked: Vec<_> = frames.iter().filter(|frame| frame.view.ethertype == ethertype::ARP).filter(asked).collect();
    assert!(asked.is_empty(), "what is known of endpoints is answered, not flooded: {asked:?}");
    assert!(!far.seen().is_empty() && fdb(&net.scene, "learnt").iter().all(|(mac, _)| *mac != mac_of(b).to_string()));
}

#[test]
fn b4_the_host_and_stations_reach_each_other_and_nothing_of_them_leaves() {
    let net = Learning::start("");
    let [s, _t] = net.stations();
    let _servers = [serve(&s.namespace, "s", 80), serve(&net.scene.namespace, "host", 8000)];
    let outside = serve(&net.scene.lan().internet, "far", 80);
    reach_all(&net.scene.namespace, s.addresses, 80, "s", gateway(1));
    reach_all(&s.namespace, gateway(1), 8000, "host", s.addresses);
    let third = net.watch_third();
    for target in s.addresses {
        assert_eq!(ping(&net.scene.namespace, target, 1, PATIENCE).expect("answers"), target);
    }
    let frames = third.stop();
    assert!(frames.iter().all(|frame| frame.view.destination_mac != s.mac), "the host knows by now: {frames:?}");
    let uplink = net.scene.watch_uplink();
    net.scene.expect_drops("forged_address", || {
        for target in [Lan::INTERNET[0], Lan::MACHINE[0], Lan::HOST[0]] {
            fail(&s.namespace, Protocol::Udp, at(address(target), 80));
        }
    });
    assert_no_leak(uplink);
    assert!(outside.seen().is_empty());
}

/// flood_test of the same file: unicast that nobody knows and multicast reach the other ports.
#[test]
fn b4_what_nobody_knows_is_flooded_as_fast_as_broadcasts() {
    let net = Learning::start("");
    let h1 = &net.nests[0].container.namespace;
    let [back, other, third] = [h1, &net.nests[1].container.namespace, &net.third.namespace]
        .map(|namespace| Capture::start(namespace, "eth0").expect("captures"));
    let gateway = Capture::start(&net.scene.namespace, &net.scene.gateway_device(1)).expect("captures");
    let uplink = net.scene.watch_uplink();
    let packet = |mac: Mac, target: &str| {
        Ethernet::new(mac_of(h1), mac).ip(endpoint(1, 10)[0], address(target)).udp(5, 7, b"flooded")
    };
    let group = Mac([1, 0, 0x5e, 0, 0, 1]);
    for (mac, target, to_host) in [(STRANGER, "192.0.2.100", 0), (group, "239.0.0.1", 1)] {
        send(h1, packet(mac, target));
        for capture in [&other, &third] {
            capture.wait_for(PATIENCE, |frame| frame.view.destination_mac == mac).expect("flooded");
        }
        std::thread::sleep(PAUSE);
        let heard = gateway.wait_for(Duration::ZERO, |frame| frame.view.destination_mac == mac);
        assert_eq!(usize::from(heard.is_some()), to_host, "the host's address is known");
    }
    // One burst of the tokens' size at the most (S3).
    let frames: Vec<_> = (0..3_000).map(|_| packet(STRANGER, "192.0.2.100")).collect();
    net.scene.expect_drops("flood_limit", || send_frames(h1, "eth0", &frames).expect("sends"));
    let arrived = between(&third.stop(), mac_of(h1), STRANGER);
    assert!((900..2_500).contains(&arrived), "{arrived} of 3,000");
    assert_eq!(between(&back.stop(), mac_of(h1), STRANGER), 0, "never back out of the port it came in by");
    assert_no_leak(uplink);
}

#[test]
fn b4_addresses_that_were_given_out_are_not_learnt() {
    let net = Learning::start("");
    let [s, t] = net.stations();
    let _server = serve(&net.nests[1].container.namespace, "b", 80);
    let [b, c] = [&net.nests[1].container.namespace, &net.third.namespace].map(mac_of);
    let router = net.scene.namespace.mac(&net.scene.gateway_device(1)).expect("a MAC");
    let before = fdb(&net.scene, "static");
    net.scene.expect_drops("forged_mac", || {
        for mac in [b, c, router] {
            send(&s.namespace, plain(mac, Mac::BROADCAST));
            send(&s.namespace, plain(mac, t.mac));
        }
    });
    for mac in [b, c, router] {
        assert_eq!(net.learnt(mac), None);
    }
    assert_eq!(fdb(&net.scene, "static"), before);
    assert!(
        before.contains(&(b.to_string(), "b".to_owned())) && before.contains(&(router.to_string(), "-".to_owned()))
    );
    // Nor are their IP addresses: who asks for them is told the truth.
    let claims = [gateway(1)[0], endpoint(1, 11)[0]].map(|claimed| {
        let IpAddr::V4(claimed) = claimed else { panic!("IPv4") };
        Arp::request((s.mac, claimed), [10, 20, 1, 102].into()).frame(s.mac, Mac::BROADCAST)
    });
    net.scene.expect_drops("forged_neighbour", || claims.map(|claim| send(&s.namespace, claim)));
    reach_all(&t.namespace, endpoint(1, 11), 80, "b", t.addresses);
    for target in gateway(1) {
        assert_eq!(ping(&t.namespace, target, 1, PATIENCE).expect("answers"), target);
    }
}

/// bridge_vlan_unaware.sh: what has a tag is switched by its MAC address like anything else, and keeps the tag. The frames are
/// made by hand: not every kernel that runs these tests has VLAN devices.
#[test]
fn b4_vlan_tags_pass_between_stations_and_end_nowhere_else() {
    let net = Learning::start("");
    let [s, t] = net.stations();
    let device = net.scene.gateway_device(1);
    let at_gateway = Capture::start(&net.scene.namespace, &device).expect("captures");
    let [at_s, at_t] = [&s, &t].map(|station| Capture::start(&station.namespace, "eth0").expect("captures"));
    let third = net.watch_third();
    let ends = ["192.168.7.1", "192.168.7.2"].map(address);
    let tagged = |from: Mac, to: Mac| Ethernet::new(from, to).tag(ethertype::VLAN, 7);
    let is_tagged = |frame: &Captured, to: Mac| frame.view.vlan == Some(7) && frame.view.destination_mac == to;

    send(&s.namespace, tagged(s.mac, STRANGER).payload(ethertype::EXPERIMENT, &[7; 46]));
    third.wait_for(PATIENCE, |frame| is_tagged(frame, STRANGER)).expect("flooded, with its tag");
    send(&t.namespace, tagged(t.mac, s.mac).ip(ends[1], ends[0]).udp(7, 5, b"there"));
    send(&s.namespace, tagged(s.mac, t.mac).ip(ends[0], ends[1]).udp(5, 7, b"and back"));
    for (capture, to, payload) in [(&at_s, s.mac, &b"there"[..]), (&at_t, t.mac, b"and back")] {
        let frame = capture.wait_for(PATIENCE, |frame| is_tagged(frame, to) && !frame.outgoing);
        assert_eq!(frame.expect("switched, with its tag").view.payload, payload);
    }
    let router = net.scene.namespace.mac(&device).expect("a MAC");
    send(&s.namespace, tagged(s.mac, Mac::BROADCAST).payload(ethertype::EXPERIMENT, &[7; 46]));
    at_t.wait_for(PATIENCE, |frame| is_tagged(frame, Mac::BROADCAST)).expect("a group with a tag");
    net.scene.expect_drops("vlan_tagged", || {
        send(&s.namespace, tagged(s.mac, router).payload(ethertype::EXPERIMENT, &[7; 46]));
    });
    // Its receiver takes a priority tag for none, so it would get what no guard has seen.
    let priority = Ethernet::new(s.mac, t.mac).tag(ethertype::VLAN, 0).ip(ends[0], ends[1]).udp(5, 7, b"unjudged");
    net.scene.expect_drops("vlan_tagged", || send(&s.namespace, priority));
    let unjudged = at_t.wait_for(REFUSAL, |frame| frame.view.payload == b"unjudged");
    assert!(unjudged.is_none(), "{unjudged:?}");
    let known = |frame: &Captured| is_tagged(frame, s.mac) || is_tagged(frame, t.mac);
    assert!(!third.stop().iter().any(known), "what is known is for one port");
    let at_gateway = at_gateway.stop();
    assert!(at_gateway.iter().all(|frame| frame.view.vlan.is_none()), "the host has no part in it: {at_gateway:?}");
}

#[test]
fn b4_without_icc_stations_reach_the_gateway_alone() {
    let net = Learning::start("--no-icc");
    let [s, t] = net.stations();
    let _servers = [serve(&t.namespace, "t", 80), serve(&net.scene.namespace, "host", 8000)];
    for family in Family::ALL {
        reach(&s.namespace, Protocol::Tcp, at(of(family, gateway(1)), 8000));
        reach(&net.scene.namespace, Protocol::Tcp, at(of(family, t.addresses), 80));
    }
    let at_t = Capture::start(&t.namespace, "eth0").expect("captures");
    net.scene.expect_drops("icc_disabled", || {
        send(&s.namespace, plain(s.mac, t.mac));
        send(&s.namespace, plain(s.mac, STRANGER));
        send(&s.namespace, plain(s.mac, Mac::BROADCAST));
    });
    std::thread::sleep(PAUSE);
    assert!(at_t.stop().iter().all(|frame| frame.view.source_mac != s.mac));
}

#[test]
fn b4_other_networks_learn_nothing() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let at_b = Capture::start(&b.namespace, "eth0").expect("captures");
    scene.expect_drops("forged_mac", || send(&a.namespace, plain(STRANGER, Mac::BROADCAST)));
    scene.expect_drops("unknown_destination", || send(&a.namespace, plain(mac_of(&a.namespace), STRANGER)));
    let tagged = Ethernet::new(mac_of(&a.namespace), mac_of(&b.namespace)).tag(ethertype::VLAN, 7);
    scene.expect_drops("vlan_tagged", || send(&a.namespace, tagged.payload(ethertype::EXPERIMENT, &[7; 46])));
    assert!(at_b.stop().iter().all(|frame| frame.view.ethertype != ethertype::EXPERIMENT));
    assert_eq!(fdb(&scene, "learnt"), []);
}

#[test]
fn b4_learning_is_part_of_the_network() {
    let scene = Scene::start();
    scene.network(1, "--learning --ageing 60");
    scene.network(2, "--learning");
    scene.network(3, "");
    assert!(scene.refuse("network create net4 --ageing 60").contains("add --learning"));
    let shown = |scene: &Scene| {
        ["net1", "net2", "net3"].map(|name| {
            let network = scene.json(["network", "inspect", name]).expect("shown");
            (network["learning"].clone(), network["ageing"].clone())
        })
    };
    let expected = [(true, Some(60)), (true, Some(300)), (false, None)].map(|(l, a)| (l.into(), a.into()));
    assert_eq!(shown(&scene), expected);
    assert!(scene.run("network ls").contains("learning"));
    scene.kill_daemon().expect("killed");
    scene.start_daemon().expect("ready");
    assert_eq!(shown(&scene), expected);
    assert!(scene.run("fdb ls").contains("(gateway)"));
    assert!(scene.refuse("fdb ls nothing").contains("no network"));
}
