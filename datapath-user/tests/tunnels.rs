//! Uplinks that are tunnels: devices without link header, as WireGuard and tun have, are uplinks like others.

mod support;

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lab::capture::{Captured, send_frames};
use lab::client::{Client, ask};
use lab::frame::Ethernet;
use lab::icmp_error::Inquirer;
use lab::load::on_each_core;
use lab::{Capture, Container, Family, Host, Lan, Link, Mac, Namespace, PATIENCE, Server, Tunnel};
use support::{Scene, address, assert_no_leak, at, endpoint, fail_all, gateway, of, reach_all, serve};

const HOST: [&str; 2] = ["10.98.0.1", "fd98::1"];
const SITE: [&str; 2] = ["10.98.0.2", "fd98::2"];
/// Of the site too, and behind its address in the tunnel.
const BEHIND: [&str; 2] = ["10.98.1.10", "fd98:1::10"];
const MTU: u32 = 1_400;
const DEVICE: &str = "tun7";

/// A host with a container and a published port, and a site at the other end of a tunnel. The order is that of dropping.
struct Tunneled {
    scene: Scene,
    a: Container,
    _tunnel: Tunnel,
    site: Namespace,
}

impl Tunneled {
    fn start() -> Self {
        let scene = Scene::start();
        scene.network(1, "");
        let a = scene.join("a", 1, 10);
        scene.publish("8080:80", "a");
        let site = Namespace::new("site").expect("a namespace");
        let here = Link { namespace: &scene.namespace, name: DEVICE, addresses: &["10.98.0.1/24", "fd98::1/64"] };
        let there = Link { namespace: &site, name: DEVICE, addresses: &["10.98.0.2/24", "fd98::2/64"] };
        let tunnel = Tunnel::join(&here, &there).expect("a tunnel");
        // The site does not know, so that containers must be told.
        scene.namespace.ip(&format!("link set {DEVICE} mtu {MTU}")).expect("an MTU");
        site.ip("addr add 10.98.1.10/32 dev lo\naddr add fd98:1::10/128 dev lo\nlink set lo up").expect("addresses");
        scene
            .namespace
            .ip(&format!(
                "route add 10.98.1.0/24 via 10.98.0.2 dev {DEVICE}\nroute add fd98:1::/64 via fd98::2 dev {DEVICE}"
            ))
            .expect("routes");
        let known = format!("{DEVICE} ({})", HOST.join(","));
        let end = Instant::now() + PATIENCE;
        while !scene.run("status").contains(&known) {
            assert!(Instant::now() < end, "the tunnel is no uplink: {}", scene.run("status"));
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { scene, a, _tunnel: tunnel, site }
    }

    fn watch(&self) -> Capture {
        Capture::start(&self.site, DEVICE).expect("captures")
    }
}

/// Ends a capture of the tunnel, in which both of the host's addresses have been, and none of the inside.
#[track_caller]
fn assert_masked(tunnel: Capture) {
    for host in HOST.map(address) {
        let came = |frame: &Captured| !frame.outgoing && frame.view.source == Some(host);
        assert!(tunnel.wait_for(Duration::ZERO, came).is_some(), "nothing came from {host}");
    }
    assert_no_leak(tunnel);
}

#[test]
fn n1_connections_are_masqueraded_into_a_tunnel() {
    let tunneled = Tunneled::start();
    let Tunneled { scene, a, site, .. } = &tunneled;
    let own = SITE.into_iter().chain(BEHIND).map(|own| at(address(own), 80));
    let _server = Server::on(site, "site", &own.collect::<Vec<_>>()).expect("serves");
    let (tunnel, uplink) = (tunneled.watch(), scene.watch_uplink());
    for targets in [SITE, BEHIND] {
        reach_all(&a.namespace, targets.map(address), 80, "site", HOST.map(address));
    }
    for family in Family::ALL {
        let target = at(family.of(BEHIND), 80);
        Client::new(&a.namespace).transfer(target, 1 << 20).expect("a stream, whose sender learns the MTU");
        let route = a.namespace.run("ip", ["route", "get", &target.ip().to_string()]).expect("ip");
        assert!(route.contains(&format!("mtu {MTU}")), "{route}");
    }
    assert_masked(tunnel);
    let seen = uplink.stop();
    let strays: Vec<_> = seen.iter().filter(|frame| is_of_the_tunnel(frame.view.destination)).collect();
    assert!(strays.is_empty(), "packets for the site left by the other uplink: {strays:?}");
    scene.detach_programs().expect("detaches");
    fail_all(&a.namespace, SITE.map(address), 80);
}

fn is_of_the_tunnel(destination: Option<IpAddr>) -> bool {
    SITE.into_iter().chain(BEHIND).any(|ours| destination == Some(address(ours)))
}

#[test]
fn p1_published_ports_are_reached_through_a_tunnel() {
    let tunneled = Tunneled::start();
    let Tunneled { scene, a, site, .. } = &tunneled;
    let _server = serve(&a.namespace, "a", 80);
    site.ip(&format!("route add 192.0.2.0/24 via 10.98.0.1 dev {DEVICE}")).expect("a route");
    let (tunnel, uplink) = (tunneled.watch(), scene.watch_uplink());
    reach_all(site, HOST.map(address), 8080, "a", SITE.map(address));
    for family in Family::ALL {
        let target = at(family.of(HOST), 8080);
        Client::new(site).transfer(target, 1 << 20).expect("a stream both ways");
        // In fragments, which the answers are too, once the container knows what fits.
        let socket = Client::new(site).datagrams(target).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        let payload = vec![b'x'; 4_000];
        let exchange = (0..3).find_map(|_| ask(&socket, target, &payload).ok()).expect("in fragments");
        assert_eq!(exchange.seen.ip(), family.of(SITE));
    }
    assert_masked(tunnel);
    assert_no_leak(uplink);
    scene.detach_programs().expect("detaches");
    fail_all(site, HOST.map(address), 8080);
}

/// What the programs have read before, on whatever core, is nothing to them.
#[test]
fn p1_group_frames_that_came_by_another_uplink_change_nothing() {
    let tunneled = Tunneled::start();
    let Tunneled { scene, a, site, .. } = &tunneled;
    let _servers = [serve(&a.namespace, "a", 80), serve(site, "site", 80)];
    let machine = &scene.lan().machine;
    let mac = machine.mac(Lan::TO_HOST).expect("a MAC");
    let everybody = Ethernet::new(mac, Mac::BROADCAST);
    let frame = everybody.ip(address(Lan::MACHINE[0]), address("192.0.2.255")).udp(5_000, 5_000, b"everybody");
    let at_host = Capture::start(&scene.namespace, Host::UPLINK).expect("captures");
    let mut sent = 0;
    for _ in 0..5 {
        sent +=
            on_each_core(|| send_frames(machine, Lan::TO_HOST, std::slice::from_ref(&frame)).map_err(io::Error::other))
                .expect("broadcasts");
        reach_all(site, HOST.map(address), 8080, "a", SITE.map(address));
        reach_all(&a.namespace, SITE.map(address), 80, "site", HOST.map(address));
    }
    let came = |captured: &&Captured| !captured.outgoing && captured.bytes == frame;
    assert_eq!(at_host.stop().iter().filter(came).count(), sent, "broadcasts came to the host");
}

#[test]
fn n9_a_trace_leads_through_a_tunnel() {
    let tunneled = Tunneled::start();
    let Tunneled { a, site, .. } = &tunneled;
    let tunnel = tunneled.watch();
    // Bound to its address, a socket hears of what it has sent from there, and of nothing else.
    let who_says = |from: &Namespace, own: IpAddr, target, hops| {
        let inquirer = Inquirer::new(&Client::new(from).from_address(own), target).expect("a socket");
        inquirer.send(target, hops, b"who is there?").expect("sends");
        inquirer
            .error(Duration::from_secs(3))
            .expect("an error queue")
            .map(|error| (error.kind, error.code, error.sender))
    };
    for family in Family::ALL {
        let (exceeded, unreachable) = if family == Family::V4 { ((11, 0), (3, 3)) } else { ((3, 0), (1, 4)) };
        let closed = at(family.of(SITE), 9);
        let told = |(kind, code): (u8, u8), sender| Some((kind, code, sender));
        assert_eq!(
            who_says(&a.namespace, of(family, endpoint(1, 10)), closed, 1),
            told(exceeded, of(family, gateway(1)))
        );
        assert_eq!(
            who_says(&a.namespace, of(family, endpoint(1, 10)), closed, 2),
            told(unreachable, family.of(SITE)),
            "an error from the tunnel"
        );
        let port = at(family.of(HOST), 8080);
        assert_eq!(
            who_says(site, family.of(SITE), port, 1),
            told(exceeded, family.of(HOST)),
            "an answer into the tunnel"
        );
        assert_eq!(
            who_says(site, family.of(SITE), port, 9),
            told(unreachable, family.of(HOST)),
            "an error into the tunnel"
        );
    }
    assert_masked(tunnel);
}

#[test]
fn s2_forged_sources_from_a_tunnel_are_dropped() {
    let tunneled = Tunneled::start();
    let Tunneled { scene, site, a, .. } = &tunneled;
    let server = serve(&a.namespace, "a", 80);
    // An address of the container's own network, at the other end of the tunnel.
    site.ip("addr add 10.20.1.77/32 dev lo\naddr add fd20:1::77/128 dev lo").expect("addresses");
    for family in Family::ALL {
        let forged = of(family, endpoint(1, 77));
        let target = at(family.of(HOST), 8080);
        scene.expect_drops("spoofed_source", || {
            let socket = Client::new(site).from_address(forged).datagrams(target).expect("a socket");
            socket.send_to(b"forged", target).expect("sends");
            std::thread::sleep(Duration::from_millis(200));
        });
    }
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}
