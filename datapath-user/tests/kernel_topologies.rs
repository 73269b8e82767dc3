//! What the kernel's own tests of its NAT ask for (tools/testing/selftests/net/netfilter), asked of ours in the router's place:
//! N1, N5, N6, P3 and P8 where flows clash. Each test names the script whose question it is.

mod support;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use lab::capture::send_frames;
use lab::client::{Client, ask};
use lab::frame::{Ethernet, Transport};
use lab::{Capture, Family, Lan, Namespace, PATIENCE, Protocol};
use support::{Scene, assert_no_leak, at, bound, endpoint, of, reach_by, serve};

const SECOND: Duration = Duration::from_secs(1);
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

/// A client of TCP that is refused nothing but is not answered either: what comes for this port is dropped.
fn silence(namespace: &Namespace, port: u16) {
    let rules = format!(
        "add table inet silent; add chain inet silent in {{ type filter hook input priority 0; }}; \
         add rule inet silent in tcp dport {port} drop"
    );
    namespace.run("nft", [rules]).expect("nft");
}

/// Of `nft_nat.sh`, the port shadow: an inside host sends from the port of a service to a client to be, whose question to
/// that service must then not be answered by the inside host.
#[test]
fn n1_a_container_does_not_shadow_a_service() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _host = serve(&scene.namespace, "host", 1405);
    let _published = serve(&b.namespace, "b", 80);
    let _far = serve(&scene.lan().internet, "far", 41405);
    scene.publish("1406:80", "b");
    for family in Family::ALL {
        let (far, host) = (family.of(Lan::INTERNET), family.of(Lan::HOST));
        for (port, service) in [(1405, "host"), (1406, "b")] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                // The entry that would be the shadow: from the service's port, to where the client will be.
                let shadow = bound(&a.namespace, far, port);
                if protocol == Protocol::Tcp {
                    let exchange = reach_by(&shadow, protocol, at(far, 41405));
                    assert_eq!(exchange.seen.ip(), host);
                    assert_ne!(exchange.seen.port(), port, "{service} has that port");
                } else {
                    let socket = shadow.datagrams(at(far, 41404)).expect("a socket");
                    socket.send_to(b"fake-entry", at(far, 41404)).expect("sends");
                }
                let _shadow = serve(&a.namespace, "shadow", port);
                let from = if protocol == Protocol::Tcp { 41406 } else { 41404 };
                let client = bound(&scene.lan().internet, far, from);
                let exchange = reach_by(&client, protocol, at(host, port));
                assert_eq!(exchange.server, service, "{family:?} {protocol:?}");
                assert_eq!(exchange.seen.ip(), far);
            }
        }
    }
}

/// Sends to each other at the same moment, until both have heard the other; says whom each has heard.
fn at_once(ends: [(&UdpSocket, SocketAddr); 2]) -> [SocketAddr; 2] {
    let both = std::sync::Barrier::new(2);
    let one = |(socket, target): (&UdpSocket, SocketAddr)| {
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
        both.wait();
        let mut heard = None;
        // A last time when the other one has been heard, for the first may have been lost where two CPUs began one flow.
        for _ in 0..20 {
            socket.send_to(b"me first", target).expect("sends");
            if heard.is_some() {
                break;
            }
            heard = socket.recv_from(&mut [0; 64]).ok().map(|(_, peer)| peer);
        }
        heard.expect("the other end is heard")
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| one(ends[1]));
        [one(ends[0]), other.join().expect("no panic")]
    })
}

