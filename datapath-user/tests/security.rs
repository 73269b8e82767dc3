//! Behaviours S: attacks that must fail, each beside an honest packet that passes.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use lab::capture::send_frames;
use lab::client::Client;
use lab::frame::{Arp, Ethernet, NeighbourMessage, TcpSegment, ethertype, tcp_flags};
use lab::{Capture, DaemonOptions, Family, Lan, Mac, Namespace, PATIENCE, Protocol};
use support::{Scene, address, assert_no_leak, at, endpoint, fail_all, gateway, of, reach, reach_all, serve};

const SECOND: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("a literal")
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("a literal")
}

/// What a hostile container `a` sends to its sibling `b`, to the gateway and to all, by expected drop reason.
fn forgeries(a: Mac, b: Mac, router: Mac) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    const EVIL: &[u8] = b"evil, in one way or another";
    let ([a4, a6], [b4, b6]) = (endpoint(1, 10), endpoint(1, 11));
    let plain = |source: Mac| Ethernet::new(source, b);
    let mut forged = vec![
        ("a sibling's MAC", "forged_mac", plain(Mac([2, 0, 0, 0, 0, 9])).ip(a4, b4).udp(1, 2, EVIL)),
        ("the gateway's MAC", "forged_mac", plain(router).ip(a6, b6).udp(1, 2, EVIL)),
        ("a multicast MAC", "forged_mac", plain(Mac([3, 0, 0, 0, 0, 9])).payload(ethertype::EXPERIMENT, EVIL)),
        (
            "LAND",
            "land",
            plain(a)
                .ip(a4, a4)
                .tcp(TcpSegment { source: 80, destination: 80, flags: tcp_flags::SYN, ..TcpSegment::default() }, EVIL),
        ),
        ("a VLAN tag", "vlan_tagged", plain(a).tag(ethertype::VLAN, 5).ip(a4, b4).udp(1, 2, EVIL)),
        (
            "two VLAN tags",
            "vlan_tagged",
            plain(a).tag(ethertype::QINQ, 5).tag(ethertype::VLAN, 6).ip(a4, b4).udp(1, 2, EVIL),
        ),
        ("a VLAN tag without IP", "vlan_tagged", plain(a).tag(ethertype::VLAN, 5).payload(ethertype::EXPERIMENT, EVIL)),
        ("spanning tree", "reserved_frame", Ethernet::new(a, Mac([1, 0x80, 0xc2, 0, 0, 0])).llc(EVIL)),
        ("LLDP", "reserved_frame", Ethernet::new(a, Mac([1, 0x80, 0xc2, 0, 0, 0x0e])).payload(ethertype::LLDP, EVIL)),
        ("an offer of DHCP", "rogue_dhcp", plain(a).ip(a4, b4).udp(67, 68, EVIL)),
        (
            "an offer of DHCP to all",
            "rogue_dhcp",
            Ethernet::new(a, Mac::BROADCAST).ip(a4, address("255.255.255.255")).udp(67, 68, EVIL),
        ),
        ("an offer of DHCPv6", "rogue_dhcp", plain(a).ip(a6, b6).udp(547, 546, EVIL)),
    ];
    for source in ["10.20.1.11", "10.20.1.1", "192.0.2.1", "10.99.0.10", "224.0.0.1", "255.255.255.255"] {
        forged.push((source, "forged_address", plain(a).ip(address(source), b4).udp(1, 2, EVIL)));
        forged.push((
            source,
            "forged_address",
            Ethernet::new(a, router).ip(address(source), address(Lan::INTERNET[0])).udp(1, 80, EVIL),
        ));
    }
    for source in ["fd20:1::11", "fd20:1::1", "2001:db8:2::1", "fd99::10", "ff02::1", "fe80::1234"] {
        forged.push((source, "forged_address", plain(a).ip(address(source), b6).udp(1, 2, EVIL)));
        forged.push((
            source,
            "forged_address",
            Ethernet::new(a, router).ip(address(source), address(Lan::INTERNET[1])).udp(1, 80, EVIL),
        ));
    }
    forged.extend(neighbour_forgeries(a, b, router));
    forged
}

