//! The scope rule: the host's own traffic is none of our business, whatever state we are in.

mod support;

use std::time::Duration;

use lab::capture::send_frames;
use lab::client::Client;
use lab::frame::Ethernet;
use lab::{DaemonOptions, Lan};
use support::{Scene, address, at, endpoint, reach_all, serve};

#[test]
fn the_hosts_own_sessions_go_on_with_full_tables_and_broken_networks() {
    let scene = Scene::with(DaemonOptions::with_config("flow_capacity = 64\nflow_quota = 1000\n"));
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let (_host, _near) = (serve(&scene.namespace, "host", 2222), serve(&scene.lan().machine, "near", 80));
    let host = Lan::HOST.map(address);
    let mut session = Client::new(&scene.lan().machine).connect(at(host[0], 2222)).expect("connects");
    let mut outward = Client::new(&scene.namespace).connect(at(address(Lan::MACHINE[0]), 80)).expect("connects");
    let everything_works = |session: &mut lab::client::Conversation, outward: &mut lab::client::Conversation| {
        session.say(b"still here").expect("the session goes on");
        outward.say(b"still here").expect("the session goes on");
        reach_all(&scene.lan().machine, host, 2222, "host", Lan::MACHINE.map(address));
        reach_all(&scene.namespace, Lan::MACHINE.map(address), 80, "near", host);
        reach_all(&scene.namespace, ["127.0.0.1", "::1"].map(address), 2222, "host", ["127.0.0.1", "::1"].map(address));
    };
    everything_works(&mut session, &mut outward);

    // Every flow slot taken.
    let (mac, router) =
        (a.namespace.mac("eth0").expect("a MAC"), scene.namespace.mac(&scene.gateway_device(1)).expect("a MAC"));
    let flood: Vec<_> = (0..500)
        .map(|port| {
            Ethernet::new(mac, router).ip(endpoint(1, 10)[0], address(Lan::INTERNET[0])).udp(10_000 + port, 9, b"fill")
        })
        .collect();
    scene.expect_drops("flow_table_full", || {
        send_frames(&a.namespace, "eth0", &flood).expect("sends");
        std::thread::sleep(Duration::from_millis(50));
    });
    everything_works(&mut session, &mut outward);

    // Every network broken: its gateway device gone, then the daemon, then the container.
    let gateway = scene.gateway_device(1);
    scene.namespace.ip(&format!("link del {gateway}")).expect("deletes");
    everything_works(&mut session, &mut outward);
    scene.kill_daemon().expect("kills");
    everything_works(&mut session, &mut outward);
    drop(a);
    everything_works(&mut session, &mut outward);
}

#[test]
fn the_hosts_own_private_addresses_and_tunnels_pass() {
    let scene = Scene::start();
    scene.network(1, "");
    let _a = scene.join("a", 1, 10);
    scene.namespace.ip("addr add 10.1.2.3/32 dev lo\naddr add 172.16.5.5/16 dev up0").expect("addresses");
    scene.lan().machine.ip("addr add 172.16.5.6/16 dev host0\nroute add 10.1.2.3 via 192.0.2.1").expect("addresses");
    let _host = serve(&scene.namespace, "host", 2222);
    for (target, seen) in [("172.16.5.5", "172.16.5.6"), ("10.1.2.3", "192.0.2.10")] {
        let exchange = support::reach(&scene.lan().machine, lab::Protocol::Tcp, at(address(target), 2222));
        assert_eq!((exchange.server.as_str(), exchange.seen.ip()), ("host", address(seen)));
    }
    // Somebody else's tunnel between the host and the LAN machine.
    scene.namespace.ip("link add tun0 type vxlan id 7 remote 192.0.2.10 local 192.0.2.1 dstport 4789\naddr add 10.77.0.1/24 dev tun0\nlink set tun0 up").expect("a tunnel");
    scene.lan().machine.ip("link add tun0 type vxlan id 7 remote 192.0.2.1 local 192.0.2.10 dstport 4789\naddr add 10.77.0.2/24 dev tun0\nlink set tun0 up").expect("a tunnel");
    let exchange = support::reach(&scene.lan().machine, lab::Protocol::Tcp, at(address("10.77.0.1"), 2222));
    assert_eq!(exchange.seen.ip(), address("10.77.0.2"));
}
