//! Behaviour F4, for programs: somebody takes one away, and the daemon puts it back.

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::client::Client;
use lab::foreign::detach_pinned;
use lab::{DaemonOptions, Host, Lan, Namespace, Protocol};
use support::{REFUSAL, Scene, add_foreign_filter, address, at, endpoint, fail, has_foreign_filter, reach, serve};

/// What is attached is looked at every five seconds.
const NOTICED: Duration = Duration::from_secs(7);

/// Takes programs off while the daemon is paused, which stops `broken` from passing; then all passes again, and what was
/// connected before still is.
fn assert_restored(scene: &Scene, take_off: impl FnOnce(&Scene), broken: &[&str]) {
    let (a, b) = (scene.join("a", 1, 10), scene.join("b", 1, 11));
    let _servers = (serve(&b.namespace, "b", 80), serve(&scene.lan().internet, "far", 80));
    scene.publish("8080:80", "b");
    let far = at(address(Lan::INTERNET[0]), 80);
    let paths: [(&str, &Namespace, SocketAddr); 5] = [
        ("switched", &a.namespace, at(endpoint(1, 11)[0], 80)),
        ("masqueraded", &a.namespace, far),
        ("published", &scene.lan().machine, at(address(Lan::HOST[1]), 8080)),
        ("over loopback", &scene.namespace, at(address("127.0.0.1"), 8080)),
        ("from the host", &scene.namespace, at(endpoint(1, 11)[0], 80)),
    ];
    for (_, from, target) in &paths {
        reach(from, Protocol::Tcp, *target);
    }
    let mut old = Client::new(&a.namespace).connect(far).expect("connects");
    let attached = || scene.pins().join("links").read_dir().map_or(0, Iterator::count);
    let before = attached();
    let paused = scene.while_paused(|| {
        take_off(scene);
        for (_, from, target) in paths.iter().filter(|(name, ..)| broken.contains(name)) {
            fail(from, Protocol::Tcp, *target);
        }
    });
    paused.expect("pauses");
    let end = Instant::now() + NOTICED;
    for (name, from, target) in &paths {
        while let Err(error) = Client::new(from).timeout(REFUSAL).exchange(Protocol::Tcp, *target) {
            assert!(Instant::now() < end, "{name} does not pass again: {error}\n{}", scene.daemon_log());
        }
    }
    // A link serves before it is pinned.
    while attached() != before {
        assert!(Instant::now() < end, "{} of {before} links are pinned\n{}", attached(), scene.daemon_log());
        std::thread::sleep(Duration::from_millis(20));
    }
    old.say(b"still here").expect("flows do not end with a program");
    assert!(scene.daemon_log().contains("was detached by somebody else"), "{}", scene.daemon_log());
    // Once, not every five seconds from now on.
    let warnings = || scene.daemon_log().matches("was detached by somebody else").count();
    let said = warnings();
    std::thread::sleep(Duration::from_millis(5_500));
    assert_eq!(warnings(), said, "{}", scene.daemon_log());
}

fn links(scene: &Scene) -> Vec<PathBuf> {
    let directory = scene.pins().join("links").read_dir().expect("the pinned links");
    directory.map(|entry| entry.expect("an entry").path()).collect()
}

const EVERYTHING: [&str; 5] = ["switched", "masqueraded", "published", "over loopback", "from the host"];

#[test]
fn f4_links_detached_by_force_are_made_again() {
    let scene = Scene::start();
    scene.network(1, "");
    let take_off = |scene: &Scene| {
        let links = links(scene);
        // Both ends of the gateway, both hooks of two endpoints and of the uplink, and lo.
        assert_eq!(links.len(), 9, "{links:?}");
        links.iter().for_each(|link| detach_pinned(link).expect("detaches"));
    };
    assert_restored(&scene, take_off, &EVERYTHING);
}

#[test]
fn f4_links_whose_pins_are_removed_are_made_again() {
    let scene = Scene::start();
    scene.network(1, "");
    let take_off = |scene: &Scene| {
        links(scene).iter().for_each(|link| std::fs::remove_file(link).expect("removes"));
        // The kernel lets go of links by deferred work.
        std::thread::sleep(Duration::from_millis(300));
    };
    assert_restored(&scene, take_off, &EVERYTHING);
}

#[test]
fn f4_one_link_among_many_is_made_again() {
    let scene = Scene::start();
    scene.network(1, "");
    let take_off = |scene: &Scene| {
        let ifindex = scene.namespace.ifindex(Host::UPLINK).expect("an uplink");
        detach_pinned(&scene.pins().join(format!("links/from_uplink-{ifindex}"))).expect("detaches");
    };
    // Answers to the masqueraded come in there, too.
    assert_restored(&scene, take_off, &["masqueraded", "published"]);
}

fn clsact() -> Scene {
    let scene = Scene::with(DaemonOptions::with_arguments(["--attach", "clsact"]));
    scene.network(1, "");
    scene
}

#[test]
fn f4_clsact_qdiscs_that_are_deleted_are_made_again() {
    let take_off = |scene: &Scene| {
        let devices = scene.namespace.run("tc", ["qdisc", "show"]).expect("tc");
        let devices: Vec<_> = devices.lines().filter(|line| line.contains("clsact")).collect();
        assert_eq!(devices.len(), 6, "{devices:?}");
        for device in devices {
            let words: Vec<_> = device.split_whitespace().collect();
            let name = words.iter().skip_while(|word| **word != "dev").nth(1).expect("`dev NAME`");
            scene.namespace.run("tc", ["qdisc", "del", "dev", name, "clsact"]).expect("tc");
        }
    };
    assert_restored(&clsact(), take_off, &EVERYTHING);
}

#[test]
fn f4_clsact_filters_that_are_deleted_are_made_again() {
    let scene = clsact();
    add_foreign_filter(&scene);
    let take_off = |scene: &Scene| {
        let filters = scene.namespace.run("tc", ["filter", "show", "dev", Host::UPLINK, "ingress"]).expect("tc");
        let ours = filters.lines().find(|line| line.contains("from_uplink")).expect("our filter").to_owned();
        let words: Vec<_> = ours.split_whitespace().collect();
        let priority = words.iter().skip_while(|word| **word != "pref").nth(1).expect("`pref N`");
        scene.namespace.run("tc", ["filter", "del", "dev", Host::UPLINK, "ingress", "pref", priority]).expect("tc");
    };
    assert_restored(&scene, take_off, &["masqueraded", "published"]);
    assert!(has_foreign_filter(&scene), "the filters of others are kept");
}
