//! Behaviour N8: endpoints that have learnt from somebody outside where the other one appears.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use lab::capture::Captured;
use lab::client::{Client, ask};
use lab::{Container, Family, Lan};
use support::{REFUSAL, Scene, assert_no_leak, at, bound, serve};

/// A socket of a container, and where it appears outside.
struct Peer {
    socket: UdpSocket,
    external: SocketAddr,
}

impl Peer {
    /// Asks the server outside, as STUN does.
    fn new(container: &Container, family: Family, port: u16) -> Self {
        let server = at(family.of(Lan::INTERNET), 80);
        let socket = bound(&container.namespace, server.ip(), port).datagrams(server).expect("a socket");
        let external = ask(&socket, server, b"where am I?").expect("answers").seen;
        assert_eq!(external.ip(), family.of(Lan::HOST));
        Self { socket, external }
    }

    fn send(&self, to: &Self, text: &str) {
        self.socket.send_to(text.as_bytes(), to.external).expect("sends");
    }

    /// What comes from `from` as it appears outside, and from nobody else.
    #[track_caller]
    fn hears(&self, from: &Self, text: &str) {
        let mut buffer = [0; 64];
        self.socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        let (length, sender) = self.socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((&buffer[..length], sender), (text.as_bytes(), from.external));
    }

    #[track_caller]
    fn hears_nothing(&self) {
        let mut buffer = [0; 64];
        self.socket.set_read_timeout(Some(REFUSAL)).expect("a timeout");
        let heard = self.socket.recv_from(&mut buffer);
        assert!(heard.is_err(), "{heard:?}: {:?}", String::from_utf8_lossy(&buffer));
    }
}

#[test]
fn n8_endpoints_meet_by_their_udp_mappings() {
    let scene = Scene::start();
    scene.network(1, "");
    scene.network(2, "");
    let (a, b, c) = (scene.join("a", 1, 10), scene.join("b", 1, 11), scene.join("c", 2, 10));
    let far = serve(&scene.lan().internet, "far", 80);
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        let peers = [&a, &b, &c].map(|container| Peer::new(container, family, 5_000));
        for (one, other) in [(&peers[0], &peers[1]), (&peers[0], &peers[2])] {
            // Nobody is reached who has not sent there himself (RFC 4787 section 5).
            scene.expect_drops("unsolicited", || {
                one.send(other, "too early");
                other.hears_nothing();
            });
            other.send(one, "here I am");
            one.hears(other, "here I am");
            for round in ["now", "again"] {
                one.send(other, round);
                other.hears(one, round);
                other.send(one, round);
                one.hears(other, round);
            }
        }
        // Its own mapping, from the same socket.
        peers[1].send(&peers[1], "to myself");
        peers[1].hears(&peers[1], "to myself");
        assert!(scene.json(["flow", "ls"]).expect("JSON").to_string().contains("hairpin"), "flows say what they are");
        let seen = ask(&peers[0].socket, at(family.of(Lan::INTERNET), 80), b"still").expect("answers").seen;
        assert_eq!(seen, peers[0].external, "a mapping stays");
    }
    drop(far);
    let outside = |frame: &Captured| [&b"here I am"[..], b"now", b"to myself"].contains(&&frame.view.payload[..]);
    let left: Vec<_> = uplink.stop().into_iter().filter(outside).collect();
    assert!(left.is_empty(), "it has left by the uplink: {left:?}");
}

#[test]
fn n8_mappings_are_met_with_the_daemon_dead_and_only_where_there_is_masquerade() {
    let scene = Scene::start();
    scene.network(1, "");
    scene.network(2, "--internal");
    scene.network(3, "--gateway-mode routed");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let (inner, routed) = (scene.join("inner", 2, 10), scene.join("routed", 3, 10));
    let _far = serve(&scene.lan().internet, "far", 80);
    scene.kill_daemon().expect("kills");
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        let [one, other] = [&a, &b].map(|container| Peer::new(container, family, 5_001));
        one.send(&other, "early");
        other.send(&one, "hello");
        one.hears(&other, "hello");
        for stranger in [&inner, &routed] {
            let socket = Client::new(&stranger.namespace).datagrams(one.external).expect("a socket");
            // To be refused at once is as good as silence.
            let _ = socket.send_to(b"let me in", one.external);
        }
        one.hears_nothing();
    }
    assert_no_leak(uplink);
}
