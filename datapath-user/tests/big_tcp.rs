//! `--big-tcp`: TCP packets above 64 KiB between the endpoints of a network, and what becomes of them elsewhere.

mod support;

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use lab::capture::{send_frames, send_in_segments};
use lab::client::Client;
use lab::frame::{Ethernet, TcpSegment};
use lab::load::{Direction, Manner, Path, Placement, stream_rate};
use lab::{Capture, Container, Family, Host, Lan, Namespace, Offload, PATIENCE};
use support::{REFUSAL, Scene, assert_no_leak, at, endpoint, gateway, of, serve};

/// The largest TCP packet of such a network (`BIG_TCP` of the daemon), and without `--big-tcp`.
const BIG: u64 = 192 << 10;
const LEGACY: u64 = 64 << 10;
/// Frames that are no larger are those of packets up to 64 KiB.
const LARGEST_LEGACY: usize = (64 << 10) + 14;
/// Sent through an echo server, and every byte compared.
const BYTES: usize = 16 << 20;

/// A counter of an interface.
fn counter(namespace: &Namespace, interface: &str, name: &str) -> u64 {
    let json = lab::run("ip", ["-n", namespace.name(), "-s", "-j", "link", "show", "dev", interface]).expect("ip");
    let links: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let (direction, what) = name.split_once('.').expect("two words");
    links[0]["stats64"][direction][what].as_u64().expect("a counter")
}

/// The limits of a device: largest packets of TCP by IPv6, made and put together. Those of IPv4, which Debian 12's `ip` does not show,
/// are tested where they are set.
fn limits(namespace: &Namespace, interface: &str) -> [u64; 2] {
    let json = lab::run("ip", ["-n", namespace.name(), "-d", "-j", "link", "show", "dev", interface]).expect("ip");
    let links: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    ["gso_max_size", "gro_max_size"].map(|name| links[0][name].as_u64().unwrap_or_else(|| panic!("{name} in {json}")))
}

/// Bytes of the average packet that arrives while one endpoint sends as much as goes through.
fn mean_of_a_stream(from: &Namespace, to: &Container, target: SocketAddr) -> u64 {
    let count = || ["rx.bytes", "rx.packets"].map(|name| counter(&to.namespace, "eth0", name));
    let before = count();
    let path = Path { client: from, server: &to.namespace, bind: target, target };
    let manner = Manner::single(Placement::Across, Duration::from_millis(200));
    stream_rate(path, manner, Direction::ToServer).expect("a stream");
    let after = count();
    (after[0] - before[0]) / (after[1] - before[1])
}

/// Every byte there and back, with the sender's device segmenting or not.
#[track_caller]
fn carries(name: &str, sender: &Namespace, target: SocketAddr) {
    let started = Instant::now();
    if let Err(error) = Client::new(sender).transfer(target, BYTES) {
        panic!("{name}: {error} after {:?}", started.elapsed());
    }
}

#[test]
fn endpoints_hand_each_other_large_packets() {
    let scene = Scene::start();
    scene.network(1, "--big-tcp");
    scene.network(2, "");
    let shown = scene.json(["network", "inspect", "net1"]).expect("inspect");
    assert_eq!(shown["big_tcp"], serde_json::json!({ "ipv4": BIG, "ipv6": BIG }));
    assert!(scene.json(["network", "inspect", "net2"]).expect("inspect")["big_tcp"].is_null());
    assert!(scene.run("network ls").contains("big-tcp"));
    let [big, small] =
        [1, 2].map(|net| ["a", "b"].map(|name| scene.join(&format!("{name}{net}"), net, name.as_bytes()[0].into())));
    for (containers, number, limit) in [(&big, 1, BIG), (&small, 2, LEGACY)] {
        for container in containers {
            assert_eq!(limits(&container.namespace, "eth0"), [limit; 2], "{}", container.name);
            assert_eq!(limits(&scene.namespace, &scene.host_side(container, "eth0")), [limit; 2], "{}", container.name);
        }
        assert_eq!(limits(&scene.namespace, &scene.gateway_device(number)), [limit; 2]);
        for family in Family::ALL {
            let target = at(of(family, endpoint(number, b'b'.into())), 80);
            let mean = mean_of_a_stream(&containers[0].namespace, &containers[1], target);
            assert_eq!(
                mean > LARGEST_LEGACY as u64,
                limit == BIG,
                "{family:?}, network {number}: {mean} bytes a packet"
            );
            // From the host, by its own stack.
            let mean = mean_of_a_stream(&scene.namespace, &containers[1], target);
            assert_eq!(mean > LARGEST_LEGACY as u64, limit == BIG, "{family:?}, network {number}, host: {mean}");
        }
    }
    assert_eq!(scene.drops().expect("status").get("malformed").copied().unwrap_or(0), 0);
}