/// Of `conntrack_reverse_clash.sh`: both ends open the same flow at once, each as the answer to the other's. Nobody's port
/// changes for it.
#[test]
fn n1_both_ends_open_one_flow_at_once() {
    const ROUNDS: u16 = 40;
    let scene = Scene::start();
    scene.network(1, "");
    scene.network(2, "--gateway-mode routed");
    let (a, routed) = (scene.join("a", 1, 10), scene.join("routed", 2, 10));
    let last = 5000 + ROUNDS - 1;
    scene.run(&format!("publish 5000-{last}:5000-{last}/udp a"));
    scene.run(&format!("publish 7000-{}:5000-{last}/udp routed", 7000 + ROUNDS - 1));
    let machine = &scene.lan().machine;
    let [v4, v6] = Lan::HOST;
    machine.ip(&format!("route add 10.20.2.0/24 via {v4}\nroute add fd20:2::/64 via {v6}")).expect("routes");
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        let outer = family.of(Lan::MACHINE);
        for port in 5000..=last {
            // Untranslated, as in the script.
            let inner = of(family, endpoint(2, 10));
            let inside =
                Client::new(&routed.namespace).from(at(inner, port)).datagrams(at(outer, port)).expect("a socket");
            let outside = Client::new(machine).from(at(outer, port)).datagrams(at(inner, port)).expect("a socket");
            let heard = at_once([(&inside, at(outer, port)), (&outside, at(inner, port))]);
            assert_eq!(heard, [at(outer, port), at(inner, port)], "round {port}, routed");
        }
        for port in 5000..=last {
            // Masqueraded one way and published the other: two flows that would be the answers of one another.
            let (inner, host) = (of(family, endpoint(1, 10)), family.of(Lan::HOST));
            let inside = Client::new(&a.namespace).from(at(inner, port)).datagrams(at(outer, port)).expect("a socket");
            let outside = Client::new(machine).from(at(outer, port)).datagrams(at(host, port)).expect("a socket");
            let heard = at_once([(&inside, at(outer, port)), (&outside, at(host, port))]);
            assert_eq!(heard.map(|peer| peer.ip()), [outer, host], "round {port}, translated");
            // Whatever was first: each answers the one it has heard, and is understood.
            for (socket, other, to) in [(&inside, &outside, heard[0]), (&outside, &inside, heard[1])] {
                socket.send_to(b"and you", to).expect("sends");
                other.set_read_timeout(Some(PATIENCE)).expect("set");
                let mut buffer = [0; 64];
                let said = std::iter::repeat_with(|| other.recv_from(&mut buffer).map(|(length, _)| length))
                    .find(|length| length.as_ref().map_or(true, |length| *length == b"and you".len()));
                said.expect("endless").unwrap_or_else(|error| panic!("round {port}, to {to}: {error}"));
            }
        }
    }
    assert!(uplink.stop().iter().any(|frame| !frame.outgoing), "all of it was on the uplink");
}

/// Of `nft_nat.sh`, the clash of flows with one end by DNAT, and of `nf_nat_edemux.sh`, the clash of source ports: a client
/// with one port asks one server by several ways. The server must see different clients, and each gets the answer from
/// where it was asked.
#[test]
fn p3_one_client_port_by_several_ways_to_one_server() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, other) = (scene.join("a", 1, 10), scene.join("other", 1, 11));
    let _server = serve(&a.namespace, "a", 80);
    for port in [8080, 8081, 8082] {
        scene.publish(&format!("{port}:80"), "a");
    }
    let uplink = scene.watch_uplink();
    let mut port = 4_300;
    for family in Family::ALL {
        let (host, lo) = (family.of(Lan::HOST), family.of(LOOPBACK));
        let published = |address: IpAddr| [8080, 8081, 8082].map(|port| at(address, port)).to_vec();
        for (who, from, targets) in [
            ("a machine outside", &scene.lan().machine, published(host)),
            ("the host", &scene.namespace, published(host)),
            ("the host by lo", &scene.namespace, published(lo)),
            ("a sibling", &other.namespace, published(host)),
            ("the server itself", &a.namespace, published(host)),
        ] {
            port += 1;
            let clients: Vec<_> = targets.iter().map(|_| bound(from, host, port)).collect();
            let mut open: Vec<_> = clients
                .iter()
                .zip(&targets)
                .map(|(client, target)| {
                    client.connect(*target).unwrap_or_else(|error| panic!("{who} to {target}: {error}"))
                })
                .collect();
            distinct(who, open.iter().map(|conversation| conversation.exchange.seen).collect());
            for (conversation, target) in open.iter_mut().zip(&targets) {
                assert_eq!(conversation.exchange.peer, *target);
                conversation.say(b"still there?").unwrap_or_else(|error| panic!("{who} to {target}: {error}"));
            }
            // One socket, whose flows all live at once.
            let socket = bound(from, host, port).datagrams(targets[0]).expect("a socket");
            let round = || -> Vec<_> {
                let asked = targets.iter().map(|target| (target, ask(&socket, *target, b"there?")));
                asked
                    .map(|(target, answer)| {
                        let exchange = answer.unwrap_or_else(|error| panic!("{who} to {target} by UDP: {error}"));
                        assert_eq!(exchange.peer, *target, "{who}: the answer comes from where it was asked");
                        exchange.seen
                    })
                    .collect()
            };
            let seen = round();
            assert_eq!(round(), seen, "{who}: each stays who it is");
            distinct(who, seen);
        }
    }
    assert_no_leak(uplink);
}

