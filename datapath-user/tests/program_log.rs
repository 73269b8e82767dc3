//! `--program-log`: what the slow path of the programs did, in the daemon's log.

mod support;

use std::time::{Duration, Instant};

use lab::client::Client;
use lab::{DaemonOptions, Lan};
use support::{Scene, address, at, reach_all, serve};

/// One flow to the outside, and one packet to where the host's routes refuse to go.
fn use_the_slow_path(scene: &Scene) {
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _near = serve(&scene.lan().machine, "near", 80);
    let host = Lan::HOST.map(address);
    reach_all(&a.namespace, Lan::MACHINE.map(address), 80, "near", host);
    scene.namespace.ip("route add unreachable 172.31.0.0/16").expect("a route");
    scene.expect_drops("no_route", || {
        let nowhere =
            Client::new(&a.namespace).timeout(Duration::from_millis(100)).connect(at(address("172.31.0.1"), 80));
        assert!(nowhere.is_err());
    });
}

/// Lines of the log that the programs wrote, once they are there.
fn lines(scene: &Scene, wanted: &str) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        let log = scene.daemon_log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("datapath::programs")).map(str::to_owned).collect();
        if Instant::now() > end || lines.iter().any(|line| line.contains(wanted)) {
            return lines;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_slow_path_tells_what_it_did() {
    let scene = Scene::with(DaemonOptions::with_arguments(["--program-log", "trace"]));
    use_the_slow_path(&scene);
    let lines = lines(&scene, "to ::ffff:172.31.0.1 port 80 dropped");
    let reason = datapath_common::abi::DropReason::NoRoute as u32;
    // 2 is BPF_FIB_LKUP_RET_UNREACHABLE: the event says "no route" of this one and of a missing one alike.
    let dropped = format!("port 80 dropped for reason {reason}: 1 route lookups, the last returned 2");
    assert!(lines.iter().any(|line| line.contains(&dropped)), "{lines:#?}");
    let sent = format!("to ::ffff:{} port 80 sent: 1 route lookups, the last returned 0", Lan::MACHINE[0]);
    let sent: Vec<_> = lines.iter().filter(|line| line.contains(&sent)).collect();
    assert!(sent.iter().any(|line| line.contains("1 ports and 1 slots tried")), "{lines:#?}");
}

#[test]
fn debug_tells_of_drops_only() {
    let scene = Scene::with(DaemonOptions::with_config("program_log = \"debug\"\n"));
    use_the_slow_path(&scene);
    let lines = lines(&scene, "172.31.0.1");
    assert!(lines.iter().any(|line| line.contains("172.31.0.1 port 80 dropped")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains(" sent: ")), "{lines:#?}");
}

#[test]
fn off_tells_nothing() {
    let scene = Scene::start();
    use_the_slow_path(&scene);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lines(&scene, ""), Vec::<String>::new());
}