#[test]
fn what_leaves_arrives_right_everywhere() {
    let scene = Scene::start();
    scene.network(1, "--big-tcp");
    scene.network(2, "");
    let (a, b, small) = (scene.join("a", 1, 10), scene.join("b", 1, 11), scene.join("small", 2, 12));
    let (machine, internet) = (&scene.lan().machine, &scene.lan().internet);
    let everywhere = [
        ("a", &a.namespace),
        ("b", &b.namespace),
        ("small", &small.namespace),
        ("far", internet),
        ("host", &scene.namespace),
    ];
    let _servers = everywhere.map(|(name, namespace)| serve(namespace, name, 80));
    for (port, name) in [(8_080, "a"), (8_081, "b"), (8_082, "small")] {
        scene.run(&format!("publish {port}:80/tcp {name}"));
    }
    let (uplink, at_small) = (scene.watch_uplink(), Capture::start(&small.namespace, "eth0").expect("captures"));
    for offload in [Offload::On, Offload::Off] {
        a.namespace.set_offload("eth0", offload).expect("ethtool");
        for family in Family::ALL {
            let (host, loopback) = (family.of(Lan::HOST), family.of(["127.0.0.1", "::1"]));
            carries("a sibling", &a.namespace, at(of(family, endpoint(1, 11)), 80));
            carries("a sibling's port", &a.namespace, at(host, 8_081));
            carries("its own port", &a.namespace, at(host, 8_080));
            carries("another network's port", &a.namespace, at(host, 8_082));
            carries("a port, from another network", &small.namespace, at(host, 8_080));
            carries("the host", &a.namespace, at(of(family, gateway(1)), 80));
            carries("from the host", &scene.namespace, at(of(family, endpoint(1, 10)), 80));
            carries("a port, from the host", &scene.namespace, at(host, 8_080));
            carries("a port, by loopback", &scene.namespace, at(loopback, 8_080));
            carries("outside", &a.namespace, at(family.of(Lan::INTERNET), 80));
            carries("a port, from the LAN", machine, at(host, 8_080));
            carries("a port, from far away", internet, at(host, 8_080));
        }
    }
    assert!(scene.run("doctor").contains("up0 takes TCP packets of 64 KiB; larger ones of net1"));
    // A device that takes less is given less; the container of the other network is no such device.
    let longest = |capture: Capture| capture.stop().iter().map(|frame| frame.bytes.len()).max().expect("something");
    assert!(longest(at_small) > LARGEST_LEGACY, "the redirect goes past the devices' limits");
    let uplink = uplink.stop();
    assert!(uplink.iter().all(|frame| frame.bytes.len() <= LARGEST_LEGACY && !support::is_inside(frame)));
    a.namespace.set_offload("eth0", Offload::On).expect("ethtool");
    // An uplink that takes as much gets them whole (by IPv6: Debian 12's `ip` cannot say it for IPv4).
    for (namespace, interface) in [(&scene.namespace, Host::UPLINK), (machine, Lan::TO_HOST)] {
        namespace.run("ip", ["link", "set", interface, "gso_max_size", &BIG.to_string()]).expect("set");
    }
    let uplink = scene.watch_uplink();
    carries("a wide uplink", &a.namespace, at(Family::V6.of(Lan::INTERNET), 80));
    carries("a port, by a wide uplink", machine, at(Family::V6.of(Lan::HOST), 8_080));
    let arrived: Vec<_> = uplink.stop().into_iter().filter(|frame| !frame.outgoing).collect();
    assert!(arrived.iter().any(|frame| frame.bytes.len() > LARGEST_LEGACY));
    for reason in ["malformed", "tcp_invalid", "too_big", "write_failed"] {
        assert_eq!(scene.dropped(reason).expect("status"), 0, "{reason}");
    }
}

