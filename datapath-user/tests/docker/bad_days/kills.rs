//! `kill -9` of our daemon, of dockerd, of both.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use lab::Lan;
use lab::docker::{DockerContainer, DockerdOptions, Release, Rules};

use super::watch::Watch;
use super::{LOOPBACK, both, converge, docker, fail, live_restore, reach, serve, start};
use crate::scene::Scene;

const MOMENT: Duration = Duration::from_millis(300);

#[test]
fn our_daemon_killed_and_containers_started_meanwhile() {
    let scene = live_restore();
    docker(&scene, "network create --ipv6 --subnet 172.30.21.0/24 --subnet fd00:321::/64 known");
    let (web, sibling) = (serve(&scene, "web", "-p 8080:80 -p 8080:80/udp"), serve(&scene, "sibling", ""));
    converge(&scene);
    let host = scene.datapath().expect("the datapath");
    let watch = Watch::start(&scene, &web, &sibling);
    sleep(MOMENT);
    host.kill_daemon().expect("kills");

    let late = serve(&scene, "late", "-p 8090:80 -p 8090:80/udp");
    let later = serve(&scene, "later", "");
    let (one, two) = (serve(&scene, "one", "--network known"), serve(&scene, "two", "--network known"));
    let all = [
        (&web, web.addresses("bridge")),
        (&late, late.addresses("bridge")),
        (&later, later.addresses("bridge")),
        (&one, one.addresses("known")),
        (&two, two.addresses("known")),
    ];
    assert_closed(&scene, &all[1..], &all);
    fail(&scene.lan.machine, &both(Lan::HOST), 8090);
    fail(scene.namespace(), &both(LOOPBACK), 8090);

    host.start_daemon().expect("starts again");
    converge(&scene);
    reach(&scene.lan.machine, &both(Lan::HOST), 8090, "late");
    reach(scene.namespace(), &both(LOOPBACK), 8090, "late");
    reach(&sibling.namespace, &late.addresses("bridge"), 80, "late");
    reach(&later.namespace, &both(Lan::INTERNET), 80, "far");
    reach(&one.namespace, &two.addresses("known"), 80, "two");
    fail(&one.namespace, &web.addresses("bridge"), 80);
    watch.assert_zero_loss(&scene);
}

#[test]
fn our_daemon_killed_and_a_network_made_meanwhile() {
    let scene = live_restore();
    let web = serve(&scene, "web", "");
    converge(&scene);
    let host = scene.datapath().expect("the datapath");
    host.kill_daemon().expect("kills");
    docker(&scene, "network create --ipv6 --subnet 172.30.22.0/24 --subnet fd00:322::/64 unknown");
    let (new, newer) = (serve(&scene, "new", "--network unknown"), serve(&scene, "newer", "--network unknown"));
    let all = [(&web, web.addresses("bridge")), (&new, new.addresses("unknown")), (&newer, newer.addresses("unknown"))];
    // Where the MAC addresses are random and the kernel cannot tell bridges apart, nothing tells it from others' bridges.
    if Release::current() < Release::V28 || fenced_by_bridge(&scene) {
        assert_closed(&scene, &all[1..], &all);
    }
    host.start_daemon().expect("starts again");
    converge(&scene);
    // A container that asked for a neighbour in vain gives up only after three questions (RFC 4861 section 7.2.2).
    sleep(Duration::from_secs(3));
    reach(&new.namespace, &newer.addresses("unknown"), 80, "newer");
    reach(&new.namespace, &both(Lan::INTERNET), 80, "far");
    fail(&new.namespace, &web.addresses("bridge"), 80);
}

/// Whether the kernel has CONFIG_NFT_BRIDGE_META.
fn fenced_by_bridge(scene: &Scene) -> bool {
    scene.namespace().run("nft", ["list", "table", "bridge", "datapath"]).expect("the fence").contains("ibrname")
}

