//! The default bridge.

use crate::attempt::{Place, Published, Seen, Target, ask};
use crate::scenario::{Scenario, Step, run};

use super::ROUTED_IN;
use Place::{Host, In, Internet, Lan};
use Seen::{Client, Uplink};
use Target::Container;

/// Two containers on docker0, one of them published, and one elsewhere.
pub fn default_bridge() -> Scenario {
    let a = Container("web", "bridge");
    let mut attempts =
        Published { server: "web", network: "bridge", port: 8080, sibling: "peer", other: "elsewhere" }.everywhere();
    attempts.extend([
        // Siblings and the host go straight to it.
        ask(In("peer"), a, 80).reaches("web", Client),
        ask(In("peer"), a, 81).reaches("web", Client),
        ask(In("web"), a, 80).reaches("web", Client),
        ask(Host, a, 80).reaches("web", Client),
        // P10: from outside only what is published, and only by the host's addresses.
        ask(Lan, a, 80).fails().stock_reaches("web", Client, ROUTED_IN).before_28(),
        ask(Internet, a, 80).fails().stock_reaches("web", Client, ROUTED_IN).before_28(),
        ask(Lan, a, 81).fails(),
        ask(Lan, Container("peer", "bridge"), 80).fails(),
        // I2: networks do not reach each other.
        ask(In("elsewhere"), a, 80).fails(),
        ask(In("web"), Container("elsewhere", "other"), 80).fails(),
        // N1, P4: outwards, to a port that is published here as well.
        ask(In("web"), Target::Internet, 80).reaches("far", Uplink),
        ask(In("peer"), Target::Internet, 8080).reaches("far", Uplink),
        ask(In("peer"), Target::Gateway("bridge"), 8000).reaches("host", Client),
        // The host's own traffic.
        ask(Host, Target::Internet, 8080).reaches("far", Client),
        ask(Lan, Target::Host, 8000).reaches("host", Client),
    ]);
    Scenario::new(
        "default bridge",
        vec![
            Step::Docker("network create --ipv6 --subnet 172.30.1.0/24 --subnet fd00:301::/64 other"),
            run("web", "-p 8080:80 -p 8080:80/udp"),
            run("peer", ""),
            run("elsewhere", "--network other"),
            Step::Try(attempts),
        ],
    )
}
