//! I5: the first packets of a container meet its rules, whether our daemon is there or not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::capture::Captured;
use lab::docker::{DockerContainer, DockerdOptions, Release, Rules, image};
use lab::{Capture, Lan, Namespace};

use super::{both, docker, serve, start};
use crate::scene::Scene;

const EACH: usize = 25;
/// Where nobody listens and everybody can be sent to.
const PORT: u16 = 9;
/// The outside, which only containers of the internal network try to reach.
const LAN: &str = "the LAN";

/// Frames from a flooding container at somebody whom it must not reach.
struct Victim {
    name: &'static str,
    capture: Capture,
}

impl Victim {
    fn watch(name: &'static str, namespace: &Namespace, interface: &str) -> Self {
        Self { name, capture: Capture::start(namespace, interface).expect("captures") }
    }

    /// What has arrived there for the port of the flood.
    fn arrived(self) -> (&'static str, Vec<Captured>) {
        let frames = self.capture.stop();
        (self.name, frames.into_iter().filter(|frame| !frame.outgoing && is_flood(frame)).collect())
    }
}

fn is_flood(frame: &Captured) -> bool {
    use lab::frame::Transport::{Tcp, Udp};
    matches!(frame.view.transport, Tcp { destination: PORT, .. } | Udp { destination: PORT, .. })
}

/// Starts containers that flood from their first instruction on, from both networks in turn.
fn flood(scene: &Scene, prefix: &str, count: usize, flooded: &Flooded) {
    let (inside, everywhere) = (flooded.targets_inside(), flooded.targets());
    let (inside, everywhere) = (inside.as_slice(), everywhere.as_slice());
    std::thread::scope(|scope| {
        for lane in 0..4 {
            scope.spawn(move || {
                for number in (lane..count).step_by(4) {
                    let name = format!("{prefix}-{number}");
                    let (network, targets) =
                        if number % 2 == 0 { ("quiet", everywhere) } else { ("leading-out", inside) };
                    let run = ["run", "--detach", "--cpus", "0.01", "--name", &name, "--network", network];
                    let program = [image::NAME, "flood"].into_iter().chain(targets.iter().map(String::as_str));
                    scene.docker.command(run.into_iter().chain(program)).unwrap_or_else(|e| panic!("{name}: {e:#}"));
                }
            });
        }
    });
}

fn at_port(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<String> {
    addresses.into_iter().map(|address| SocketAddr::new(address, PORT).to_string()).collect()
}

/// The scene of both tests: on each network somebody to be flooded; where ICC is off that is a sibling.
struct Flooded {
    open: DockerContainer,
    sibling: DockerContainer,
    other: DockerContainer,
}

impl Flooded {
    fn start(scene: &Scene) -> Self {
        docker(scene, "network create --internal --ipv6 --subnet 172.30.31.0/24 --subnet fd00:331::/64 secret");
        docker(
            scene,
            "network create --internal --ipv6 --subnet 172.30.32.0/24 --subnet fd00:332::/64 \
             -o com.docker.network.bridge.enable_icc=false quiet",
        );
        // 28 gives containers of internal networks no route.
        docker(
            scene,
            "network create --ipv6 --subnet 172.30.33.0/24 --subnet fd00:333::/64 \
             -o com.docker.network.bridge.enable_icc=false leading-out",
        );
        let (open, sibling) = (serve(scene, "open", ""), serve(scene, "sibling", "--network quiet"));
        let other = serve(scene, "other", "--network secret");
        Self { open, sibling, other }
    }

    /// Containers of other networks, and the sibling of those on the internal one.
    fn targets_inside(&self) -> Vec<String> {
        at_port([&self.open, &self.sibling, &self.other].into_iter().flat_map(|container| {
            container.networks().into_iter().flat_map(|network| container.addresses(&network)).collect::<Vec<_>>()
        }))
    }

    /// Those, and the outside.
    fn targets(&self) -> Vec<String> {
        [self.targets_inside(), at_port(both(Lan::MACHINE))].concat()
    }

    fn watch(&self, scene: &Scene) -> [Victim; 4] {
        [
            Victim::watch("a container of the default bridge", &self.open.namespace, "eth0"),
            Victim::watch("a sibling", &self.sibling.namespace, "eth0"),
            Victim::watch("a container of an internal network", &self.other.namespace, "eth0"),
            Victim::watch(LAN, &scene.lan.machine, Lan::TO_HOST),
        ]
    }
}

#[test]
fn no_first_packet_is_ahead_of_the_rules() {
    let scene = start(DockerdOptions::new(Rules::Datapath));
    let flooded = Flooded::start(&scene);
    super::converge(&scene);
    let victims = flooded.watch(&scene);
    let host = scene.datapath().expect("the datapath");
    flood(&scene, "early", EACH, &flooded);
    host.stop_daemon().expect("stops");
    flood(&scene, "late", EACH, &flooded);
    std::thread::sleep(Duration::from_millis(500));
    host.start_daemon().expect("starts again");
    super::converge(&scene);
    std::thread::sleep(Duration::from_millis(500));
    for victim in victims {
        let (name, arrived) = victim.arrived();
        assert!(arrived.is_empty(), "{} frames reached {name}, such as {:?}", arrived.len(), arrived[0]);
    }
}

/// The control: where nobody makes rules, one container of each network floods them all.
#[test]
fn nobodys_rules_let_the_flood_through() {
    let scene = Scene::without_daemon().unwrap_or_else(|error| panic!("the scene stands: {error:#}"));
    let flooded = Flooded::start(&scene);
    let victims = flooded.watch(&scene);
    flood(&scene, "early", 2, &flooded);
    std::thread::sleep(Duration::from_secs(1));
    for victim in victims {
        let (name, arrived) = victim.arrived();
        let routed_outside = Release::current() < Release::V28;
        assert!(
            !arrived.is_empty() || name == LAN && !routed_outside,
            "the flood does not reach {name}, so its absence would prove nothing"
        );
    }
}
