//! A container with a bridge in it, and stations behind that: what a host of virtual machines is.

use std::net::IpAddr;
use std::time::Duration;

use lab::capture::{Captured, send_frames};
use lab::frame::{Ethernet, ethertype};
use lab::{Capture, Container, Link, Mac, Namespace};

use super::{Scene, endpoint};

/// Long enough for a frame to arrive where it must not.
pub const PAUSE: Duration = Duration::from_millis(100);
/// The MAC address that the kernel's own tests of bridges learn and flood.
pub const STRANGER: Mac = Mac([0xde, 0xad, 0xbe, 0xef, 0x13, 0x37]);

/// A container whose interface is a port of a bridge of its own. The bridge has the interface's addresses.
#[derive(Debug)]
pub struct Nest {
    pub container: Container,
    network: u8,
}

/// A machine behind a nest.
#[derive(Debug)]
pub struct Station {
    pub namespace: Namespace,
    pub mac: Mac,
    /// As [`endpoint`] has them.
    pub addresses: [IpAddr; 2],
}

impl Nest {
    /// Joins a container to network `number`, with the host number `host`, and builds its bridge.
    #[track_caller]
    pub fn join(scene: &Scene, name: &str, number: u8, host: u16) -> Self {
        let container = scene.join(name, number, host);
        let mac = container.namespace.mac("eth0").expect("a MAC");
        let [v4, v6] = endpoint(number, host);
        container.namespace.sysctl("ipv6/conf/eth0/disable_ipv6", "1").expect("set");
        container
            .namespace
            .ip(&format!(
                "addr flush dev eth0\nlink add br0 address {mac} type bridge mcast_snooping 0\nlink set eth0 master br0\n\
                 addr add {v4}/24 dev br0\naddr add {v6}/64 dev br0 nodad\nlink set br0 up\n\
                 route add default via 10.20.{number}.1 dev br0\nroute add default via fd20:{number}::1 dev br0"
            ))
            .expect("a bridge");
        Self { container, network: number }
    }

    /// A new station behind the bridge with this host number, which nobody gave to it.
    #[track_caller]
    pub fn station(&self, name: &str, host: u16) -> Station {
        let namespace = Namespace::new(name).expect("a namespace");
        let addresses = endpoint(self.network, host);
        let texts = [format!("{}/24", addresses[0]), format!("{}/64", addresses[1])];
        let texts = texts.each_ref().map(String::as_str);
        let device = format!("to-{name}");
        let port = Link { namespace: &self.container.namespace, name: &device, addresses: &[] };
        port.join(&Link { namespace: &namespace, name: "eth0", addresses: &texts }).expect("a link");
        self.container.namespace.ip(&format!("link set {device} master br0")).expect("a port");
        let gateway = format!("10.20.{}.1", self.network);
        namespace.ip(&format!("route add default via {gateway}")).expect("a route");
        let mac = namespace.mac("eth0").expect("a MAC");
        Station { namespace, mac, addresses }
    }
}

/// A network that learns, with two nests and a container that only listens.
pub struct Learning {
    pub scene: Scene,
    pub nests: [Nest; 2],
    pub third: Container,
}

impl Learning {
    /// On a network created with these further flags.
    #[track_caller]
    pub fn start(flags: &str) -> Self {
        let scene = Scene::start();
        scene.network(1, &format!("--learning {flags}"));
        let nests = [Nest::join(&scene, "a", 1, 10), Nest::join(&scene, "b", 1, 11)];
        let third = scene.join("c", 1, 12);
        Self { scene, nests, third }
    }

    /// A station behind each nest.
    pub fn stations(&self) -> [Station; 2] {
        [self.nests[0].station("s", 101), self.nests[1].station("t", 102)]
    }

    /// What the third one hears.
    pub fn watch_third(&self) -> Capture {
        Capture::start(&self.third.namespace, "eth0").expect("captures")
    }

    /// Which endpoint a learnt MAC address is behind.
    pub fn learnt(&self, mac: Mac) -> Option<String> {
        let entries = fdb(&self.scene, "learnt");
        entries.into_iter().find(|(found, _)| *found == mac.to_string()).map(|(_, endpoint)| endpoint)
    }
}

/// MAC address and endpoint of the entries of this kind.
#[track_caller]
pub fn fdb(scene: &Scene, kind: &str) -> Vec<(String, String)> {
    let entries = scene.json(["fdb", "ls", "net1"]).expect("a list");
    let entries = entries.as_array().expect("a list");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    entries.iter().filter(|e| e["kind"] == kind).map(|e| (text(&e["mac"]), text(&e["endpoint"]))).collect()
}

/// The MAC address of an end.
pub fn mac_of(namespace: &Namespace) -> Mac {
    namespace.mac("eth0").expect("a MAC")
}

/// A frame of neither IP nor ARP.
pub fn plain(from: Mac, to: Mac) -> Vec<u8> {
    Ethernet::new(from, to).payload(ethertype::EXPERIMENT, &[7; 46])
}

/// Sends one frame.
#[track_caller]
pub fn send(namespace: &Namespace, frame: Vec<u8>) {
    send_frames(namespace, "eth0", &[frame]).expect("sends");
}

/// The frames among these that came in from one MAC address for another.
pub fn between(frames: &[Captured], from: Mac, to: Mac) -> usize {
    let wanted =
        |frame: &&Captured| !frame.outgoing && frame.view.source_mac == from && frame.view.destination_mac == to;
    frames.iter().filter(wanted).count()
}
