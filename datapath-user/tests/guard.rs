//! The guard of uplinks: denied sources and limits, held by `from_uplink` and, where it is asked for, by XDP before it.

mod support;

use std::time::{Duration, Instant};

use lab::client::Client;
use lab::frame::{Ethernet, ethertype};
use lab::{Capture, DaemonOptions, Host, Lan, PATIENCE, Protocol};
use support::guarded::{Guarded, WAYS, native, options};
use support::{REFUSAL, Scene, address, at, fail, reach, serve};

#[test]
fn denied_sources_are_kept_out_and_others_are_not() {
    for (way, arguments) in WAYS {
        let guarded = Guarded::start(options(arguments));
        let Guarded { scene, .. } = &guarded;
        assert_eq!(native(scene, Host::UPLINK).is_some(), way == "XDP", "{way}");
        guarded.check(false);
        scene.run("guard deny 10.99.0.10 fd99::/64 198.51.100.0/24 2001:db8:5::/48");
        guarded.check(true);
        assert_eq!(guarded.dropped_by_xdp("denied") > 0, way == "XDP", "{way}");
        // The rest of the list stays, and is looked at.
        scene.run("guard undeny fd99::/64 10.99.0.10");
        guarded.check(false);
        scene.run("guard deny 0.0.0.0/0");
        fail(&scene.lan().machine, Protocol::Udp, at(address(Lan::HOST[0]), 2222));
        reach(&scene.lan().machine, Protocol::Udp, at(address(Lan::HOST[1]), 2222));
        scene.run("guard undeny --all");
        guarded.check(false);
    }
}

#[test]
fn each_source_has_its_rate_and_no_more() {
    const RATE: u64 = 500;
    const BURST: u64 = 50;
    for (way, arguments) in WAYS {
        let guarded = Guarded::start(options(arguments));
        let Guarded { scene, .. } = &guarded;
        scene.run(&format!("guard limit packets {RATE}/s --burst {BURST}"));
        let on_host = Capture::start(&scene.namespace, Host::UPLINK).expect("captures");
        let before = scene.dropped("packet_limit").expect("status");
        let (begun, mut sent) = (Instant::now(), 0);
        let flood = guarded.datagrams("10.99.0.77", 500);
        while begun.elapsed() < Duration::from_secs(2) {
            guarded.send(&flood);
            sent += 500;
        }
        let took = begun.elapsed();
        // Another one is not charged for it.
        reach(&scene.lan().machine, Protocol::Tcp, at(address(Lan::HOST[0]), 8080));
        let passed = sent - (scene.dropped("packet_limit").expect("status") - before);
        let due = BURST as f64 + RATE as f64 * took.as_secs_f64();
        // A twentieth for the steps of the clock, and what was under way at both ends.
        assert!(sent as f64 > 2.0 * due, "{way}: only {sent} were sent in {took:?}");
        assert!(
            (due * 0.9..due * 1.05 + 10.0).contains(&(passed as f64)),
            "{way}: {passed} of {sent} passed, {due} are due"
        );
        // Sockets see what XDP lets through, so this is by another count.
        if way == "XDP" {
            let seen = on_host.stop().iter().filter(|frame| frame.view.payload == b"flood").count() as u64;
            assert!(seen <= passed && seen * 10 >= passed * 9, "{seen} were seen, {passed} passed");
        }
        scene.run("guard limit packets off");
        let before = scene.dropped("packet_limit").expect("status");
        guarded.send(&guarded.datagrams("10.99.0.77", 500));
        assert_eq!(scene.dropped("packet_limit").expect("status"), before, "{way}: there is no limit any more");
    }
}

#[test]
fn a_flood_of_syns_leaves_others_able_to_connect() {
    for (way, arguments) in WAYS {
        let quota = DaemonOptions { config: "flow_quota = 128\n".to_owned(), ..options(arguments) };
        let guarded = Guarded::start(quota);
        let Guarded { scene, .. } = &guarded;
        scene.run("guard limit syn 20/s");
        let machine = &scene.lan().machine;
        let client = Client::new(machine).timeout(PATIENCE);
        for round in 0..10 {
            guarded.send(&guarded.syns("10.99.0.77", 400));
            let exchanged = client.exchange(Protocol::Tcp, at(address(Lan::HOST[0]), 8080));
            assert!(exchanged.is_ok(), "{way}, in round {round}: {exchanged:?}");
        }
        assert!(scene.dropped("syn_limit").expect("status") > 0);
        // To the host's own ports, the limit does not apply.
        reach(machine, Protocol::Tcp, at(address(Lan::HOST[0]), 2222));
    }
}

#[test]
fn a_published_port_takes_no_more_than_its_rate_from_all() {
    for (way, arguments) in WAYS {
        let guarded = Guarded::start(options(arguments));
        let Guarded { scene, .. } = &guarded;
        scene.run("guard limit port-syn 10/s --burst 20");
        let before = scene.metric("flows_created").expect("status");
        let sources: Vec<String> = (1..=250).map(|host| format!("10.99.3.{host}")).collect();
        let flood: Vec<_> = sources.iter().flat_map(|source| guarded.syns(source, 2)).collect();
        let begun = Instant::now();
        scene.expect_drops("port_syn_limit", || guarded.send(&flood));
        std::thread::sleep(Duration::from_millis(50));
        let begun_flows = scene.metric("flows_created").expect("status") - before;
        let due = 20.0 + 10.0 * begun.elapsed().as_secs_f64();
        assert!((20.0..due + 2.0).contains(&(begun_flows as f64)), "{way}: {begun_flows} flows, {due} are due");
    }
}

