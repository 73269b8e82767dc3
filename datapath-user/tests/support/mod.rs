//! What the traffic tests share: a scene to play in, and assertions that say who could not reach whom.
//!
//! Network number `n` has the subnets 10.20.n.0/24 and fd20:n::/64, with the gateway at 1.

#![allow(dead_code, reason = "every test file uses another part of this module")]

pub mod guarded;
pub mod nest;
pub mod wire;

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use lab::capture::Captured;
use lab::client::Client;
use lab::{Capture, Container, DaemonOptions, Exchange, Family, Host, Lan, Namespace, Protocol, Server, World};

pub use lab::lan::address;

/// The daemon under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_datapath");

/// What is refused is waited for this long, and not longer.
pub const REFUSAL: Duration = Duration::from_millis(400);

/// A world with a running daemon, and the short forms that tests are written in.
#[derive(Debug)]
pub struct Scene {
    world: World,
}

impl Deref for Scene {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.world.host
    }
}

impl Scene {
    /// A world with the daemon as it comes.
    pub fn start() -> Self {
        Self::with(DaemonOptions::default())
    }

    /// A world with a daemon started like this.
    pub fn with(options: DaemonOptions) -> Self {
        match World::start(Path::new(BINARY), options) {
            Ok(world) => Self { world },
            Err(error) if std::env::var_os(lab::MUTANT_VARIABLE).is_some() => {
                // A mutant that does not even load must not count as one that the test has noticed.
                eprintln!("the test did not run: {error:#}");
                std::process::exit(2);
            }
            Err(error) => panic!("the world stands and the daemon is ready: {error:#}"),
        }
    }

    /// What is around the host.
    pub fn lan(&self) -> &Lan {
        &self.world.lan
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        match self.datapath(line.split_whitespace()) {
            Ok(output) => output,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Runs a command that must be refused, and returns why.
    #[track_caller]
    pub fn refuse(&self, line: &str) -> String {
        match self.refused(line.split_whitespace()) {
            Ok(reason) => reason,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Creates network `net<number>`, dual-stack.
    #[track_caller]
    pub fn network(&self, number: u8, flags: &str) {
        self.run(&format!(
            "network create net{number} --subnet 10.20.{number}.0/24 --subnet fd20:{number}::/64 {flags}"
        ));
    }

    /// Attaches a new container of this name to network `number`, with the host number `host`.
    #[track_caller]
    pub fn join(&self, name: &str, number: u8, host: u16) -> Container {
        let addresses = endpoint(number, host);
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let texts: Vec<_> = addresses.iter().map(String::as_str).collect();
        match self.container(name, &format!("net{number}"), &texts) {
            Ok(container) => container,
            Err(error) => panic!("{name} cannot be attached: {error:#}"),
        }
    }

    /// All state that the daemon tells, without what traffic counts.
    #[track_caller]
    pub fn state_shown(&self) -> String {
        let lists = ["network", "endpoint", "port"].map(|kind| {
            let mut list = self.json([kind, "ls"]).unwrap_or_else(|error| panic!("{error:#}"));
            for entry in list.as_array_mut().into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
                entry.remove("hits");
                entry.remove("flows");
            }
            format!("{list:#}")
        });
        lists.join("\n")
    }

    /// Publishes TCP and UDP.
    #[track_caller]
    pub fn publish(&self, ports: &str, container: &str) {
        for protocol in ["tcp", "udp"] {
            self.run(&format!("publish {ports}/{protocol} {container}"));
        }
    }

    /// Takes back what [`Self::publish`] did.
    #[track_caller]
    pub fn unpublish(&self, ports: &str) {
        for protocol in ["tcp", "udp"] {
            self.run(&format!("unpublish {ports}/{protocol}"));
        }
    }

    /// Captures what leaves the host, as the LAN sees it.
    #[track_caller]
    pub fn watch_uplink(&self) -> Capture {
        Capture::start(&self.lan().machine, Lan::TO_HOST).expect("captures")
    }

    /// Runs `attempt` and asserts that packets were dropped for this reason meanwhile.
    #[track_caller]
    pub fn expect_drops<T>(&self, reason: &str, attempt: impl FnOnce() -> T) -> T {
        let before = self.drops().expect("status");
        let result = attempt();
        let after = self.drops().expect("status");
        let count = |drops: &std::collections::BTreeMap<String, u64>| drops.get(reason).copied().unwrap_or(0);
        assert!(
            count(&after) > count(&before),
            "nothing was dropped for {reason}; drops before: {before:?}, after: {after:?}"
        );
        result
    }

    /// The name of the host's end of a container's interface.
    #[track_caller]
    pub fn host_side(&self, container: &Container, interface: &str) -> String {
        let json = lab::run("ip", ["-n", container.namespace.name(), "-j", "link", "show", "dev", interface]);
        let links: serde_json::Value = serde_json::from_str(&json.expect("ip link")).expect("JSON");
        let index = links[0]["link_index"].as_u64().expect("a veth has a peer");
        let json = lab::run("ip", ["-n", self.namespace.name(), "-j", "link", "show"]).expect("ip link");
        let links: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let links = links.as_array().expect("a list");
        let link = links.iter().find(|link| link["ifindex"].as_u64() == Some(index)).expect("the host's end");
        link["ifname"].as_str().expect("a name").to_owned()
    }

    /// The name of the device that carries the gateway address of network `number`.
    #[track_caller]
    pub fn gateway_device(&self, number: u8) -> String {
        let json =
            lab::run("ip", ["-n", self.namespace.name(), "-j", "addr", "show", "to", &format!("10.20.{number}.1")]);
        let links: serde_json::Value = serde_json::from_str(&json.expect("ip addr")).expect("JSON");
        let links = links.as_array().expect("a list");
        let link = links.iter().find(|link| link["ifname"].is_string()).expect("a gateway device");
        link["ifname"].as_str().expect("a name").to_owned()
    }
}

/// Both addresses of host number `host` on network `number`.
pub fn endpoint(number: u8, host: u16) -> [IpAddr; 2] {
    [address(&format!("10.20.{number}.{host}")), address(&format!("fd20:{number}::{host}"))]
}

/// Both gateway addresses of network `number`.
pub fn gateway(number: u8) -> [IpAddr; 2] {
    endpoint(number, 1)
}

/// That of the two which is of this family.
pub fn of(family: Family, pair: [IpAddr; 2]) -> IpAddr {
    pair[usize::from(family == Family::V6)]
}

/// An address with a port.
pub fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// One exchange that must succeed.
#[track_caller]
pub fn reach(from: &Namespace, protocol: Protocol, target: SocketAddr) -> Exchange {
    reach_by(&Client::new(from), protocol, target)
}

/// One exchange of this client that must succeed; the answer must come from where it was asked for.
#[track_caller]
pub fn reach_by(client: &Client<'_>, protocol: Protocol, target: SocketAddr) -> Exchange {
    match client.exchange(protocol, target) {
        Ok(exchange) => {
            assert_eq!(exchange.peer, target, "the answer must come from the address that was asked");
            exchange
        }
        Err(error) => panic!("{client:?} cannot reach {target} by {protocol:?}: {error}"),
    }
}

/// Exchanges by both families and all protocols with the server on `port` of these addresses. Each must see the
/// client as one of `seen`, and the answer must come from the address that was asked.
#[track_caller]
pub fn reach_all(from: &Namespace, targets: [IpAddr; 2], port: u16, server: &str, seen: [IpAddr; 2]) {
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            let target = at(of(family, targets), port);
            let exchange = reach(from, protocol, target);
            assert_eq!(exchange.server, server, "{target} by {protocol:?}");
            assert_eq!(exchange.seen.ip(), of(family, seen), "whom {server} sees, asked at {target} by {protocol:?}");
        }
    }
}

/// One attempt that must fail.
#[track_caller]
pub fn fail(from: &Namespace, protocol: Protocol, target: SocketAddr) {
    if let Ok(exchange) = Client::new(from).timeout(REFUSAL).exchange(protocol, target) {
        panic!("{from:?} must not reach {target} by {protocol:?}, but did: {exchange:?}");
    }
}

/// Attempts by both families, TCP and UDP, which must fail.
#[track_caller]
pub fn fail_all(from: &Namespace, targets: [IpAddr; 2], port: u16) {
    for target in targets {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            fail(from, protocol, at(target, port));
        }
    }
}

