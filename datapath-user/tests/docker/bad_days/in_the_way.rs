//! What others have taken first, and what goes while it is used. The rest goes on, a log line tells who and why, and what
//! can heal does.

use std::thread;

use lab::docker::{DockerdOptions, Rules};
use lab::{Lan, Server};

use super::{both, converge, docker, fail, reach, serve, start};
use crate::scene::Scene;

#[test]
fn a_port_that_a_process_of_the_host_took_first() {
    let scene = start(DockerdOptions::new(Rules::Datapath));
    serve(&scene, "neighbour", "-p 8091:80 -p 8091:80/udp");
    let squatter = Server::start(scene.namespace(), "squatter", 8090).expect("serves");
    let refused = scene.docker.serve("web", "-p 8090:80 -p 8090:80/udp", &[80]).expect_err("dockerd cannot bind it");
    assert!(format!("{refused:#}").contains("address already in use"), "{refused:#}");
    converge(&scene);
    reach(&scene.lan.machine, &both(Lan::HOST), 8090, "squatter");
    reach(&scene.lan.machine, &both(Lan::HOST), 8091, "neighbour");
    drop(squatter);
    docker(&scene, "start web");
    scene.docker.container("web").and_then(|web| web.wait_until_listening()).expect("runs");
    converge(&scene);
    reach(&scene.lan.machine, &both(Lan::HOST), 8090, "web");
}

#[test]
fn a_network_removed_while_its_containers_die() {
    let scene = start(DockerdOptions::new(Rules::Datapath));
    serve(&scene, "steady", "-p 8091:80 -p 8091:80/udp");
    for round in 0..4 {
        docker(&scene, "network create --ipv6 --subnet 172.30.41.0/24 --subnet fd00:341::/64 brief");
        for name in ["one", "two", "three"] {
            serve(&scene, name, "--network brief");
        }
        thread::scope(|scope| {
            for name in ["one", "two", "three"] {
                let scene = &scene;
                scope.spawn(move || docker(scene, &format!("rm --force {name}")));
            }
            // It is refused until the last of them has left.
            scope.spawn(|| while scene.docker.line("network rm brief").is_err() {});
        });
        converge(&scene);
        assert!(!networks(&scene).contains("brief"), "round {round}");
        reach(&scene.lan.machine, &both(Lan::HOST), 8091, "steady");
    }
    let log = scene.datapath().expect("the datapath").daemon_log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_subnet_that_another_network_has() {
    let scene = start(DockerdOptions::new(Rules::Datapath));
    let host = scene.datapath().expect("the datapath");
    host.datapath(["network", "create", "own", "--subnet", "172.30.42.0/24"]).expect("creates");
    serve(&scene, "steady", "-p 8091:80 -p 8091:80/udp");
    // dockerd does not know of it, and takes the bridge's address from the same subnet.
    docker(&scene, "network create --subnet 172.30.42.0/24 --gateway 172.30.42.1 clash");
    docker(&scene, "network create --subnet 172.30.43.0/24 fine");
    let (one, two) = (serve(&scene, "one", "--network fine"), serve(&scene, "two", "--network fine"));
    let clashing = serve(&scene, "clashing", "--network clash");
    let end = std::time::Instant::now() + crate::converged::CONVERGED;
    while !host.daemon_log().contains("clash") {
        assert!(std::time::Instant::now() < end, "no line of the log names the network:\n{}", host.daemon_log());
        thread::sleep(std::time::Duration::from_millis(20));
    }
    reach(&scene.lan.machine, &both(Lan::HOST), 8091, "steady");
    reach(&one.namespace, &two.addresses("fine"), 80, "two");
    fail(&clashing.namespace, &two.addresses("fine"), 80);
    fail(&clashing.namespace, &both(Lan::INTERNET), 80);
    // When the other one goes, it heals.
    host.datapath(["network", "rm", "own"]).expect("removes");
    converge(&scene);
    // What its kernel asked for the gateway's address before got no answer, and may be given up on just now.
    clashing.namespace.ip("neigh flush all").expect("forgets");
    reach(&clashing.namespace, &both(Lan::INTERNET)[..1], 80, "far");
}

fn networks(scene: &Scene) -> String {
    scene.datapath().expect("the datapath").datapath(["network", "ls"]).expect("lists")
}
