//! Behaviours N1 and N2 under pressure: nearly every port of the host's address is in use towards one target.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, TcpListener, UdpSocket};

use lab::capture::{Captured, send_frames};
use lab::client::Client;
use lab::frame::{Ethernet, TcpSegment, Transport, tcp_flags};
use lab::{Capture, Container, Lan, Mac, Protocol};
use support::{Scene, address, assert_no_leak, at, endpoint, serve};

/// Flows of each of two endpoints, all from the same source ports; masquerade has 64,512 ports.
const FLOWS: u16 = 32_000;
const FIRST: u16 = 1_024;
const TARGET: u16 = 80;
/// The host listens on these.
const LISTENED: std::ops::Range<u16> = 2_000..2_010;

/// Who began a flow: the endpoint's number, and its own port.
type Inside = (u16, u16);

/// What one frame after another says about whose it is.
#[derive(Clone, Copy)]
enum Kind {
    Syn,
    Datagram,
}

impl Kind {
    fn frame(self, macs: (Mac, Mac), addresses: (IpAddr, IpAddr), (number, port): Inside, target: u16) -> Vec<u8> {
        let tag = u32::from(number) << 16 | u32::from(port);
        let builder = Ethernet::new(macs.0, macs.1).ip(addresses.0, addresses.1);
        match self {
            Self::Syn => {
                let flags = tcp_flags::SYN;
                builder.tcp(
                    TcpSegment { source: port, destination: target, sequence: tag, acknowledgement: 0, flags },
                    b"",
                )
            }
            Self::Datagram => builder.udp(port, target, &tag.to_be_bytes()),
        }
    }

    /// Whose a captured frame for this port is, and the port that it appears with.
    fn read(self, frame: &Captured, target: u16) -> Option<(Inside, u16)> {
        let (source, tag) = match (self, frame.view.transport) {
            (Self::Syn, Transport::Tcp { source, destination, flags: tcp_flags::SYN }) if destination == target => {
                (source, frame.bytes.get(38..42)?)
            }
            (Self::Datagram, Transport::Udp { source, destination, .. }) if destination == target => {
                (source, frame.bytes.get(42..46)?)
            }
            _ => return None,
        };
        assert_eq!(frame.view.source, Some(address(Lan::HOST[0])), "every flow appears as the host");
        let tag = u32::from_be_bytes(tag.try_into().expect("four bytes"));
        Some((((tag >> 16) as u16, tag as u16), source))
    }
}

/// Two endpoints, and a far end that answers nothing of itself.
struct Crowd {
    scene: Scene,
    endpoints: [Container; 2],
}

impl Crowd {
    fn start() -> Self {
        let scene = Scene::start();
        scene.network(1, "");
        let endpoints = [scene.join("a", 1, 10), scene.join("b", 1, 11)];
        let quiet = "add table inet quiet; add chain inet quiet in { type filter hook input priority 0; }; \
                     add rule inet quiet in meta l4proto { tcp, udp } th dport != 53 drop";
        scene.lan().internet.run("nft", [quiet]).expect("nft");
        Self { scene, endpoints }
    }

    fn frames(&self, kind: Kind, number: u16, ports: impl Iterator<Item = u16>, target: u16) -> Vec<Vec<u8>> {
        let container = &self.endpoints[usize::from(number)];
        let mac = container.namespace.mac("eth0").expect("a MAC");
        let gateway = self.scene.namespace.mac(&self.scene.gateway_device(1)).expect("a MAC");
        let addresses = (endpoint(1, 10 + number)[0], address(Lan::INTERNET[0]));
        ports.map(|port| kind.frame((mac, gateway), addresses, (number, port), target)).collect()
    }

