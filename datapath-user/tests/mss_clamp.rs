//! `--mss-clamp`: the segment size that the ends of a TCP connection ask for fits the path, be the path's MTU learnt or not.

mod support;

use std::net::SocketAddr;

use lab::client::Client;
use lab::frame::{Transport, tcp_flags};
use lab::{Capture, Family, Lan, Namespace, Protocol};
use support::{Scene, assert_no_leak, at, serve};

/// The segment size that the first option of each SYN and SYN-ACK asks for that arrived.
fn asked(capture: Capture) -> Vec<u16> {
    let frames = capture.stop().into_iter().filter(|frame| {
        matches!(frame.view.transport, Transport::Tcp { flags, .. } if flags & tcp_flags::SYN != 0) && !frame.outgoing
    });
    frames
        .map(|frame| {
            // What is still to be completed proves nothing.
            assert!(frame.checksum_to_come || frame.view.checksum_is_right(), "{frame:?}");
            let header = if frame.bytes[12..14] == [8, 0] { 34 } else { 54 };
            let option = &frame.bytes[header + 20..][..4];
            assert_eq!(option[..2], [2, 4], "Linux puts this option first: {frame:?}");
            u16::from_be_bytes([option[2], option[3]])
        })
        .collect()
}

/// What the server and the client are asked for when a client connects.
fn connected(
    client: &Namespace,
    target: SocketAddr,
    at_server: (&Namespace, &str),
    at_client: &str,
) -> (Vec<u16>, Vec<u16>) {
    let (there, here) = (
        Capture::start(at_server.0, at_server.1).expect("captures"),
        Capture::start(client, at_client).expect("captures"),
    );
    // Too little to learn anything of the path.
    Client::new(client).exchange(Protocol::Tcp, target).expect("connects");
    (asked(there), asked(here))
}

#[test]
fn what_is_asked_for_fits_the_path() {
    const NARROW: u16 = 1_400;
    let scene = Scene::start();
    scene.network(1, "--mss-clamp");
    scene.network(2, "");
    let (clamped, plain) = (scene.join("clamped", 1, 10), scene.join("plain", 2, 11));
    scene.publish("8080:80", "clamped");
    scene.publish("8081:80", "plain");
    let internet = &scene.lan().internet;
    let _servers =
        (serve(internet, "far", 80), serve(&clamped.namespace, "clamped", 80), serve(&plain.namespace, "plain", 80));
    let inspected = scene.json(["network", "inspect", "net1"]).expect("inspected");
    assert_eq!(inspected["mss_clamp"], true, "{inspected:#}");
    let uplink = scene.watch_uplink();
    // Checksums that a device is to complete are no proof.
    for (namespace, interface) in [(&clamped.namespace, "eth0"), (internet, "eth0")] {
        namespace.set_offload(interface, lab::Offload::Off).expect("ethtool");
    }
    scene
        .namespace
        .ip(&format!(
            "route change default via 192.0.2.10 mtu lock {NARROW}\nroute change default via 2001:db8:2::10 mtu lock {NARROW}"
        ))
        .expect("set");
    for family in Family::ALL {
        let headers = if family == Family::V4 { 40 } else { 60 };
        let (most, ethernet) = (vec![NARROW - headers], vec![1_500 - headers]);
        let (far, host) = (family.of(Lan::INTERNET), family.of(Lan::HOST));
        let out = |from: &Namespace| connected(from, at(far, 80), (internet, "eth0"), "eth0");
        assert_eq!(out(&clamped.namespace), (most.clone(), most.clone()), "out, {family:?}");
        assert_eq!(out(&plain.namespace), (ethernet.clone(), ethernet.clone()), "out, as it comes, {family:?}");
        let (there, here) = connected(internet, at(host, 8080), (&clamped.namespace, "eth0"), "eth0");
        assert_eq!((there, here), (most.clone(), most), "published, {family:?}");
        let (there, here) = connected(internet, at(host, 8081), (&plain.namespace, "eth0"), "eth0");
        assert_eq!((there, here), (ethernet.clone(), ethernet.clone()), "published, as it comes, {family:?}");
    }
    assert_no_leak(uplink);
}
