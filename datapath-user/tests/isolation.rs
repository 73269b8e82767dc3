//! Behaviours I: what must not reach whom. Every refusal has its positive control beside it.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::capture::send_frames;
use lab::client::Client;
use lab::frame::{Ethernet, ethertype};
use lab::ping::ping;
use lab::{Capture, Container, Family, Lan, Mac, Namespace, PATIENCE, Protocol};
use support::{
    REFUSAL, Scene, address, assert_no_leak, at, endpoint, fail, fail_all, gateway, is_inside, of, reach, reach_all,
    serve,
};

fn mac_of(container: &Container) -> Mac {
    container.namespace.mac("eth0").expect("a MAC")
}

#[test]
fn i1_without_icc_endpoints_cannot_reach_each_other() {
    let scene = Scene::start();
    scene.network(1, "--no-icc");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let (_b, _host) = (serve(&b.namespace, "b", 80), serve(&scene.namespace, "host", 8000));
    let _far = serve(&scene.lan().internet, "far", 80);
    scene.publish("8080:80", "b");
    let on_b = Capture::start(&b.namespace, "eth0").expect("captures");

    scene.expect_drops("icc_disabled", || fail_all(&a.namespace, endpoint(1, 11), 80));
    for target in endpoint(1, 11) {
        scene.expect_drops("icc_disabled", || ping(&a.namespace, target, 1, REFUSAL).expect_err("no ICC"));
    }
    let (from, to) = (mac_of(&a), mac_of(&b));
    scene.expect_drops("icc_disabled", || {
        let frame = Ethernet::new(from, to).payload(ethertype::EXPERIMENT, &[7; 46]);
        send_frames(&a.namespace, "eth0", &[frame]).expect("sends");
        std::thread::sleep(Duration::from_millis(20));
    });
    let broadcasts = [
        Ethernet::new(from, Mac::BROADCAST).payload(ethertype::EXPERIMENT, &[7; 46]),
        Ethernet::new(from, Mac::BROADCAST).ip(endpoint(1, 10)[0], address("10.20.1.255")).udp(1, 2, b"all"),
        Ethernet::new(from, Mac::multicast_of(address("ff02::1")))
            .ip(endpoint(1, 10)[1], address("ff02::1"))
            .udp(1, 2, b"all"),
    ];
    send_frames(&a.namespace, "eth0", &broadcasts).expect("sends");
    std::thread::sleep(Duration::from_millis(30));
    let got: Vec<_> =
        on_b.stop().into_iter().filter(|frame| !frame.outgoing && frame.view.source_mac == from).collect();
    assert!(got.is_empty(), "b got frames of a: {got:?}");

    // Controls: gateway, outside, and the published port through the host's address.
    reach_all(&a.namespace, gateway(1), 8000, "host", endpoint(1, 10));
    reach_all(&a.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
    reach_all(&a.namespace, Lan::HOST.map(address), 8080, "b", endpoint(1, 10));
}

#[test]
fn i2_networks_cannot_reach_each_other_directly() {
    for forwarding in [false, true] {
        let scene = Scene::start();
        if forwarding {
            scene.namespace.forward().expect("sysctl");
        }
        scene.network(1, "");
        scene.network(2, "");
        let (a, b) = (scene.join("a", 1, 10), scene.join("b", 2, 10));
        let (_b, _host) = (serve(&b.namespace, "b", 80), serve(&scene.namespace, "host", 8000));
        scene.publish("8080:80", "b");
        let on_b = Capture::start(&b.namespace, "eth0").expect("captures");

        scene.expect_drops("network_isolation", || fail_all(&a.namespace, endpoint(2, 10), 80));
        scene.expect_drops("network_isolation", || fail_all(&a.namespace, gateway(2), 8000));
        for target in endpoint(2, 10).into_iter().chain(gateway(2)) {
            ping(&a.namespace, target, 1, REFUSAL).expect_err("another network");
        }
        // The other network's gateway as router: its MAC is no port of this network.
        let router = scene.namespace.mac(&scene.gateway_device(2)).expect("a MAC");
        let frames = [0, 1].map(|family| {
            let ends = (endpoint(1, 10)[family], endpoint(2, 10)[family]);
            Ethernet::new(mac_of(&a), router).ip(ends.0, ends.1).udp(1, 80, b"routed?")
        });
        send_frames(&a.namespace, "eth0", &frames).expect("sends");
        std::thread::sleep(Duration::from_millis(30));
        let got: Vec<_> = on_b
            .stop()
            .into_iter()
            .filter(|frame| !frame.outgoing && frame.view.source.is_some_and(|s| endpoint(1, 10).contains(&s)))
            .collect();
        assert!(got.is_empty(), "b got frames of a: {got:?}");

        reach_all(&a.namespace, gateway(1), 8000, "host", endpoint(1, 10));
        reach_all(&a.namespace, Lan::HOST.map(address), 8080, "b", endpoint(1, 10));
    }
}

#[test]
fn i3_internal_networks_have_no_outside() {
    let scene = Scene::start();
    scene.network(1, "--internal");
    scene.network(2, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let open = scene.join("open", 2, 10);
    let (_b, _host) = (serve(&b.namespace, "b", 80), serve(&scene.namespace, "host", 8000));
    let (_far, _near) = (serve(&scene.lan().internet, "far", 80), serve(&scene.lan().machine, "near", 53));
    let uplink = scene.watch_uplink();
    // A container with a default route of its own making.
    a.namespace.ip("route replace default via 10.20.1.1\nroute replace default via fd20:1::1").expect("routes");

    for (targets, port) in [(Lan::INTERNET, 80), (Lan::MACHINE, 53), (Lan::HOST, 8000)] {
        scene.expect_drops("internal_network", || fail_all(&a.namespace, targets.map(address), port));
    }
    scene.expect_drops("internal_network", || fail_all(&a.namespace, endpoint(2, 10), 80));
    for target in Lan::INTERNET.map(address) {
        ping(&a.namespace, target, 1, REFUSAL).expect_err("outside");
    }
    fail_all(&open.namespace, endpoint(1, 10), 80);

    reach_all(&a.namespace, endpoint(1, 11), 80, "b", endpoint(1, 10));
    reach_all(&a.namespace, gateway(1), 8000, "host", endpoint(1, 10));
    reach_all(&scene.namespace, endpoint(1, 11), 80, "b", gateway(1));
    reach_all(&open.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
    assert_no_leak(uplink);
}

#[test]
fn i4_a_container_on_two_networks_reaches_both() {
    let scene = Scene::start();
    scene.network(1, "");
    scene.network(2, "");
    let (a, b, both) = (scene.join("a", 1, 10), scene.join("b", 2, 10), scene.join("both", 1, 20));
    let second = endpoint(2, 20).map(|address| address.to_string());
    let netns = both.namespace.name();
    scene
        .run(&format!("attach {netns} --network net2 --name both --ip {} --ip {} --ifname eth1", second[0], second[1]));
    let (_a, _b, _both) =
        (serve(&a.namespace, "a", 80), serve(&b.namespace, "b", 80), serve(&both.namespace, "both", 80));
    reach_all(&both.namespace, endpoint(1, 10), 80, "a", endpoint(1, 20));
    reach_all(&both.namespace, endpoint(2, 10), 80, "b", endpoint(2, 20));
    reach_all(&a.namespace, endpoint(1, 20), 80, "both", endpoint(1, 10));
    reach_all(&b.namespace, endpoint(2, 20), 80, "both", endpoint(2, 10));

    // Published on each of the two: the reply leaves by the interface the flow came in on.
    for (network, host_port, inside, quiet) in [(1, 8081, "eth0", "eth1"), (2, 8082, "eth1", "eth0")] {
        for protocol in ["tcp", "udp"] {
            scene.run(&format!("publish {host_port}:80/{protocol} both --network net{network}"));
        }
        let on_inside = Capture::start(&both.namespace, inside).expect("captures");
        let on_quiet = Capture::start(&both.namespace, quiet).expect("captures");
        for family in Family::ALL {
            let target = at(family.of(Lan::HOST), host_port);
            let exchange = reach(&scene.lan().machine, Protocol::Tcp, target);
            assert_eq!((exchange.server.as_str(), exchange.seen.ip()), ("both", family.of(Lan::MACHINE)));
            assert_eq!(exchange.served_on.ip(), of(family, endpoint(network, 20)));
        }
        let client = |address| Lan::MACHINE.map(support::address).contains(&address);
        let replies = |capture: Capture| {
            let frames = capture.stop().into_iter();
            frames.filter(|frame| frame.outgoing && frame.view.destination.is_some_and(client)).count()
        };
        assert!(replies(on_inside) > 0, "replies leave by {inside}");
        assert_eq!(replies(on_quiet), 0, "no reply leaves by {quiet}");
    }
}

#[test]
fn i5_rules_hold_while_the_daemon_is_dead() {
    let scene = Scene::start();
    scene.network(1, "--no-icc");
    scene.network(2, "");
    let (a, b, c) = (scene.join("a", 1, 10), scene.join("b", 1, 11), scene.join("c", 2, 10));
    let _servers =
        (serve(&b.namespace, "b", 80), serve(&c.namespace, "c", 80), serve(&scene.lan().internet, "far", 80));
    let refused = || {
        fail_all(&a.namespace, endpoint(1, 11), 80);
        fail_all(&a.namespace, endpoint(2, 10), 80);
    };
    let delivered = || reach_all(&a.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
    refused();
    delivered();
    scene.kill_daemon().expect("kills");
    refused();
    delivered();
    scene.start_daemon().expect("starts again");
    refused();
    delivered();
    scene.stop_daemon().expect("stops");
    refused();
    delivered();
}

#[test]
fn i5_an_endpoint_is_closed_from_its_first_packet() {
    let scene = Scene::start();
    scene.network(1, "--no-icc");
    scene.network(2, "");
    let (a, open) = (scene.join("a", 1, 10), scene.join("open", 2, 10));
    let (from, to) = (mac_of(&a), Mac([2, 0x42, 0, 0, 0, 0x99]));
    let frames: Vec<_> = (0..2)
        .map(|family| {
            Ethernet::new(from, to).ip(endpoint(1, 10)[family], endpoint(1, 30)[family]).udp(1, 2, b"early bird")
        })
        .chain([Ethernet::new(from, Mac::BROADCAST).ip(endpoint(1, 10)[0], address("10.20.1.255")).udp(
            1,
            2,
            b"early bird",
        )])
        .collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                send_frames(&a.namespace, "eth0", &frames).expect("sends");
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        for round in 0..5 {
            let namespace = Namespace::new("late").expect("a namespace");
            let capture = Capture::start_everywhere(&namespace).expect("captures");
            let name = format!("late{round}");
            let addresses = endpoint(1, 30).map(|address| address.to_string());
            scene.run(&format!(
                "attach {} --network net1 --name {name} --ip {} --ip {} --mac {to}",
                namespace.name(),
                addresses[0],
                addresses[1]
            ));
            std::thread::sleep(Duration::from_millis(20));
            scene.run(&format!("detach {name}"));
            let early: Vec<_> =
                capture.stop().into_iter().filter(|frame| frame.view.payload == b"early bird").collect();
            assert!(early.is_empty(), "round {round}: {early:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    // Control: where ICC is on, the same frames arrive.
    let peer = scene.join("peer", 2, 11);
    let on_peer = Capture::start(&peer.namespace, "eth0").expect("captures");
    let frame =
        Ethernet::new(mac_of(&open), mac_of(&peer)).ip(endpoint(2, 10)[0], endpoint(2, 11)[0]).udp(1, 2, b"early bird");
    send_frames(&open.namespace, "eth0", &[frame]).expect("sends");
    on_peer.wait_for(PATIENCE, |frame| frame.view.payload == b"early bird").expect("arrives");
}

#[test]
fn i5_what_no_program_judged_is_not_delivered() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let side_door = scene.host_side(&b, "eth0");
    let on_b = Capture::start(&b.namespace, "eth0").expect("captures");
    let frame =
        |payload| Ethernet::new(mac_of(&a), mac_of(&b)).ip(endpoint(1, 10)[0], endpoint(1, 11)[0]).udp(1, 2, payload);
    scene.expect_drops("unjudged", || {
        // The sender is told of the drop: it is on the way out.
        let _ = send_frames(&scene.namespace, &side_door, &[frame(b"by the side door")]);
        std::thread::sleep(Duration::from_millis(20));
    });
    send_frames(&a.namespace, "eth0", &[frame(b"by the front door")]).expect("sends");
    on_b.wait_for(PATIENCE, |frame| frame.view.payload == b"by the front door").expect("arrives");
    assert!(on_b.stop().iter().all(|frame| frame.view.payload != b"by the side door"));
}

#[test]
fn n12_ipv6_is_dropped_on_an_ipv4_network() {
    let scene = Scene::start();
    scene.run("network create old --subnet 10.20.3.0/24");
    scene.network(1, "");
    let a = scene.container("a", "old", &["10.20.3.10"]).expect("attaches");
    let b = scene.container("b", "old", &["10.20.3.11"]).expect("attaches");
    let (c, d) = (scene.join("c", 1, 10), scene.join("d", 1, 11));
    let _servers = (serve(&b.namespace, "b", 80), serve(&d.namespace, "d", 80));
    let on_b = Capture::start(&b.namespace, "eth0").expect("captures");
    let uplink = scene.watch_uplink();
    for (container, address) in [(&a, "fd20:3::10/64"), (&b, "fd20:3::11/64")] {
        container.namespace.sysctl("ipv6/conf/eth0/disable_ipv6", "0").expect("sysctl");
        container.namespace.ip(&format!("addr replace {address} dev eth0 nodad")).expect("an address");
    }
    // By hand, so that it is not the missing neighbour that stops it.
    a.namespace.ip(&format!("neigh replace fd20:3::11 lladdr {} dev eth0", mac_of(&b))).expect("a neighbour");
    scene.expect_drops("family_disabled", || fail(&a.namespace, Protocol::Tcp, at(address("fd20:3::11"), 80)));
    fail(&a.namespace, Protocol::Udp, at(address("fd20:3::11"), 80));
    let router = Ethernet::new(mac_of(&a), scene.namespace.mac(&gateway_of_old(&scene)).expect("a MAC"));
    let out = router.ip(address("fd20:3::10"), address(Lan::INTERNET[1])).udp(1, 2, b"out");
    scene.expect_drops("family_disabled", || {
        send_frames(&a.namespace, "eth0", &[out]).expect("sends");
        std::thread::sleep(Duration::from_millis(20));
    });
    let got = on_b.stop();
    assert!(got.iter().all(|f| f.outgoing || f.view.source != Some(address("fd20:3::10"))), "b got IPv6: {got:?}");
    let leaked: Vec<_> = uplink.stop().into_iter().filter(is_inside).collect();
    assert!(leaked.is_empty(), "{leaked:?}");

    let old = Client::new(&a.namespace).exchange(Protocol::Tcp, at(address("10.20.3.11"), 80)).expect("IPv4 passes");
    assert_eq!(old.seen.ip(), address("10.20.3.10"));
    reach_all(&c.namespace, endpoint(1, 11), 80, "d", endpoint(1, 10));
}

fn gateway_of_old(scene: &Scene) -> String {
    scene.gateway_device(3)
}
