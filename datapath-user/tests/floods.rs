//! Behaviour S3: while one endpoint floods, its siblings open connections as if nothing were.

mod support;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lab::capture::send_frames;
use lab::client::Client;
use lab::frame::{Ethernet, NeighbourMessage, TcpSegment, fragments, internet_checksum, tcp_flags};
use lab::{Lan, Mac, Namespace, Protocol};
use support::{Scene, address, at, configured, endpoint, serve};

/// Connections of the sibling under each flood, and how many of them may fail.
const CONNECTIONS: u32 = 1_000;
const MAY_FAIL: u32 = CONNECTIONS / 100;
/// Frames of a flood, and its longest time.
const FRAMES: u64 = 2_000_000;
const LONGEST: Duration = Duration::from_secs(30);
/// Frames between two looks at the clock.
const BATCH: usize = 250;

/// A generator of test traffic (Knuth's MMIX constants): the same packets in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn port(&mut self) -> u16 {
        1_024 + (self.next() % 60_000) as u16
    }

    /// An address of the part of the internet that leads nowhere.
    fn target(&mut self) -> IpAddr {
        let [a, b, _, _] = self.next().to_be_bytes();
        address(&format!("10.98.{a}.{b}"))
    }

    /// The same of IPv6.
    fn target6(&mut self) -> Ipv6Addr {
        let [a, b, c, d] = self.next().to_be_bytes().map(u16::from);
        Ipv6Addr::new(0xfd98, 0, 0, 0, a, b, c, d)
    }
}

/// Sends what `frame` makes until told to stop, all frames are sent or the time is over. Says how many were sent.
fn flood(from: &Namespace, device: &str, stop: &AtomicBool, mut frame: impl FnMut(&mut Random) -> Vec<u8>) -> u64 {
    let (mut random, mut sent, end) = (Random(1), 0, Instant::now() + LONGEST);
    while sent < FRAMES && !stop.load(Ordering::Relaxed) && Instant::now() < end {
        let frames: Vec<_> = (0..BATCH).map(|_| frame(&mut random)).collect();
        send_frames(from, device, &frames).expect("sends");
        sent += BATCH as u64;
    }
    sent
}

/// Runs the flood while `client` opens connections to each target in turn, of which 99 in 100 must succeed.
fn connect_under(
    flood: impl FnOnce(&AtomicBool) -> u64 + Send,
    client: &Namespace,
    targets: &[(&str, std::net::SocketAddr)],
) {
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| sent.store(flood(&stop), Ordering::Relaxed));
        // The flood has filled what it can fill.
        std::thread::sleep(Duration::from_millis(300));
        let mut failed = Vec::new();
        for (number, (name, target)) in (0..CONNECTIONS).zip(targets.iter().cycle()) {
            if let Err(error) = Client::new(client).exchange(Protocol::Tcp, *target) {
                failed.push(format!("connection {number}, {name}: {error}"));
            }
            if failed.len() > MAY_FAIL as usize {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(failed.len() <= MAY_FAIL as usize, "{failed:#?}");
    });
    let sent = sent.into_inner();
    assert!((1_000..FRAMES).contains(&sent), "the flood of {sent} frames did not last, or was none");
}

/// A small table, so that a flood could fill it.
fn scene() -> Scene {
    let scene = configured("flow_capacity = 1024\nflow_quota = 300\n");
    scene.network(1, "");
    scene
}

