//! A host whose uplink is guarded, and somebody on the LAN who may say to be anybody.

use lab::capture::send_frames;
use lab::frame::{Ethernet, TcpSegment, tcp_flags};
use lab::{Container, DaemonOptions, Family, Host, Lan, Mac, Namespace, Protocol, Server};

use super::{Scene, address, at, fail, reach_all, serve};

/// The two ways that the rules are held.
pub const WAYS: [(&str, &[&str]); 2] = [("from_uplink", &[]), ("XDP", NATIVE)];
/// Uplinks of the laboratory are veths.
pub const NATIVE: &[&str] = &["--xdp", "native", "--xdp-on-veth"];

/// The daemon with these arguments.
pub fn options(arguments: &[&str]) -> DaemonOptions {
    DaemonOptions { arguments: arguments.iter().map(|text| (*text).to_owned()).collect(), config: String::new() }
}

/// A host with a container and two published ports, and what runs on it.
pub struct Guarded {
    pub scene: Scene,
    pub a: Container,
    _servers: [Server; 3],
}

impl Guarded {
    /// Starts it.
    pub fn start(options: DaemonOptions) -> Self {
        let scene = Scene::with(options);
        scene.network(1, "");
        let a = scene.join("a", 1, 10);
        scene.publish("8080:80", "a");
        let servers = [
            serve(&a.namespace, "a", 80),
            serve(&scene.namespace, "host", 2222),
            serve(&scene.lan().internet, "far", 80),
        ];
        Self { scene, a, _servers: servers }
    }

    /// Everything that comes in: from whom it is let in, to the host and to a published port, and answers to a container.
    pub fn check(&self, internet_is_denied: bool) {
        let Lan { internet, machine } = self.scene.lan();
        reach_all(machine, Lan::HOST.map(address), 2222, "host", Lan::MACHINE.map(address));
        reach_all(machine, Lan::HOST.map(address), 8080, "a", Lan::MACHINE.map(address));
        if !internet_is_denied {
            reach_all(internet, Lan::HOST.map(address), 2222, "host", Lan::INTERNET.map(address));
            reach_all(internet, Lan::HOST.map(address), 8080, "a", Lan::INTERNET.map(address));
            reach_all(&self.a.namespace, Lan::INTERNET.map(address), 80, "far", Lan::HOST.map(address));
            return;
        }
        for family in Family::ALL {
            for port in [2222, 8080] {
                self.scene.expect_drops("denied", || fail(internet, Protocol::Tcp, at(family.of(Lan::HOST), port)));
            }
            fail(&self.a.namespace, Protocol::Udp, at(family.of(Lan::INTERNET), 80));
        }
    }

    /// Frames of somebody on the LAN, who may say to be anybody.
    pub fn send(&self, frames: &[Vec<u8>]) {
        send_frames(&self.scene.lan().machine, Lan::TO_HOST, frames).expect("sends");
    }

    /// MAC addresses of the LAN machine and of the uplink.
    pub fn macs(&self) -> (Mac, Mac) {
        let mac = |namespace: &Namespace, device| namespace.mac(device).expect("a MAC");
        (mac(&self.scene.lan().machine, Lan::TO_HOST), mac(&self.scene.namespace, Host::UPLINK))
    }

    /// So many datagrams to a port of the host where nobody listens.
    pub fn datagrams(&self, source: &str, count: u16) -> Vec<Vec<u8>> {
        let (from, to) = self.macs();
        let frame = |port| Ethernet::new(from, to).ip(address(source), address(Lan::HOST[0])).udp(port, 9, b"flood");
        (0..count).map(|port| frame(1_024 + port)).collect()
    }

    /// So many SYNs to the published port.
    pub fn syns(&self, source: &str, count: u16) -> Vec<Vec<u8>> {
        let (from, to) = self.macs();
        let syn = |port| TcpSegment { source: port, destination: 8080, flags: tcp_flags::SYN, ..TcpSegment::default() };
        let frame = |port| Ethernet::new(from, to).ip(address(source), address(Lan::HOST[0])).tcp(syn(port), b"");
        (0..count).map(|port| frame(1_024 + port)).collect()
    }

    /// What the XDP program has dropped for this reason.
    pub fn dropped_by_xdp(&self, reason: &str) -> u64 {
        self.scene.json(["status"]).expect("status")["guard"]["dropped"][reason].as_u64().unwrap_or(0)
    }
}

/// Id of the program that runs natively on a device.
pub fn native(scene: &Scene, device: &str) -> Option<u64> {
    let text = scene.namespace.run("ip", ["-j", "-d", "link", "show", "dev", device]).expect("ip link");
    let links: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let xdp = &links[0]["xdp"];
    // 1 is XDP_ATTACHED_DRV.
    (xdp["mode"].as_u64() == Some(1)).then(|| xdp["prog"]["id"].as_u64()).flatten()
}
