//! What changes on uplinks, or is peculiar there: tags, addresses that go, and forwarding that somebody resets.

mod support;

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use lab::capture::send_frames;
use lab::client::{Client, ask};
use lab::frame::{Ethernet, Transport, ethertype};
use lab::{Capture, Container, Family, Host, Lan, Mac, PATIENCE, Protocol};
use support::{REFUSAL, Scene, address, assert_no_leak, at, fail_all, reach, reach_all, serve};

/// The daemon looks at what no message tells of every five seconds.
const NOTICED: Duration = Duration::from_secs(7);

/// A host with a published port and a container, beside a LAN machine that sends frames of its own making.
struct Tagging {
    scene: Scene,
    a: Container,
    macs: (Mac, Mac),
}

impl Tagging {
    fn start() -> Self {
        let scene = Scene::start();
        scene.network(1, "");
        let a = scene.join("a", 1, 10);
        scene.publish("8080:80", "a");
        let macs =
            (scene.lan().machine.mac(Lan::TO_HOST).expect("a MAC"), scene.namespace.mac(Host::UPLINK).expect("a MAC"));
        Self { scene, a, macs }
    }

    /// Sends a datagram of the LAN machine to the host under these tags.
    fn send(&self, tags: &[(u16, u16)], family: Family, ports: (u16, u16), payload: &[u8]) {
        let ethernet =
            tags.iter().fold(Ethernet::new(self.macs.0, self.macs.1), |frame, (kind, tag)| frame.tag(*kind, *tag));
        let frame = ethernet.ip(family.of(Lan::MACHINE), family.of(Lan::HOST)).udp(ports.0, ports.1, payload);
        send_frames(&self.scene.lan().machine, Lan::TO_HOST, &[frame]).expect("sends");
    }
}

/// No tag but the one of no VLAN: only the priority is in it (IEEE 802.1Q section 6.9).
const PRIORITY: (u16, u16) = (ethertype::VLAN, 5 << 13);

#[test]
fn priority_tagged_frames_are_handled_as_untagged() {
    let tagging = Tagging::start();
    let Tagging { scene, a, .. } = &tagging;
    let _servers = (serve(&a.namespace, "a", 80), serve(&scene.namespace, "host", 2222));
    let machine = &scene.lan().machine;
    let (on_a, on_machine) = (
        Capture::start(&a.namespace, "eth0").expect("captures"),
        Capture::start(machine, Lan::TO_HOST).expect("captures"),
    );
    for family in Family::ALL {
        for (kind, tags) in [(0u16, [PRIORITY]), (1, [(ethertype::VLAN, 0)])] {
            // To a published port, and to the host itself.
            for (port, who) in [(8080, "a"), (2222, "host")] {
                let source = 4000 + kind;
                tagging.send(&tags, family, (source, port), b"with a priority");
                let answer = on_machine.wait_for(PATIENCE, |frame| {
                    !frame.outgoing
                        && frame.view.source == Some(family.of(Lan::HOST))
                        && matches!(frame.view.transport, Transport::Udp { source: from, destination, .. } if (from, destination) == (port, source))
                });
                let answer = answer.unwrap_or_else(|| panic!("{who} does not answer by {family:?} under {tags:?}"));
                assert!(answer.view.payload.starts_with(who.as_bytes()), "{answer:?}");
                assert_eq!(answer.view.vlan, None, "answers have no tag");
            }
        }
        // An answer to a masqueraded datagram.
        let (near, host) = (at(family.of(Lan::MACHINE), 7001), family.of(Lan::HOST));
        let socket = Client::new(&a.namespace).timeout(PATIENCE).datagrams(near).expect("a socket");
        let far_end = machine.enter(|| UdpSocket::bind(near)).expect("binds");
        socket.send_to(b"out", near).expect("sends");
        let (_, external) = far_end.recv_from(&mut [0; 16]).expect("arrives");
        assert_eq!(external.ip(), host);
        tagging.send(&[PRIORITY], family, (7001, external.port()), b"back");
        let mut buffer = [0; 16];
        let (length, from) = socket.recv_from(&mut buffer).expect("the tagged answer arrives");
        assert_eq!((&buffer[..length], from), (b"back".as_slice(), near));
    }
    assert!(on_a.stop().iter().all(|frame| frame.view.vlan.is_none()), "containers see no tags");
}

