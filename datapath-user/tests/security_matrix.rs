//! Behaviours S1 and S2 as a matrix: everything that can be forged, to everywhere it could go, by both families. Each frame is
//! counted as what it is, exactly once, and reaches nobody.

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use lab::capture::send_frames;
use lab::frame::{Arp, Ethernet, IpBuilder, NeighbourMessage, TcpSegment, ethertype, tcp_flags};
use lab::{Capture, Family, Host, Lan, Mac, Namespace, PATIENCE};
use support::{Scene, address, at, endpoint, gateway, of, reach_all, serve};

const SECOND: Duration = Duration::from_secs(1);
/// So many wrong frames are not waited for once more.
const ENOUGH: usize = 20;

/// A forged frame.
struct Forged {
    what: String,
    /// Why it must be dropped.
    reason: &'static str,
    bytes: Vec<u8>,
}

/// Forged frames, each with a number in it by which it is known wherever it should turn up.
#[derive(Default)]
struct Matrix(Vec<Forged>);

impl Matrix {
    /// The number that the next frame has to carry.
    fn mark(&self) -> Vec<u8> {
        format!("evil {:04}", self.0.len()).into_bytes()
    }

    fn add(&mut self, what: String, reason: &'static str, bytes: Vec<u8>) {
        self.0.push(Forged { what, reason, bytes });
    }

    /// A datagram, a SYN and a query with this number on these ways.
    fn add_ip(&mut self, what: &str, reason: &'static str, (source, target): (u16, u16), packet: &IpBuilder) {
        let segment = TcpSegment { source, destination: target, flags: tcp_flags::SYN, ..TcpSegment::default() };
        let mark = self.mark();
        self.add(format!("{what}: a datagram"), reason, packet.clone().udp(source, target, &mark));
        let mark = self.mark();
        self.add(format!("{what}: a SYN"), reason, packet.clone().tcp(segment, &mark));
        let (mark, kind) = (self.mark(), if packet.is_ipv4() { 8 } else { 128 });
        self.add(
            format!("{what}: a query"),
            reason,
            packet.clone().icmp(kind, 0, &[&[0, 7, 0, 1], &mark[..]].concat()),
        );
    }

    /// Sends each frame, waits for it to be counted, and says of which this is not so, or not so alone.
    fn send(&self, scene: &Scene, from: &Namespace, device: &str) -> Vec<String> {
        let mut before = scene.drops().expect("status");
        let mut wrong = Vec::new();
        for Forged { what, reason, bytes } in &self.0 {
            send_frames(from, device, std::slice::from_ref(bytes)).expect("sends");
            let end = Instant::now() + SECOND / 4;
            let counted = loop {
                let after = scene.drops().expect("status");
                let grown = grown(&before, &after);
                before = after;
                if !grown.is_empty() || Instant::now() > end {
                    break grown;
                }
            };
            if counted != BTreeMap::from([((*reason).to_owned(), 1)]) {
                wrong.push(format!("{what}: to be dropped for {reason}, and what grew is {counted:?}"));
                if wrong.len() == ENOUGH {
                    break;
                }
            }
        }
        wrong
    }

    /// Which of the frames have come in here.
    fn seen(&self, capture: Capture) -> Vec<&str> {
        let frames: Vec<_> = capture.stop().into_iter().filter(|frame| !frame.outgoing).collect();
        let known = |number: usize| format!("evil {number:04}").into_bytes();
        let is = |(number, forged): (usize, &Forged), bytes: &[u8]| {
            let mark = known(number);
            bytes.windows(mark.len()).any(|part| part == mark) || bytes.get(12..) == forged.bytes.get(12..)
        };
        let came =
            |(number, forged): &(usize, &Forged)| frames.iter().any(|frame| is((*number, *forged), &frame.bytes));
        self.0.iter().enumerate().filter(came).map(|(_, forged)| forged.what.as_str()).collect()
    }
}

/// What has grown, and by how much.
fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let difference = |(name, count): (&String, &u64)| (name.clone(), count - before.get(name).copied().unwrap_or(0));
    after.iter().map(difference).filter(|(_, count)| *count != 0).collect()
}

/// A network with a hostile container, and all who must not hear of it.
struct Stage {
    scene: Scene,
    hostile: lab::Container,
    sibling: lab::Container,
    other: lab::Container,
    own: Mac,
    sibling_mac: Mac,
    router: Mac,
}

