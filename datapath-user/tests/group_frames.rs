//! Unicast IP inside broadcast and multicast frames: a trick to get past what is decided by MAC address. The host would
//! take it for its own (RFC 1122 section 3.3.6 wants it dropped).

mod support;

use std::net::IpAddr;
use std::time::Duration;

use lab::capture::{Captured, send_frames};
use lab::frame::{Ethernet, TcpSegment, tcp_flags};
use lab::{Capture, Family, Lan, Mac, PATIENCE};
use support::{Scene, address, assert_no_leak, endpoint, gateway, of, serve};

const TRICK: &[u8] = b"unicast for a group";

/// Everybody, and groups that somebody or nobody is in.
fn groups() -> [Mac; 4] {
    [
        Mac::BROADCAST,
        Mac::multicast_of(address("224.0.0.1")),
        Mac::multicast_of(address("ff02::1")),
        Mac([0x01, 0, 0x5e, 0x01, 0x02, 0x03]),
    ]
}

/// What one endpoint sends to `target` in a frame for `group`, in every way that begins something.
fn tricks(mac: Mac, group: Mac, source: IpAddr, target: IpAddr) -> [Vec<u8>; 4] {
    let frame = || Ethernet::new(mac, group).ip(source, target);
    let syn = TcpSegment { source: 5000, destination: 80, flags: tcp_flags::SYN, ..TcpSegment::default() };
    let published = TcpSegment { destination: 8080, ..syn };
    [
        frame().udp(5000, 80, TRICK),
        frame().tcp(syn, TRICK),
        frame().tcp(published, TRICK),
        frame().icmp(if target.is_ipv4() { 8 } else { 128 }, 0, &[&[0, 1, 0, 1], TRICK].concat()),
    ]
}

fn is_trick(frame: &Captured) -> bool {
    frame.bytes.windows(TRICK.len()).any(|bytes| bytes == TRICK)
}

#[test]
fn i1_i2_unicast_in_group_frames_gets_nowhere() {
    let scene = Scene::start();
    scene.network(1, "--no-icc");
    scene.network(2, "");
    let (a, b, other) = (scene.join("a", 1, 10), scene.join("b", 1, 11), scene.join("other", 2, 10));
    scene.publish("8080:80", "b");
    let servers = [
        serve(&scene.namespace, "host", 80),
        serve(&b.namespace, "b", 80),
        serve(&other.namespace, "other", 80),
        serve(&scene.lan().machine, "near", 80),
    ];
    let mac = a.namespace.mac("eth0").expect("a MAC");
    let [at_gateway, at_other_gateway] =
        [1, 2].map(|number| Capture::start(&scene.namespace, &scene.gateway_device(number)).expect("captures"));
    let [at_b, at_other] = [&b, &other].map(|end| Capture::start(&end.namespace, "eth0").expect("captures"));
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        let source = of(family, endpoint(1, 10));
        let targets = [
            of(family, gateway(1)),
            family.of(Lan::HOST),
            of(family, endpoint(1, 11)),
            of(family, gateway(2)),
            of(family, endpoint(2, 10)),
            family.of(Lan::MACHINE),
            family.of(Lan::INTERNET),
        ];
        for (target, group) in targets.into_iter().flat_map(|target| groups().map(|group| (target, group))) {
            let frames = tricks(mac, group, source, target);
            let before = scene.dropped("wrong_destination").expect("status");
            send_frames(&a.namespace, "eth0", &frames).expect("sends");
            std::thread::sleep(Duration::from_millis(5));
            let dropped = scene.dropped("wrong_destination").expect("status") - before;
            assert_eq!(dropped, frames.len() as u64, "for {target} in a frame to {group}");
        }
    }
    // What is really for all passes, to the host only: ICC is off. So the captures work.
    let honest = Ethernet::new(mac, Mac::BROADCAST).ip(endpoint(1, 10)[0], address("10.20.1.255")).udp(1, 2, b"honest");
    send_frames(&a.namespace, "eth0", &[honest]).expect("sends");
    at_gateway.wait_for(PATIENCE, |frame| frame.view.payload == b"honest").expect("a broadcast reaches the host");
    for capture in [at_gateway, at_other_gateway, at_b, at_other] {
        let got: Vec<_> = capture.stop().into_iter().filter(is_trick).collect();
        assert!(got.is_empty(), "{got:?}");
    }
    for server in &servers {
        assert!(server.seen().is_empty(), "{:?}", server.seen());
    }
    assert_no_leak(uplink);
}

#[test]
fn i1_an_unused_address_in_a_group_frame_is_no_way_to_siblings() {
    let scene = Scene::start();
    scene.network(1, "--no-icc");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let mac = a.namespace.mac("eth0").expect("a MAC");
    let at_b = Capture::start(&b.namespace, "eth0").expect("captures");
    let at_gateway = Capture::start(&scene.namespace, &scene.gateway_device(1)).expect("captures");
    for family in Family::ALL {
        // Nobody has it, so it may be the subnet's broadcast address.
        for group in groups() {
            let frames = tricks(mac, group, of(family, endpoint(1, 10)), of(family, endpoint(1, 77)));
            send_frames(&a.namespace, "eth0", &frames).expect("sends");
        }
    }
    at_gateway.wait_for(PATIENCE, is_trick).expect("it reaches the host, as any broadcast does");
    // The host has it as a frame for a group, and so it neither forwards nor answers it.
    let sent: Vec<_> = at_gateway.stop().into_iter().filter(|frame| frame.outgoing && is_trick(frame)).collect();
    assert!(sent.is_empty(), "{sent:?}");
    let got: Vec<_> = at_b.stop().into_iter().filter(is_trick).collect();
    assert!(got.is_empty(), "{got:?}");
}