#[test]
fn b6_large_packets_are_judged_by_their_segments() {
    const NARROW: u32 = 1_400;
    let scene = Scene::start();
    scene.network(1, "--big-tcp");
    let a = scene.join("a", 1, 10);
    let (machine, internet) = (&scene.lan().machine, &scene.lan().internet);
    let _server = serve(internet, "far", 80);
    let set_mtu = |mtu: u32| {
        for (namespace, interface) in [(&scene.namespace, Host::UPLINK), (machine, Lan::TO_HOST)] {
            namespace.ip(&format!("link set {interface} mtu {mtu}")).expect("set");
        }
    };
    let known = || scene.json(["status"]).expect("status")["uplinks"][0]["mtu"].clone();
    for family in Family::ALL {
        let target = at(family.of(Lan::INTERNET), 80);
        // As large as the uplink takes, and nobody is told.
        set_mtu(1_500);
        let end = Instant::now() + PATIENCE;
        while known() != 1_500 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let told = scene.metric("too_big_sent").expect("status");
        carries("as large as it takes", &a.namespace, target);
        assert_eq!(scene.metric("too_big_sent").expect("status"), told, "{family:?}");
        // The way narrows under a stream whose packets are large by then.
        let stream = Client::new(&a.namespace).connect(target).expect("connects").stream;
        let (mut writer, mut reader) = (stream.try_clone().expect("a socket"), stream);
        let echoed = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        let (block, mut written) = (vec![7; 1 << 20], 0u64);
        let end = Instant::now() + PATIENCE;
        while scene.metric("too_big_sent").expect("status") == told && Instant::now() < end {
            for _ in 0..8 {
                writer.write_all(&block).expect("goes on");
                written += block.len() as u64;
            }
            set_mtu(NARROW);
        }
        assert!(scene.metric("too_big_sent").expect("status") > told, "{family:?}");
        writer.shutdown(Shutdown::Write).expect("ends");
        assert_eq!(echoed.join().expect("no panic").expect("all"), written, "{family:?}");
        carries("as large as it takes now", &a.namespace, target);
        let route = a.namespace.run("ip", ["route", "get", &target.ip().to_string()]).expect("ip");
        assert!(route.contains(&format!("mtu {NARROW}")), "{family:?}: {route}");
    }
}

/// N11: a length of 0 is believed only of what the kernel makes.
#[test]
fn n11_nobody_can_make_one_up() {
    let scene = Scene::start();
    scene.network(1, "--big-tcp");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let macs = [&a, &b].map(|container| container.namespace.mac("eth0").expect("a MAC address"));
    let uplink = scene.watch_uplink();
    for family in Family::ALL {
        let length_at = if family == Family::V4 { 16 } else { 18 };
        let segment = |port| {
            let header = TcpSegment { source: port, destination: 80, sequence: 1, acknowledgement: 1, flags: 0x10 };
            let ends = [10, 11].map(|host| of(family, endpoint(1, host)));
            Ethernet::new(macs[0], macs[1]).ip(ends[0], ends[1]).tcp(header, &[7; 1_200])
        };
        let without_length = |port| {
            let mut frame = segment(port);
            frame[length_at..length_at + 2].fill(0);
            frame
        };
        let watch = Capture::start(&b.namespace, "eth0").expect("captures");
        let has_come = |port: u16| {
            let wanted = port.to_be_bytes();
            let at = if family == Family::V4 { 34 } else { 54 };
            move |frame: &lab::capture::Captured| frame.bytes.get(at..at + 2) == Some(&wanted)
        };
        scene.expect_drops("malformed", || send_frames(&a.namespace, "eth0", &[without_length(1_000)]).expect("sends"));
        scene.expect_drops("malformed", || {
            send_in_segments(&a.namespace, "eth0", &without_length(1_001), 500).expect("sends");
        });
        if family == Family::V6 {
            // A jumbogram as another machine would send it (RFC 2675).
            let mut jumbo = without_length(1_002);
            let payload = u32::try_from(jumbo.len() - 54 + 8).expect("small").to_be_bytes();
            let next = std::mem::replace(&mut jumbo[20], 0);
            jumbo.splice(54..54, [&[next, 0, 0xc2, 4], &payload[..]].concat());
            scene.expect_drops("malformed", || send_frames(&a.namespace, "eth0", &[jumbo]).expect("sends"));
        }
        send_frames(&a.namespace, "eth0", &[segment(1_003)]).expect("sends");
        send_in_segments(&a.namespace, "eth0", &segment(1_004), 500).expect("sends");
        for honest in [1_003, 1_004] {
            assert!(watch.wait_for(PATIENCE, has_come(honest)).is_some(), "{family:?}: {honest}");
        }
        for made_up in [1_000, 1_001, 1_002] {
            assert!(watch.wait_for(REFUSAL / 4, has_come(made_up)).is_none(), "{family:?}: {made_up}");
        }
    }
    assert_no_leak(uplink);
}