impl Stage {
    fn new() -> Self {
        let scene = Scene::start();
        scene.network(1, "");
        scene.network(2, "");
        let (hostile, sibling, other) = (scene.join("a", 1, 10), scene.join("b", 1, 11), scene.join("c", 2, 10));
        scene.publish("8080:80", "b");
        let mac = |namespace: &Namespace, device: &str| namespace.mac(device).expect("a MAC");
        let (own, sibling_mac) = (mac(&hostile.namespace, "eth0"), mac(&sibling.namespace, "eth0"));
        let router = mac(&scene.namespace, &scene.gateway_device(1));
        Self { scene, hostile, sibling, other, own, sibling_mac, router }
    }

    /// Everywhere a unicast packet could go: by which MAC address, and to which address.
    fn targets(&self, family: Family) -> [(&'static str, Mac, IpAddr); 6] {
        let group = family.of(["224.0.0.251", "ff02::fb"]);
        [
            ("to a sibling", self.sibling_mac, of(family, endpoint(1, 11))),
            ("to the gateway", self.router, of(family, gateway(1))),
            ("outside", self.router, family.of(Lan::INTERNET)),
            ("to a published port", self.router, family.of(Lan::HOST)),
            ("to another network", self.router, of(family, endpoint(2, 10))),
            ("to a group", Mac::multicast_of(group), group),
        ]
    }

    fn captures(&self) -> Vec<(&'static str, Capture)> {
        let on = |namespace: &Namespace, device: &str| Capture::start(namespace, device).expect("captures");
        vec![
            ("the sibling", on(&self.sibling.namespace, "eth0")),
            ("another network", on(&self.other.namespace, "eth0")),
            ("the host", on(&self.scene.namespace, &self.scene.gateway_device(1))),
            ("the uplink", self.scene.watch_uplink()),
            ("the internet", on(&self.scene.lan().internet, "eth0")),
        ]
    }

    /// Sends all of it from the hostile container; nobody hears of any.
    #[track_caller]
    fn nothing_arrives(&self, matrix: &Matrix) {
        let captures = self.captures();
        let wrong = matrix.send(&self.scene, &self.hostile.namespace, "eth0");
        assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), matrix.0.len());
        // What is honest arrives.
        let honest = Ethernet::new(self.own, self.sibling_mac).ip(endpoint(1, 10)[0], endpoint(1, 11)[0]);
        send_frames(&self.hostile.namespace, "eth0", &[honest.udp(1, 2, b"honest")]).expect("sends");
        let arrived = captures[0].1.wait_for(PATIENCE, |frame| frame.view.payload == b"honest");
        assert!(arrived.is_some(), "the honest datagram arrives");
        for (who, capture) in captures {
            let seen = matrix.seen(capture);
            assert!(seen.is_empty(), "{who} has got {seen:#?}");
        }
        println!("{} frames", matrix.0.len());
    }
}

#[test]
fn s1_no_address_but_its_own() {
    let stage = Stage::new();
    let mut matrix = Matrix::default();
    let v4 = [
        "10.20.1.11",
        "10.20.1.1",
        "10.20.2.10",
        "192.0.2.1",
        "127.0.0.1",
        "10.99.0.10",
        "224.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
    ];
    let v6 =
        ["fd20:1::11", "fd20:1::1", "fd20:2::10", "2001:db8:2::1", "::1", "fd99::10", "ff02::1", "::", "fe80::1234"];
    for (family, sources) in [(Family::V4, v4), (Family::V6, v6)] {
        for (target, mac, destination) in stage.targets(family) {
            for source in sources {
                let packet = Ethernet::new(stage.own, mac).ip(address(source), destination);
                matrix.add_ip(&format!("{source} {target}"), "forged_address", (4_000, 8_080), &packet);
            }
            for (whose, source) in [
                ("a sibling's", stage.sibling_mac),
                ("the gateway's", stage.router),
                ("a group's", Mac([3, 0, 0, 0, 0, 9])),
            ] {
                let packet = Ethernet::new(source, mac).ip(of(family, endpoint(1, 10)), destination);
                matrix.add_ip(&format!("{whose} MAC address {target}"), "forged_mac", (4_000, 8_080), &packet);
            }
        }
    }
    stage.nothing_arrives(&matrix);
}

