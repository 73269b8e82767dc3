//! Behaviour N9: a routed packet loses a hop, and one without hops left is answered by the programs, with the daemon dead
//! too.

mod support;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lab::capture::Captured;
use lab::client::{Client, set_hops};
use lab::frame::Transport;
use lab::icmp_error::{IcmpError, Inquirer};
use lab::{Capture, Container, Family, Lan, Namespace, Offload, PATIENCE};
use support::{Scene, assert_no_leak, at, configured, endpoint, gateway, of, serve};

const SECOND: Duration = Duration::from_secs(1);
/// Nobody listens there.
const CLOSED: u16 = 9;

/// Who says that a datagram of this client was on its last hop; nobody, when it is not dropped for that.
fn last_hop(from: &Client<'_>, target: SocketAddr, hops: u8) -> Option<IpAddr> {
    let inquirer = Inquirer::new(from, target).expect("a socket");
    inquirer.send(target, hops, b"who is there?").expect("sends");
    match inquirer.error(3 * SECOND).expect("an error queue") {
        Some(IcmpError { kind: 11 | 3, code: 0, sender, target: about }) => {
            assert_eq!(about, target);
            Some(sender)
        }
        _ => None,
    }
}

/// The hops to `target`, as traceroute shows them.
fn traced(from: &Namespace, target: SocketAddr) -> Vec<IpAddr> {
    (1..=8).map_while(|hops| last_hop(&Client::new(from), target, hops)).collect()
}

#[test]
fn n9_a_trace_shows_the_host_and_what_is_behind_it() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    scene.publish("5353:53", "a");
    let (machine, internet) = (&scene.lan().machine, &scene.lan().internet);
    let uplink = scene.watch_uplink();
    scene.kill_daemon().expect("it runs");
    for family in Family::ALL {
        let (host, lan, far) = (family.of(Lan::HOST), family.of(Lan::MACHINE), family.of(Lan::INTERNET));
        let own_gateway = of(family, gateway(1));
        let behind = family.of(["10.99.0.1", "fd99::1"]);
        for (path, from, target, hops) in [
            ("outside", &a.namespace, at(far, CLOSED), vec![own_gateway, lan]),
            ("to the LAN", &a.namespace, at(lan, CLOSED), vec![own_gateway]),
            ("to a sibling's port", &b.namespace, at(host, 5353), vec![own_gateway]),
            ("from the LAN", machine, at(host, 5353), vec![host]),
            ("from outside", internet, at(host, 5353), vec![behind, host]),
            // No hop is between these.
            ("to a sibling", &b.namespace, at(of(family, endpoint(1, 10)), CLOSED), vec![]),
            ("to the host", &a.namespace, at(own_gateway, CLOSED), vec![]),
            ("from the host", &scene.namespace, at(family.of(["127.0.0.1", "::1"]), 5353), vec![]),
        ] {
            assert_eq!(traced(from, target), hops, "{path} {family:?}");
        }
    }
    assert_no_leak(uplink);
}

/// The time exceeded messages that came in, checked.
fn answers(frames: &[Captured], from: IpAddr) -> Vec<&Captured> {
    let exceeded = if from.is_ipv4() { 11 } else { 3 };
    let answers: Vec<_> = frames
        .iter()
        .filter(|frame| {
            !frame.outgoing && matches!(frame.view.transport, Transport::Icmp { kind, .. } if kind == exceeded)
        })
        .collect();
    for answer in &answers {
        assert!(answer.view.checksum_is_right() && !answer.checksum_to_come, "{answer:?}");
        assert_eq!((answer.view.source, answer.view.ttl), (Some(from), 64), "{answer:?}");
        let limit = if from.is_ipv4() { 576 } else { 1_280 };
        assert!(answer.bytes.len() <= 14 + limit, "{answer:?}");
        // The ICMP header is no part of the payload.
        let sent = frames.iter().filter(|frame| frame.outgoing).map(|frame| &frame.bytes[14..]);
        assert!(sent.clone().any(|sent| sent.starts_with(&answer.view.payload)), "no packet is quoted: {answer:?}");
    }
    answers
}

/// Segments without hops left, at the beginning of a connection and in its middle, and what is said about them.
fn segments_are_answered(scene: &Scene, a: &Container, offload: &str) {
    for family in Family::ALL {
        let target = at(family.of(Lan::INTERNET), 80);
        let capture = Capture::start(&a.namespace, "eth0").expect("captures");
        let refused = Client::new(&a.namespace).hops(1).timeout(SECOND / 2).stream(target);
        assert!(refused.is_err(), "a SYN without hops left");
        let mut stream = Client::new(&a.namespace).stream(target).expect("connects");
        set_hops(&stream, target, 1).expect("set");
        stream.write_all(&[7; 40_000]).expect("is sent in large pieces");
        let answered = |large: bool| {
            capture.wait_for(PATIENCE, |frame| {
                let answer = matches!(frame.view.transport, Transport::Icmp { kind: 11 | 3, .. }) && !frame.outgoing;
                answer && (frame.bytes.len() > 500) == large
            })
        };
        assert!(answered(false).is_some(), "{offload} {family:?}: the SYN is answered");
        assert!(answered(true).is_some(), "{offload} {family:?}: the data are answered");
        let frames = capture.stop();
        let large = frames.iter().filter(|frame| frame.outgoing).any(|frame| frame.bytes.len() > 2_000);
        assert_eq!(large, offload != "off", "{offload}: whether the kernel is to segment what is sent");
        assert!(answers(&frames, of(family, gateway(1))).len() >= 2);
    }
    assert!(scene.metric("time_exceeded_sent").expect("status") >= 4);
}

#[test]
fn n9_answers_have_right_checksums_with_and_without_offloads() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _far = serve(&scene.lan().internet, "far", 80);
    segments_are_answered(&scene, &a, "on");
    // What the host's end is to complete, it must not complete inside the answer.
    scene.namespace.set_offload(&scene.host_side(&a, "eth0"), Offload::Off).expect("ethtool");
    segments_are_answered(&scene, &a, "off at the host");
    a.namespace.set_offload("eth0", Offload::Off).expect("ethtool");
    segments_are_answered(&scene, &a, "off");
}

#[test]
fn n9_one_endpoint_is_not_told_without_end() {
    const RATE: u64 = 20;
    const SENT: u64 = 400;
    let scene = configured(&format!("icmp_error_rate = {RATE}\n"));
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let target = at(lab::lan::address(Lan::INTERNET[0]), CLOSED);
    let asker = Client::new(&a.namespace).hops(1).datagrams(target).expect("a socket");
    let start = Instant::now();
    scene.expect_drops("ttl_exceeded", || {
        for _ in 0..SENT {
            // What was told about an earlier one is reported here.
            let _ = asker.send_to(b"who is there?", target);
        }
    });
    let told = scene.metric("time_exceeded_sent").expect("status");
    let limited = scene.metric("icmp_errors_limited").expect("status");
    assert_eq!(told + limited, SENT, "{told} told, {limited} not");
    let most = RATE * (2 + start.elapsed().as_secs());
    assert!((RATE..=most).contains(&told), "{told} told with {RATE} a second allowed");
    // A sibling is told all the same.
    assert_eq!(last_hop(&Client::new(&b.namespace), target, 1), Some(of(Family::V4, gateway(1))));
}