/// What a server sees of one client port by several ways: several clients.
#[track_caller]
fn distinct(who: &str, mut seen: Vec<SocketAddr>) {
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "{who} is seen as {seen:?}");
}

/// Of `conntrack_icmp_related.sh`: queries too large for a link far away. The router there says so to the address they were
/// masqueraded with, and the one that sent them is told, whichever of two has that identifier outside.
#[test]
fn n5_errors_about_queries_reach_who_sent_them() {
    const NARROW: u16 = 1_300;
    let scene = Scene::start();
    scene.network(1, "");
    let containers = [scene.join("a", 1, 10), scene.join("b", 1, 11)];
    let (machine, internet) = (&scene.lan().machine, &scene.lan().internet);
    machine.ip(&format!("link set net0 mtu {NARROW}")).expect("set");
    internet.ip(&format!("link set eth0 mtu {NARROW}")).expect("set");
    let router = scene.namespace.mac(&scene.gateway_device(1)).expect("a MAC");
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        let far = family.of(Lan::INTERNET);
        let (reply, too_big) = if family == Family::V4 { (0, (3, 4)) } else { (129, (2, 0)) };
        for (number, container) in containers.iter().enumerate() {
            let own = of(family, endpoint(1, 10 + number as u16));
            let mac = container.namespace.mac("eth0").expect("a MAC");
            let capture = Capture::start(&container.namespace, "eth0").expect("captures");
            let query = |size: usize| {
                let body = [&[0, 77, 0, number as u8][..], &vec![number as u8; size]].concat();
                let kind = if family == Family::V4 { 8 } else { 128 };
                let mut frame = Ethernet::new(mac, router).ip(own, far).icmp(kind, 0, &body);
                if family == Family::V4 {
                    // Don't fragment.
                    frame = unfragmented(frame);
                }
                frame
            };
            // One that fits is answered; one that does not is not, but told of.
            send_frames(&container.namespace, "eth0", &[query(1_000), query(1_400)]).expect("sends");
            let is = |kind: u8, code: u8| move |transport: Transport| matches!(transport, Transport::Icmp { kind: k, code: c, .. } if (k, c) == (kind, code));
            let answer = capture.wait_for(PATIENCE, |frame| !frame.outgoing && is(reply, 0)(frame.view.transport));
            let answer = answer.unwrap_or_else(|| panic!("{} gets no answer by {family:?}", container.name));
            assert!(matches!(answer.view.transport, Transport::Icmp { identifier: 77, .. }));
            let error =
                capture.wait_for(PATIENCE, |frame| !frame.outgoing && is(too_big.0, too_big.1)(frame.view.transport));
            let error = error.unwrap_or_else(|| panic!("{} is not told by {family:?}", container.name));
            assert_eq!((error.view.source, error.view.destination), (Some(family.of(Lan::MACHINE)), Some(own)));
            assert!(error.view.checksum_is_right());
            // What it quotes is what was sent, but for the hops it has made and the checksum over them.
            let (ip, sent) = (error.bytes.len() - error.view.payload.len(), query(1_400));
            let header = if family == Family::V4 { 20 } else { 40 };
            let quoted = &error.bytes[ip + header..];
            assert!(sent[14 + header..].starts_with(quoted), "{} is told about {quoted:02x?}", container.name);
            assert_eq!(addresses(&error.bytes[ip..]), (own, far));
            let got = capture.stop();
            let told = got.iter().filter(|frame| !frame.outgoing && is(too_big.0, too_big.1)(frame.view.transport));
            assert_eq!(told.count(), 1, "nobody is told about the other's");
        }
    }
    assert_no_leak(uplink);
}

