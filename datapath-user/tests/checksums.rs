//! Behaviour N7: checksums and offloads.

mod support;

use lab::capture::send_frames;
use lab::client::{Client, ask};
use lab::frame::{Ethernet, Transport};
use lab::{Capture, Container, Family, Lan, Offload, PATIENCE};
use support::{Scene, at, endpoint, gateway, of, serve};

/// Moves data on every kind of path and checks every byte.
fn transfer_everywhere(scene: &Scene, a: &Container, b: &Container, length: usize) {
    for family in Family::ALL {
        let paths = [
            ("switched", &b.namespace, at(of(family, endpoint(1, 10)), 80)),
            ("masqueraded", &a.namespace, at(family.of(Lan::INTERNET), 80)),
            ("published", &scene.lan().machine, at(family.of(Lan::HOST), 8080)),
            ("published over loopback", &scene.namespace, at(family.of(["127.0.0.1", "::1"]), 8080)),
            ("published over a host address", &scene.namespace, at(family.of(Lan::HOST), 8080)),
            ("from the host", &scene.namespace, at(of(family, endpoint(1, 10)), 80)),
            ("to the host", &a.namespace, at(of(family, gateway(1)), 8000)),
            ("published, from a sibling", &b.namespace, at(family.of(Lan::HOST), 8080)),
            ("published, to itself", &a.namespace, at(family.of(Lan::HOST), 8080)),
        ];
        for (path, from, target) in paths {
            let result = Client::new(from).transfer(target, length);
            result.unwrap_or_else(|error| panic!("{path} {family:?}: {error}"));
            // Datagrams that the sender's kernel must cut or checksum, of all small sizes and some large ones.
            let socket = Client::new(from).datagrams(target).expect("a socket");
            for size in [0, 1, 2, 3, 17, 18, 511, 1_024, 1_400] {
                let answer = ask(&socket, target, &vec![0x5a; size]);
                answer.unwrap_or_else(|error| panic!("{path} {family:?}, {size} bytes: {error}"));
            }
        }
    }
}

#[test]
fn n7_checksums_are_right_with_and_without_offloads() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _servers =
        (serve(&a.namespace, "a", 80), serve(&scene.lan().internet, "far", 80), serve(&scene.namespace, "host", 8000));
    scene.publish("8080:80", "a");
    transfer_everywhere(&scene, &a, &b, 4 << 20);
    let interfaces = [
        (&a.namespace, "eth0"),
        (&b.namespace, "eth0"),
        (&scene.namespace, "up0"),
        (&scene.lan().machine, Lan::TO_HOST),
    ];
    for (namespace, interface) in interfaces {
        namespace.set_offload(interface, Offload::Off).expect("ethtool");
    }
    let uplink = scene.watch_uplink();
    transfer_everywhere(&scene, &a, &b, 1 << 20);
    // With the sender calculating them, every checksum on the wire must be right.
    let wrong: Vec<_> = uplink
        .stop()
        .into_iter()
        .filter(|frame| {
            !frame.outgoing && matches!(frame.view.transport, Transport::Tcp { .. } | Transport::Udp { .. })
        })
        .filter(|frame| !frame.view.checksum_is_right())
        .collect();
    assert!(wrong.is_empty(), "{} frames with a wrong checksum: {:?}", wrong.len(), wrong.first());
}

#[test]
fn n7_a_zero_udp_checksum_stays_zero() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    scene.publish("8080:80", "a");
    let (mac, router) =
        (a.namespace.mac("eth0").expect("a MAC"), scene.namespace.mac(&scene.gateway_device(1)).expect("a MAC"));
    let machine = &scene.lan().machine;
    let outside = (machine.mac(Lan::TO_HOST).expect("a MAC"), scene.namespace.mac("up0").expect("a MAC"));
    for family in Family::ALL {
        let uplink = scene.watch_uplink();
        let out = Ethernet::new(mac, router)
            .ip(of(family, endpoint(1, 10)), family.of(Lan::MACHINE))
            .udp_without_checksum(6000, 9999, b"no checksum, outwards");
        send_frames(&a.namespace, "eth0", &[out]).expect("sends");
        let seen = uplink.wait_for(PATIENCE, |frame| frame.view.payload == b"no checksum, outwards").expect("gets out");
        assert_eq!(seen.view.source, Some(family.of(Lan::HOST)));
        assert!(matches!(seen.view.transport, Transport::Udp { checksum: 0, .. }), "{seen:?}");

        let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
        let inwards = Ethernet::new(outside.0, outside.1)
            .ip(family.of(Lan::MACHINE), family.of(Lan::HOST))
            .udp_without_checksum(6001, 8080, b"no checksum, inwards");
        send_frames(machine, Lan::TO_HOST, &[inwards]).expect("sends");
        let seen = on_a.wait_for(PATIENCE, |frame| frame.view.payload == b"no checksum, inwards").expect("gets in");
        assert_eq!(seen.view.destination, Some(of(family, endpoint(1, 10))));
        assert!(matches!(seen.view.transport, Transport::Udp { checksum: 0, destination: 80, .. }), "{seen:?}");
    }
}
