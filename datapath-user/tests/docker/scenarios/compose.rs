//! docker-compose: a front, an internal back network, two published ports.

use crate::attempt::{Place, Seen, Target, V4, ask};
use crate::scenario::{Scenario, Step};

use Place::{Host, In, Internet, Lan};
use Seen::{Client, Gateway, Uplink};
use Target::Container;

const FILE: &str = r#"
version: "2.4"
services:
  front:
    image: lab
    container_name: front
    command: ["serve", "front", "80"]
    networks: [front]
    ports: ["8501:80", "8501:80/udp"]
    depends_on: [application]
  application:
    image: lab
    container_name: application
    command: ["serve", "application", "80"]
    networks:
      front:
      back: { aliases: [api] }
    ports: ["127.0.0.1:8502:80", "127.0.0.1:8502:80/udp"]
  store:
    image: lab
    container_name: store
    command: ["serve", "store", "80"]
    networks: [back]
  worker:
    image: lab
    command: ["serve", "worker", "80"]
    networks: [back]
networks:
  front:
    driver_opts: { com.docker.network.bridge.enable_icc: "true" }
  back:
    internal: true
"#;

pub fn compose() -> Scenario {
    let (front, store) = (Container("front", "shop_front"), Container("store", "shop_back"));
    let attempts = vec![
        ask(Lan, Target::Host, 8501).reaches("front", Client),
        ask(Internet, Target::Host, 8501).reaches("front", Client),
        ask(Host, Target::Loopback, 8501).reaches("front", Gateway("shop_front")),
        ask(Host, Target::Host, 8501).reaches("front", Client),
        ask(In("front"), Target::Host, 8501)
            .reaches("front", Gateway("shop_front"))
            .stock_proxies("front", Gateway("shop_front")),
        ask(In("application"), Target::Host, 8501)
            .reaches("front", Client)
            .stock_proxies("front", Gateway("shop_front")),
        // A container of two networks publishes through the one that is not internal.
        ask(Host, Target::Loopback, 8502).reaches("application", Gateway("shop_front")),
        ask(Lan, Target::Host, 8502).fails(),
        ask(In("front"), Container("application", "shop_front"), 80).reaches("application", Client),
        ask(In("application"), store, 80).reaches("store", Client),
        ask(In("store"), Container("application", "shop_back"), 80).reaches("application", Client),
        ask(In("shop_worker_1"), store, 80).reaches("store", Client),
        ask(In("shop_worker_2"), Container("shop_worker_1", "shop_back"), 80).reaches("worker", Client),
        ask(In("front"), store, 80).fails(),
        ask(In("store"), front, 80).fails(),
        ask(Lan, store, 80).fails(),
        ask(In("front"), Target::Internet, 80).reaches("far", Uplink),
        ask(In("application"), Target::Internet, 80).reaches("far", Uplink),
        ask(In("store"), Target::Internet, 80).fails(),
        ask(In("store"), Target::Host, 8501).fails(),
    ];
    let gone = vec![
        ask(Lan, Target::Host, 8501).fails(),
        ask(Host, Target::Loopback, 8501).fails(),
        ask(Host, Target::Loopback, 8502).fails(),
    ];
    let only_v4 = |attempts: Vec<crate::attempt::Attempt>| attempts.into_iter().map(|each| each.families(V4)).collect();
    Scenario::new(
        "compose",
        vec![
            Step::Compose("up --detach --scale worker=2"),
            Step::Resolve("front", "application", ("application", "shop_front")),
            Step::Resolve("store", "api", ("application", "shop_back")),
            Step::Unknown("store", "front"),
            Step::Try(only_v4(attempts)),
            Step::Compose("up --detach --scale worker=1"),
            Step::Try(only_v4(vec![
                ask(Lan, Target::Host, 8501).reaches("front", Client),
                ask(In("shop_worker_1"), store, 80).reaches("store", Client),
            ])),
            Step::Compose("down --timeout 1"),
            Step::Try(only_v4(gone)),
        ],
    )
    .with_compose(FILE)
}
