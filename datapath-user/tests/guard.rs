//! The guard of uplinks: denied sources and limits, held by `from_uplink` and, where it is asked for, by XDP before it.

mod support;

use std::time::{Duration, Instant};

use lab::capture::send_frames;
use lab::client::Client;
use lab::frame::{Ethernet, TcpSegment, ethertype, tcp_flags};
use lab::{Capture, Container, DaemonOptions, Family, Host, Lan, Mac, Namespace, PATIENCE, Protocol, Server};
use support::{REFUSAL, Scene, address, at, fail, reach, reach_all, serve};

/// The two ways that the rules are held.
const WAYS: [(&str, &[&str]); 2] = [("from_uplink", &[]), ("XDP", NATIVE)];
/// Uplinks of the laboratory are veths.
const NATIVE: &[&str] = &["--xdp", "native", "--xdp-on-veth"];
/// The daemon looks at what no message tells of every five seconds.
const NOTICED: Duration = Duration::from_secs(15);

fn options(arguments: &[&str]) -> DaemonOptions {
    DaemonOptions { arguments: arguments.iter().map(|text| (*text).to_owned()).collect(), config: String::new() }
}

/// A host with a container and two published ports, and what runs on it.
struct Guarded {
    scene: Scene,
    a: Container,
    _servers: [Server; 3],
}

impl Guarded {
    fn start(options: DaemonOptions) -> Self {
        let scene = Scene::with(options);
        scene.network(1, "");
        let a = scene.join("a", 1, 10);
        scene.publish("8080:80", "a");
        let servers = [
            serve(&a.namespace, "a", 80),
            serve(&scene.namespace, "host", 2222),
            serve(&scene.lan().internet, "far", 80),
        ];
        Self { scene, a, _servers: servers }
    }

    /// Everything that comes in: from whom it is let in, to the host and to a published port, and answers to a container.
    fn check(&self, internet_is_denied: bool) {
        let Lan { internet, machine } = self.scene.lan();
        reach_all(machine, Lan::HOST.map(address), 2222, "host", Lan::MACHINE.map(address));
        reach_all(machine, Lan::HOST.map(address), 8080, "a", Lan::MACHINE.map(address));
        if !internet_is_denied {
            reach_all(internet, Lan::HOST.map(address), 2222, "host", Lan::INTERNET.map(address));
            reach_all(internet, Lan::HOST.map(address), 8080, "a", Lan::INTERNET.map(address));
            reach_all(&self.a.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
            return;
        }
        for family in Family::ALL {
            for port in [2222, 8080] {
                self.scene.expect_drops("denied", || fail(internet, Protocol::Tcp, at(family.of(Lan::HOST), port)));
            }
            fail(&self.a.namespace, Protocol::Udp, at(family.of(Lan::INTERNET), 80));
        }
    }

    /// Frames of somebody on the LAN, who may say to be anybody.
    fn send(&self, frames: &[Vec<u8>]) {
        send_frames(&self.scene.lan().machine, Lan::TO_HOST, frames).expect("sends");
    }

    fn macs(&self) -> (Mac, Mac) {
        let mac = |namespace: &Namespace, device| namespace.mac(device).expect("a MAC");
        (mac(&self.scene.lan().machine, Lan::TO_HOST), mac(&self.scene.namespace, Host::UPLINK))
    }

    fn datagrams(&self, source: &str, count: u16) -> Vec<Vec<u8>> {
        let (from, to) = self.macs();
        let frame = |port| Ethernet::new(from, to).ip(address(source), address(Lan::HOST[0])).udp(port, 9, b"flood");
        (0..count).map(|port| frame(1_024 + port)).collect()
    }

    fn syns(&self, source: &str, count: u16) -> Vec<Vec<u8>> {
        let (from, to) = self.macs();
        let syn = |port| TcpSegment { source: port, destination: 8080, flags: tcp_flags::SYN, ..TcpSegment::default() };
        let frame = |port| Ethernet::new(from, to).ip(address(source), address(Lan::HOST[0])).tcp(syn(port), b"");
        (0..count).map(|port| frame(1_024 + port)).collect()
    }

    /// What the XDP program has dropped for this reason.
    fn dropped_by_xdp(&self, reason: &str) -> u64 {
        self.scene.json(["status"]).expect("status")["guard"]["dropped"][reason].as_u64().unwrap_or(0)
    }
}

/// Id of the program that runs natively on a device.
fn native(scene: &Scene, device: &str) -> Option<u64> {
    let text = scene.namespace.run("ip", ["-j", "-d", "link", "show", "dev", device]).expect("ip link");
    let links: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let xdp = &links[0]["xdp"];
    // 1 is XDP_ATTACHED_DRV.
    (xdp["mode"].as_u64() == Some(1)).then(|| xdp["prog"]["id"].as_u64()).flatten()
}

#[track_caller]
fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < NOTICED, "{what} does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

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
fn rules_and_the_program_stay_over_a_restart() {
    for arguments in [NATIVE, &[NATIVE, &["--attach", "clsact"]].concat()] {
        let guarded = Guarded::start(options(arguments));
        let Guarded { scene, .. } = &guarded;
        scene.run("guard deny 10.99.0.77 2001:db8:7::/48");
        scene.run("guard limit syn 1000/s --burst 2000");
        let rules = |scene: &Scene| (scene.run("guard ls"), scene.run("guard limit --json"));
        let (before, program) = (rules(scene), native(scene, Host::UPLINK).expect("it is native"));
        let on_host = Capture::start(&scene.namespace, Host::UPLINK).expect("captures");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let gaps = scope.spawn(|| {
                let mut gaps = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    guarded.send(&guarded.datagrams("10.99.0.77", 20));
                    gaps += u32::from(native(scene, Host::UPLINK).is_none());
                }
                gaps
            });
            for _ in 0..2 {
                scene.kill_daemon().expect("kills");
                std::thread::sleep(Duration::from_millis(100));
                scene.start_daemon().expect("starts again");
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(gaps.join().expect("no panic"), 0, "the device was without a program");
        });
        assert_ne!(
            native(scene, Host::UPLINK).expect("it is native"),
            program,
            "the new daemon's program is in the link"
        );
        assert_eq!(rules(scene), before);
        // A socket of the host would see what passes the program.
        let seen = on_host.stop();
        assert!(seen.iter().all(|frame| frame.view.payload != b"flood"), "a denied source was let in meanwhile");
        scene.run("guard undeny --all");
        let on_host = Capture::start(&scene.namespace, Host::UPLINK).expect("captures");
        guarded.send(&guarded.datagrams("10.99.0.77", 1));
        on_host.wait_for(PATIENCE, |frame| frame.view.payload == b"flood").expect("it is let in now");
    }
}

