//! What the demo is played on, and the attempts that are made on it.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::Result;
use lab::{Container, DaemonOptions, Host, Lan, Protocol, Server, World};

use super::{Attempt, Expected};

/// Address of each endpoint, IPv4 and IPv6.
const WEB: [&str; 2] = ["10.30.0.10", "fd00:30::10"];
const API: [&str; 2] = ["10.30.0.11", "fd00:30::11"];
const DB: [&str; 2] = ["10.31.0.10", "fd00:31::10"];
const JOB: [&str; 2] = ["10.31.0.11", "fd00:31::11"];
/// Gateways of the networks `front` and `back`.
const FRONT_GATEWAY: [&str; 2] = ["10.30.0.1", "fd00:30::1"];
const BACK_GATEWAY: &str = "10.31.0.1";
/// An address that `api` gave to itself.
const FORGED: &str = "10.30.0.99";
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

/// Everything that stands.
pub struct Scene {
    _servers: Vec<Server>,
    web: Container,
    api: Container,
    db: Container,
    job: Container,
    world: World,
}

impl Scene {
    /// Builds it: networks `front` and `back` (ICC off), two endpoints each, `web` published to all, `db` on
    /// loopback only.
    pub fn build(daemon: &Path) -> Result<Self> {
        let world = World::start(daemon, DaemonOptions::default())?;
        let host = &world.host;
        for command in [
            "network create front --subnet 10.30.0.0/24 --subnet fd00:30::/64",
            "network create back --subnet 10.31.0.0/24 --subnet fd00:31::/64 --no-icc",
        ] {
            host.datapath(command.split(' '))?;
        }
        let web = host.container("web", "front", &WEB)?;
        let api = host.container("api", "front", &API)?;
        let db = host.container("db", "back", &DB)?;
        let job = host.container("job", "back", &JOB)?;
        let servers = vec![
            Server::start(&web.namespace, "web", 80)?,
            Server::start(&db.namespace, "db", 80)?,
            Server::start(&world.lan.internet, "internet", 80)?,
        ];
        for command in ["publish 8080:80 web", "publish 8080:80/udp web", "publish 127.0.0.1:9090:80 db"] {
            host.datapath(command.split(' '))?;
        }
        // What a careless container does, and a LAN machine that tries to come in by the back door.
        api.namespace.ip(&format!("address add {FORGED}/32 dev eth0"))?;
        world.lan.machine.ip(&format!("route add 10.30.0.0/24 via {}", Lan::HOST[0]))?;
        Ok(Self { _servers: servers, web, api, db, job, world })
    }

    /// The host with the daemon.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.world.host
    }

    /// All that is tried: what must arrive, over IPv4 and IPv6, then what must not.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt<'_>> {
        let mut attempts = self.delivered(Protocol::Tcp, 0);
        attempts.extend(self.delivered(Protocol::Tcp, 1));
        attempts.extend(self.delivered(Protocol::Udp, 0));
        attempts.extend(self.delivered(Protocol::Udp, 1));
        attempts.extend(self.refused());
        attempts
    }

    fn delivered(&self, protocol: Protocol, family: usize) -> Vec<Attempt<'_>> {
        let host_address = Lan::HOST[family];
        let to_web = |who, address, port, way, peer| {
            self.attempt(who, protocol, (address, port), way, Expected::Served { server: "web", peer })
        };
        let out = Expected::Served { server: "internet", peer: host_address };
        vec![
            to_web("api", WEB[family], 80, "same network", API[family]),
            to_web("lan", host_address, 8080, "published port", Lan::MACHINE[family]),
            to_web("db", host_address, 8080, "port of another network", DB[family]),
            to_web("api", host_address, 8080, "port of a sibling", API[family]),
            to_web("web", host_address, 8080, "port of its own", FRONT_GATEWAY[family]),
            to_web("host", LOOPBACK[family], 8080, "port over loopback", FRONT_GATEWAY[family]),
            self.attempt("web", protocol, (Lan::INTERNET[family], 80), "masqueraded", out),
        ]
    }

    fn refused(&self) -> Vec<Attempt<'_>> {
        let attempt = |who, target, way, expected| self.attempt(who, Protocol::Tcp, target, way, expected);
        let on_loopback = Expected::Served { server: "db", peer: BACK_GATEWAY };
        vec![
            attempt("api", (DB[0], 80), "another network, directly", Expected::Dropped("network_isolation")),
            attempt("job", (DB[0], 80), "sibling, ICC off", Expected::Dropped("icc_disabled")),
            attempt("api", (WEB[0], 80), "as 10.30.0.99, not its own", Expected::Dropped("forged_address"))
                .from(address(FORGED)),
            attempt("lan", (WEB[0], 80), "routed to the container", Expected::Dropped("direct_routing")),
            attempt("host", (LOOPBACK[0], 9090), "published on 127.0.0.1", on_loopback),
            attempt("lan", (Lan::HOST[0], 9090), "published on 127.0.0.1 only", Expected::Refused),
        ]
    }

    fn attempt(
        &self,
        who: &'static str,
        protocol: Protocol,
        (target, port): (&str, u16),
        way: &'static str,
        expected: Expected,
    ) -> Attempt<'_> {
        let client = match who {
            "web" => &self.web.namespace,
            "api" => &self.api.namespace,
            "db" => &self.db.namespace,
            "job" => &self.job.namespace,
            "lan" => &self.world.lan.machine,
            _ => &self.world.host.namespace,
        };
        Attempt::new(who, client, protocol, SocketAddr::new(address(target), port), way, expected)
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