/// A server that serves until the end of the test.
#[track_caller]
pub fn serve(namespace: &Namespace, name: &str, port: u16) -> Server {
    Server::start(namespace, name, port).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Whether a captured frame has an address of one of the test networks anywhere in its headers.
pub fn is_inside(captured: &Captured) -> bool {
    [captured.view.source, captured.view.destination].into_iter().flatten().any(|address| match address {
        IpAddr::V4(v4) => v4.octets()[..2] == [10, 20],
        IpAddr::V6(v6) => v6.segments()[0] == 0xfd20,
    })
}

/// Ends a capture of the uplink: nothing of the inside may be on it.
#[track_caller]
pub fn assert_no_leak(uplink: Capture) {
    let leaked: Vec<_> = uplink.stop().into_iter().filter(|frame| !frame.outgoing && is_inside(frame)).collect();
    assert!(leaked.is_empty(), "inside addresses leaked on the uplink: {leaked:?}");
}

/// A client bound to this port on the address of its family.
pub fn bound(from: &Namespace, like: IpAddr, port: u16) -> Client<'_> {
    let any = if like.is_ipv4() { address("0.0.0.0") } else { address("::") };
    Client::new(from).from(at(any, port))
}

/// The daemon with these settings.
pub fn configured(config: &str) -> Scene {
    Scene::with(DaemonOptions::with_config(config))
}

/// Adds a clsact filter to the uplink that is not ours: classic BPF that matches everything, at the
/// end, for it ends the classification. The qdisc is there.
#[track_caller]
pub fn add_foreign_filter(scene: &Scene) {
    let filter = ["bpf", "bytecode", "1,6 0 0 4294967295", "flowid", "1:1"];
    let arguments = ["filter", "add", "dev", Host::UPLINK, "ingress", "pref", "65500"].into_iter().chain(filter);
    scene.namespace.run("tc", arguments).expect("tc");
}

/// Whether that filter is still there.
#[track_caller]
pub fn has_foreign_filter(scene: &Scene) -> bool {
    scene.namespace.run("tc", ["filter", "show", "dev", Host::UPLINK, "ingress"]).expect("tc").contains("bytecode")
}