    /// Sends the first packet of each of these flows, once more where none has come, as any client does; the ports that
    /// they appear with.
    fn begin(&self, kind: Kind, ports: std::ops::Range<u16>, target: u16) -> HashMap<Inside, u16> {
        let mut seen: HashMap<Inside, u16> = HashMap::new();
        for _ in 0..3 {
            let capture = Capture::start(&self.scene.lan().internet, "eth0").expect("captures");
            for number in 0..2 {
                let missing = ports.clone().filter(|port| !seen.contains_key(&(number, *port)));
                let frames = self.frames(kind, number, missing, target);
                send_frames(&self.endpoints[usize::from(number)].namespace, "eth0", &frames).expect("sends");
            }
            for frame in capture.stop() {
                let Some((inside, port)) = kind.read(&frame, target) else { continue };
                let before = seen.insert(inside, port);
                assert!(before.is_none_or(|before| before == port), "{inside:?} appears with {before:?} and {port}");
            }
        }
        seen
    }
}

/// No two flows share a port, none has one that the host uses, and all have got one.
#[track_caller]
fn assert_apart(seen: &HashMap<Inside, u16>) {
    assert_eq!(seen.len(), 2 * usize::from(FLOWS), "flows that have got out");
    let mut holders: BTreeMap<u16, Vec<Inside>> = BTreeMap::new();
    seen.iter().for_each(|(inside, port)| holders.entry(*port).or_default().push(*inside));
    let shared: Vec<_> = holders.iter().filter(|(_, holders)| holders.len() > 1).collect();
    assert!(shared.is_empty(), "ports of two flows: {shared:?}");
    let hosts: BTreeSet<_> = LISTENED.filter(|port| holders.contains_key(port)).collect();
    assert!(hosts.is_empty(), "ports of the host: {hosts:?}");
    let kept = seen.iter().filter(|((_, own), port)| own == *port).count();
    // Of the first endpoint all that come before another flow has taken it for want of its own.
    assert!(kept >= usize::from(FLOWS) - 100, "{kept} flows keep the port of their source");
}

#[test]
fn n1_64_000_connections_of_two_endpoints_to_one_target() {
    let crowd = Crowd::start();
    let any = |port: u16| at(address("0.0.0.0"), port);
    let listeners: Vec<_> =
        crowd.scene.namespace.enter(|| LISTENED.map(|port| TcpListener::bind(any(port)).expect("binds")).collect());
    let uplink = crowd.scene.watch_uplink();
    let seen = crowd.begin(Kind::Syn, FIRST..FIRST + FLOWS, TARGET);
    assert_apart(&seen);
    // There are 512 ports more, of which the host has ten. Who gets none is refused, and sends nothing untranslated.
    let more = crowd
        .scene
        .expect_drops("ports_exhausted", || crowd.begin(Kind::Syn, FIRST + FLOWS..FIRST + FLOWS + 500, TARGET));
    assert!(more.len() <= 502, "{} flows with 502 ports", more.len());
    assert!(more.values().all(|port| !seen.values().any(|taken| taken == port)), "a port of another flow");
    // Towards another target all ports are free.
    let _far = serve(&crowd.scene.lan().internet, "far", 53);
    let target = at(address(Lan::INTERNET[0]), 53);
    for (from, port) in crowd.endpoints.iter().zip(FIRST + 7..) {
        let client = Client::new(&from.namespace).from(any(port));
        let seen = client.exchange(Protocol::Tcp, target).expect("another target");
        assert_eq!(seen.seen.port(), port, "the port is kept");
    }
    assert_no_leak(uplink);
    drop(listeners);
}

#[test]
fn n2_64_000_mappings_of_two_endpoints() {
    let crowd = Crowd::start();
    let any = |port: u16| at(address("0.0.0.0"), port);
    let sockets: Vec<_> =
        crowd.scene.namespace.enter(|| LISTENED.map(|port| UdpSocket::bind(any(port)).expect("binds")).collect());
    let seen = crowd.begin(Kind::Datagram, FIRST..FIRST + FLOWS, TARGET);
    assert_apart(&seen);
    // Whatever the target, a source appears with its one port (RFC 4787 REQ-1).
    let again = crowd.begin(Kind::Datagram, FIRST..FIRST + 500, TARGET + 1);
    assert_eq!(again.len(), 1_000);
    for (inside, port) in again {
        assert_eq!(seen[&inside], port, "{inside:?}");
    }
    drop(sockets);
}
