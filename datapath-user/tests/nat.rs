//! Behaviours N1, N2, N4 and N13: masquerade, and what must not leave without it.

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use lab::capture::send_frames;
use lab::client::{Client, ask};
use lab::frame::{Ethernet, TcpSegment, Transport, tcp_flags};
use lab::ping::ping;
use lab::{Capture, Family, Lan, PATIENCE, Protocol};
use support::{
    REFUSAL, Scene, address, assert_no_leak, at, bound, configured, endpoint, fail_all, gateway, is_inside, of,
    reach_all, reach_by, serve,
};

#[test]
fn n1_the_source_port_is_kept_where_it_is_free() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _far = serve(&scene.lan().internet, "far", 80);
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        let (target, host) = (at(family.of(Lan::INTERNET), 80), family.of(Lan::HOST));
        for (protocol, port) in [(Protocol::Tcp, 5000), (Protocol::Udp, 5001)] {
            let exchange = reach_by(&bound(&a.namespace, host, port), protocol, target);
            assert_eq!(exchange.seen, at(host, port), "{protocol:?}");
        }
        // Both of two inside hosts with one port and one target are served, under different ports.
        let mut first = bound(&a.namespace, host, 5100).connect(target).expect("connects");
        let mut second = bound(&b.namespace, host, 5100).connect(target).expect("connects");
        assert_eq!(first.exchange.seen, at(host, 5100));
        assert_eq!(second.exchange.seen.ip(), host);
        assert_ne!(second.exchange.seen, first.exchange.seen, "two hosts must not share a 5-tuple");
        for _ in 0..3 {
            first.say(b"first").expect("echoes");
            second.say(b"second").expect("echoes");
        }
        let sockets = [&a, &b].map(|c| bound(&c.namespace, host, 5200).datagrams(target).expect("a socket"));
        let seen = sockets.each_ref().map(|socket| ask(socket, target, b"me").expect("answers").seen);
        assert_eq!(seen[0], at(host, 5200));
        assert_ne!(seen[0], seen[1]);
        for (socket, seen) in sockets.iter().zip(seen) {
            assert_eq!(ask(socket, target, b"again").expect("answers").seen, seen, "a mapping stays");
        }
    }
    assert_no_leak(uplink);
    scene.check_no_other_means().expect("nothing but the programs translates");
}

#[test]
fn n1_ports_of_the_host_are_never_taken() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let (_far, _host) = (serve(&scene.lan().internet, "far", 80), serve(&scene.namespace, "host", 5300));
    for family in Family::ALL {
        let (target, host) = (at(family.of(Lan::INTERNET), 80), family.of(Lan::HOST));
        // The host listens.
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let exchange = reach_by(&bound(&a.namespace, host, 5300), protocol, target);
            assert_eq!(exchange.seen.ip(), host);
            assert_ne!(exchange.seen.port(), 5300, "the host listens there ({protocol:?})");
        }
        // The host has a flow of its own.
        let mut own = Client::new(&scene.namespace).from(at(host, 5400)).connect(target).expect("connects");
        let mut other = bound(&a.namespace, host, 5400).connect(target).expect("connects");
        assert_eq!(own.exchange.seen, at(host, 5400));
        assert_ne!(other.exchange.seen, own.exchange.seen, "the host's own flow has that port");
        own.say(b"mine").expect("echoes");
        other.say(b"yours").expect("echoes");
        own.say(b"still mine").expect("echoes");
        let socket = Client::new(&scene.namespace).from(at(host, 5500)).datagrams(target).expect("a socket");
        assert_eq!(ask(&socket, target, b"mine").expect("answers").seen, at(host, 5500));
        let exchange = reach_by(&bound(&a.namespace, host, 5500), Protocol::Udp, target);
        assert_ne!(exchange.seen.port(), 5500, "the host's own socket has that port");
        assert_eq!(ask(&socket, target, b"still mine").expect("answers").seen, at(host, 5500));
    }
    reach_all(&scene.lan().machine, Lan::HOST.map(address), 5300, "host", Lan::MACHINE.map(address));
}

#[test]
fn n1_on_a_clash_the_hosts_packet_wins() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _far = serve(&scene.lan().internet, "far", 80);
    for family in Family::ALL {
        let (target, host) = (at(family.of(Lan::INTERNET), 80), family.of(Lan::HOST));
        let inside = bound(&a.namespace, host, 5600).datagrams(target).expect("a socket");
        assert_eq!(ask(&inside, target, b"inside").expect("answers").seen, at(host, 5600));
        let own = Client::new(&scene.namespace).from(at(host, 5600)).datagrams(target).expect("a socket");
        let exchange = ask(&own, target, b"the host").expect("the host's packet wins");
        assert_eq!(exchange.seen, at(host, 5600));
        // The container goes on, under another port.
        let exchange = ask(&inside, target, b"inside again").expect("answers");
        assert_eq!(exchange.seen.ip(), host);
        assert_ne!(exchange.seen.port(), 5600);
    }
}