#[test]
fn frames_of_vlans_are_not_for_the_untagged_uplink() {
    let tagging = Tagging::start();
    let Tagging { scene, a, .. } = &tagging;
    let (inner, host) = (serve(&a.namespace, "a", 80), serve(&scene.namespace, "host", 2222));
    let machine = &scene.lan().machine;
    let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
    let five = (ethertype::VLAN, 5);
    for family in Family::ALL {
        // A flow to a published port and a masqueraded one, which tagged frames must not join.
        reach(machine, Protocol::Udp, at(family.of(Lan::HOST), 8080));
        let near = at(family.of(Lan::MACHINE), 7001);
        let socket = Client::new(&a.namespace).timeout(REFUSAL).datagrams(near).expect("a socket");
        let far_end = machine.enter(|| UdpSocket::bind(near)).expect("binds");
        socket.send_to(b"out", near).expect("sends");
        let (_, external) = far_end.recv_from(&mut [0; 16]).expect("arrives");
        for tags in [
            [five].as_slice(),
            &[(ethertype::QINQ, 5)],
            &[(ethertype::VLAN, 5 << 13 | 5)],
            &[five, (ethertype::VLAN, 0)],
            &[(ethertype::QINQ, 5), five],
            // The outer tag says nothing, the inner one does.
            &[PRIORITY, five],
            &[PRIORITY, PRIORITY, five],
        ] {
            for port in [8080, 2222, external.port()] {
                let source = if port == external.port() { 7001 } else { 4000 };
                tagging.send(tags, family, (source, port), format!("for {port} under {tags:x?}").as_bytes());
            }
        }
        socket.recv_from(&mut [0; 16]).expect_err("nothing comes back to the masqueraded flow");
    }
    let got = on_a.stop().into_iter().filter(|frame| frame.view.payload.starts_with(b"for "));
    let got: Vec<_> = got.map(|frame| String::from_utf8_lossy(&frame.view.payload).into_owned()).collect();
    assert!(got.is_empty(), "{got:#?}");
    for server in [&inner, &host] {
        assert!(server.seen().iter().all(|(_, peer)| peer.port() != 4000), "{:?}", server.seen());
    }
}

/// The addresses the host gets instead of [`Lan::HOST`].
const NEW: [&str; 2] = ["192.0.2.7", "2001:db8:2::7"];

fn renumber(scene: &Scene) {
    let [old4, old6] = Lan::HOST;
    let [new4, new6] = NEW;
    let [router4, router6] = Lan::MACHINE;
    scene
        .namespace
        .ip(&format!(
            "addr del {old4}/24 dev up0\naddr del {old6}/64 dev up0\naddr add {new4}/24 dev up0\n\
             addr add {new6}/64 dev up0 nodad\nroute replace default via {router4}\nroute replace default via {router6}"
        ))
        .expect("new addresses");
}

