//! Behaviour N6: datagrams in fragments are delivered whatever the order of arrival, and nothing that is made to deceive.

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use lab::capture::{Captured, send_frames};
use lab::client::{Client, ask};
use lab::frame::{Ethernet, IpBuilder, fragments};
use lab::{Capture, Family, Host, Lan, Namespace, Protocol};
use support::{REFUSAL, Scene, assert_no_leak, at, bound, endpoint, gateway, of, reach, serve};

/// Bytes in each crafted fragment: those of an IPv6 packet of 1,280 bytes, the smallest MTU.
const SIZE: usize = 1_232;

/// One way that packets take, for frames made by hand.
struct Way<'a> {
    from: &'a Namespace,
    device: &'a str,
    ethernet: Ethernet,
    source: IpAddr,
    destination: IpAddr,
}

impl<'a> Way<'a> {
    /// From the LAN machine to the host.
    fn inwards(scene: &'a Scene, family: Family) -> Self {
        let from = &scene.lan().machine;
        let macs = (from.mac(Lan::TO_HOST), scene.namespace.mac(Host::UPLINK));
        let ethernet = Ethernet::new(macs.0.expect("a MAC"), macs.1.expect("a MAC"));
        let (source, destination) = (family.of(Lan::MACHINE), family.of(Lan::HOST));
        Self { from, device: Lan::TO_HOST, ethernet, source, destination }
    }

    /// From a container of network 1 to the LAN machine.
    fn outwards(scene: &Scene, from: &'a Namespace, source: [IpAddr; 2], family: Family) -> Self {
        let macs = (from.mac("eth0"), scene.namespace.mac(&scene.gateway_device(1)));
        let ethernet = Ethernet::new(macs.0.expect("a MAC"), macs.1.expect("a MAC"));
        let destination = family.of(Lan::MACHINE);
        Self { from, device: "eth0", ethernet, source: of(family, source), destination }
    }

    fn packet(&self) -> IpBuilder {
        self.ethernet.clone().ip(self.source, self.destination)
    }

    /// The fragments of a datagram.
    fn datagram(&self, ports: (u16, u16), payload: &[u8], identification: u16) -> Vec<Vec<u8>> {
        let whole = self.packet().identification(identification).udp(ports.0, ports.1, payload);
        fragments(&whole, SIZE, identification.into())
    }

    fn send(&self, frames: &[Vec<u8>]) {
        send_frames(self.from, self.device, frames).expect("sends");
    }
}

/// Bytes that show when any of them is missing or swapped.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at / 8) as u8 ^ (at >> 11) as u8 ^ seed).collect()
}

/// A socket that hears `port` on all addresses of its family, and waits for `timeout` at most.
fn listener(namespace: &Namespace, family: Family, port: u16, timeout: Duration) -> UdpSocket {
    let any = family.of(["0.0.0.0", "::"]);
    bound(namespace, any, port).timeout(timeout).datagrams(at(any, port)).expect("a socket")
}

#[track_caller]
fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (length, peer) = socket.recv_from(&mut buffer).expect("a datagram arrives");
    buffer.truncate(length);
    (buffer, peer)
}