fn neighbour_forgeries(a: Mac, b: Mac, router: Mac) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (own4, sibling4, gateway4) = (v4("10.20.1.10"), v4("10.20.1.11"), v4("10.20.1.1"));
    let (own6, sibling6, gateway6) = (v6("fd20:1::10"), v6("fd20:1::11"), v6("fd20:1::1"));
    let advertise = |target, mac| NeighbourMessage::Advertisement { target, mac };
    vec![
        ("ARP: I am the gateway", "forged_neighbour", Arp::reply((a, gateway4), (b, sibling4)).frame(a, b)),
        (
            "ARP to all: I am the gateway",
            "forged_neighbour",
            Arp::reply((a, gateway4), (b, gateway4)).frame(a, Mac::BROADCAST),
        ),
        (
            "ARP request of a sibling",
            "forged_neighbour",
            Arp::request((a, sibling4), gateway4).frame(a, Mac::BROADCAST),
        ),
        ("ARP with another MAC inside", "forged_neighbour", Arp::reply((router, own4), (b, sibling4)).frame(a, b)),
        ("NA: I am the gateway", "forged_neighbour", advertise(gateway6, a).frame((a, own6), (b, sibling6))),
        ("NA: I am a sibling", "forged_neighbour", advertise(sibling6, a).frame((a, own6), (router, gateway6))),
        ("NA with another MAC inside", "forged_neighbour", advertise(own6, router).frame((a, own6), (b, sibling6))),
        (
            "a router advertisement",
            "rogue_router",
            NeighbourMessage::RouterAdvertisement { mac: a }
                .frame((a, own6), (Mac::multicast_of(address("ff02::1")), v6("ff02::1"))),
        ),
        (
            "a redirect",
            "rogue_router",
            NeighbourMessage::Redirect { target: own6, destination: v6("fd99::10") }.frame((a, own6), (b, sibling6)),
        ),
    ]
}

#[test]
fn s1_forged_frames_of_a_container_are_dropped_and_counted() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _far = serve(&scene.lan().internet, "far", 80);
    let (mac, sibling) = (a.namespace.mac("eth0").expect("a MAC"), b.namespace.mac("eth0").expect("a MAC"));
    let router = scene.namespace.mac(&scene.gateway_device(1)).expect("a MAC");
    let forged = forgeries(mac, sibling, router);
    let on_b = Capture::start(&b.namespace, "eth0").expect("captures");
    let on_host = Capture::start(&scene.namespace, &scene.gateway_device(1)).expect("captures");
    let uplink = scene.watch_uplink();
    let mut before = scene.drops().expect("status");
    let mut uncounted = Vec::new();
    for (what, reason, frame) in &forged {
        send_frames(&a.namespace, "eth0", std::slice::from_ref(frame)).expect("sends");
        std::thread::sleep(PAUSE);
        let after = scene.drops().expect("status");
        let count = |drops: &std::collections::BTreeMap<String, u64>| drops.get(*reason).copied().unwrap_or(0);
        if count(&after) == count(&before) {
            let grown: Vec<_> = after.iter().filter(|(name, n)| before.get(*name) != Some(n)).collect();
            uncounted.push(format!("{what}: {reason} did not grow, but {grown:?}"));
        }
        before = after;
    }
    assert!(uncounted.is_empty(), "{uncounted:#?}");
    let honest = Ethernet::new(mac, sibling).ip(endpoint(1, 10)[0], endpoint(1, 11)[0]).udp(1, 2, b"honest");
    send_frames(&a.namespace, "eth0", &[honest]).expect("sends");
    on_b.wait_for(PATIENCE, |frame| frame.view.payload == b"honest").expect("the honest packet arrives");
    for (who, capture) in [("the sibling", on_b), ("the host", on_host), ("the uplink", uplink)] {
        for frame in capture.stop().into_iter().filter(|frame| !frame.outgoing) {
            let same = forged.iter().find(|(_, _, bytes)| {
                bytes[12..] == frame.bytes[12..]
                    || bytes.ends_with(&frame.view.payload) && frame.view.payload.starts_with(b"evil")
            });
            assert!(same.is_none(), "{who} got {:?}: {frame:?}", same.map(|(what, _, _)| what));
        }
    }
    reach_all(&a.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
}

