//! Behaviours P2 to P6, P8, P10 and N8: published ports, from everywhere they are reached.

mod support;

use std::time::Duration;

use lab::capture::send_frames;
use lab::client::{Client, ask};
use lab::frame::{Ethernet, Transport};
use lab::{Capture, Family, Lan, Protocol};
use support::{Scene, address, assert_no_leak, at, endpoint, fail_all, gateway, of, reach, reach_all, reach_by, serve};

const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

#[test]
fn p2_p3_reachable_from_everywhere_and_the_server_sees_the_client() {
    let scene = Scene::start();
    scene.network(1, "");
    scene.network(2, "");
    let (a, sibling, other) = (scene.join("a", 1, 10), scene.join("sibling", 1, 11), scene.join("other", 2, 10));
    let _server = serve(&a.namespace, "a", 80);
    scene.publish("8080:80", "a");
    let uplink = scene.watch_uplink();
    let host = Lan::HOST.map(address);

    // Another machine, near and far, and with the client's own port.
    reach_all(&scene.lan().machine, host, 8080, "a", Lan::MACHINE.map(address));
    reach_all(&scene.lan().internet, host, 8080, "a", Lan::INTERNET.map(address));
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            let source = at(family.of(Lan::MACHINE), 40_000 + protocol as u16);
            let client = Client::new(&scene.lan().machine).from(source);
            assert_eq!(reach_by(&client, protocol, at(family.of(Lan::HOST), 8080)).seen, source, "{protocol:?}");
        }
    }
    // The host, by each of its addresses; bound and unbound.
    reach_all(&scene.namespace, LOOPBACK.map(address), 8080, "a", gateway(1));
    reach_all(&scene.namespace, host, 8080, "a", host);
    reach_all(&scene.namespace, gateway(1), 8080, "a", gateway(1));
    for family in Family::ALL {
        for (targets, seen) in [(LOOPBACK.map(address), gateway(1)), (host, host)] {
            let client = Client::new(&scene.namespace).from_address(of(family, targets));
            for protocol in Protocol::ALL {
                let exchange = reach_by(&client, protocol, at(of(family, targets), 8080));
                assert_eq!(exchange.seen.ip(), of(family, seen), "{protocol:?} bound to {}", of(family, targets));
            }
        }
    }
    // Containers: same network, another network, itself.
    reach_all(&sibling.namespace, host, 8080, "a", endpoint(1, 11));
    reach_all(&sibling.namespace, gateway(1), 8080, "a", endpoint(1, 11));
    reach_all(&other.namespace, host, 8080, "a", endpoint(2, 10));
    reach_all(&a.namespace, host, 8080, "a", gateway(1));

    assert_no_leak(uplink);
    scene.check_no_other_means().expect("nothing but the programs forwards");
}

#[test]
fn n8_hairpin_to_a_sibling_and_to_itself() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, sibling) = (scene.join("a", 1, 10), scene.join("sibling", 1, 11));
    let _server = serve(&a.namespace, "a", 80);
    scene.publish("8080:80", "a");
    let uplink = scene.watch_uplink();
    for targets in [Lan::HOST.map(address), gateway(1)] {
        reach_all(&sibling.namespace, targets, 8080, "a", endpoint(1, 11));
        reach_all(&a.namespace, targets, 8080, "a", gateway(1));
    }
    for family in Family::ALL {
        Client::new(&sibling.namespace).transfer(at(family.of(Lan::HOST), 8080), 1 << 20).expect("transfers");
        Client::new(&a.namespace).transfer(at(family.of(Lan::HOST), 8080), 1 << 20).expect("transfers to itself");
    }
    assert_no_leak(uplink);
}

