//! Behaviours B: switching, flooding, neighbour discovery, and endpoints that are gone.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use lab::capture::{Captured, send_frames};
use lab::client::Client;
use lab::frame::{Arp, Ethernet, NeighbourMessage, Transport, ethertype};
use lab::ping::ping;
use lab::{Capture, Container, Family, Lan, Mac, PATIENCE, Protocol};
use support::{Scene, address, assert_no_leak, at, endpoint, fail_all, gateway, of, reach, reach_all, serve};

fn mac_of(container: &Container) -> Mac {
    container.namespace.mac("eth0").expect("a MAC")
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => panic!("{address} is IPv6"),
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(v6) => v6,
        IpAddr::V4(_) => panic!("{address} is IPv4"),
    }
}

#[test]
fn b1_unicast_is_switched_by_ebpf() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _server = serve(&b.namespace, "b", 80);
    let uplink = scene.watch_uplink();
    let inside = Capture::start(&b.namespace, "eth0").expect("captures");
    reach_all(&a.namespace, endpoint(1, 11), 80, "b", endpoint(1, 10));
    for target in endpoint(1, 11) {
        assert_eq!(ping(&a.namespace, target, 1, PATIENCE).expect("answers"), target);
    }
    let experiment = Ethernet::new(mac_of(&a), mac_of(&b)).payload(ethertype::EXPERIMENT, &[7; 46]);
    send_frames(&a.namespace, "eth0", &[experiment]).expect("sends");
    let arrived = inside.wait_for(PATIENCE, |frame| frame.view.ethertype == ethertype::EXPERIMENT);
    arrived.expect("other ethertypes are switched too");

    let frames = inside.stop();
    let from_a = |source: IpAddr| endpoint(1, 10).contains(&source);
    let unicast: Vec<_> = frames
        .iter()
        .filter(|frame| !frame.outgoing && frame.view.source.is_some_and(from_a))
        .filter(|frame| !frame.view.is_neighbour_discovery())
        .collect();
    assert!(unicast.len() > 10, "{unicast:?}");
    for frame in unicast {
        assert_eq!(frame.view.ttl, 64, "TTL must be untouched: {frame:?}");
    }
    assert_no_leak(uplink);
    scene.check_no_other_means().expect("nothing but the programs forwards");
}

#[test]
fn b1_the_host_is_a_port_of_the_switch() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let (_inner, _outer) = (serve(&a.namespace, "a", 80), serve(&scene.namespace, "host", 8000));
    reach_all(&a.namespace, gateway(1), 8000, "host", endpoint(1, 10));
    reach_all(&scene.namespace, endpoint(1, 10), 80, "a", gateway(1));
    for target in gateway(1) {
        assert_eq!(ping(&a.namespace, target, 1, PATIENCE).expect("answers"), target);
    }
    for target in endpoint(1, 10) {
        assert_eq!(ping(&scene.namespace, target, 1, PATIENCE).expect("answers"), target);
    }
}

/// The control of every delivery test: with the programs detached, nothing is delivered any more.
#[test]
fn nothing_is_delivered_with_the_programs_detached() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    scene.publish("8080:80", "b");
    let (_b, _far) = (serve(&b.namespace, "b", 80), serve(&scene.lan().internet, "far", 80));
    let host = Lan::HOST.map(address);
    reach_all(&a.namespace, endpoint(1, 11), 80, "b", endpoint(1, 10));
    reach_all(&a.namespace, Lan::INTERNET.map(address), 80, "far", host);
    reach_all(&scene.lan().machine, host, 8080, "b", Lan::MACHINE.map(address));
    scene.detach_programs().expect("detaches");
    fail_all(&a.namespace, endpoint(1, 11), 80);
    fail_all(&a.namespace, Lan::INTERNET.map(address), 80);
    fail_all(&scene.lan().machine, host, 8080);
    fail_all(&scene.namespace, host, 8080);
}

/// The frames among these that carry the mark of the test.
fn marked<'a>(frames: &'a [Captured], mark: &'a [u8]) -> Vec<&'a Captured> {
    frames.iter().filter(|frame| !frame.outgoing && frame.view.payload.starts_with(mark)).collect()
}