#[test]
fn s1_siblings_keep_their_neighbours() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b, c) = (scene.join("a", 1, 10), scene.join("b", 1, 11), scene.join("c", 1, 12));
    let _servers = (serve(&a.namespace, "a", 80), serve(&c.namespace, "c", 80), serve(&scene.namespace, "host", 80));
    let check = || {
        reach_all(&b.namespace, endpoint(1, 12), 80, "c", endpoint(1, 11));
        reach_all(&b.namespace, gateway(1), 80, "host", endpoint(1, 11));
    };
    check();
    let mac = a.namespace.mac("eth0").expect("a MAC");
    let sibling = b.namespace.mac("eth0").expect("a MAC");
    let claims: Vec<_> = [v4("10.20.1.12"), v4("10.20.1.1")]
        .map(|stolen| Arp::reply((mac, stolen), (sibling, v4("10.20.1.11"))).frame(mac, sibling))
        .into_iter()
        .chain([v6("fd20:1::12"), v6("fd20:1::1")].map(|target| {
            NeighbourMessage::Advertisement { target, mac }.frame((mac, v6("fd20:1::10")), (sibling, v6("fd20:1::11")))
        }))
        .collect();
    for _ in 0..20 {
        send_frames(&a.namespace, "eth0", &claims).expect("sends");
    }
    check();
}

#[test]
fn s2_impossible_sources_from_outside_are_dropped() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let server = serve(&a.namespace, "a", 80);
    scene.publish("8080:80", "a");
    let machine = &scene.lan().machine;
    let macs = (machine.mac(Lan::TO_HOST).expect("a MAC"), scene.namespace.mac("up0").expect("a MAC"));
    let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
    let impossible = [
        ("10.20.1.11", "spoofed_source"),
        ("10.20.1.1", "spoofed_source"),
        ("192.0.2.1", "spoofed_source"),
        ("fd20:1::11", "spoofed_source"),
        ("fd20:1::1", "spoofed_source"),
        ("2001:db8:2::1", "spoofed_source"),
        ("127.0.0.1", "loopback_address"),
        ("127.8.8.8", "loopback_address"),
        ("::1", "loopback_address"),
    ];
    for (source, reason) in impossible {
        let source = address(source);
        let target = if source.is_ipv4() { address(Lan::HOST[0]) } else { address(Lan::HOST[1]) };
        let ethernet = || Ethernet::new(macs.0, macs.1).ip(source, target);
        let syn = TcpSegment { source: 4000, destination: 8080, flags: tcp_flags::SYN, ..TcpSegment::default() };
        for frame in [ethernet().udp(4000, 8080, b"martian"), ethernet().tcp(syn, b"martian")] {
            scene.expect_drops(reason, || {
                send_frames(machine, Lan::TO_HOST, &[frame]).expect("sends");
                std::thread::sleep(PAUSE);
            });
        }
        // To the container itself.
        let direct = Ethernet::new(macs.0, macs.1).ip(source, a.address_like(source)).udp(4000, 80, b"martian");
        send_frames(machine, Lan::TO_HOST, &[direct]).expect("sends");
    }
    let honest =
        Ethernet::new(macs.0, macs.1).ip(address(Lan::MACHINE[0]), address(Lan::HOST[0])).udp(4000, 8080, b"honest");
    send_frames(machine, Lan::TO_HOST, &[honest]).expect("sends");
    on_a.wait_for(PATIENCE, |frame| frame.view.payload == b"honest").expect("the honest packet arrives");
    let got = on_a.stop();
    assert!(got.iter().all(|frame| frame.view.payload != b"martian"), "{got:?}");
    assert!(
        server.seen().iter().all(|(_, peer)| Lan::MACHINE.map(address).contains(&peer.ip())),
        "{:?}",
        server.seen()
    );
}

