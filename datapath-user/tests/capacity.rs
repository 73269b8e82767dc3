//! Behaviour N10: quotas, full tables, and room made by what has expired.

mod support;

use std::time::Duration;

use lab::client::Client;
use lab::{Container, Lan, Protocol};
use support::{address, assert_no_leak, at, configured, endpoint, fail, reach, reach_all, serve};

/// Opens UDP flows to different targets until one is refused; how many were answered.
fn open_flows(from: &Container, ports: std::ops::Range<u16>) -> usize {
    let client = Client::new(&from.namespace).timeout(Duration::from_millis(250));
    let target = at(address(Lan::INTERNET[0]), 80);
    ports
        .filter(|port| {
            let source = at(address("0.0.0.0"), *port);
            client.from(source).exchange(Protocol::Udp, target).is_ok()
        })
        .count()
}

#[test]
fn n10_one_endpoint_cannot_take_more_than_its_quota() {
    let scene = configured("flow_capacity = 1024\nflow_quota = 40\n");
    scene.network(1, "");
    let (greedy, modest) = (scene.join("greedy", 1, 10), scene.join("modest", 1, 11));
    let _far = serve(&scene.lan().internet, "far", 80);
    let target = at(address(Lan::INTERNET[0]), 80);
    let mut old = Client::new(&greedy.namespace).connect(target).expect("connects");
    let opened = scene.expect_drops("endpoint_quota", || open_flows(&greedy, 20_000..20_060));
    assert!((30..=40).contains(&opened), "{opened} flows with a quota of 40");
    old.say(b"still here").expect("established flows go on");
    fail(&greedy.namespace, Protocol::Tcp, target);
    for _ in 0..30 {
        reach(&modest.namespace, Protocol::Tcp, target);
    }
}

#[test]
fn n10_a_full_table_refuses_new_flows_and_keeps_the_old() {
    let scene = configured("flow_capacity = 64\nflow_quota = 1000\n");
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let (_far, _b) = (serve(&scene.lan().internet, "far", 80), serve(&b.namespace, "b", 80));
    let target = at(address(Lan::INTERNET[0]), 80);
    let mut old = Client::new(&b.namespace).connect(target).expect("connects");
    let uplink = scene.watch_uplink();
    let opened = scene.expect_drops("flow_table_full", || open_flows(&a, 20_000..20_080));
    assert!((40..=64).contains(&opened), "{opened} flows with room for 64");
    fail(&b.namespace, Protocol::Tcp, target);
    old.say(b"still here").expect("established flows go on");
    // What needs no flow is not affected.
    reach_all(&a.namespace, endpoint(1, 11), 80, "b", endpoint(1, 10));
    assert_no_leak(uplink);
}

/// Opens 50 flows, lets them expire, and again, with the daemon dead.
fn open_and_expire(config: &str) {
    let scene = configured(config);
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _far = serve(&scene.lan().internet, "far", 80);
    scene.kill_daemon().expect("kills");
    for round in 0..3u16 {
        let first = 20_000 + round * 100;
        let opened = open_flows(&a, first..first + 50);
        assert!(opened >= 48, "round {round}: {opened} of 50 flows");
        std::thread::sleep(Duration::from_millis(2_300));
    }
}

#[test]
fn n10_expired_flows_make_room_with_the_daemon_dead() {
    open_and_expire("flow_capacity = 64\nflow_quota = 1000\n[timeouts]\nudp = 1\n");
}

#[test]
fn n10_expired_flows_do_not_count_against_the_quota_with_the_daemon_dead() {
    open_and_expire("flow_capacity = 1024\nflow_quota = 60\n[timeouts]\nudp = 1\n");
}

/// Opens and closes more connections than there is room for, none of which has expired.
fn open_and_close(config: &str) {
    let scene = configured(config);
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _far = serve(&scene.lan().internet, "far", 80);
    scene.kill_daemon().expect("kills");
    for number in 0..200 {
        let connection = Client::new(&a.namespace).connect(at(address(Lan::INTERNET[0]), 80)).expect("connects");
        let rest = connection.finish().unwrap_or_else(|error| panic!("connection {number}: {error}"));
        assert_eq!(rest, b"", "connection {number}");
    }
}

#[test]
fn n10_closed_connections_make_room_at_once_with_the_daemon_dead() {
    open_and_close("flow_capacity = 64\nflow_quota = 1000\n");
}

#[test]
fn n10_closed_connections_do_not_count_against_the_quota() {
    open_and_close("flow_capacity = 1024\nflow_quota = 40\n");
}