#[test]
fn s3_siblings_connect_while_an_endpoint_floods() {
    let scene = scene();
    let (loud, b, c) = (scene.join("loud", 1, 10), scene.join("b", 1, 11), scene.join("c", 1, 12));
    let _servers = (serve(&c.namespace, "c", 80), serve(&scene.lan().internet, "far", 80));
    scene.publish("8080:80", "c");
    let mac = loud.namespace.mac("eth0").expect("a MAC");
    let (sibling, router) =
        (c.namespace.mac("eth0").expect("a MAC"), scene.namespace.mac(&scene.gateway_device(1)).expect("a MAC"));
    let [own, own6] = endpoint(1, 10);
    let host = address(Lan::HOST[0]);
    let syn = |random: &mut Random, destination| TcpSegment {
        source: random.port(),
        destination,
        sequence: random.next(),
        flags: tcp_flags::SYN,
        ..TcpSegment::default()
    };
    let targets = [
        ("masqueraded", at(address(Lan::INTERNET[0]), 80)),
        ("masqueraded, IPv6", at(address(Lan::INTERNET[1]), 80)),
        ("published", at(host, 8080)),
        ("direct", at(endpoint(1, 12)[0], 80)),
    ];
    let under = |reason: &str, frame: &(dyn Fn(&mut Random) -> Vec<u8> + Sync)| {
        scene.expect_drops(reason, || {
            connect_under(|stop| flood(&loud.namespace, "eth0", stop, frame), &b.namespace, &targets);
        });
    };
    // SYNs with random ports, to the outside and to the published port.
    under("endpoint_quota", &|random| {
        let to_host = random.next() % 2 == 0;
        let target = if to_host { host } else { random.target() };
        let port = if to_host { 8080 } else { random.port() };
        let segment = syn(random, port);
        Ethernet::new(mac, router).ip(own, target).tcp(segment, b"")
    });
    // The same by IPv6, to the outside.
    under("endpoint_quota", &|random| {
        let (target, port) = (random.target6(), random.port());
        Ethernet::new(mac, router).ip(own6, target.into()).tcp(syn(random, port), b"")
    });
    // Neighbours that are not there.
    under("unknown_neighbour", &|random| {
        let [a, b, c, d] = random.next().to_be_bytes().map(u16::from);
        let IpAddr::V6(own6) = own6 else { unreachable!("the second address is that of IPv6") };
        NeighbourMessage::solicit((mac, own6), Ipv6Addr::new(0xfd20, 1, 0, 0, a, b, c, 0x1000 | d))
    });
    // UDP with random ports and targets.
    under("endpoint_quota", &|random| {
        let (target, source, destination) = (random.target(), random.port(), random.port());
        Ethernet::new(mac, router).ip(own, target).udp(source, destination, b"flood")
    });
    // Random source MACs, to a sibling and to everybody.
    under("forged_mac", &|random| {
        let [a, b, c, d] = random.next().to_be_bytes();
        let destination = if d % 2 == 0 { sibling } else { Mac::BROADCAST };
        Ethernet::new(Mac([2, a, b, c, d, 1]), destination).ip(own, endpoint(1, 12)[0]).udp(1, 2, b"flood")
    });
    // Later fragments whose first one never comes.
    under("fragment", &|random| {
        let identification = random.next() as u16;
        let mut frame =
            Ethernet::new(mac, router).ip(own, random.target()).identification(identification).udp(1, 2, &[0; 64]);
        frame[20..22].copy_from_slice(&0x2010u16.to_be_bytes());
        frame[24..26].fill(0);
        let checksum = internet_checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        frame
    });
}

#[test]
fn s3_siblings_are_served_while_one_is_flooded_from_outside() {
    let scene = scene();
    let (flooded, sibling) = (scene.join("flooded", 1, 10), scene.join("sibling", 1, 11));
    let _servers = (serve(&flooded.namespace, "flooded", 80), serve(&sibling.namespace, "sibling", 80));
    scene.publish("8080:80", "flooded");
    scene.publish("8081:80", "sibling");
    let machine = &scene.lan().machine;
    let macs = (machine.mac(Lan::TO_HOST).expect("a MAC"), scene.namespace.mac("up0").expect("a MAC"));
    let [host, host6] = Lan::HOST.map(address);
    let targets = [("published", at(host, 8081)), ("published, IPv6", at(host6, 8081))];
    let under = |frame: &(dyn Fn(&mut Random) -> Vec<u8> + Sync)| {
        connect_under(|stop| flood(machine, Lan::TO_HOST, stop, frame), machine, &targets);
    };
    // SYNs and datagrams of random clients, by both families.
    scene.expect_drops("endpoint_quota", || {
        under(&|random| {
            let (source, port) = (random.target(), random.port());
            let segment =
                TcpSegment { source: port, destination: 8080, flags: tcp_flags::SYN, ..TcpSegment::default() };
            Ethernet::new(macs.0, macs.1).ip(source, host).tcp(segment, b"")
        });
    });
    scene.expect_drops("endpoint_quota", || {
        under(&|random| {
            let (source, port) = (random.target6(), random.port());
            Ethernet::new(macs.0, macs.1).ip(source.into(), host6).udp(port, 8080, b"flood")
        });
    });
    // First fragments of datagrams that never end.
    under(&|random| {
        let (source, port, identification) = (random.target(), random.port(), random.next() as u16);
        let whole = Ethernet::new(macs.0, macs.1).ip(source, host).identification(identification);
        fragments(&whole.udp(port, 8080, &[0; 64]), 32, identification.into()).swap_remove(0)
    });
}
