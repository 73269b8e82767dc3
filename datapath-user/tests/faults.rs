//! Behaviours F: the daemon dies, is doubled, and shares its hooks with others.

mod support;

use std::time::{Duration, Instant};

use lab::foreign::{DROP, ForeignProgram, PASS};
use lab::probe::Probes;
use lab::{DaemonOptions, Host, Lan, Protocol};
use support::{Scene, add_foreign_filter, address, at, endpoint, fail, has_foreign_filter, reach, reach_all, serve};

#[test]
fn f1_killed_and_restarted_without_loss() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _servers = (serve(&b.namespace, "b", 80), serve(&scene.lan().internet, "far", 80));
    scene.publish("8080:80", "b");
    let loopback = at(address("127.0.0.1"), 8080);
    let paths = [
        ("switched", &a.namespace, at(endpoint(1, 11)[0], 80)),
        ("switched, IPv6", &a.namespace, at(endpoint(1, 11)[1], 80)),
        ("masqueraded", &a.namespace, at(address(Lan::INTERNET[0]), 80)),
        ("published", &scene.lan().machine, at(address(Lan::HOST[0]), 8080)),
        ("published, IPv6", &scene.lan().machine, at(address(Lan::HOST[1]), 8080)),
        ("published over loopback", &scene.namespace, loopback),
    ];
    let probes = paths.map(|(name, from, target)| {
        (name, Probes::start(from, target).unwrap_or_else(|error| panic!("{name}: {error:#}")))
    });
    let (before, drops) = (scene.state_shown(), scene.drops().expect("status"));
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..2 {
        scene.kill_daemon().expect("kills");
        std::thread::sleep(Duration::from_millis(200));
        scene.start_daemon().expect("starts again");
        std::thread::sleep(Duration::from_millis(100));
    }
    scene.stop_daemon().expect("stops");
    std::thread::sleep(Duration::from_millis(200));
    scene.start_daemon().expect("starts again");
    std::thread::sleep(Duration::from_millis(200));
    for (name, probes) in probes {
        let findings = probes.stop().expect("stops");
        findings.check_zero_loss().unwrap_or_else(|error| {
            let dropped: Vec<_> =
                scene.drops().expect("status").into_iter().filter(|(reason, n)| drops[reason] != *n).collect();
            panic!("{name}: {error:#}; dropped meanwhile: {dropped:?}")
        });
    }
    assert_eq!(scene.state_shown(), before, "the daemon adopts what runs");
}

#[test]
fn f1_killed_during_an_operation_leaves_the_state_before_or_after() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _server = serve(&a.namespace, "a", 80);
    scene.publish("8080:80", "a");
    let before = scene.state_shown();
    for delay in [0, 1, 2, 4, 8, 16] {
        std::thread::scope(|scope| {
            let operation = scope.spawn(|| scene.output(["publish", "9000-9999:80-1079", "a"]));
            std::thread::sleep(Duration::from_millis(delay));
            scene.kill_daemon().expect("kills");
            // Whether it was in time is for the kill to decide; what counts is the state afterwards.
            let _ = operation.join().expect("no panic");
        });
        scene.start_daemon().expect("starts again");
        let published = scene.state_shown() != before;
        for port in [9000, 9999] {
            let target = at(address(Lan::HOST[0]), port);
            let container_port = 80 + (port - 9000);
            let _server = (container_port != 80).then(|| serve(&a.namespace, "a", container_port));
            if published {
                reach(&scene.lan().machine, Protocol::Tcp, target);
            } else {
                fail(&scene.lan().machine, Protocol::Tcp, target);
            }
        }
        if published {
            scene.run("unpublish 9000-9999");
        }
        assert_eq!(scene.state_shown(), before, "after {delay} ms");
        reach(&scene.lan().machine, Protocol::Tcp, at(address(Lan::HOST[0]), 8080));
    }
}

#[test]
fn f1_attach_and_create_survive_a_kill_at_any_moment() {
    let scene = Scene::start();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _server = serve(&a.namespace, "a", 80);
    for (round, delay) in [0, 2, 5, 10, 20, 40].into_iter().enumerate() {
        let container = lab::Namespace::new("torn").expect("a namespace");
        let name = format!("torn{round}");
        std::thread::scope(|scope| {
            let attach =
                scope.spawn(|| scene.output(["attach", container.name(), "--network", "net1", "--name", &name]));
            std::thread::sleep(Duration::from_millis(delay));
            scene.kill_daemon().expect("kills");
            let _ = attach.join().expect("no panic");
        });
        scene.start_daemon().expect("starts again");
        if scene.run("endpoint ls --json").contains(&name) {
            reach(&container, Protocol::Tcp, at(endpoint(1, 10)[0], 80));
            scene.run(&format!("detach {name}"));
        } else {
            scene.run(&format!("attach {} --network net1 --name {name}", container.name()));
            reach(&container, Protocol::Tcp, at(endpoint(1, 10)[0], 80));
            scene.run(&format!("detach {name}"));
        }
    }
}

