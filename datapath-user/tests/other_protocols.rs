//! Protocols without ports that could be translated (N12 and the rules of docs/networks.md): GRE, ESP, AH, UDP-Lite, IP in IP, and
//! SCTP. Both ends are frames made by hand, for the rule is about the packet and not about who understands it.

mod support;

use std::net::IpAddr;
use std::time::Duration;

use lab::capture::{Captured, send_frames};
use lab::frame::Ethernet;
use lab::{Capture, Container, Family, Host, Lan, Mac, Namespace, PATIENCE};
use support::{REFUSAL, Scene, assert_no_leak, endpoint, gateway, of};

const SECOND: Duration = Duration::from_secs(1);
const SCTP: u8 = 132;

/// Each protocol with a packet of it (RFC 2784, RFC 4303, RFC 4302, RFC 3828, RFC 2003, RFC 4213).
const OTHERS: [(&str, u8, &[u8]); 6] = [
    ("GRE", 47, &[0, 0, 0x88, 0xb5, 1, 2, 3, 4]),
    ("ESP", 50, &[0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 8, 8, 8, 8, 8, 8, 8, 8]),
    ("AH", 51, &[17, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 5, 0, 6, 0, 8, 0, 0]),
    ("UDP-Lite", 136, &[0, 5, 0, 6, 0, 8, 0x12, 0x34, 1, 2]),
    ("IPv4 in IP", 4, &[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 172, 31, 0, 1, 172, 31, 0, 2]),
    (
        "IPv6 in IP",
        41,
        &[
            0x60, 0, 0, 0, 0, 0, 59, 64, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7,
            7, 7, 8, 8, 8, 8,
        ],
    ),
];
/// An SCTP packet from port 7000 to port 7000 (RFC 9260 section 3.1): its checksum covers ports and no addresses.
const ASSOCIATION: &[u8] = &[0x1b, 0x58, 0x1b, 0x58, 0, 0, 0, 0, 0xd, 0xe, 0xa, 0xd, 1, 0, 0, 20];

/// Where frames are sent and come by.
struct Place<'a> {
    namespace: &'a Namespace,
    device: String,
    mac: Mac,
    capture: Capture,
}

impl<'a> Place<'a> {
    fn new(namespace: &'a Namespace, device: &str) -> Self {
        let mac = namespace.mac(device).expect("a MAC");
        Self { namespace, device: device.into(), mac, capture: Capture::start(namespace, device).expect("captures") }
    }

    fn of(container: &'a Container) -> Self {
        Self::new(&container.namespace, "eth0")
    }
}

/// A packet of some protocol between two addresses.
#[derive(Clone, Copy)]
struct Packet<'a> {
    name: &'a str,
    protocol: u8,
    payload: &'a [u8],
    source: IpAddr,
    destination: IpAddr,
}

impl Packet<'_> {
    fn send(&self, from: &Place<'_>, to: Mac) {
        let frame = Ethernet::new(from.mac, to).ip(self.source, self.destination).protocol(self.protocol, self.payload);
        send_frames(from.namespace, &from.device, &[frame]).expect("sends");
    }

    /// With other addresses, as it is to arrive.
    fn between(self, source: IpAddr, destination: IpAddr) -> Self {
        Self { source, destination, ..self }
    }

    fn is(&self, frame: &Captured) -> bool {
        let protocol = if self.source.is_ipv4() { 23 } else { 20 };
        frame.view.source == Some(self.source)
            && frame.view.destination == Some(self.destination)
            && frame.bytes.get(protocol) == Some(&self.protocol)
            && frame.bytes.ends_with(self.payload)
    }

    #[track_caller]
    fn arrives(&self, at: &Place<'_>) {
        let arrived = at.capture.wait_for(PATIENCE, |frame| !frame.outgoing && self.is(frame));
        assert!(arrived.is_some(), "{} from {} to {} does not arrive", self.name, self.source, self.destination);
    }

    /// Nothing with this payload has come by this family, whatever its addresses.
    #[track_caller]
    fn stays_away(&self, from: &Place<'_>) {
        let is = |frame: &Captured| {
            let family = frame.view.source.map(|source| source.is_ipv4());
            !frame.outgoing && family == Some(self.source.is_ipv4()) && frame.bytes.ends_with(self.payload)
        };
        let arrived = from.capture.wait_for(REFUSAL / 8, is);
        assert!(arrived.is_none(), "{} from {} arrives: {arrived:?}", self.name, self.source);
    }
}

/// Every protocol by every family, SCTP first.
fn packets(family: Family, source: [IpAddr; 2], destination: [IpAddr; 2]) -> impl Iterator<Item = Packet<'static>> {
    let (source, destination) = (of(family, source), of(family, destination));
    [("SCTP", SCTP, ASSOCIATION)].into_iter().chain(OTHERS).map(move |(name, protocol, payload)| Packet {
        name,
        protocol,
        payload,
        source,
        destination,
    })
}

fn pair(texts: [&str; 2]) -> [IpAddr; 2] {
    texts.map(support::address)
}