#[test]
fn b2_broadcast_and_multicast_reach_every_other_member_and_nothing_else() {
    const MARK: &[u8] = b"to everybody, and once, please; with some bytes to fill";
    let scene = Scene::start();
    scene.network(1, "");
    scene.network(2, "");
    let (a, b, c) = (scene.join("a", 1, 10), scene.join("b", 1, 11), scene.join("c", 1, 12));
    let other = scene.join("other", 2, 10);
    let mac = mac_of(&a);
    let [source4, source6] = endpoint(1, 10);
    let frames: Vec<_> = ["255.255.255.255", "10.20.1.255", "224.0.0.251", "ff02::1", "ff02::fb"]
        .map(|target| {
            let target = address(target);
            let broadcast = target.is_ipv4() && !target.is_multicast();
            let to = if broadcast { Mac::BROADCAST } else { Mac::multicast_of(target) };
            let source = if target.is_ipv4() { source4 } else { source6 };
            Ethernet::new(mac, to).ip(source, target).ttl(1).udp(9999, 9999, MARK)
        })
        .into_iter()
        .chain([Ethernet::new(mac, Mac::BROADCAST).payload(ethertype::EXPERIMENT, MARK)])
        .collect();
    let gateway_device = scene.gateway_device(1);
    let uplink = scene.watch_uplink();
    let watch = |container: &Container| Capture::start(&container.namespace, "eth0").expect("captures");
    let (on_a, on_b, on_c, on_other) = (watch(&a), watch(&b), watch(&c), watch(&other));
    let on_gateway = Capture::start(&scene.namespace, &gateway_device).expect("captures");
    send_frames(&a.namespace, "eth0", &frames).expect("sends");
    std::thread::sleep(Duration::from_millis(50));

    for (name, capture) in [("b", on_b), ("c", on_c), ("the gateway", on_gateway)] {
        let got = capture.stop();
        assert_eq!(marked(&got, MARK).len(), frames.len(), "{name} gets each frame once: {:?}", marked(&got, MARK));
    }
    for (name, capture) in [("the sender", on_a), ("another network", on_other), ("the uplink", uplink)] {
        let got = capture.stop();
        assert!(marked(&got, MARK).is_empty(), "{name} must get none: {:?}", marked(&got, MARK));
    }
}

#[test]
fn b2_the_host_hears_broadcasts_and_is_heard() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let listener = scene.namespace.enter(|| UdpSocket::bind("0.0.0.0:9998")).expect("binds");
    listener.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let sender = a.namespace.enter(|| UdpSocket::bind("0.0.0.0:9997")).expect("binds");
    sender.set_broadcast(true).expect("broadcasts");
    sender.send_to(b"anybody?", "10.20.1.255:9998").expect("sends");
    let mut buffer = [0; 64];
    let (length, from) = listener.recv_from(&mut buffer).expect("the host hears it");
    assert_eq!((&buffer[..length], from), (&b"anybody?"[..], at(endpoint(1, 10)[0], 9997)));

    let on_b = Capture::start(&b.namespace, "eth0").expect("captures");
    listener.set_broadcast(true).expect("broadcasts");
    listener.send_to(b"all of you", "10.20.1.255:9999").expect("sends");
    let heard = on_b.wait_for(PATIENCE, |frame| frame.view.payload == b"all of you");
    assert_eq!(heard.expect("the host is heard").view.source, Some(gateway(1)[0]));
}