#[test]
fn without_xdp_the_program_goes_and_the_rules_stay() {
    let guarded = Guarded::start(options(NATIVE));
    let Guarded { scene, .. } = &guarded;
    scene.run("guard deny 10.99.0.10 fd99::/64");
    guarded.check(true);
    scene.stop_daemon().expect("stops");
    assert!(native(scene, Host::UPLINK).is_some(), "it outlives the daemon");
    scene.start_daemon_with(options(&["--xdp", "off"])).expect("starts");
    assert_eq!(native(scene, Host::UPLINK), None);
    let by_xdp = guarded.dropped_by_xdp("denied");
    guarded.check(true);
    assert_eq!(guarded.dropped_by_xdp("denied"), by_xdp);

    scene.kill_daemon().expect("kills");
    scene.start_daemon_with(options(NATIVE)).expect("starts");
    assert!(native(scene, Host::UPLINK).is_some());
    guarded.check(true);
    scene.stop_daemon().expect("stops");
    let (status, log) = scene.start_refused(&options(&["--cleanup"]), Duration::from_secs(20)).expect("cleans up");
    assert!(status.success(), "{log}");
    // The kernel lets go of links by deferred work.
    wait_for("the end of the program", || native(scene, Host::UPLINK).is_none());
}

#[test]
fn a_veth_is_refused_unless_asked_for() {
    let guarded = Guarded::start(options(&["--xdp", "native"]));
    let Guarded { scene, .. } = &guarded;
    assert_eq!(native(scene, Host::UPLINK), None);
    let status = scene.json(["status"]).expect("status");
    let uplink = &status["guard"]["uplinks"][0];
    assert_eq!((uplink["name"].as_str(), uplink["native"].as_bool()), (Some(Host::UPLINK), Some(false)), "{status:#}");
    for text in [uplink["reason"].to_string(), scene.run("status"), scene.run("doctor"), scene.daemon_log()] {
        assert!(text.contains("it is a veth") && text.contains("--xdp-on-veth"), "{text}");
    }
    scene.run("guard deny 10.99.0.10 fd99::/64");
    guarded.check(true);
}

