//! Behaviour N5: ICMP errors reach the end of the flow that they are about, in its own terms, and change nothing of it.

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::capture::send_frames;
use lab::client::{Client, ask};
use lab::frame::Ethernet;
use lab::icmp_error::{IcmpError, Inquirer};
use lab::{Capture, Family, Host, Lan, Namespace, PATIENCE};
use support::{REFUSAL, Scene, address, assert_no_leak, at, bound, endpoint, gateway, of, serve};

const SECOND: Duration = Duration::from_secs(1);
/// Nobody listens there.
const CLOSED: u16 = 9;
/// Port unreachable, as type and code (RFC 792, RFC 4443 section 3.1).
const PORT_UNREACHABLE: [[u8; 2]; 2] = [[3, 3], [1, 4]];
/// Time exceeded in transit.
const TIME_EXCEEDED: [[u8; 2]; 2] = [[11, 0], [3, 0]];

/// The error of this type and code from `sender` about a datagram to `target`.
fn wanted(types: [[u8; 2]; 2], sender: IpAddr, target: SocketAddr) -> IcmpError {
    let [kind, code] = types[usize::from(target.is_ipv6())];
    IcmpError { kind, code, sender, target }
}

/// What a datagram of this client to `target` comes to: it must be refused, and told so by `sender`.
#[track_caller]
fn refused(from: &Namespace, target: SocketAddr, sender: IpAddr) {
    // What every program sees: a connected socket is refused.
    let socket = Client::new(from).timeout(SECOND).datagrams(target).expect("a socket");
    socket.connect(target).expect("connects");
    socket.send(b"anybody?").expect("sends");
    let error = socket.recv(&mut [0; 16]).expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{target} from {from:?}");
    // What a curious one sees: who refused, and what.
    let inquirer = Inquirer::new(&Client::new(from), target).expect("a socket");
    inquirer.send(target, 64, b"anybody?").expect("sends");
    let error = inquirer.error(PATIENCE).expect("an error queue");
    assert_eq!(error, Some(wanted(PORT_UNREACHABLE, sender, target)), "{target} from {from:?}");
}

#[test]
fn n5_a_closed_port_outside_refuses_a_container() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        for target in [Lan::MACHINE, Lan::INTERNET].map(|pair| at(family.of(pair), CLOSED)) {
            refused(&a.namespace, target, target.ip());
        }
    }
    assert_no_leak(uplink);
    scene.check_no_other_means().expect("nothing but the programs translates");
}

#[test]
fn n5_a_closed_published_port_refuses_every_client() {
    let scene = Scene::start();
    scene.network(1, "");
    let (_a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    scene.publish("5353:53", "a");
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        let by_host = at(family.of(Lan::HOST), 5353);
        let by_loopback = at(family.of(["127.0.0.1", "::1"]), 5353);
        let by_gateway = at(of(family, gateway(1)), 5353);
        for (from, target) in [
            (&scene.lan().machine, by_host),
            (&scene.lan().internet, by_host),
            (&scene.namespace, by_host),
            (&scene.namespace, by_loopback),
            (&b.namespace, by_host),
            (&b.namespace, by_gateway),
        ] {
            refused(from, target, target.ip());
        }
    }
    assert_no_leak(uplink);
}

#[test]
fn n5_a_container_refuses_whom_it_answers_no_more() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    scene.publish("5353:53", "a");
    for family in Family::ALL {
        // A masqueraded client that has gone: the far end learns it from the host's address.
        let near = at(family.of(Lan::MACHINE), 7001);
        let far_end = Inquirer::new(&bound(&scene.lan().machine, near.ip(), 7001), near).expect("a socket");
        let client = bound(&a.namespace, near.ip(), 6001).datagrams(near).expect("a socket");
        client.send_to(b"out", near).expect("sends");
        let (_, external) = far_end.socket().recv_from(&mut [0; 16]).expect("arrives");
        drop(client);
        far_end.send(external, 64, b"back").expect("sends");
        let error = far_end.error(PATIENCE).expect("an error queue");
        assert_eq!(error, Some(wanted(PORT_UNREACHABLE, family.of(Lan::HOST), external)));
        // A client of a published port that has gone: the server learns it, be the client outside or on the host.
        for (from, host, seen) in [
            (&scene.lan().machine, family.of(Lan::HOST), family.of(Lan::MACHINE)),
            (&scene.namespace, family.of(["127.0.0.1", "::1"]), of(family, gateway(1))),
        ] {
            let asked = at(host, 5353);
            let server = Inquirer::new(&bound(&a.namespace, host, 53), asked).expect("a socket");
            let client = Client::new(from).datagrams(asked).expect("a socket");
            client.send_to(b"in", asked).expect("sends");
            let (_, peer) = server.socket().recv_from(&mut [0; 16]).expect("arrives");
            assert_eq!(peer.ip(), seen);
            drop(client);
            server.send(peer, 64, b"back").expect("sends");
            let error = server.error(PATIENCE).expect("an error queue");
            assert_eq!(error, Some(wanted(PORT_UNREACHABLE, seen, peer)), "{asked}");
        }
    }
}

#[test]
fn n5_routers_outside_are_heard_and_the_flow_goes_on() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _far = serve(&scene.lan().internet, "far", 80);
    for family in Family::ALL {
        let target = at(family.of(Lan::INTERNET), 80);
        let inquirer = Inquirer::new(&bound(&a.namespace, target.ip(), 6002), target).expect("a socket");
        // The host is the first hop, the LAN machine the second, the server the third.
        inquirer.send(target, 2, b"two hops").expect("sends");
        let error = inquirer.error(PATIENCE).expect("an error queue");
        assert_eq!(error, Some(wanted(TIME_EXCEEDED, family.of(Lan::MACHINE), target)));
        inquirer.send(target, 3, b"three hops").expect("sends");
        let mut buffer = [0; 256];
        let (_, from) = inquirer.socket().recv_from(&mut buffer).expect("the flow goes on");
        assert_eq!(from, target);
        assert_eq!(inquirer.error(Duration::ZERO).expect("an error queue"), None);
    }
}