#[test]
fn p4_only_local_addresses_are_published() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let server = serve(&a.namespace, "a", 80);
    let _far = serve(&scene.lan().internet, "far", 80);
    scene.publish("80:80", "a");
    for client in [&a, &b] {
        reach_all(&client.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
    }
    reach_all(&scene.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
    assert_eq!(server.seen(), []);
    reach_all(&scene.lan().machine, Lan::HOST.map(address), 80, "a", Lan::MACHINE.map(address));
}

#[test]
fn p5_a_specific_address_beats_the_wildcard() {
    for specific_first in [true, false] {
        let scene = Scene::start();
        scene
            .namespace
            .ip("addr add 192.0.2.9/24 dev up0\naddr add 2001:db8:2::9/64 dev up0 nodad")
            .expect("addresses");
        scene.network(1, "");
        let containers = [("any", 10), ("one", 11), ("two", 12), ("datagrams", 13)];
        let containers = containers.map(|(name, host)| scene.join(name, 1, host));
        let _servers = containers.each_ref().map(|container| serve(&container.namespace, &container.name, 80));
        let wildcard = || scene.run("publish 8080:80/tcp any");
        let specific = || {
            for (address, name) in
                [("192.0.2.1", "one"), ("192.0.2.9", "two"), ("[2001:db8:2::1]", "one"), ("[2001:db8:2::9]", "two")]
            {
                scene.run(&format!("publish {address}:8080:80/tcp {name}"));
            }
        };
        if specific_first {
            specific();
            wildcard();
        } else {
            wildcard();
            specific();
        }
        scene.run("publish 8080:80/udp datagrams");
        let check = || {
            let machine = &scene.lan().machine;
            for (target, name) in
                [("192.0.2.1", "one"), ("192.0.2.9", "two"), ("2001:db8:2::1", "one"), ("2001:db8:2::9", "two")]
            {
                assert_eq!(reach(machine, Protocol::Tcp, at(address(target), 8080)).server, name, "{target}");
                assert_eq!(reach(machine, Protocol::Udp, at(address(target), 8080)).server, "datagrams", "{target}");
                assert_eq!(reach(&scene.namespace, Protocol::Tcp, at(address(target), 8080)).server, name, "{target}");
            }
            for loopback in LOOPBACK.map(address) {
                assert_eq!(reach(&scene.namespace, Protocol::Tcp, at(loopback, 8080)).server, "any");
            }
        };
        check();
        scene.kill_daemon().expect("kills");
        scene.start_daemon().expect("starts again");
        check();
    }
}

#[test]
fn p6_loopback_publications_are_the_hosts_alone() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let server = serve(&a.namespace, "a", 80);
    scene.publish("127.0.0.1:8081:80", "a");
    scene.publish("[::1]:8081:80", "a");
    scene.publish("8082:80", "a");
    reach_all(&scene.namespace, LOOPBACK.map(address), 8081, "a", gateway(1));
    let before = server.seen().len();
    for from in [&scene.lan().machine, &b.namespace] {
        fail_all(from, Lan::HOST.map(address), 8081);
    }
    // Frames with a loopback destination, to both publications, as a neighbour can send them.
    let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
    let machine = &scene.lan().machine;
    let macs = (machine.mac(Lan::TO_HOST).expect("a MAC"), scene.namespace.mac("up0").expect("a MAC"));
    let crafted = |macs: (lab::Mac, lab::Mac), sources: [std::net::IpAddr; 2]| {
        let mut frames = Vec::new();
        for port in [8081, 8082] {
            for (source, loopback) in sources.into_iter().zip(LOOPBACK.map(address)) {
                frames.push(Ethernet::new(macs.0, macs.1).ip(source, loopback).udp(4000, port, b"inside job"));
            }
            frames.push(Ethernet::new(macs.0, macs.1).ip(sources[0], address("127.9.9.9")).udp(
                4000,
                port,
                b"inside job",
            ));
        }
        frames
    };
    scene.expect_drops("loopback_address", || {
        send_frames(machine, Lan::TO_HOST, &crafted(macs, Lan::MACHINE.map(address))).expect("sends");
        std::thread::sleep(Duration::from_millis(30));
    });
    let macs = (b.namespace.mac("eth0").expect("a MAC"), scene.namespace.mac(&scene.gateway_device(1)).expect("a MAC"));
    scene.expect_drops("loopback_address", || {
        send_frames(&b.namespace, "eth0", &crafted(macs, endpoint(1, 11))).expect("sends");
        std::thread::sleep(Duration::from_millis(30));
    });
    let got = on_a.stop();
    assert!(got.iter().all(|frame| frame.view.payload != b"inside job"), "{got:?}");
    assert_eq!(server.seen().len(), before);
    reach_all(machine, Lan::HOST.map(address), 8082, "a", Lan::MACHINE.map(address));
}

