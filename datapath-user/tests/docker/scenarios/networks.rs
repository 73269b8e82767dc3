//! User networks and their options.

use crate::attempt::{Place, Published, Seen, TCP, Target, UDP, V4, V6, ask};
use crate::scenario::{Scenario, Step, run};

use super::ROUTED_IN;
use Place::{Host, In, Internet, Lan};
use Seen::{Client, Gateway, GatewayV4, Uplink};
use Target::Container;

/// A user network as it comes: IPv4 and nothing else; with a bridge of a given name and a small MTU.
pub fn ipv4_only() -> Scenario {
    let mut attempts: Vec<_> =
        Published { server: "web", network: "plain", port: 8080, sibling: "peer", other: "elsewhere" }
            .everywhere()
            .into_iter()
            .filter(|attempt| attempt.to != Target::Gateway("plain"))
            .map(|attempt| attempt.families(V4))
            .collect();
    attempts.extend([
        ask(Lan, Target::Host, 8080).fails().families(V6).stock_proxies("web", GatewayV4("plain")),
        ask(Host, Target::Loopback, 8080).fails().families(V6).stock_proxies("web", GatewayV4("plain")),
        ask(In("peer"), Container("web", "plain"), 80).reaches("web", Client).families(V4),
        ask(In("web"), Target::Internet, 80).reaches("far", Uplink).families(V4),
        // CVE-2024-32473: no IPv6 where there is none.
        ask(In("web"), Target::Internet, 80).fails().families(V6),
        ask(In("elsewhere"), Container("web", "plain"), 80).fails().families(V4),
    ]);
    Scenario::new(
        "IPv4 only, named bridge, MTU",
        vec![
            Step::Docker(
                "network create -o com.docker.network.bridge.name=lab0 -o com.docker.network.driver.mtu=1400 plain",
            ),
            run("web", "--network plain -p 8080:80 -p 8080:80/udp"),
            run("peer", "--network plain"),
            run("elsewhere", ""),
            Step::Resolve("peer", "web", ("web", "plain")),
            Step::Try(attempts),
        ],
    )
}

/// I3: `--internal`.
pub fn internal() -> Scenario {
    let a = Container("web", "secret");
    Scenario::new(
        "internal",
        vec![
            Step::Docker("network create --internal --ipv6 --subnet 172.30.2.0/24 --subnet fd00:302::/64 secret"),
            // Docker accepts the option, and publishes nothing.
            run("web", "--network secret -p 8080:80 -p 8080:80/udp"),
            run("peer", "--network secret"),
            run("elsewhere", ""),
            Step::Resolve("peer", "web", ("web", "secret")),
            Step::Unknown("peer", "www.example.com"),
            Step::Try(vec![
                ask(In("peer"), a, 80).reaches("web", Client).families(V4),
                ask(In("peer"), a, 80)
                    .reaches("web", Client)
                    .families(V6)
                    .stock_fails("20.10 with ip6tables drops what bridges of internal networks forward")
                    .before_28(),
                ask(Host, a, 80).reaches("web", Client),
                ask(In("peer"), Target::Gateway("secret"), 8000).reaches("host", Client),
                ask(Lan, a, 80).fails(),
                ask(Internet, a, 80).fails(),
                ask(In("elsewhere"), a, 80).fails(),
                ask(In("web"), Container("elsewhere", "bridge"), 80).fails(),
                ask(In("web"), Target::Internet, 80).fails(),
                ask(In("web"), Target::Host, 8000).fails().protocols(UDP),
                ask(In("web"), Target::Host, 8000)
                    .fails()
                    .protocols(TCP)
                    .stock_reaches("host", Client, "20.10 lets internal networks reach every address of the host")
                    .before_28(),
                ask(Lan, Target::Host, 8080).fails(),
                ask(Host, Target::Loopback, 8080).fails(),
            ]),
        ],
    )
    .keeping_names_inside()
}

