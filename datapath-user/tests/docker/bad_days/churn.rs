//! Containers come and go, eight at a time, with the same ports and addresses: nothing is left of them, and none hears
//! what was meant for the one before it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lab::capture::Captured;
use lab::client::{Client, Conversation};
use lab::docker::{DockerdOptions, Rules};
use lab::frame::Transport;
use lab::{Capture, Family, Lan};

use super::{converge, docker, start};
use crate::scene::Scene;

const FIRST_PORT: u16 = 8600;

/// Everything of ours that could be left, counted or by name.
fn inventory(scene: &Scene) -> BTreeMap<String, String> {
    let host = scene.datapath().expect("the datapath");
    let status = host.json(["status"]).expect("status");
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (table, fill) in status["tables"].as_object().expect("tables") {
        found.insert(format!("table {table}"), fill["used"].to_string());
    }
    for counter in ["networks", "endpoints", "ports"] {
        found.insert(counter.to_owned(), status[counter].to_string());
    }
    found.insert("flows".to_owned(), status["flows"]["used"].to_string());
    found.insert("pins".to_owned(), lab::run("find", [host.pins()]).expect("find"));
    let devices = scene.namespace().run("ip", ["-o", "link", "show"]).expect("ip");
    let name = |line: &str| line.split(": ").nth(1).unwrap_or_default().to_owned();
    found.insert("devices".to_owned(), devices.lines().map(name).collect::<Vec<_>>().join(" "));
    found.insert("nft".to_owned(), scene.namespace().run("nft", ["list", "ruleset"]).expect("nft"));
    found
}

/// A client that has talked to a container, and will not hear that it has gone.
struct Old {
    conversation: Conversation,
    port: u16,
}

#[test]
fn two_hundred_containers_leave_nothing_and_hear_nothing_of_each_other() {
    let scene = start(DockerdOptions::new(Rules::Datapath));
    converge(&scene);
    let before = inventory(&scene);
    let heard = churn(&scene, 8, 25);
    assert!(heard.is_empty(), "{} segments of earlier connections: {heard:?}", heard.len());
    converge(&scene);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let after = inventory(&scene);
        if after == before {
            return;
        }
        if Instant::now() > end {
            let left: Vec<_> = after.iter().filter(|(name, value)| before.get(*name) != Some(value)).collect();
            panic!("left behind: {left:#?}\nbefore: {before:#?}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The control: the kernel's own tracking takes old connections to whoever has the address now.
#[test]
fn stock_successors_hear_what_was_meant_for_others() {
    let scene = start(DockerdOptions::new(Rules::Stock));
    assert!(!churn(&scene, 2, 3).is_empty(), "no successor heard anything, so silence would prove nothing");
}

/// Containers come and go on so many lanes at a time, each with a port and an address of its own; what successors heard
/// of earlier connections.
fn churn(scene: &Scene, lanes: u16, rounds: u16) -> Vec<Captured> {
    docker(scene, "network create --ipv6 --subnet 172.30.51.0/24 --subnet fd00:351::/64 churn");
    let heard = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for lane in 0..lanes {
            let heard = &heard;
            scope.spawn(move || run_lane(scene, lane, rounds, heard));
        }
    });
    remove_network(scene);
    heard.into_inner().expect("no panic")
}

/// Removes the network. dockerd now and then keeps endpoints of containers that it removed side by side (moby 42119, open); its
/// refusal names them, as `name:"churn-7-7"`, or it lists them, and they can be taken off by force. On a busy machine it may also
/// just not be done with the last ones.
fn remove_network(scene: &Scene) {
    const LIST: [&str; 5] = ["network", "inspect", "--format", "{{range .Containers}}{{.Name}} {{end}}", "churn"];

    let end = Instant::now() + lab::PATIENCE;
    loop {
        let output = scene.docker.output(["network", "rm", "churn"]).expect("docker runs");
        if output.code == 0 {
            return;
        }
        let refusal = output.stderr;
        assert!(Instant::now() < end, "{refusal}");
        let listed = scene.docker.output(LIST).expect("docker runs").stdout;
        let named = refusal.split("name:\"").skip(1).filter_map(|rest| rest.split('"').next());
        let containers = scene.docker.containers().expect("docker ps");
        for name in named.chain(listed.split_whitespace()) {
            assert!(!containers.iter().any(|container| container == name), "{name} was removed: {refusal}");
            // It may have gone by itself meanwhile.
            scene.docker.output(["network", "disconnect", "--force", "churn", name]).expect("docker runs");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// One container after the other on one port and one address.
fn run_lane(scene: &Scene, lane: u16, rounds: u16, heard: &Mutex<Vec<Captured>>) {
    let target = SocketAddr::new(Family::V4.of(Lan::HOST), FIRST_PORT + lane);
    let client = Client::new(&scene.lan.machine);
    let mut old: Option<Old> = None;
    for round in 0..rounds {
        let name = format!("churn-{lane}-{round}");
        let options = format!(
            "--network churn --ip 172.30.51.{host} --ip6 fd00:351::{host} -p {port}:80 -p {port}:80/udp",
            host = 10 + lane,
            port = target.port()
        );
        let container = scene.docker.serve(&name, &options, &[80]).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let capture = Capture::start(&container.namespace, "eth0").expect("captures");
        if let Some(Old { mut conversation, port }) = old.take() {
            // Whatever it gets for an answer, no byte may come here.
            let _ = conversation.stream.set_read_timeout(Some(Duration::from_millis(100)));
            let _ = conversation.say(b"for the one before");
            let is_old = |frame: &Captured| matches!(frame.view.transport, Transport::Tcp { source, .. } if source == port && !frame.outgoing);
            heard.lock().expect("no panic").extend(capture.stop().into_iter().filter(is_old));
        }
        old = Some(open(&client, target, &name));
        docker(scene, &format!("rm --force {name}"));
    }
}

/// Talks to a container as soon as its port is published.
fn open(client: &Client<'_>, target: SocketAddr, name: &str) -> Old {
    let end = Instant::now() + crate::converged::CONVERGED + Duration::from_secs(1);
    loop {
        match client.timeout(Duration::from_millis(500)).connect(target) {
            Ok(conversation) => {
                assert_eq!(conversation.exchange.server, name, "who answers at {target}");
                let port = conversation.stream.local_addr().expect("an address").port();
                return Old { conversation, port };
            }
            Err(error) => assert!(Instant::now() < end, "{name} is not reached at {target}: {error}"),
        }
    }
}