#[test]
fn b3_neighbours_are_answered_and_not_flooded() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b, c) = (scene.join("a", 1, 10), scene.join("b", 1, 11), scene.join("c", 1, 12));
    let mac = mac_of(&a);
    let gateway_mac = scene.namespace.mac(&scene.gateway_device(1)).expect("a MAC");
    let ([own4, own6], [b4, b6], [gateway4, gateway6]) = (endpoint(1, 10), endpoint(1, 11), gateway(1));
    let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
    let (on_b, on_c) = (
        Capture::start(&b.namespace, "eth0").expect("captures"),
        Capture::start(&c.namespace, "eth0").expect("captures"),
    );
    let requests = [
        Arp::request((mac, v4(own4)), v4(b4)).frame(mac, Mac::BROADCAST),
        Arp::request((mac, v4(own4)), v4(gateway4)).frame(mac, Mac::BROADCAST),
        NeighbourMessage::solicit((mac, v6(own6)), v6(b6)),
        NeighbourMessage::solicit((mac, v6(own6)), v6(gateway6)),
    ];
    send_frames(&a.namespace, "eth0", &requests).expect("sends");
    for (who, address, owner) in [
        ("b", b4, mac_of(&b)),
        ("gateway", gateway4, gateway_mac),
        ("b", b6, mac_of(&b)),
        ("gateway", gateway6, gateway_mac),
    ] {
        let answer = on_a.wait_for(PATIENCE, |frame| {
            !frame.outgoing && frame.view.is_neighbour_discovery() && frame.view.source == Some(address)
        });
        let answer = answer.unwrap_or_else(|| panic!("{who} at {address} is not answered for"));
        assert_eq!(answer.view.destination_mac, mac);
        // The address in the message is what counts: sender of an ARP reply, option of an advertisement.
        let claimed = if address.is_ipv4() { &answer.bytes[22..28] } else { &answer.bytes[80..86] };
        assert_eq!(claimed, owner.0, "{who} at {address}");
    }
    // What `a` announces of itself is no question.
    let is_question = |frame: &Captured| {
        let for_others = frame.view.mentions(b4) || frame.view.mentions(gateway4);
        for_others || matches!(frame.view.transport, Transport::Icmp { kind: 135, .. })
    };
    for (name, capture) in [("b", on_b), ("c", on_c)] {
        let asked: Vec<_> = capture
            .stop()
            .into_iter()
            .filter(|frame| !frame.outgoing && frame.view.source_mac == mac && is_question(frame))
            .collect();
        assert!(asked.is_empty(), "{name} must not be asked: {asked:?}");
    }
}

#[test]
fn b3_duplicate_address_detection_is_left_alone_and_strangers_are_not_answered() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let mac = mac_of(&a);
    let [own4, own6] = endpoint(1, 10);
    let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
    let probes = [
        Arp::request((mac, Ipv4Addr::UNSPECIFIED), v4(own4)).frame(mac, Mac::BROADCAST),
        NeighbourMessage::solicit((mac, Ipv6Addr::UNSPECIFIED), v6(own6)),
    ];
    send_frames(&a.namespace, "eth0", &probes).expect("sends");
    let strangers = [
        Arp::request((mac, v4(own4)), v4(endpoint(1, 99)[0])).frame(mac, Mac::BROADCAST),
        NeighbourMessage::solicit((mac, v6(own6)), v6(endpoint(1, 99)[1])),
    ];
    for stranger in strangers {
        scene.expect_drops("unknown_neighbour", || {
            send_frames(&a.namespace, "eth0", &[stranger]).expect("sends");
            std::thread::sleep(Duration::from_millis(20));
        });
    }
    let control = Arp::request((mac, v4(own4)), v4(gateway(1)[0])).frame(mac, Mac::BROADCAST);
    send_frames(&a.namespace, "eth0", &[control]).expect("sends");
    let answered = |frame: &Captured| !frame.outgoing && frame.view.is_neighbour_discovery();
    on_a.wait_for(PATIENCE, answered).expect("the gateway is answered for");
    let answers: Vec<_> = on_a.stop().into_iter().filter(answered).collect();
    assert_eq!(answers.len(), 1, "only the gateway is answered for: {answers:?}");
}