#[test]
fn n2_udp_mappings_are_endpoint_independent_and_filtered() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _servers = (serve(&scene.lan().internet, "far", 80), serve(&scene.lan().machine, "near", 80));
    for family in Family::ALL {
        let host = family.of(Lan::HOST);
        let (far, near) = (at(family.of(Lan::INTERNET), 80), at(family.of(Lan::MACHINE), 80));
        let first = bound(&a.namespace, host, 5700).datagrams(far).expect("a socket");
        assert_eq!(ask(&first, far, b"first").expect("answers").seen, at(host, 5700));
        // The second cannot have its own port, so that a port per destination would show.
        let second = bound(&b.namespace, host, 5700).datagrams(far).expect("a socket");
        let to_far = ask(&second, far, b"second").expect("answers").seen;
        let to_near = ask(&second, near, b"second").expect("answers").seen;
        assert_ne!(to_far.port(), 5700);
        assert_eq!(to_far, to_near, "one mapping for all destinations (RFC 4787 REQ-1)");

        // Address and port dependent filtering: another port of the same server is not let in.
        let any = at(if family == Family::V4 { address("0.0.0.0") } else { address("::") }, 0);
        let stranger = scene.lan().internet.enter(|| UdpSocket::bind(any)).expect("binds");
        let on_b = Capture::start(&b.namespace, "eth0").expect("captures");
        stranger.send_to(b"let me in", to_far).expect("sends");
        std::thread::sleep(Duration::from_millis(50));
        let got = on_b.stop();
        assert!(got.iter().all(|frame| frame.view.payload != b"let me in"), "{got:?}");
        ask(&second, far, b"control").expect("the mapping itself still works");
    }
}

#[test]
fn n2_udp_flows_end_when_idle_and_live_while_used() {
    let scene = configured("[timeouts]\nudp = 2\n");
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let far = scene.lan().internet.enter(|| UdpSocket::bind("0.0.0.0:7001")).expect("binds");
    far.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let target = at(address(Lan::INTERNET[0]), 7001);
    let socket = Client::new(&a.namespace).timeout(REFUSAL).datagrams(target).expect("a socket");
    let mut buffer = [0; 64];
    let mut external = target;
    // Refreshed by outbound packets well beyond the timeout.
    for _ in 0..6 {
        socket.send_to(b"out", target).expect("sends");
        (_, external) = far.recv_from(&mut buffer).expect("arrives");
        std::thread::sleep(Duration::from_millis(500));
    }
    far.send_to(b"in", external).expect("sends");
    socket.recv_from(&mut buffer).expect("the flow lives while it is used");
    std::thread::sleep(Duration::from_millis(2_900));
    far.send_to(b"late", external).expect("sends");
    socket.recv_from(&mut buffer).expect_err("the flow has ended");
}

#[test]
fn n4_echo_is_translated_by_identifier() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        let target = family.of(Lan::INTERNET);
        // One identifier of two hosts and of the host itself, at once.
        for _ in 0..3 {
            for from in [&a.namespace, &b.namespace, &scene.namespace] {
                assert_eq!(ping(from, target, 77, PATIENCE).expect("answers"), target);
            }
        }
    }
    let frames = uplink.stop();
    for family in Family::ALL {
        let host = family.of(Lan::HOST);
        let mut identifiers: Vec<_> = frames
            .iter()
            .filter(|frame| !frame.outgoing && frame.view.source == Some(host))
            .filter_map(|frame| match frame.view.transport {
                Transport::Icmp { kind: 8 | 128, identifier, .. } => Some(identifier),
                _ => None,
            })
            .collect();
        identifiers.sort_unstable();
        identifiers.dedup();
        assert!(identifiers.contains(&77), "kept where free: {identifiers:?}");
        assert!(identifiers.len() >= 2, "rewritten on a clash: {identifiers:?}");
    }
    assert!(!frames.iter().any(|frame| !frame.outgoing && is_inside(frame)));
}

#[test]
fn n13_stray_segments_and_host_packets_with_inside_sources_stay_inside() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _far = serve(&scene.lan().internet, "far", 80);
    let (mac, router) =
        (a.namespace.mac("eth0").expect("a MAC"), scene.namespace.mac(&scene.gateway_device(1)).expect("a MAC"));
    let uplink = scene.watch_uplink();
    scene.expect_drops("out_of_state", || {
        let mut frames = Vec::new();
        for flags in [tcp_flags::ACK, tcp_flags::FIN | tcp_flags::ACK, tcp_flags::RST, tcp_flags::RST | tcp_flags::ACK]
        {
            for family in Family::ALL {
                let segment = TcpSegment { source: 6100, destination: 80, sequence: 1, acknowledgement: 1, flags };
                let ends = (of(family, endpoint(1, 10)), family.of(Lan::INTERNET));
                frames.push(Ethernet::new(mac, router).ip(ends.0, ends.1).tcp(segment, b"stray"));
            }
        }
        send_frames(&a.namespace, "eth0", &frames).expect("sends");
        std::thread::sleep(Duration::from_millis(30));
    });
    // The host's own programs, bound to a gateway address: the last guard. The neighbour is known by then, for ARP
    // names the address that its packet was to come from.
    reach_all(&scene.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
    for family in Family::ALL {
        let target = at(family.of(Lan::INTERNET), 80);
        let bound = Client::new(&scene.namespace).from_address(of(family, gateway(1))).timeout(REFUSAL);
        scene.expect_drops("address_on_uplink", || {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                bound.exchange(protocol, target).expect_err("must not leave with an inside address");
            }
        });
    }
    reach_all(&a.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
    reach_all(&scene.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
    assert_no_leak(uplink);
}

#[test]
fn networks_without_masquerade_keep_their_addresses() {
    let scene = Scene::start();
    scene.network(1, "--no-masquerade");
    let a = scene.join("a", 1, 10);
    let _near = serve(&scene.lan().machine, "near", 80);
    fail_all(&a.namespace, Lan::MACHINE.map(address), 80);
    let [v4, v6] = Lan::HOST;
    scene
        .lan()
        .machine
        .ip(&format!("route add 10.20.1.0/24 via {v4}\nroute add fd20:1::/64 via {v6}"))
        .expect("routes");
    reach_all(&a.namespace, Lan::MACHINE.map(address), 80, "near", endpoint(1, 10));
}