#[test]
fn a_driver_without_xdp_is_told_of_and_goes_on() {
    let guarded = Guarded::start(options(NATIVE));
    let Guarded { scene, .. } = &guarded;
    // Neither a bridge nor a device without Ethernet has native XDP.
    scene
        .namespace
        .ip("link add br7 type bridge\naddr add 198.18.7.1/24 dev br7\nlink set br7 up\ntuntap add tun7 mode tun\n\
             addr add 198.18.8.1/24 dev tun7\nlink set tun7 up")
        .expect("made");
    let state = |name: &str| {
        let status = scene.json(["status"]).expect("status");
        let uplinks = status["guard"]["uplinks"].as_array().cloned().unwrap_or_default();
        uplinks.into_iter().find(|uplink| uplink["name"] == name)
    };
    for (name, why) in [("br7", "its driver has no native XDP"), ("tun7", "no Ethernet header")] {
        wait_for(name, || state(name).is_some());
        let state = state(name).expect("just seen");
        assert!(state["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{state}");
        assert!(scene.daemon_log().contains(why), "{}", scene.daemon_log());
    }
    assert!(scene.run("doctor").contains("br7 is not guarded by XDP"));
    guarded.check(false);
}

#[test]
fn uplinks_are_guarded_as_they_come_and_let_go_as_they_leave() {
    let scene = Scene::with(options(NATIVE));
    scene.namespace.ip("link add up7 type veth peer name far7\nlink set far7 up\nlink set up7 up").expect("made");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(native(&scene, "up7"), None, "it is no uplink without an address");
    scene.namespace.ip("addr add 198.18.7.1/24 dev up7").expect("given");
    wait_for("the program on a new uplink", || native(&scene, "up7").is_some());
    scene.namespace.ip("addr flush dev up7").expect("taken");
    wait_for("the end of the program", || native(&scene, "up7").is_none());
    scene.namespace.ip("addr add 198.18.7.1/24 dev up7").expect("given");
    wait_for("the program once more", || native(&scene, "up7").is_some());
    scene.namespace.ip("link del up7").expect("deleted");
    let pins = || lab::run("find", [scene.pins()]).expect("find");
    wait_for("the end of the pin", || pins().matches("links/guard-").count() == 1);
}

#[test]
fn f8_xdp_programs_of_others_are_kept_and_respected() {
    let guarded = Guarded::start(options(&[]));
    let Guarded { scene, .. } = &guarded;
    let foreign = lab::xdp::ForeignXdp::attach(&scene.namespace, Host::UPLINK).expect("attaches");
    let theirs = native(scene, Host::UPLINK).expect("it is there");
    scene.stop_daemon().expect("stops");
    scene.start_daemon_with(options(NATIVE)).expect("starts");
    assert_eq!(native(scene, Host::UPLINK), Some(theirs));
    let text = scene.run("status");
    assert!(text.contains("somebody else's XDP program is on it"), "{text}");
    scene.run("guard deny 10.99.0.10 fd99::/64");
    guarded.check(true);
    drop(foreign);
    wait_for("ours, once theirs is gone", || native(scene, Host::UPLINK).is_some());
    guarded.check(true);
    wait_for("the word of it", || !scene.run("status").contains("somebody else's"));
}

#[test]
fn a_detached_program_comes_back_and_is_made_up_for() {
    let guarded = Guarded::start(options(NATIVE));
    let Guarded { scene, .. } = &guarded;
    scene.run("guard deny 10.99.0.10 fd99::/64");
    let ifindex = scene.namespace.ifindex(Host::UPLINK).expect("there");
    let pin = scene.pins().join(format!("links/guard-{ifindex}"));
    let before = native(scene, Host::UPLINK).expect("native");
    lab::foreign::detach_pinned(&pin).expect("detaches");
    wait_for("the program again", || native(scene, Host::UPLINK).is_some());
    assert_eq!(native(scene, Host::UPLINK), Some(before), "the same program, in a new link");
    guarded.check(true);
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