#[test]
fn s1_no_tag_no_role_and_no_trick() {
    let stage = Stage::new();
    let mut matrix = Matrix::default();
    for family in Family::ALL {
        let own = of(family, endpoint(1, 10));
        let (server, client) = if family == Family::V4 { (67, 68) } else { (547, 546) };
        for (target, mac, destination) in stage.targets(family) {
            let frame = || Ethernet::new(stage.own, mac);
            let tagged = frame().tag(ethertype::VLAN, 5).ip(own, destination);
            matrix.add_ip(&format!("a VLAN tag {target}"), "vlan_tagged", (1, 2), &tagged);
            let twice = frame().tag(ethertype::QINQ, 5).tag(ethertype::VLAN, 6).ip(own, destination);
            matrix.add_ip(&format!("two VLAN tags {target}"), "vlan_tagged", (1, 2), &twice);
            let mark = matrix.mark();
            let offer = frame().ip(own, destination).udp(server, client, &mark);
            matrix.add(format!("an offer of DHCP, {target}"), "rogue_dhcp", offer);
            if target != "to a group" {
                matrix.add_ip(&format!("LAND, {target}"), "land", (80, 80), &frame().ip(own, own));
                let loopback = frame().ip(own, family.of(["127.0.0.1", "::1"]));
                matrix.add_ip(&format!("to loopback, {target}"), "loopback_address", (1, 8_080), &loopback);
            }
            if family == Family::V4 {
                for (name, option) in [("loose", 131), ("strict", 137)] {
                    let routed = frame().ip(own, destination).options(&[option, 7, 4, 10, 99, 0, 10]);
                    matrix.add_ip(&format!("a {name} source route {target}"), "source_routed", (1, 2), &routed);
                }
                let mark = matrix.mark();
                let redirect = frame().ip(own, destination).icmp(5, 1, &[&[10, 99, 0, 10][..], &mark].concat());
                matrix.add(format!("a redirect {target}"), "rogue_router", redirect);
            } else {
                let routed = frame().ip(own, destination).extension(43, &[0, 0, 0, 0, 0, 0, 0]);
                matrix.add_ip(&format!("a routing header {target}"), "source_routed", (1, 2), &routed);
                for (name, kind) in [("a router advertisement", 134), ("a redirect", 137)] {
                    let mark = matrix.mark();
                    let packet = frame().ip(own, destination).ttl(255).icmp(kind, 0, &[&[0; 36][..], &mark].concat());
                    matrix.add(format!("{name} {target}"), "rogue_router", packet);
                }
            }
        }
    }
    for last in 0..16 {
        let mark = matrix.mark();
        let bridges = Ethernet::new(stage.own, Mac([1, 0x80, 0xc2, 0, 0, last])).llc(&mark);
        matrix.add(format!("to the bridges' address {last}"), "reserved_frame", bridges);
    }
    stage.nothing_arrives(&matrix);
}

#[test]
fn s1_no_neighbour_but_itself() {
    let stage = Stage::new();
    let mut matrix = Matrix::default();
    let v4 = |text: &str| text.parse::<Ipv4Addr>().expect("a literal");
    let v6 = |text: &str| text.parse::<Ipv6Addr>().expect("a literal");
    let own = (stage.own, v6("fd20:1::10"));
    let all = (Mac::multicast_of(address("ff02::1")), v6("ff02::1"));
    for (to, mac, [asked4, asked6]) in [
        ("a sibling", stage.sibling_mac, ["10.20.1.11", "fd20:1::11"]),
        ("the gateway", stage.router, ["10.20.1.1", "fd20:1::1"]),
        ("all", Mac::BROADCAST, ["10.20.1.11", "ff02::1"]),
    ] {
        for stolen in ["10.20.1.11", "10.20.1.1", "10.20.1.77", "192.0.2.1"] {
            let reply = Arp::reply((stage.own, v4(stolen)), (mac, v4(asked4))).frame(stage.own, mac);
            matrix.add(format!("ARP reply to {to}: {stolen} is mine"), "forged_neighbour", reply);
            let request = Arp::request((stage.own, v4(stolen)), v4(asked4)).frame(stage.own, mac);
            matrix.add(format!("ARP request to {to} from {stolen}"), "forged_neighbour", request);
        }
        let lying = Arp::reply((stage.sibling_mac, v4("10.20.1.10")), (mac, v4(asked4))).frame(stage.own, mac);
        matrix.add(format!("ARP reply to {to}: it has another MAC address"), "forged_neighbour", lying);
        let whom = if mac == Mac::BROADCAST { all } else { (mac, v6(asked6)) };
        for stolen in ["fd20:1::11", "fd20:1::1", "fd20:1::77", "2001:db8:2::1", "fe80::1234"] {
            let claim = NeighbourMessage::Advertisement { target: v6(stolen), mac: stage.own }.frame(own, whom);
            matrix.add(format!("advertisement to {to}: {stolen} is mine"), "forged_neighbour", claim);
        }
        let lying = NeighbourMessage::Advertisement { target: own.1, mac: stage.sibling_mac }.frame(own, whom);
        matrix.add(format!("advertisement to {to}: it has another MAC address"), "forged_neighbour", lying);
    }
    stage.nothing_arrives(&matrix);
}