#[test]
fn f3_a_second_daemon_exits_having_written_nothing() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _server = serve(&b.namespace, "b", 80);
    let pins = || lab::run("find", [scene.pins()]).expect("find");
    let before = (scene.state_shown(), pins());
    let start = Instant::now();
    let (status, log) =
        scene.start_refused(&DaemonOptions::default(), Duration::from_secs(2)).expect("the second must exit by itself");
    assert!(!status.success(), "{log}");
    assert!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
    assert!(!log.trim().is_empty() && !log.contains("panicked"), "it must say why: {log}");
    assert_eq!((scene.state_shown(), pins()), before);
    reach_all(&a.namespace, endpoint(1, 11), 80, "b", endpoint(1, 10));
}

#[test]
fn f8_programs_of_others_are_kept_and_respected() {
    let scene = Scene::start();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _servers = (serve(&b.namespace, "b", 80), serve(&scene.lan().internet, "far", 80));
    let _host = serve(&scene.namespace, "host", 2222);
    scene.publish("8080:80", "b");
    let machine = &scene.lan().machine;
    let [host4, _] = Lan::HOST.map(address);
    let check = || {
        reach_all(machine, Lan::HOST.map(address), 8080, "b", Lan::MACHINE.map(address));
        reach_all(machine, Lan::HOST.map(address), 2222, "host", Lan::MACHINE.map(address));
        reach_all(&a.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
    };
    // A program that lets everything through, before ours on the uplink, and a filter, are kept over restarts.
    let pass = ForeignProgram::attach_first(&scene.namespace, Host::UPLINK, PASS).expect("attaches");
    scene.namespace.run("tc", ["qdisc", "add", "dev", Host::UPLINK, "clsact"]).expect("tc");
    add_foreign_filter(&scene);
    check();
    scene.kill_daemon().expect("kills");
    scene.start_daemon().expect("starts again");
    check();
    assert!(pass.is_attached().expect("query") && has_foreign_filter(&scene));

    // One in front that drops everything is respected, too.
    let first = ForeignProgram::attach_first(&scene.namespace, Host::UPLINK, DROP).expect("attaches");
    fail(machine, Protocol::Tcp, at(host4, 8080));
    drop(first);
    check();
    // One behind sees what we let through to the host, and nothing of what we have taken.
    let last = ForeignProgram::attach_last(&scene.namespace, Host::UPLINK, DROP).expect("attaches");
    fail(machine, Protocol::Tcp, at(host4, 2222));
    reach(machine, Protocol::Udp, at(host4, 8080));
    drop(last);
    check();

    scene.kill_daemon().expect("kills");
    let (status, log) =
        scene.start_refused(&DaemonOptions::with_arguments(["--cleanup"]), Duration::from_secs(20)).expect("cleans up");
    assert!(status.success(), "{log}");
    assert!(pass.is_attached().expect("query"), "cleanup must leave the programs of others");
    assert!(has_foreign_filter(&scene), "cleanup must leave the filters of others");
}

#[test]
fn cleanup_leaves_nothing_of_ours_behind() {
    let scene = Scene::start();
    let links = scene.namespace.run("ip", ["-o", "link"]).expect("ip");
    scene.network(1, "");
    let _a = scene.join("a", 1, 10);
    scene.publish("8080:80", "a");
    scene.stop_daemon().expect("stops");
    let (status, log) =
        scene.start_refused(&DaemonOptions::with_arguments(["--cleanup"]), Duration::from_secs(20)).expect("cleans up");
    assert!(status.success(), "{log}");
    assert_eq!(names(&scene.namespace.run("ip", ["-o", "link"]).expect("ip")), names(&links));
    assert_eq!(scene.pins().read_dir().map_or(0, Iterator::count), 0, "pins");
    let reserved = scene.namespace.read_sysctl("ipv4/ip_local_reserved_ports").expect("sysctl");
    assert_eq!(reserved, "");
    scene.start_daemon().expect("starts afresh");
    assert_eq!(scene.json(["network", "ls"]).expect("JSON").as_array().map(Vec::len), Some(0));
}

fn names(links: &str) -> Vec<String> {
    links
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(|name| name.split('@').next().unwrap_or(name).to_owned())
        .collect()
}