#[test]
fn unknown_unicast_is_dropped_and_counted() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let [source, target] = [endpoint(1, 10)[0], endpoint(1, 11)[0]];
    let on_b = Capture::start(&b.namespace, "eth0").expect("captures");
    let (mac, nobody) = (mac_of(&a), Mac([2, 0, 0, 0, 0, 0x77]));
    for frame in [
        Ethernet::new(mac, nobody).payload(ethertype::EXPERIMENT, b"lost"),
        Ethernet::new(mac, nobody).ip(source, endpoint(1, 50)[0]).udp(1, 2, b"lost"),
    ] {
        scene.expect_drops("unknown_destination", || {
            send_frames(&a.namespace, "eth0", &[frame]).expect("sends");
            std::thread::sleep(Duration::from_millis(20));
        });
    }
    // The IP address of one and the MAC of nobody, or of another.
    let third = scene.join("c", 1, 12);
    for other in [nobody, mac_of(&third)] {
        scene.expect_drops("wrong_destination", || {
            let frame = Ethernet::new(mac, other).ip(source, target).udp(1, 2, b"lost");
            send_frames(&a.namespace, "eth0", &[frame]).expect("sends");
            std::thread::sleep(Duration::from_millis(20));
        });
    }
    let right = Ethernet::new(mac, mac_of(&b)).ip(source, target).udp(1, 2, b"found");
    send_frames(&a.namespace, "eth0", &[right]).expect("sends");
    on_b.wait_for(PATIENCE, |frame| frame.view.payload == b"found").expect("the right one arrives");
    let frames = on_b.stop();
    assert!(frames.iter().all(|frame| frame.view.payload != b"lost"), "{frames:?}");
}

/// The next owner of an address gets nothing of what was meant for the last one.
#[test]
fn b5_flows_of_a_removed_endpoint_never_reach_its_successor() {
    let scene = Scene::start();
    scene.network(1, "");
    let far = scene.lan().internet.enter(|| UdpSocket::bind("0.0.0.0:7001")).expect("binds");
    far.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut buffer = [0; 64];
    let old = scene.join("old", 1, 10);
    let socket = Client::new(&old.namespace).from(at(address("0.0.0.0"), 7000));
    let socket = socket.datagrams(at(address(Lan::INTERNET[0]), 7001)).expect("a socket");
    socket.send_to(b"hello", at(address(Lan::INTERNET[0]), 7001)).expect("sends");
    let (_, external) = far.recv_from(&mut buffer).expect("arrives");
    far.send_to(b"answer", external).expect("sends");
    socket.recv_from(&mut buffer).expect("the flow works while its owner is there");

    scene.run("detach old");
    let sent_after = |what: &[u8]| far.send_to(what, external).expect("sends");
    sent_after(b"late");
    let new = scene.join("new", 1, 10);
    let on_new = Capture::start(&new.namespace, "eth0").expect("captures");
    for _ in 0..20 {
        sent_after(b"late");
    }
    std::thread::sleep(Duration::from_millis(50));
    let got = on_new.stop();
    assert!(got.iter().all(|frame| frame.view.payload != b"late"), "the successor got it: {got:?}");

    // A flow of its own works, from the same port.
    let own = Client::new(&new.namespace).from(at(address("0.0.0.0"), 7000));
    let own = own.datagrams(at(address(Lan::INTERNET[0]), 7001)).expect("a socket");
    own.send_to(b"mine", at(address(Lan::INTERNET[0]), 7001)).expect("sends");
    let (length, external) = far.recv_from(&mut buffer).expect("arrives");
    assert_eq!(&buffer[..length], b"mine");
    far.send_to(b"yours", external).expect("sends");
    own.recv_from(&mut buffer).expect("returns");
}

#[test]
fn b5_a_successor_is_found_at_once_and_has_another_mac() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let old = scene.join("old", 1, 11);
    let old_mac = mac_of(&old);
    let _old = serve(&old.namespace, "old", 80);
    reach_all(&a.namespace, endpoint(1, 11), 80, "old", endpoint(1, 10));
    scene.run("detach old");
    fail_all(&a.namespace, endpoint(1, 11), 80);
    let new = scene.join("new", 1, 11);
    assert_ne!(mac_of(&new), old_mac, "own networks never reuse a MAC");
    let _new = serve(&new.namespace, "new", 80);
    for family in Family::ALL {
        // The kernel of `a` may still know the old MAC: then its neighbour entry must be mended, not waited out.
        let exchange = reach(&a.namespace, Protocol::Tcp, at(of(family, endpoint(1, 11)), 80));
        assert_eq!(exchange.server, "new");
    }
}