/// Sets the flag of an IPv4 packet without options, and mends the checksum.
fn unfragmented(mut frame: Vec<u8>) -> Vec<u8> {
    frame[20] |= 0x40;
    frame[24..26].fill(0);
    let checksum = lab::frame::internet_checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// Source and destination of an IP packet.
fn addresses(packet: &[u8]) -> (IpAddr, IpAddr) {
    if packet[0] >> 4 == 4 {
        let at = |from: usize| <[u8; 4]>::try_from(&packet[from..from + 4]).expect("four bytes").into();
        (at(12), at(16))
    } else {
        let at = |from: usize| <[u8; 16]>::try_from(&packet[from..from + 16]).expect("sixteen bytes").into();
        (at(8), at(24))
    }
}

/// Of `conntrack_tcp_unreplied.sh`: a connection that nobody has answered yet stands in the way of nobody. When the port is
/// published, or published anew, the SYN that is sent again meets that.
#[test]
fn p8_an_unanswered_connection_meets_a_later_publication() {
    let scene = Scene::start();
    scene.network(1, "");
    let names = ["mute", "a", "client"];
    let [mute, a, client] = [0, 1, 2].map(|number| scene.join(names[number], 1, 10 + number as u16));
    let _server = serve(&a.namespace, "a", 80);
    silence(&mute.namespace, 80);
    silence(&scene.namespace, 8081);
    scene.run("publish 8080:80/tcp mute");
    let (machine, internet) = (&scene.lan().machine, &scene.lan().internet);
    std::thread::scope(|scope| {
        let mut waiting = Vec::new();
        for family in Family::ALL {
            // One whose flow leads to a container that does not answer, and one that no publication had met.
            for (from, port) in
                [(machine, 8080), (internet, 8081), (&client.namespace, 8080), (&client.namespace, 8081)]
            {
                let target = at(family.of(Lan::HOST), port);
                waiting.push(scope.spawn(move || (target, Client::new(from).timeout(PATIENCE).connect(target))));
            }
        }
        std::thread::sleep(SECOND / 2);
        assert!(waiting.iter().all(|client| !client.is_finished()), "nobody has been answered");
        scene.run("unpublish 8080/tcp");
        scene.run("publish 8080:80/tcp a");
        scene.run("publish 8081:80/tcp a");
        for client in waiting {
            let (target, conversation) = client.join().expect("no panic");
            let mut conversation = conversation.unwrap_or_else(|error| panic!("{target}: {error}"));
            assert_eq!((conversation.exchange.server.as_str(), conversation.exchange.peer), ("a", target));
            conversation.say(b"at last").expect("echoes");
        }
    });
}

/// Of `nft_nat.sh`, the stateless translation of fragments: a datagram of 4,096 bytes arrives whole, from whom it should.
/// Ours has no rule without state; a network of gateway mode routed is what comes closest.
#[test]
fn n6_large_datagrams_arrive_whole_without_translation() {
    let scene = Scene::start();
    scene.network(2, "--gateway-mode routed");
    let routed = scene.join("routed", 2, 10);
    scene.publish("80:80", "routed");
    let (machine, [v4, v6]) = (&scene.lan().machine, Lan::HOST);
    machine.ip(&format!("route add 10.20.2.0/24 via {v4}\nroute add fd20:2::/64 via {v6}")).expect("routes");
    let _servers = (serve(&routed.namespace, "routed", 80), serve(machine, "near", 4233));
    let payload: Vec<u8> = (0..4_096u32).map(|at| (at * 7 + at / 251) as u8).collect();
    for family in Family::ALL {
        let (inside, outside) = (of(family, endpoint(2, 10)), family.of(Lan::MACHINE));
        for (from, target, server, seen) in
            [(&routed.namespace, at(outside, 4233), "near", inside), (machine, at(inside, 80), "routed", outside)]
        {
            let socket = Client::new(from).datagrams(target).expect("a socket");
            let exchange = ask(&socket, target, &payload).unwrap_or_else(|error| panic!("{target}: {error}"));
            assert_eq!((exchange.server.as_str(), exchange.seen.ip(), exchange.peer), (server, seen, target));
        }
    }
}