/// I1: `enable_icc=false`.
pub fn icc_off() -> Scenario {
    let mut attempts =
        Published { server: "web", network: "quiet", port: 8080, sibling: "peer", other: "elsewhere" }.everywhere();
    attempts.extend([
        ask(In("peer"), Container("web", "quiet"), 80).fails(),
        ask(In("peer"), Container("web", "quiet"), 81).fails(),
        ask(In("web"), Container("peer", "quiet"), 80).fails(),
        ask(Host, Container("peer", "quiet"), 80).reaches("peer", Client),
        ask(In("peer"), Target::Gateway("quiet"), 8000).reaches("host", Client),
        ask(In("peer"), Target::Internet, 80).reaches("far", Uplink),
        ask(Lan, Container("peer", "quiet"), 80).fails(),
    ]);
    Scenario::new(
        "ICC off",
        vec![
            Step::Docker(
                "network create --ipv6 --subnet 172.30.3.0/24 --subnet fd00:303::/64 \
                 -o com.docker.network.bridge.enable_icc=false quiet",
            ),
            run("web", "--network quiet -p 8080:80 -p 8080:80/udp"),
            run("peer", "--network quiet"),
            run("elsewhere", ""),
            Step::Try(attempts),
        ],
    )
}

/// `enable_ip_masquerade=false`: containers leave by their own addresses, which the LAN knows a way to.
pub fn no_masquerade() -> Scenario {
    Scenario::new(
        "masquerade off",
        vec![
            Step::Docker(
                "network create --ipv6 --subnet 172.30.4.0/24 --subnet fd00:304::/64 \
                 -o com.docker.network.bridge.enable_ip_masquerade=false bare",
            ),
            run("web", "--network bare -p 8080:80 -p 8080:80/udp"),
            run("peer", "--network bare"),
            Step::Try(vec![
                ask(In("peer"), Target::Internet, 80)
                    .reaches("far", Client)
                    .stock_fails("28 drops all that comes for a container's address, answers too")
                    .since_28(),
                ask(Lan, Target::Host, 8080).reaches("web", Client),
                ask(Host, Target::Loopback, 8080).reaches("web", Gateway("bare")),
                ask(In("peer"), Target::Host, 8080).reaches("web", Client).stock_proxies("web", Gateway("bare")),
                ask(In("peer"), Container("web", "bare"), 80).reaches("web", Client),
                ask(Lan, Container("peer", "bare"), 80).fails(),
                ask(Lan, Container("web", "bare"), 80).fails().stock_reaches("web", Client, ROUTED_IN).before_28(),
            ]),
        ],
    )
    .routing_outside()
}

/// A gateway mode, which 28 knows and 20.10 only passes on.
pub fn routed() -> Scenario {
    let unknown = "20.10 knows no gateway modes, and translates";
    Scenario::new(
        "gateway mode routed",
        vec![
            Step::Docker(
                "network create --ipv6 --subnet 172.30.5.0/24 --subnet fd00:305::/64 \
                 -o com.docker.network.bridge.gateway_mode_ipv4=routed \
                 -o com.docker.network.bridge.gateway_mode_ipv6=routed routed",
            ),
            run("web", "--network routed -p 8080:80 -p 8080:80/udp"),
            run("peer", "--network routed"),
            Step::Try(vec![
                ask(Lan, Container("web", "routed"), 80).reaches("web", Client).routed(),
                ask(Internet, Container("web", "routed"), 80).reaches("web", Client).routed(),
                ask(Lan, Container("web", "routed"), 81).fails(),
                ask(Lan, Container("peer", "routed"), 80).fails(),
                ask(Lan, Target::Host, 8080).fails().stock_reaches("web", Client, unknown).before_28(),
                ask(In("peer"), Target::Internet, 80)
                    .reaches("far", Client)
                    .stock_reaches("far", Uplink, unknown)
                    .before_28(),
                ask(In("peer"), Container("web", "routed"), 80).reaches("web", Client),
            ]),
        ],
    )
    .routing_outside()
}