#[test]
fn a_tag_is_no_way_around_the_rules() {
    for (way, arguments) in WAYS {
        let guarded = Guarded::start(options(arguments));
        let Guarded { scene, .. } = &guarded;
        let (from, to) = guarded.macs();
        // A priority and no VLAN: the host takes the frame as untagged (IEEE 802.1Q section 6.9).
        let frame = |port| {
            let ethernet = Ethernet::new(from, to).tag(ethertype::VLAN, 5 << 13);
            ethernet.ip(address("10.99.0.77"), address(Lan::HOST[0])).udp(port, 8080, b"tagged")
        };
        let on_a = Capture::start(&guarded.a.namespace, "eth0").expect("captures");
        guarded.send(&[frame(4000)]);
        on_a.wait_for(PATIENCE, |frame| frame.view.payload == b"tagged").expect("it is let in");
        scene.run("guard deny 10.99.0.0/24");
        let on_a = Capture::start(&guarded.a.namespace, "eth0").expect("captures");
        scene.expect_drops("denied", || {
            guarded.send(&[frame(4000), frame(4001)]);
            std::thread::sleep(REFUSAL);
        });
        assert!(on_a.stop().iter().all(|frame| frame.view.payload != b"tagged"), "{way}");
    }
}

#[test]
fn what_is_asked_for_is_shown_and_what_is_wrong_is_refused() {
    let scene = Scene::start();
    assert_eq!(
        scene.run("guard deny 192.0.2.77 198.51.100.0/24 2001:db8:9::/48"),
        concat!("192.0.2.77/32 denied\n", "198.51.100.0/24 denied\n", "2001:db8:9::/48 denied\n",)
    );
    assert_eq!(scene.run("guard deny 192.0.2.77"), "denied already\n");
    let list = scene.json(["guard", "ls"]).expect("JSON");
    assert_eq!(list[1]["cidr"], "198.51.100.0/24");
    for (line, why) in [
        ("guard deny 198.51.100.7/24", "host bits set; use 198.51.100.0/24"),
        ("guard deny 203.0.113.0/24 2001:db8::1/32", "use 2001:db8::/32"),
        ("guard deny 127.0.0.0/8", "no source"),
        ("guard deny x", "neither an address nor a prefix"),
        ("guard undeny 198.51.100.7", "part of 198.51.100.0/24 only"),
        ("guard undeny 203.0.113.0/24", "is not denied"),
        ("guard undeny", "required"),
        ("guard limit packets 0", "between 1 and"),
        ("guard limit packets 10000 --burst 1", "between 100 and"),
        ("guard limit packets fast", "is no rate"),
        ("guard limit bytes 10", "invalid value"),
        ("guard limit syn off --burst 3", "--burst goes with a rate"),
    ] {
        let refusal = scene.refuse(line);
        assert!(refusal.contains(why), "{line}: {refusal}");
    }
    assert_eq!(scene.json(["guard", "ls"]).expect("JSON"), list, "a refused request changes nothing");
    scene.run("guard limit packets 5000/s");
    scene.run("guard limit port-syn 200 --burst 400");
    let limits = scene.json(["guard", "limit"]).expect("JSON");
    assert_eq!(limits["packets"]["burst"], 5_000);
    assert_eq!(limits["port_syn"]["rate"], 200);
    assert!(limits["syn"].is_null(), "{limits}");
    let status = scene.run("status");
    assert!(status.contains("guard: 3 denied, packets 5000/s, port-syn 200/s"), "{status}");
    scene.kill_daemon().expect("kills");
    scene.start_daemon().expect("starts again");
    assert_eq!(scene.json(["guard", "ls"]).expect("JSON"), list);
    assert_eq!(scene.json(["guard", "limit"]).expect("JSON"), limits);
}

#[test]
fn a_long_list_is_taken_at_once() {
    let scene = Scene::start();
    let _host = serve(&scene.namespace, "host", 2222);
    let list = tempfile::NamedTempFile::new().expect("a file");
    let lines = (0..100_000_u32)
        .map(|number| format!("{}/24 ; a comment\n", std::net::Ipv4Addr::from(0x2000_0000 + (number << 8))));
    std::fs::write(list.path(), lines.chain(["10.99.0.0/24\n".to_owned()]).collect::<String>()).expect("written");
    let begun = Instant::now();
    let said = scene.run(&format!("guard deny --file {}", list.path().display()));
    assert_eq!(said, "100001 prefixes denied\n");
    println!("100,001 prefixes were denied in {:?}", begun.elapsed());
    fail(&scene.lan().internet, Protocol::Udp, at(address(Lan::HOST[0]), 2222));
    reach(&scene.lan().machine, Protocol::Udp, at(address(Lan::HOST[0]), 2222));
    scene.kill_daemon().expect("kills");
    scene.start_daemon().expect("starts again");
    fail(&scene.lan().internet, Protocol::Udp, at(address(Lan::HOST[0]), 2222));
    assert_eq!(scene.run("guard undeny --all"), "100001 prefixes let in again\n");
    reach(&scene.lan().internet, Protocol::Udp, at(address(Lan::HOST[0]), 2222));
}
