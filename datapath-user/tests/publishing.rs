//! Behaviours P1, P7 and P9: how ports are published and taken back.

mod support;

use std::time::Duration;

use lab::capture::send_frames;
use lab::frame::Ethernet;
use lab::{Capture, Family, Lan, Protocol};
use support::{Scene, address, at, endpoint, fail, fail_all, gateway, of, reach, reach_all, serve};

const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

#[test]
fn p1_the_syntax_of_docker() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _servers = [80, 90, 91, 92].map(|port| serve(&a.namespace, &format!("port{port}"), port));
    let lan = &scene.lan().machine;
    let [host4, host6] = Lan::HOST.map(address);

    scene.run("publish 8080:80 a");
    assert_eq!(reach(lan, Protocol::Tcp, at(host4, 8080)).server, "port80");
    assert_eq!(reach(lan, Protocol::Tcp, at(host6, 8080)).server, "port80");
    fail(lan, Protocol::Udp, at(host4, 8080));

    scene.run("publish 80:80/udp a");
    assert_eq!(reach(lan, Protocol::Udp, at(host6, 80)).server, "port80");
    fail(lan, Protocol::Tcp, at(host4, 80));

    scene.run("publish 127.0.0.1:81:80 a");
    assert_eq!(reach(&scene.namespace, Protocol::Tcp, at(address("127.0.0.1"), 81)).server, "port80");
    fail(lan, Protocol::Tcp, at(host4, 81));
    fail(&scene.namespace, Protocol::Tcp, at(host4, 81));

    scene.run("publish [::1]:81:80 a");
    assert_eq!(reach(&scene.namespace, Protocol::Tcp, at(address("::1"), 81)).server, "port80");
    fail(lan, Protocol::Tcp, at(host6, 81));

    scene.run("publish 8000-8002:90-92 a");
    for offset in 0..3 {
        let exchange = reach(lan, Protocol::Tcp, at(host4, 8000 + offset));
        assert_eq!(exchange.server, format!("port{}", 90 + offset));
    }

    for spec in ["192.0.2.1::80", "0:80", "192.0.2.1:0:80", "80"] {
        let said = scene.run(&format!("publish {spec} a"));
        let port = port_in(&said).unwrap_or_else(|| panic!("`publish {spec}` must say which port it took: {said}"));
        assert_eq!(reach(lan, Protocol::Tcp, at(host4, port)).server, "port80", "{said}");
    }
}

/// The host port that `publish` says it has taken: the first number above 1023 that stands alone.
fn port_in(text: &str) -> Option<u16> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).find(|port| *port >= 1024)
}

#[test]
fn p1_bad_syntax_is_refused_and_changes_nothing() {
    let scene = Scene::start();
    scene.network(1, "");
    let _a = scene.join("a", 1, 10);
    let before = scene.state_shown();
    for spec in [
        "",
        "x:80",
        "8080:",
        "8080:0",
        "8080:65536",
        "65536:80",
        "8000-8002:90-91",
        "8002-8000:90-92",
        "8080:80/xyz",
        "300.0.0.1:8080:80",
        "[::1:8080:80",
        "8080:80/tcp/udp",
        "7000:80/sctp",
        "-1:80",
    ] {
        // Empty words do not survive `split_whitespace`, so straight.
        let why = scene.refused(["publish", spec, "a"]).unwrap_or_else(|error| panic!("{spec:?}: {error:#}"));
        assert!(!why.contains("panicked"), "{why}");
    }
    scene.refuse("publish 8080:80 nobody");
    scene.refuse("publish 198.18.0.1:8080:80 a");
    assert_eq!(scene.state_shown(), before);
}

/// This kernel has no SCTP sockets, so frames: the ports stay, only the address changes, and the CRC with it is right
/// still (RFC 9260 section 6.8: it covers no addresses).
#[test]
fn p1_sctp_keeps_its_port() {
    const INIT: [u8; 20] = [0x1f, 0x90, 0x1b, 0x58, 0, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0, 20, 9, 9, 9, 9];
    const SCTP: u8 = 132;
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    scene.run("publish 7000:7000/sctp a");
    let machine = &scene.lan().machine;
    let macs = (machine.mac(Lan::TO_HOST).expect("a MAC"), scene.namespace.mac("up0").expect("a MAC"));
    for family in Family::ALL {
        let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
        let frame =
            Ethernet::new(macs.0, macs.1).ip(family.of(Lan::MACHINE), family.of(Lan::HOST)).protocol(SCTP, &INIT);
        send_frames(machine, Lan::TO_HOST, &[frame]).expect("sends");
        let arrived = on_a.wait_for(lab::PATIENCE, |frame| frame.view.payload == INIT);
        let arrived = arrived.unwrap_or_else(|| panic!("{family:?} does not arrive; drops: {:?}", scene.drops()));
        assert_eq!(arrived.view.destination, Some(of(family, endpoint(1, 10))));
        assert_eq!(arrived.view.source, Some(family.of(Lan::MACHINE)));
    }
    scene.refuse("publish 7001:7000/sctp a");
}