/// How often the host's own stack has been given each protocol by the LAN machine.
fn count_at_host(scene: &Scene) {
    let mut rules =
        String::from("add table inet seen\nadd chain inet seen in { type filter hook input priority 0; }\n");
    for protocol in std::iter::once(SCTP).chain(OTHERS.map(|(_, protocol, _)| protocol)) {
        rules += &format!("add rule inet seen in ip protocol {protocol} counter\n");
        rules += &format!("add rule inet seen in ip6 nexthdr {protocol} counter\n");
    }
    scene.namespace.run("nft", [rules]).expect("nft");
}

#[test]
fn n12_other_protocols_pass_among_siblings_and_to_and_from_the_host() {
    let scene = Scene::start();
    scene.network(1, "");
    scene.network(2, "--no-icc");
    let containers = [scene.join("a", 1, 10), scene.join("b", 1, 11), scene.join("c", 2, 10), scene.join("d", 2, 11)];
    let [a, b, c, d] = containers.each_ref().map(Place::of);
    // A container with published ports has flows with its siblings: no difference to these protocols.
    scene.publish("8080:80", "b");
    let (up, net) = (Place::new(&scene.lan().machine, Lan::TO_HOST), scene.gateway_device(1));
    let host = Place::new(&scene.namespace, &net);
    count_at_host(&scene);
    let uplink_mac = scene.namespace.mac(Host::UPLINK).expect("a MAC");
    for family in Family::ALL {
        for packet in packets(family, endpoint(1, 10), endpoint(1, 11)) {
            packet.send(&a, b.mac);
            packet.arrives(&b);
            let back = packet.between(packet.destination, packet.source);
            back.send(&b, a.mac);
            back.arrives(&a);
        }
        for packet in packets(family, endpoint(2, 10), endpoint(2, 11)) {
            scene.expect_drops("icc_disabled", || packet.send(&c, d.mac));
            packet.stays_away(&d);
        }
        // To the host by its own address on the network, and from it.
        for packet in packets(family, endpoint(1, 10), gateway(1)) {
            packet.send(&a, host.mac);
            packet.arrives(&host);
            let back = packet.between(packet.destination, packet.source);
            back.send(&host, a.mac);
            back.arrives(&a);
        }
        // What is for the host from outside is the host's, be it a tunnel of its own or not.
        for packet in packets(family, pair(Lan::MACHINE), pair(Lan::HOST)) {
            packet.send(&up, uplink_mac);
        }
    }
    std::thread::sleep(SECOND / 4);
    let counted = scene.namespace.run("nft", ["list", "table", "inet", "seen"]).expect("nft");
    let unseen: Vec<_> = counted.lines().filter(|line| line.contains("counter packets 0 ")).collect();
    assert!(counted.contains("counter packets") && unseen.is_empty(), "the host has not got {unseen:?}");
}

#[test]
fn n12_other_protocols_leave_only_untranslated() {
    let scene = Scene::start();
    scene.network(1, "");
    scene.network(2, "--gateway-mode routed");
    scene.network(3, "--internal");
    let containers = [scene.join("a", 1, 10), scene.join("routed", 2, 10), scene.join("inner", 3, 10)];
    let [a, routed, inner] = containers.each_ref().map(Place::of);
    let machine = Place::new(&scene.lan().machine, Lan::TO_HOST);
    let gateways = [1, 2, 3].map(|number| scene.namespace.mac(&scene.gateway_device(number)).expect("a MAC"));
    let uplink_mac = scene.namespace.mac(Host::UPLINK).expect("a MAC");
    let outside = pair(Lan::MACHINE);
    let leaks = scene.watch_uplink();
    for family in Family::ALL {
        let host = family.of(Lan::HOST);
        for packet in packets(family, endpoint(1, 10), outside) {
            let answer = packet.between(packet.destination, host);
            if packet.protocol == SCTP {
                // As masqueraded as it can be: with its own port.
                packet.send(&a, gateways[0]);
                packet.between(host, packet.destination).arrives(&machine);
                answer.send(&machine, uplink_mac);
                answer.between(packet.destination, packet.source).arrives(&a);
            } else {
                scene.expect_drops("protocol", || packet.send(&a, gateways[0]));
                packet.stays_away(&machine);
                answer.send(&machine, uplink_mac);
                packet.stays_away(&a);
            }
            // Nobody outside reaches a container by its own address.
            let direct = packet.between(packet.destination, packet.source);
            scene.expect_drops("direct_routing", || direct.send(&machine, uplink_mac));
            let other = packet.between(packet.source, of(family, endpoint(2, 10)));
            scene.expect_drops("network_isolation", || other.send(&a, gateways[0]));
        }
    }
    // No packet of an internal network is on any uplink: seen by one who has not heard the others.
    let quiet = Place::new(&scene.lan().machine, Lan::TO_HOST);
    for family in Family::ALL {
        for packet in packets(family, endpoint(3, 10), outside) {
            scene.expect_drops("internal_network", || packet.send(&inner, gateways[2]));
            packet.stays_away(&quiet);
        }
    }
    assert_no_leak(leaks);
    for family in Family::ALL {
        for packet in packets(family, endpoint(2, 10), outside) {
            let back = packet.between(packet.destination, packet.source);
            // A routed network lets out what begins inside, and its answers in; nothing else.
            scene.expect_drops("direct_routing", || back.send(&machine, uplink_mac));
            packet.stays_away(&routed);
            packet.send(&routed, gateways[1]);
            packet.arrives(&machine);
            back.send(&machine, uplink_mac);
            back.arrives(&routed);
        }
    }
}