#[test]
fn n13_masqueraded_flows_end_with_their_address() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _far = serve(&scene.lan().internet, "far", 80);
    let old_connections = Family::ALL.map(|family| {
        let connection = Client::new(&a.namespace).connect(at(family.of(Lan::INTERNET), 80)).expect("connects");
        connection.stream.set_read_timeout(Some(REFUSAL)).expect("a timeout");
        connection
    });
    let sockets = Family::ALL.map(|family| {
        let target = at(family.of(Lan::INTERNET), 80);
        let socket = Client::new(&a.namespace).datagrams(target).expect("a socket");
        assert_eq!(ask(&socket, target, b"old").expect("answers").seen.ip(), family.of(Lan::HOST));
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        (socket, target)
    });
    let uplink = scene.watch_uplink();
    renumber(&scene);
    // Flows look at their route and address again once a second. Until then they are kept busy.
    let end = Instant::now() + Duration::from_secs(2);
    scene.expect_drops("out_of_state", || {
        while Instant::now() < end {
            for (socket, target) in &sockets {
                // Whether this one is answered is for the route and the moment to decide.
                let _ = ask(socket, *target, b"meanwhile");
            }
        }
    });
    let later = scene.watch_uplink();
    for (family, (socket, target)) in Family::ALL.into_iter().zip(&sockets) {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let exchange = ask(socket, *target, b"new").expect("the same socket goes on");
        assert_eq!(exchange.seen.ip(), family.of(NEW), "with the new address");
    }
    for mut connection in old_connections {
        scene.expect_drops("out_of_state", || {
            connection.say(b"old").expect_err("a connection cannot change its address");
        });
    }
    reach_all(&a.namespace, Lan::INTERNET.map(address), 80, "far", NEW.map(address));
    let old = later.stop().into_iter().filter(|frame| {
        let gone = |address: IpAddr| frame.view.source == Some(address);
        !frame.outgoing && Lan::HOST.into_iter().any(|old| gone(address(old)))
    });
    let old: Vec<_> = old.collect();
    assert!(old.is_empty(), "packets leave with an address that the host has lost: {old:?}");
    assert_no_leak(uplink);
}

/// The MAC address to which a packet of the test for this destination left, since the watch began.
fn went_to(watch: &Capture, destination: IpAddr) -> Option<Mac> {
    let wanted = |frame: &lab::capture::Captured| {
        !frame.outgoing && frame.view.destination == Some(destination) && frame.view.payload == b"by a gateway"
    };
    watch.wait_for(REFUSAL, wanted).map(|frame| frame.view.destination_mac)
}

