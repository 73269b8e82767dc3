//! The laboratory's own tests: Docker works in it, and leaves nothing behind.

use std::net::SocketAddr;
use std::path::Path;

use super::{Dockerd, DockerdOptions, Rules, cgroup, leftovers};
use crate::client::{Client, Protocol};
use crate::{Family, Namespace};

/// Everything of a dockerd that can be left, as text.
fn traces(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    if leftovers::folder(name).exists() {
        found.push(leftovers::folder(name).display().to_string());
    }
    found.extend(cgroup::folders(name).expect("mounts").iter().map(|folder| folder.display().to_string()));
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    found.extend(mounts.lines().filter(|line| line.contains(name)).map(str::to_owned));
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if arguments.contains(name) {
            found.push(arguments);
        }
    }
    found
}

#[test]
fn containers_serve_and_nothing_is_left_when_the_lab_dies() {
    let host = Namespace::new("dockerhost").expect("a namespace");
    let dockerd = Dockerd::start(&host, DockerdOptions::new(Rules::Stock)).expect("starts");
    let docker = dockerd.docker();
    let container = docker.serve("web", "-p 8080:80", &[80]).expect("runs");
    let client = Client::new(&host);
    for (family, address) in Family::ALL.into_iter().zip(container.addresses("bridge")) {
        assert_eq!(address.is_ipv6(), family == Family::V6);
        for protocol in Protocol::ALL {
            let exchange = client.exchange(protocol, SocketAddr::new(address, 80)).expect("answers");
            assert_eq!(exchange.server, "web");
        }
    }
    let published = SocketAddr::new(crate::lan::address("127.0.0.1"), 8080);
    assert_eq!(client.exchange(Protocol::Tcp, published).expect("docker-proxy answers").server, "web");

    // As after `kill -9` of a test run: nobody drops anything, and a container may be paused.
    docker.serve("paused", "", &[80]).expect("runs");
    docker.line("pause paused").expect("pauses");
    let name = dockerd.name.clone();
    assert!(traces(&name).len() > 10, "{:?}", traces(&name));
    std::mem::forget(dockerd);
    leftovers::remove(&name).expect("removes");
    assert_eq!(traces(&name), Vec::<String>::new());
}

#[test]
fn containers_survive_or_end_with_dockerd_as_they_were_told() {
    let host = Namespace::new("dockerhost").expect("a namespace");
    let dockerd = Dockerd::start(&host, DockerdOptions::new(Rules::Datapath).with_live_restore()).expect("starts");
    let docker = dockerd.docker();
    let pid = docker.serve("web", "", &[80]).expect("runs").pid;
    let lives = || Path::new("/proc").join(pid.to_string()).exists();
    for end in [Dockerd::kill, Dockerd::stop] {
        end(&dockerd).expect("ends");
        assert!(lives());
        dockerd.start_again().expect("starts again");
        assert_eq!(docker.container("web").expect("still runs").pid, pid);
    }
    dockerd.kill().expect("ends");
    dockerd.start_again_with(DockerdOptions::new(Rules::Datapath)).expect("starts again");
    docker.container("web").expect_err("without live-restore it was ended");
    assert!(!lives());
    let name = dockerd.name.clone();
    drop(dockerd);
    assert_eq!(traces(&name), Vec::<String>::new());
}

#[test]
fn folders_of_the_dead_are_swept_and_those_of_the_living_kept() {
    // Above the largest pid the kernel gives out (PID_MAX_LIMIT, 2^22).
    let dead = leftovers::folder("dp-4194305-0-docker");
    let living = leftovers::folder(&format!("dp-{}-4194305-docker", std::process::id()));
    for folder in [&dead, &living] {
        std::fs::create_dir(folder).expect("a folder");
    }
    super::sweep().expect("sweeps");
    assert!(!dead.exists() && living.exists());
    std::fs::remove_dir(living).expect("removes");
}