/// None of these reaches any of all, or the outside, or is reached from there.
fn assert_closed(scene: &Scene, these: &[(&DockerContainer, Vec<IpAddr>)], all: &[(&DockerContainer, Vec<IpAddr>)]) {
    std::thread::scope(|scope| {
        for (from, own) in these {
            for (_, targets) in all.iter().filter(|(other, _)| other.name != from.name) {
                scope.spawn(|| fail(&from.namespace, targets, 80));
            }
            scope.spawn(|| fail(&from.namespace, &both(Lan::INTERNET), 80));
            scope.spawn(|| fail(&all[0].0.namespace, own, 80));
            scope.spawn(|| fail(&scene.lan.machine, own, 80));
        }
    });
}

#[test]
fn dockerd_killed_stopped_and_upgraded_with_live_restore() {
    let scene = live_restore();
    let (web, sibling) = (serve(&scene, "web", "-p 8080:80 -p 8080:80/udp"), serve(&scene, "sibling", ""));
    converge(&scene);
    let watch = Watch::start(&scene, &web, &sibling);
    sleep(MOMENT);
    scene.dockerd.kill().expect("kills");
    sleep(MOMENT);
    scene.dockerd.start_again().expect("starts again");
    converge(&scene);
    serve(&scene, "new", "-p 8090:80 -p 8090:80/udp");
    converge(&scene);
    reach(&scene.lan.machine, &both(Lan::HOST), 8090, "new");
    scene.dockerd.stop().expect("stops");
    sleep(MOMENT);
    reach(&scene.lan.machine, &both(Lan::HOST), 8090, "new");
    scene.dockerd.start_again().expect("starts again");
    converge(&scene);
    watch.assert_zero_loss(&scene);
    docker(&scene, "rm --force new");
    converge(&scene);
    fail(&scene.lan.machine, &both(Lan::HOST), 8090);
}

#[test]
fn dockerd_killed_without_live_restore() {
    let scene = start(DockerdOptions::new(Rules::Datapath));
    serve(&scene, "web", "-p 8080:80 -p 8080:80/udp");
    serve(&scene, "phoenix", "--restart always -p 8090:80 -p 8090:80/udp");
    converge(&scene);
    // dockerd is gone, its containers are not.
    scene.dockerd.kill().expect("kills");
    sleep(MOMENT);
    reach(&scene.lan.machine, &both(Lan::HOST), 8080, "web");
    // The next one ends them, and starts again what shall always run.
    scene.dockerd.start_again().expect("starts again");
    scene.docker.container("phoenix").and_then(|phoenix| phoenix.wait_until_listening()).expect("runs");
    converge(&scene);
    fail(&scene.lan.machine, &both(Lan::HOST), 8080);
    reach(&scene.lan.machine, &both(Lan::HOST), 8090, "phoenix");
}

#[test]
fn both_killed_and_back_in_either_order() {
    let scene = live_restore();
    let (web, sibling) = (serve(&scene, "web", "-p 8080:80 -p 8080:80/udp"), serve(&scene, "sibling", ""));
    let host = scene.datapath().expect("the datapath");
    for dockerd_first in [true, false] {
        let doomed = serve(&scene, "doomed", "-p 8090:80 -p 8090:80/udp");
        converge(&scene);
        let watch = Watch::start(&scene, &web, &sibling);
        host.kill_daemon().expect("kills");
        scene.dockerd.kill().expect("kills");
        sleep(MOMENT);
        // A container ends while nobody is there to notice.
        lab::run("kill", ["-9", &doomed.pid.to_string()]).expect("kills");
        drop(doomed);
        if dockerd_first {
            scene.dockerd.start_again().expect("starts again");
            host.start_daemon().expect("starts again");
        } else {
            host.start_daemon().expect("starts again");
            sleep(MOMENT);
            scene.dockerd.start_again().expect("starts again");
        }
        converge(&scene);
        fail(&scene.lan.machine, &both(Lan::HOST), 8090);
        watch.assert_zero_loss(&scene);
        docker(&scene, "rm --force doomed");
    }
}