#[test]
fn packets_leave_by_the_next_hop_of_their_route() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let own = scene.lan().machine.mac(Lan::TO_HOST).expect("a MAC address");
    // Gateways that nobody is: the frames say which of them they were for.
    let mac = |number: u8| Mac([2, 0, 0, 0, 0x77, number]);
    let set_neighbour = |neighbour: &str, mac: Mac| {
        let family = if neighbour.contains(':') { "-6" } else { "-4" };
        let arguments = [family, "neigh", "replace", neighbour, "lladdr", &mac.to_string(), "dev", Host::UPLINK];
        scene.namespace.run("ip", arguments).expect("a neighbour");
    };
    for (neighbour, number) in [
        ("192.0.2.21", 1),
        ("192.0.2.22", 2),
        ("fe80::21", 3),
        ("fe80::22", 4),
        ("2001:db8:2::23", 5),
        // Belongs where fe80::21 is, so that there is no number for it.
        ("fe80::1:20", 8),
    ] {
        set_neighbour(neighbour, mac(number));
    }
    let routes = [
        ("10.96.0.0/16", "via 192.0.2.21", "10.96.0.1"),
        ("10.97.0.0/16", "via 192.0.2.22", "10.97.0.1"),
        // IPv4 by a gateway of IPv6 (RFC 8950).
        ("10.98.0.0/16", "via inet6 fe80::21", "10.98.0.1"),
        ("fd96::/64", "via fe80::21", "fd96::1"),
        ("fd97::/64", "via fe80::22", "fd97::1"),
        ("fd98::/64", "via 2001:db8:2::23", "fd98::1"),
        ("fd99:1::/64", "via fe80::1:20", "fd99:1::1"),
    ];
    for (prefix, via, _) in routes {
        scene.namespace.ip(&format!("route add {prefix} {via} dev up0")).expect("a route");
    }
    let uplink = scene.watch_uplink();
    let send = |destination: IpAddr| {
        let socket = Client::new(&a.namespace).datagrams(at(destination, 9)).expect("a socket");
        move || socket.send_to(b"by a gateway", at(destination, 9)).expect("sends")
    };
    let expected = [1, 2, 3, 3, 4, 5, 8].map(mac).into_iter();
    let by_gateways = routes.into_iter().map(|(_, _, destination)| address(destination)).zip(expected);
    let on_link = Lan::MACHINE.map(|machine| (address(machine), own));
    let far = Lan::INTERNET.map(|internet| (address(internet), own));
    for (destination, expected) in by_gateways.chain(on_link).chain(far) {
        let send = send(destination);
        // The packet that begins the flow, and those that follow it.
        for count in 1..=3 {
            let watch = scene.watch_uplink();
            send();
            assert_eq!(went_to(&watch, destination), Some(expected), "packet {count} to {destination}");
        }
    }
    // A neighbour that has another MAC address is no matter of routes.
    for (neighbour, number, destination) in
        [("192.0.2.22", 9, "10.97.0.1"), ("fe80::22", 10, "fd97::1"), ("fe80::1:20", 11, "fd99:1::1")]
    {
        let destination = address(destination);
        let send = send(destination);
        send();
        set_neighbour(neighbour, mac(number));
        let watch = scene.watch_uplink();
        send();
        assert_eq!(went_to(&watch, destination), Some(mac(number)), "to {destination} by {neighbour}, who has moved");
    }
    // A gateway that is replaced by another one, or by the destination itself.
    for (prefix, other, destination, expected) in [
        ("10.96.0.0/16", "via 192.0.2.22", "10.96.0.1", mac(9)),
        ("10.97.0.0/16", "", "10.97.0.1", mac(6)),
        ("fd96::/64", "via 2001:db8:2::23", "fd96::1", mac(5)),
        ("fd97::/64", "", "fd97::1", mac(7)),
    ] {
        let destination = address(destination);
        let send = send(destination);
        send();
        scene.namespace.ip(&format!("route replace {prefix} {other} dev up0")).expect("a route");
        if other.is_empty() {
            set_neighbour(&destination.to_string(), expected);
        }
        // Flows look at their route again once a second.
        std::thread::sleep(Duration::from_millis(1_200));
        for count in 1..=3 {
            let watch = scene.watch_uplink();
            send();
            assert_eq!(went_to(&watch, destination), Some(expected), "packet {count} to {destination} by {other}");
        }
    }
    assert_no_leak(uplink);
}

#[test]
fn forwarding_that_somebody_resets_is_set_right() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _far = serve(&scene.lan().internet, "far", 80);
    let internet = Lan::INTERNET.map(address);
    reach_all(&a.namespace, internet, 80, "far", Lan::HOST.map(address));
    let mut old = Client::new(&a.namespace).connect(at(internet[0], 80)).expect("connects");
    let uplink = scene.watch_uplink();
    let device = scene.gateway_device(1);
    let forwarding = || {
        ["ipv4", "ipv6"]
            .map(|family| scene.namespace.read_sysctl(&format!("{family}/conf/{device}/forwarding")).expect("reads"))
    };
    assert_eq!(forwarding(), ["1", "1"]);
    scene
        .while_paused(|| {
            for value in ["1", "0"] {
                for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                    scene.namespace.sysctl(setting, value).expect("writes");
                }
            }
            assert_eq!(forwarding(), ["0", "0"], "the kernel resets every device");
            fail_all(&a.namespace, internet, 80);
        })
        .expect("pauses");
    let end = Instant::now() + NOTICED;
    while forwarding() != ["1", "1"] {
        assert!(Instant::now() < end, "forwarding is still {:?}", forwarding());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(scene.daemon_log().contains("sysctls of the gateway device"), "{}", scene.daemon_log());
    reach_all(&a.namespace, internet, 80, "far", Lan::HOST.map(address));
    old.say(b"still here").expect("the flow has lived");
    let global =
        ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map(|path| scene.namespace.read_sysctl(path).expect("reads"));
    assert_eq!(global, ["0", "0"], "the host's own choice stays");
    assert_no_leak(uplink);
}