#[test]
fn s2_nothing_from_outside_that_cannot_be_there() {
    let stage = Stage::new();
    let machine = &stage.scene.lan().machine;
    let macs = (machine.mac(Lan::TO_HOST).expect("a MAC"), stage.scene.namespace.mac(Host::UPLINK).expect("a MAC"));
    let server = serve(&stage.sibling.namespace, "b", 80);
    let mut matrix = Matrix::default();
    // What is inside is nobody's outside; what is this host's or nobody's is not to be answered by a container.
    let inside = ["10.20.1.11", "10.20.1.1", "10.20.2.10", "fd20:1::11", "fd20:1::1", "fd20:2::10"];
    let the_hosts = ["192.0.2.1", "2001:db8:2::1", "fe80::1234"];
    let nobodys = ["127.0.0.1", "127.8.8.8", "224.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "ff02::1", "::"];
    let forged =
        |sources: &'static [&'static str], reason: &'static str| sources.iter().map(move |source| (*source, reason));
    let (inside, the_hosts, nobodys) =
        (Vec::from(inside).leak(), Vec::from(the_hosts).leak(), Vec::from(nobodys).leak());
    let sources = forged(inside, "spoofed_source")
        .chain(forged(the_hosts, "spoofed_source"))
        .chain(forged(nobodys, "loopback_address"));
    for (text, reason) in sources {
        let source = address(text);
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let port = at(family.of(Lan::HOST), 8_080);
        let packet = |to: IpAddr| Ethernet::new(macs.0, macs.1).ip(source, to);
        let mark = matrix.mark();
        matrix.add(format!("{text} to a port: a datagram"), reason, packet(port.ip()).udp(4_000, 8_080, &mark));
        let segment = TcpSegment { source: 4_000, destination: 8_080, flags: tcp_flags::SYN, ..TcpSegment::default() };
        let mark = matrix.mark();
        matrix.add(format!("{text} to a port: a SYN"), reason, packet(port.ip()).tcp(segment, &mark));
        for (whose, to) in
            [("a container", endpoint(1, 11)), ("a gateway", gateway(1)), ("another network", endpoint(2, 10))]
        {
            matrix.add_ip(&format!("{text} to {whose}"), reason, (4_000, 80), &packet(of(family, to)));
        }
        // To the host itself: only what would be answered to a container. The rest is the host's own to refuse.
        if inside.contains(&text) {
            matrix.add_ip(&format!("{text} to the host"), reason, (4_000, 2_222), &packet(port.ip()));
        }
    }
    // An honest source, to where nothing from outside may go.
    for family in Family::ALL {
        let packet = |to: IpAddr| Ethernet::new(macs.0, macs.1).ip(family.of(Lan::MACHINE), to);
        for (whose, to) in
            [("a container", endpoint(1, 11)), ("a gateway", gateway(1)), ("another network", endpoint(2, 10))]
        {
            matrix.add_ip(
                &format!("an honest {family:?} source to {whose}"),
                "direct_routing",
                (4_000, 80),
                &packet(of(family, to)),
            );
        }
        let mark = matrix.mark();
        let loopback = packet(family.of(["127.0.0.1", "::1"])).udp(4_000, 8_080, &mark);
        matrix.add(format!("an honest {family:?} source to a port of loopback"), "loopback_address", loopback);
    }
    let mut captures = stage.captures();
    captures.retain(|(who, _)| *who != "the uplink");
    captures.push(("the hostile one", Capture::start(&stage.hostile.namespace, "eth0").expect("captures")));
    let wrong = matrix.send(&stage.scene, machine, Lan::TO_HOST);
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), matrix.0.len());
    for (who, capture) in captures {
        let seen = matrix.seen(capture);
        assert!(seen.is_empty(), "{who} has got {seen:#?}");
    }
    assert_eq!(server.seen(), [], "the server has not been asked");
    reach_all(machine, Lan::HOST.map(address), 8_080, "b", Lan::MACHINE.map(address));
    println!("{} frames", matrix.0.len());
}
