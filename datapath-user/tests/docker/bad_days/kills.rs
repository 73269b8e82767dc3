//! `kill -9` of our daemon, of dockerd, of both.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use lab::docker::{DockerContainer, DockerdOptions, Rules};
use lab::probe::Probes;
use lab::{Lan, Namespace};

use super::{both, converge, docker, fail, live_restore, reach, serve, start};
use crate::scene::Scene;

const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
const MOMENT: Duration = Duration::from_millis(300);

/// Probes on the paths of a container that is published on port 8080 and has a sibling.
struct Watch {
    probes: Vec<(&'static str, Probes)>,
    overflown: u64,
}

/// Datagrams that were delivered and found the socket's buffer full, because its process did not get the processor in
/// time: all that the kernel counts in these namespaces, the containers' and our clients'.
fn overflown(scene: &Scene) -> u64 {
    let running = scene.docker.running().unwrap_or_else(|error| panic!("{error:#}"));
    let containers = running.iter().map(|container| format!("/proc/{}/net", container.pid)).map(read_overflown);
    let places = [&scene.lan.machine, &scene.lan.internet, scene.namespace()];
    let clients = places.map(|place| place.enter(|| read_overflown("/proc/thread-self/net".to_owned())));
    containers.chain(clients).sum()
}

fn read_overflown(folder: String) -> u64 {
    let read = |name| std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
    let (v4, v6) = (read("snmp"), read("snmp6"));
    // Udp: two lines, the names of the columns and their values.
    let mut lines = v4.lines().filter(|line| line.starts_with("Udp:"));
    let column = lines.next().and_then(|names| names.split(' ').position(|name| name == "RcvbufErrors"));
    let value = column.and_then(|column| lines.next()?.split(' ').nth(column)?.parse::<u64>().ok());
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Udp6RcvbufErrors")?.trim().parse::<u64>().ok());
    value.expect("the kernel counts them") + v6.unwrap_or(0)
}

impl Watch {
    fn start(scene: &Scene, web: &DockerContainer, sibling: &DockerContainer) -> Self {
        let paths: [(_, &Namespace, _, _); 5] = [
            ("published", &scene.lan.machine, both(Lan::HOST)[0], 8080),
            ("published, IPv6", &scene.lan.machine, both(Lan::HOST)[1], 8080),
            ("published over loopback", scene.namespace(), both(LOOPBACK)[0], 8080),
            ("switched", &sibling.namespace, web.addresses("bridge")[0], 80),
            ("masqueraded", &sibling.namespace, both(Lan::INTERNET)[0], 80),
        ];
        let start = |(name, from, target, port): (&'static str, &Namespace, _, u16)| {
            let probes = Probes::start(from, std::net::SocketAddr::new(target, port));
            (name, probes.unwrap_or_else(|error| panic!("{name}: {error:#}")))
        };
        Self { overflown: overflown(scene), probes: paths.into_iter().map(start).collect() }
    }

    #[track_caller]
    fn assert_zero_loss(self, scene: &Scene) {
        let findings: Vec<_> = self.probes.into_iter().map(|(name, probes)| (name, probes.stop())).collect();
        let mut excused = overflown(scene).saturating_sub(self.overflown);
        let found = findings.into_iter().map(|(name, findings)| {
            let mut findings = findings.unwrap_or_else(|error| panic!("{name}: {error:#}"));
            let arrived = findings.datagrams_lost.min(excused);
            (findings.datagrams_lost, excused) = (findings.datagrams_lost - arrived, excused - arrived);
            findings.check_zero_loss().err().map(|error| format!("{name}: {error:#}"))
        });
        let lost: Vec<_> = found.flatten().collect();
        assert!(lost.is_empty(), "{}\n{}", lost.join("\n"), crate::checks::picture(scene));
    }
}

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
    assert_closed(&scene, &all[1..], &all);
    host.start_daemon().expect("starts again");
    converge(&scene);
    reach(&new.namespace, &newer.addresses("unknown"), 80, "newer");
    reach(&new.namespace, &both(Lan::INTERNET), 80, "far");
    fail(&new.namespace, &web.addresses("bridge"), 80);
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
