//! F10: where TCX is missing, clsact carries the same programs; forced here, so that it is tested on every kernel.

mod support;

use std::time::Duration;

use lab::probe::Probes;
use lab::{DaemonOptions, Lan};
use support::{
    Scene, add_foreign_filter, address, assert_no_leak, at, endpoint, fail_all, gateway, has_foreign_filter, reach_all,
    serve,
};

fn scene() -> Scene {
    let scene = Scene::with(DaemonOptions::with_arguments(["--attach", "clsact"]));
    let status = scene.json(["status"]).expect("status");
    assert_eq!(status["attach"], "clsact");
    scene
}

#[test]
fn f10_clsact_switches_translates_and_publishes() {
    let scene = scene();
    scene.network(1, "");
    scene.network(2, "");
    let (a, b, other) = (scene.join("a", 1, 10), scene.join("b", 1, 11), scene.join("other", 2, 10));
    let _servers =
        (serve(&b.namespace, "b", 80), serve(&scene.lan().internet, "far", 80), serve(&scene.namespace, "host", 8000));
    scene.publish("8080:80", "b");
    let uplink = scene.watch_uplink();
    let host = Lan::HOST.map(address);
    reach_all(&a.namespace, endpoint(1, 11), 80, "b", endpoint(1, 10));
    reach_all(&a.namespace, gateway(1), 8000, "host", endpoint(1, 10));
    reach_all(&a.namespace, Lan::INTERNET.map(address), 80, "far", host);
    reach_all(&scene.lan().machine, host, 8080, "b", Lan::MACHINE.map(address));
    reach_all(&scene.namespace, ["127.0.0.1", "::1"].map(address), 8080, "b", gateway(1));
    reach_all(&scene.namespace, host, 8080, "b", host);
    reach_all(&other.namespace, host, 8080, "b", endpoint(2, 10));
    reach_all(&b.namespace, host, 8080, "b", gateway(1));
    scene.expect_drops("network_isolation", || fail_all(&a.namespace, endpoint(2, 10), 80));
    assert_no_leak(uplink);
    scene.check_no_other_means().expect("nothing but the programs forwards");
}

#[test]
fn f10_clsact_survives_the_daemon() {
    let scene = scene();
    scene.network(1, "");
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _servers = (serve(&b.namespace, "b", 80), serve(&scene.lan().internet, "far", 80));
    scene.publish("8080:80", "b");
    let probes = [
        Probes::start(&a.namespace, at(endpoint(1, 11)[0], 80)).expect("starts"),
        Probes::start(&scene.lan().machine, at(address(Lan::HOST[0]), 8080)).expect("starts"),
    ];
    std::thread::sleep(Duration::from_millis(150));
    scene.kill_daemon().expect("kills");
    std::thread::sleep(Duration::from_millis(150));
    scene.start_daemon().expect("starts again");
    std::thread::sleep(Duration::from_millis(150));
    for probes in probes {
        probes.stop().expect("stops").check_zero_loss().expect("no loss");
    }
}

#[test]
fn f10_clsact_keeps_the_filters_of_others() {
    let scene = scene();
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _server = serve(&a.namespace, "a", 80);
    scene.publish("8080:80", "a");
    add_foreign_filter(&scene);
    scene.kill_daemon().expect("kills");
    scene.start_daemon().expect("starts again");
    reach_all(&scene.lan().machine, Lan::HOST.map(address), 8080, "a", Lan::MACHINE.map(address));
    scene.kill_daemon().expect("kills");
    let (status, log) =
        scene.start_refused(&DaemonOptions::with_arguments(["--cleanup"]), Duration::from_secs(20)).expect("cleans up");
    assert!(status.success(), "{log}");
    assert!(has_foreign_filter(&scene), "cleanup must leave the filters of others");
}