#[test]
fn s4_the_control_surface_is_for_root() {
    let scene = Scene::start();
    let socket = std::fs::metadata(scene.socket()).expect("the socket");
    assert_eq!((socket.permissions().mode() & 0o777, socket.uid()), (0o600, 0));
    let pins = std::fs::metadata(scene.pins()).expect("the pins");
    assert_eq!((pins.permissions().mode() & 0o777, pins.uid()), (0o700, 0));
    let state = std::fs::metadata(scene.state()).expect("the state");
    assert_eq!(state.permissions().mode() & 0o077, 0, "state is nobody else's");
    let listening = scene.namespace.run("ss", ["-Htuln"]).expect("ss");
    assert_eq!(listening.trim(), "", "no TCP or UDP listener");
    // A user who can open the socket's path still cannot speak: permissions are checked by the kernel.
    let curl = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", support::BINARY, "status"])
        .env("DATAPATH_SOCKET", scene.socket())
        .output()
        .expect("setpriv");
    assert!(!curl.status.success(), "nobody may not use the socket");
    scene.run("status");
}

#[test]
fn s4_a_pin_directory_of_others_is_refused() {
    let scene = Scene::start();
    scene.kill_daemon().expect("kills");
    let pins = scene.pins().to_owned();
    let set = |mode| std::fs::set_permissions(&pins, PermissionsExt::from_mode(mode)).expect("chmod");
    set(0o755);
    let (status, log) = scene.start_refused(&DaemonOptions::default(), Duration::from_secs(5)).expect("refuses");
    assert!(!status.success() && log.contains("0700"), "{log}");
    set(0o700);
    std::os::unix::fs::chown(&pins, Some(65_534), None).expect("chown");
    let (status, log) = scene.start_refused(&DaemonOptions::default(), Duration::from_secs(5)).expect("refuses");
    assert!(!status.success() && log.contains("root"), "{log}");
    std::os::unix::fs::chown(&pins, Some(0), None).expect("chown");
    scene.start_daemon().expect("starts again");
}

#[test]
fn s4_bad_input_is_refused_and_changes_nothing() {
    let scene = Scene::start();
    scene.network(1, "");
    let _a = scene.join("a", 1, 10);
    let plain_file = tempfile::NamedTempFile::new().expect("a file");
    let plain_file = plain_file.path().to_str().expect("UTF-8").to_owned();
    let host = scene.namespace.name().to_owned();
    let fresh = Namespace::new("fresh").expect("a namespace");
    let free = fresh.name().to_owned();
    let networks = || scene.state_shown();
    let (before, links) = (networks(), scene.namespace.run("ip", ["-o", "link"]).expect("ip link"));
    let long = "x".repeat(300);
    let refused: Vec<Vec<&str>> = vec![
        vec!["network", "create", "a/b"],
        vec!["network", "create", "a\nb"],
        vec!["network", "create", ".."],
        vec!["network", "create", ""],
        vec!["network", "create", &long],
        vec!["network", "create", "net1"],
        vec!["network", "create", "x", "--subnet", "10.20.1.0/25"],
        vec!["network", "create", "x", "--subnet", "10.20.0.0/16"],
        vec!["network", "create", "x", "--subnet", "fd20:1::/80"],
        vec!["network", "create", "x", "--subnet", "10.30.0.0/32"],
        vec!["network", "create", "x", "--subnet", "10.30.0.0/24", "--gateway", "10.31.0.1"],
        vec!["network", "create", "x", "--subnet", "nonsense"],
        vec!["network", "create", "x", "--mtu", "0"],
        vec!["network", "create", "x", "--subnet", "192.0.2.0/24"],
        vec!["network", "create", "x", "--subnet", "127.0.0.0/8"],
        vec!["network", "create", "x", "--subnet", "224.0.0.0/8"],
        vec!["network", "rm", "nothing"],
        vec!["network", "rm", "net1"],
        vec!["attach", &plain_file, "--network", "net1", "--name", "x"],
        vec!["attach", &host, "--network", "net1", "--name", "x"],
        vec!["attach", "/nonexistent", "--network", "net1", "--name", "x"],
        vec!["attach", &free, "--network", "nothing", "--name", "x"],
        vec!["attach", "../../etc/passwd", "--network", "net1", "--name", "x"],
        vec!["attach", "pid:999999999", "--network", "net1", "--name", "x"],
        vec!["attach", &free, "--network", "net1", "--name", "a/b"],
        vec!["attach", &free, "--network", "net1", "--name", "a"],
        vec!["attach", &free, "--network", "net1", "--name", "x", "--ip", "10.20.1.10"],
        vec!["attach", &free, "--network", "net1", "--name", "x", "--ip", "10.20.1.1"],
        vec!["attach", &free, "--network", "net1", "--name", "x", "--ip", "10.20.1.255"],
        vec!["attach", &free, "--network", "net1", "--name", "x", "--ip", "10.77.1.2"],
        vec!["attach", &free, "--network", "net1", "--name", "x", "--mac", "01:00:00:00:00:01"],
        vec!["attach", &free, "--network", "net1", "--name", "x", "--mac", "nonsense"],
        vec!["attach", &free, "--network", "net1", "--name", "x", "--ifname", "waytoolongforaname"],
        vec!["attach", &free, "--network", "net1", "--name", "x", "--ifname", "a/b"],
        vec!["detach", "nothing"],
        vec!["unpublish", "8080"],
        vec!["endpoint", "inspect", "nothing"],
    ];
    let mut accepted = Vec::new();
    for arguments in &refused {
        match scene.refused(arguments.iter().copied()) {
            Ok(why) if why.contains("panicked") => accepted.push(format!("{arguments:?} panics: {why}")),
            Ok(_) => {}
            Err(error) => accepted.push(format!("{error:#}")),
        }
        if networks() != before {
            accepted.push(format!("{arguments:?} changed something: {}", networks()));
            break;
        }
    }
    assert!(accepted.is_empty(), "{accepted:#?}");
    assert_eq!(scene.namespace.run("ip", ["-o", "link"]).expect("ip link"), links, "no device left behind");
    drop(fresh);
}