#[test]
fn n5_the_path_mtu_is_learnt_by_masqueraded_clients_and_published_servers() {
    const NARROW: u32 = 1_300;
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    scene.publish("8080:80", "a");
    let (machine, internet) = (&scene.lan().machine, &scene.lan().internet);
    // The way behind the LAN machine is narrow. The server there does not say so: its segments are small, and those that it
    // lets others send are as large as ever, so that the LAN machine has to refuse them.
    machine.ip(&format!("link set net0 mtu {NARROW}")).expect("set");
    internet
        .ip(&format!(
            "link set eth0 mtu {NARROW}\naddr add 10.99.0.11/24 dev eth0\naddr add fd99::11/64 dev eth0 nodad\n\
             route change default via 10.99.0.1 advmss 1460\nroute change default via fd99::1 advmss 1440"
        ))
        .expect("set");
    let _servers = (serve(internet, "far", 80), serve(&a.namespace, "a", 80));
    let uplink = scene.watch_uplink();
    // From the container's address, for that is what its routes go by.
    let learnt = |family: Family, peer: IpAddr| {
        let (peer, own) = (peer.to_string(), of(family, endpoint(1, 10)).to_string());
        let route = a.namespace.run("ip", ["route", "get", &peer, "from", &own]).expect("ip");
        route.contains(&format!("mtu {NARROW}"))
    };
    for family in Family::ALL {
        // What is learnt about one address says nothing about the other.
        let (server, client) = (family.of(Lan::INTERNET), family.of(["10.99.0.11", "fd99::11"]));
        for (path, from, target, peer) in [
            ("masqueraded", Client::new(&a.namespace), at(server, 80), server),
            ("published", Client::new(internet).from_address(client), at(family.of(Lan::HOST), 8080), client),
        ] {
            assert!(!learnt(family, peer), "{path} {family:?}: nothing is known yet");
            from.transfer(target, 1 << 20).unwrap_or_else(|error| panic!("{path} {family:?}: {error}"));
            assert!(learnt(family, peer), "{path} {family:?}: the container has learnt the MTU");
        }
    }
    assert_no_leak(uplink);
}

#[test]
fn n5_forged_errors_reach_no_container() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _far = serve(&scene.lan().internet, "far", 80);
    let machine = &scene.lan().machine;
    let macs = (machine.mac(Lan::TO_HOST).expect("a MAC"), scene.namespace.mac(Host::UPLINK).expect("a MAC"));
    let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
    for family in Family::ALL {
        let (target, host, router) = (at(family.of(Lan::INTERNET), 80), family.of(Lan::HOST), family.of(Lan::MACHINE));
        let inquirer = Inquirer::new(&bound(&a.namespace, host, 6003), target).expect("a socket");
        assert_eq!(ask(inquirer.socket(), target, b"first").expect("answers").seen, at(host, 6003));
        let inside = of(family, endpoint(1, 10));
        let error = |from: IpAddr, to: IpAddr, (source, destination): (SocketAddr, SocketAddr)| {
            let ethernet = || Ethernet::new(macs.0, macs.1);
            let quoted = ethernet().ip(source.ip(), destination.ip()).udp(source.port(), destination.port(), b"first");
            let [kind, code] = PORT_UNREACHABLE[usize::from(to.is_ipv6())];
            let body = [&[0; 4], &quoted[14..]].concat();
            send_frames(machine, Lan::TO_HOST, &[ethernet().ip(from, to).icmp(kind, code, &body)]).expect("sends");
        };
        let external = at(host, 6003);
        let other = of(family, [address("10.99.0.77"), address("fd99::77")]);
        for (from, to, quoted) in [
            // Wrong ports, wrong addresses, the wrong direction.
            (router, host, (at(host, 6004), target)),
            (router, host, (external, at(target.ip(), 81))),
            (router, host, (external, at(other, 80))),
            (router, host, (target, external)),
            // To the container past the translation.
            (router, inside, (at(inside, 6003), target)),
            (router, inside, (external, target)),
            // From who cannot be outside.
            (inside, host, (external, target)),
            (of(family, gateway(1)), host, (external, target)),
            (host, host, (external, target)),
        ] {
            error(from, to, quoted);
            let told = inquirer.error(REFUSAL / 4).expect("an error queue");
            assert_eq!(told, None, "from {from} to {to} about {quoted:?}");
        }
        // A right one is told, and the flow goes on all the same.
        error(router, host, (external, target));
        let told = inquirer.error(PATIENCE).expect("an error queue");
        assert_eq!(told, Some(wanted(PORT_UNREACHABLE, router, target)));
        assert_eq!(ask(inquirer.socket(), target, b"again").expect("answers").seen, external);
    }
    let errors = on_a.stop().into_iter().filter(|frame| {
        matches!(frame.view.transport, lab::frame::Transport::Icmp { kind: 1 | 3, .. }) && !frame.outgoing
    });
    let errors: Vec<_> = errors.collect();
    assert_eq!(errors.len(), 2, "one error for each family has reached the container: {errors:?}");
    assert!(errors.iter().all(|frame| frame.view.checksum_is_right()), "{errors:?}");
}