#[track_caller]
fn nothing_received(socket: &UdpSocket) {
    let error = socket.recv_from(&mut [0; 16]).expect_err("nothing arrives");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

/// Orders of this many fragments: backwards, every second one first, the first one last, and some shuffled ones.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![
        (0..count).rev().collect::<Vec<_>>(),
        (1..count).step_by(2).chain((0..count).step_by(2)).collect(),
        (1..count).chain([0]).collect(),
    ];
    for seed in 1..6u64 {
        let mut order: Vec<_> = (0..count).collect();
        order.sort_by_key(|position| (*position as u64 + 1).wrapping_mul(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        orders.push(order);
    }
    orders
}

/// What a client on the host gets for a datagram of this many bytes.
fn asked_by_host(scene: &Scene, target: SocketAddr, length: usize) -> std::io::Result<String> {
    let socket = Client::new(&scene.namespace).timeout(REFUSAL).datagrams(target)?;
    Ok(ask(&socket, target, &pattern(length, 0))?.server)
}

#[test]
fn n6_large_datagrams_pass_both_ways() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _servers = [(&b.namespace, "b"), (&scene.lan().internet, "far"), (&scene.namespace, "host")]
        .map(|(namespace, name)| serve(namespace, name, 4_000));
    scene.publish("8080:4000", "b");
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        let by_host = at(family.of(Lan::HOST), 8_080);
        let own = |number| of(family, endpoint(1, number));
        let (machine, host) = (family.of(Lan::MACHINE), family.of(Lan::HOST));
        for (from, target, server, seen) in [
            (&a.namespace, at(family.of(Lan::INTERNET), 4_000), "far", host),
            (&a.namespace, at(of(family, gateway(1)), 4_000), "host", own(10)),
            (&a.namespace, at(own(11), 4_000), "b", own(10)),
            (&a.namespace, by_host, "b", own(10)),
            (&b.namespace, by_host, "b", of(family, gateway(1))),
            (&scene.lan().machine, by_host, "b", machine),
            (&scene.lan().machine, at(host, 4_000), "host", machine),
        ] {
            for length in [2_000, 9_001, 60_000] {
                let socket = Client::new(from).datagrams(target).expect("a socket");
                let exchange = ask(&socket, target, &pattern(length, 0))
                    .unwrap_or_else(|error| panic!("{length} bytes from {from:?} to {target}: {error}"));
                assert_eq!((exchange.server.as_str(), exchange.peer), (server, target), "{length} bytes");
                assert_eq!(exchange.seen.ip(), seen, "{length} bytes to {target}");
            }
        }
        // The host's stack cuts to the MTU of lo until it has learnt what the network takes.
        let loopback = at(family.of(["127.0.0.1", "::1"]), 8_080);
        asked_by_host(&scene, loopback, 60_000).expect_err("is answered with what fits");
        // It keeps that for addresses of lo, but not for those of a device that takes as much, so their route has to say it.
        asked_by_host(&scene, by_host, 60_000).expect_err("is answered with what fits");
        asked_by_host(&scene, by_host, 60_000).expect_err("and that is not kept");
        let route = format!("local {host} dev {} table local", Host::UPLINK);
        scene.namespace.ip(&format!("route del {route}\nroute add {route} mtu 1500")).expect("set");
        for (target, length) in
            [loopback, by_host].iter().flat_map(|to| [2_000, 9_001, 60_000].map(|length| (*to, length)))
        {
            let server = asked_by_host(&scene, target, length);
            assert_eq!(server.unwrap_or_else(|error| panic!("{length} bytes to {target}: {error}")), "b");
        }
    }
    assert_no_leak(uplink);
    scene.check_no_other_means().expect("nothing but the programs translates");
}

#[test]
fn n6_every_order_of_arrival_is_delivered() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    scene.publish("8080:4000", "a");
    let uplink = scene.watch_uplink();
    let payload = pattern(50_003, 0);
    for family in Family::ALL {
        let server = listener(&a.namespace, family, 4_000, Duration::from_secs(3));
        let outside = listener(&scene.lan().machine, family, 7_000, Duration::from_secs(3));
        let inwards = Way::inwards(&scene, family);
        let outwards = Way::outwards(&scene, &a.namespace, endpoint(1, 10), family);
        let count = inwards.datagram((1, 1), &payload, 0).len();
        for (order, id) in orders(count).into_iter().zip(1..) {
            for (way, ports, socket, peer) in [
                (&inwards, (5_000, 8_080), &server, at(inwards.source, 5_000)),
                (&outwards, (6_000, 7_000), &outside, at(inwards.destination, 6_000)),
            ] {
                let parts = way.datagram(ports, &payload, id);
                way.send(&order.iter().map(|position| parts[*position].clone()).collect::<Vec<_>>());
                let (bytes, from) = received(socket);
                assert_eq!(from, peer, "who sent it");
                assert!(
                    bytes == payload,
                    "{} bytes of {} arrive damaged in order {order:?}",
                    bytes.len(),
                    payload.len()
                );
            }
        }
    }
    assert_no_leak(uplink);
}