#[test]
fn p7_conflicts_are_refused_with_the_owner_named() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, _b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _server = serve(&a.namespace, "a", 80);
    scene.publish("8080:80", "a");
    let before = scene.state_shown();
    for ports in ["8080:80/tcp", "8080:81/udp", "8079-8081:79-81/tcp"] {
        let why = scene.refuse(&format!("publish {ports} b"));
        assert!(why.contains("8080") && why.contains('a'), "must name the port and its owner: {why}");
    }
    let _squatter = serve(&scene.namespace, "squatter", 8090);
    for protocol in ["tcp", "udp"] {
        let why = scene.refuse(&format!("publish 8090:80/{protocol} a"));
        assert!(why.contains("8090"), "{why}");
        scene.refuse(&format!("publish 8085-8095:85-95/{protocol} a"));
    }
    assert_eq!(scene.state_shown(), before, "nothing half done");
    scene.publish("8086:80", "a");
}

#[test]
fn p7_published_ports_are_reserved_on_the_host() {
    let scene = Scene::start();
    scene.namespace.sysctl("ipv4/ip_local_reserved_ports", "1234,5000-5002").expect("sysctl");
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _server = serve(&a.namespace, "a", 80);
    scene.publish("8080:80", "a");
    let reserved = scene.namespace.read_sysctl("ipv4/ip_local_reserved_ports").expect("sysctl");
    for port in ["1234", "5000-5002", "8080"] {
        assert!(reserved.split(',').any(|entry| entry == port), "{port} in {reserved}");
    }
    let bind = || scene.namespace.enter(|| std::net::TcpListener::bind("0.0.0.0:8080"));
    bind().expect_err("the daemon holds the port");
    scene.namespace.enter(|| std::net::UdpSocket::bind("[::]:8080")).expect_err("the daemon holds the port");
    // The daemon dead, somebody squats: translation precedes socket lookup.
    scene.kill_daemon().expect("kills");
    let squatter = serve(&scene.namespace, "squatter", 8080);
    reach_all(&scene.lan().machine, Lan::HOST.map(address), 8080, "a", Lan::MACHINE.map(address));
    reach_all(&scene.namespace, LOOPBACK.map(address), 8080, "a", gateway(1));
    assert_eq!(squatter.seen(), []);
    drop(squatter);
    scene.start_daemon().expect("starts again");
    scene.unpublish("8080");
    let reserved = scene.namespace.read_sysctl("ipv4/ip_local_reserved_ports").expect("sysctl");
    assert_eq!(reserved, "1234,5000-5002", "the user's own list is restored");
    bind().expect("the port is free again");
}

#[test]
fn p9_a_range_is_one_publication() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _servers = [30_000, 35_000, 39_999].map(|port| serve(&a.namespace, &format!("port{port}"), port));
    let count = || scene.json(["port", "ls"]).expect("JSON").as_array().map_or(0, Vec::len);
    let start = std::time::Instant::now();
    scene.run("publish 20000-29999:30000-39999 a");
    assert!(start.elapsed() < Duration::from_secs(3), "10,000 ports took {:?}", start.elapsed());
    assert_eq!(count(), 1, "one line");
    for offset in [0, 5_000, 9_999] {
        for host in Lan::HOST {
            let exchange = reach(&scene.lan().machine, Protocol::Tcp, at(address(host), 20_000 + offset));
            assert_eq!(exchange.server, format!("port{}", 30_000 + offset));
        }
    }
    scene.refuse("publish 29999-30001:1-3 a");
    fail(&scene.lan().machine, Protocol::Tcp, at(address(Lan::HOST[0]), 30_000));
    assert_eq!(count(), 1, "all or nothing");
    scene.run("unpublish 20000-29999");
    assert_eq!(count(), 0);
    fail(&scene.lan().machine, Protocol::Tcp, at(address(Lan::HOST[0]), 25_000));
}

#[test]
fn ports_are_published_and_taken_back_under_traffic() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _servers = (serve(&a.namespace, "a", 80), serve(&b.namespace, "b", 80));
    scene.publish("8080:80", "a");
    let probes = lab::probe::Probes::start(&scene.lan().machine, at(address(Lan::HOST[0]), 8080)).expect("start");
    for round in 0..10 {
        scene.publish("9000:80", "b");
        assert_eq!(reach(&scene.lan().machine, Protocol::Tcp, at(address(Lan::HOST[0]), 9000)).server, "b");
        scene.unpublish("9000");
        let late = scene.join(&format!("late{round}"), 1, 100 + round);
        reach_all(&late.namespace, endpoint(1, 11), 80, "b", endpoint(1, 100 + round));
        scene.run(&format!("detach late{round}"));
    }
    probes.stop().expect("stop").check_zero_loss().expect("other traffic notices nothing");
}

#[test]
fn publications_follow_their_container() {
    let scene = Scene::start();
    scene.network(1, "");
    let first = scene.join("web", 1, 10);
    let server = serve(&first.namespace, "first", 80);
    scene.publish("8080:80", "web");
    reach_all(&scene.lan().machine, Lan::HOST.map(address), 8080, "first", Lan::MACHINE.map(address));
    drop(server);
    scene.run("detach web");
    fail_all(&scene.lan().machine, Lan::HOST.map(address), 8080);
    let second = scene.join("web", 1, 20);
    let _server = serve(&second.namespace, "second", 80);
    let ports = scene.json(["port", "ls"]).expect("JSON");
    if ports.as_array().is_none_or(Vec::is_empty) {
        scene.publish("8080:80", "web");
    }
    reach_all(&scene.lan().machine, Lan::HOST.map(address), 8080, "second", Lan::MACHINE.map(address));
}