#[test]
fn p8_a_new_target_gets_the_next_datagram_and_no_byte_of_an_old_connection() {
    let scene = Scene::start();
    scene.network(1, "");
    let (old, new) = (scene.join("old", 1, 10), scene.join("new", 1, 11));
    let _old = serve(&old.namespace, "old", 80);
    let new_server = serve(&new.namespace, "new", 80);
    scene.publish("8080:80", "old");
    for family in Family::ALL {
        let target = at(family.of(Lan::HOST), 8080);
        let client = Client::new(&scene.lan().machine).timeout(Duration::from_millis(600));
        let here = at(of(family, LOOPBACK.map(address)), 8080);
        let local = Client::new(&scene.namespace).timeout(Duration::from_millis(600));
        let sockets =
            [(client.datagrams(target).expect("a socket"), target), (local.datagrams(here).expect("a socket"), here)];
        let mut connections = [client.connect(target).expect("connects"), local.connect(here).expect("connects")];
        for connection in &mut connections {
            connection.say(b"before").expect("echoes");
        }
        for (socket, target) in &sockets {
            assert_eq!(ask(socket, *target, b"before").expect("answers").server, "old");
        }
        scene.unpublish("8080");
        scene.publish("8080:80", "new");
        let before = new_server.seen().len();
        for (socket, target) in &sockets {
            assert_eq!(ask(socket, *target, b"after").expect("answers").server, "new", "the next datagram");
        }
        for connection in &mut connections {
            // The old target may still answer it, as it runs; the new one must not see a byte.
            let _ = connection.say(b"after");
        }
        assert_eq!(new_server.seen().len(), before + 2, "only the two datagrams reach the new target");
        scene.unpublish("8080");
        scene.publish("8080:80", "old");
    }
}

#[test]
fn p8_bytes_of_an_old_connection_never_reach_the_next_owner_of_the_address() {
    let scene = Scene::start();
    scene.network(1, "");
    let old = scene.join("old", 1, 10);
    let old_server = serve(&old.namespace, "old", 80);
    scene.publish("8080:80", "old");
    let target = at(address(Lan::HOST[0]), 8080);
    let client = Client::new(&scene.lan().machine).timeout(Duration::from_millis(600));
    let socket = client.datagrams(target).expect("a socket");
    assert_eq!(ask(&socket, target, b"before").expect("answers").server, "old");
    let mut connection = client.connect(target).expect("connects");
    connection.say(b"before").expect("echoes");
    scene.unpublish("8080");
    scene.run("detach old");
    drop(old_server);
    let new = scene.join("new", 1, 10);
    let new_server = serve(&new.namespace, "new", 80);
    let on_new = Capture::start(&new.namespace, "eth0").expect("captures");
    scene.publish("8080:80", "new");
    connection.say(b"after").expect_err("its server has gone");
    assert_eq!(ask(&socket, target, b"after").expect("answers").server, "new", "the next datagram");
    let segments =
        on_new.stop().into_iter().filter(|frame| matches!(frame.view.transport, Transport::Tcp { .. })).count();
    assert_eq!(segments, 0, "no segment of the old connection reaches the new owner");
    assert_eq!(new_server.seen().len(), 1);
    reach_all(&scene.lan().machine, Lan::HOST.map(address), 8080, "new", Lan::MACHINE.map(address));
}

#[test]
fn p10_container_addresses_are_not_reached_from_outside() {
    for forwarding in [false, true] {
        let scene = Scene::start();
        if forwarding {
            scene.namespace.forward().expect("sysctl");
        }
        scene.network(1, "");
        scene.network(2, "--gateway-mode routed");
        let (a, routed) = (scene.join("a", 1, 10), scene.join("routed", 2, 10));
        let _a = [80, 81].map(|port| serve(&a.namespace, "a", port));
        let _routed = [80, 81].map(|port| serve(&routed.namespace, "routed", port));
        scene.publish("8080:80", "a");
        scene.publish("8082:80", "routed");
        let machine = &scene.lan().machine;
        for number in [1, 2] {
            let [v4, v6] = Lan::HOST;
            machine
                .ip(&format!("route add 10.20.{number}.0/24 via {v4}\nroute add fd20:{number}::/64 via {v6}"))
                .expect("routes");
        }
        let client = Lan::MACHINE.map(address);
        let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
        for port in [80, 81] {
            scene.expect_drops("direct_routing", || fail_all(machine, endpoint(1, 10), port));
        }
        scene.expect_drops("direct_routing", || fail_all(machine, gateway(1), 80));
        let reached: Vec<_> =
            on_a.stop().into_iter().filter(|f| f.view.source.is_some_and(|s| client.contains(&s))).collect();
        assert!(reached.is_empty(), "{reached:?}");
        // Routed: what is published is reached at its own address, and what is not is not.
        reach_all(machine, endpoint(2, 10), 80, "routed", client);
        fail_all(machine, endpoint(2, 10), 81);
        reach_all(machine, Lan::HOST.map(address), 8080, "a", client);
    }
}