#[test]
fn n6_overlapping_and_tiny_fragments_are_dropped() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    for family in Family::ALL {
        let outside = listener(&scene.lan().machine, family, 7_000, REFUSAL);
        let way = Way::outwards(&scene, &a.namespace, endpoint(1, 10), family);
        let seen = Capture::start(&scene.lan().machine, Lan::TO_HOST).expect("captures");
        let parts = way.datagram((6_000, 7_000), &pattern(3_000, 0), 1);
        let others = way.datagram((6_000, 7_000), &pattern(3_000, 0xff), 1);
        // The second fragment once more, with other bytes, before the last one: which would count?
        scene.expect_drops("fragment_overlap", || {
            way.send(&[parts[0].clone(), parts[1].clone(), others[1].clone()]);
        });
        // One that reaches over two others, so that the datagram is refused as a whole.
        let wide = fragments(&way.packet().identification(2).udp(6_000, 7_000, &pattern(4_000, 0)), SIZE + 8, 2);
        let narrow = way.datagram((6_000, 7_000), &pattern(4_000, 0), 2);
        scene.expect_drops("fragment_overlap", || {
            way.send(&[narrow[0].clone(), narrow[2].clone(), wide[1].clone(), narrow[1].clone(), narrow[3].clone()]);
        });
        nothing_received(&outside);
        let host = Some(family.of(Lan::HOST));
        let is_long = |frame: &Captured| !frame.outgoing && frame.view.source == host && frame.bytes.len() > SIZE;
        let left = seen.stop().into_iter().filter(is_long);
        assert_eq!(left.count(), 2 + 2, "what does not overlap has passed");
        // A first fragment without all of its TCP header (RFC 1858).
        let segment =
            way.packet().tcp(lab::frame::TcpSegment { source: 1, destination: 2, flags: 2, ..Default::default() }, b"");
        scene.expect_drops("malformed", || way.send(&fragments(&segment, 8, 3)[..1]));
    }
}

#[test]
fn n6_equal_identifications_are_never_mixed() {
    let scene = Scene::start();
    scene.network(1, "");
    let containers = [scene.join("a", 1, 10), scene.join("b", 1, 11)];
    for family in Family::ALL {
        let outside = listener(&scene.lan().machine, family, 7_000, Duration::from_secs(3));
        let ways = [10, 11].map(|number| {
            let from = &containers[usize::from(number - 10)].namespace;
            Way::outwards(&scene, from, endpoint(1, number), family)
        });
        for id in 1..20 {
            let payloads = [pattern(5_000, 1), pattern(5_000, 2)];
            let parts = [0, 1].map(|who| ways[who].datagram((6_000 + who as u16, 7_000), &payloads[who], id));
            for position in 0..parts[0].len() {
                ways[0].send(&parts[0][position..=position]);
                ways[1].send(&parts[1][position..=position]);
            }
            let mut arrived = [received(&outside), received(&outside)];
            arrived.sort_by_key(|(_, peer)| peer.port());
            for (who, (bytes, peer)) in arrived.into_iter().enumerate() {
                assert_eq!(peer, at(family.of(Lan::HOST), 6_000 + who as u16));
                assert!(bytes == payloads[who], "the datagram of container {who} arrives damaged");
            }
        }
    }
}

#[test]
fn n6_orphans_do_not_disturb_others() {
    let scene = Scene::start();
    scene.network(1, "");
    let (loud, quiet) = (scene.join("loud", 1, 10), scene.join("quiet", 1, 11));
    let _server = serve(&scene.lan().internet, "far", 80);
    scene.publish("8080:4000", "quiet");
    let payload = pattern(20_000, 0);
    for family in Family::ALL {
        let server = listener(&quiet.namespace, family, 4_000, Duration::from_secs(3));
        let outside = listener(&scene.lan().machine, family, 7_000, Duration::from_secs(3));
        let flood = Way::outwards(&scene, &loud.namespace, endpoint(1, 10), family);
        let orphans: Vec<_> =
            (0..10_000u16).map(|id| flood.datagram((1, 2), &pattern(2_000, 0), id).remove(1)).collect();
        let inwards = Way::inwards(&scene, family);
        let outwards = Way::outwards(&scene, &quiet.namespace, endpoint(1, 11), family);
        let mut sent = orphans.chunks(100);
        for id in 1..=50 {
            for (way, ports, socket) in [(&inwards, (5_000, 8_080), &server), (&outwards, (6_000, 7_000), &outside)] {
                let parts = way.datagram(ports, &payload, id);
                let (first, others) = parts.split_first().expect("fragments");
                way.send(others);
                flood.send(sent.next().expect("orphans"));
                way.send(std::slice::from_ref(first));
                assert!(received(socket).0 == payload, "datagram {id} arrives damaged");
            }
            let target = at(family.of(Lan::INTERNET), 80);
            assert_eq!(reach(&loud.namespace, Protocol::Tcp, target).server, "far");
        }
        assert_eq!(sent.next(), None, "all orphans were sent");
    }
}