#[test]
fn s3_a_broadcasting_endpoint_does_not_disturb_its_siblings() {
    let scene = Scene::start();
    scene.network(1, "");
    let (loud, b, c) = (scene.join("loud", 1, 10), scene.join("b", 1, 11), scene.join("c", 1, 12));
    let _server = serve(&c.namespace, "c", 80);
    let mac = loud.namespace.mac("eth0").expect("a MAC");
    let frame = Ethernet::new(mac, Mac::BROADCAST).ip(endpoint(1, 10)[0], address("10.20.1.255")).udp(1, 2, b"noise");
    let on_b = Capture::start(&b.namespace, "eth0").expect("captures");
    scene.expect_drops("flood_limit", || {
        for _ in 0..50 {
            send_frames(&loud.namespace, "eth0", &vec![frame.clone(); 200]).expect("sends");
        }
    });
    let heard = on_b.stop().iter().filter(|frame| frame.view.payload == b"noise").count();
    assert!((500..6_000).contains(&heard), "{heard} of 10,000 broadcasts in about a second, limit 1,000/s");
    for family in Family::ALL {
        for _ in 0..20 {
            reach(&b.namespace, Protocol::Tcp, at(of(family, endpoint(1, 12)), 80));
        }
    }
}

#[test]
fn s2_the_hosts_own_traffic_is_not_mistaken_for_an_attack() {
    let scene = Scene::start();
    scene.network(1, "");
    let _a = scene.join("a", 1, 10);
    let (_host, _near) = (serve(&scene.namespace, "host", 2222), serve(&scene.lan().machine, "near", 80));
    let before = scene.drops().expect("status");
    reach_all(&scene.lan().machine, Lan::HOST.map(address), 2222, "host", Lan::MACHINE.map(address));
    reach_all(&scene.namespace, Lan::MACHINE.map(address), 80, "near", Lan::HOST.map(address));
    reach_all(&scene.namespace, ["127.0.0.1", "::1"].map(address), 2222, "host", ["127.0.0.1", "::1"].map(address));
    reach_all(&scene.namespace, Lan::HOST.map(address), 2222, "host", Lan::HOST.map(address));
    let closed = Client::new(&scene.lan().machine).timeout(SECOND);
    let refused = closed.stream(at(address(Lan::HOST[0]), 2223)).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "the host itself refuses, at once");
    assert_eq!(scene.drops().expect("status"), before, "nothing of the host is dropped");
    let uplink = scene.watch_uplink();
    fail_all(&scene.lan().machine, gateway(1).map(|gateway: IpAddr| gateway), 2222);
    assert_no_leak(uplink);
}
