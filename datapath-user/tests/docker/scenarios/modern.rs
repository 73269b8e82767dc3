//! What Docker 28 knows and 20.10 does not.

use crate::attempt::{Place, Seen, Target, V4, V6, ask};
use crate::scenario::{Scenario, Step, run};

use Place::{Host, In, Internet, Lan};
use Seen::{Client, Gateway, Uplink};
use Target::Container;

/// IPv4 translated and IPv6 routed, as a host with an IPv6 prefix for its containers has it.
pub fn one_mode_each() -> Scenario {
    let web = Container("web", "mixed");
    Scenario::new(
        "gateway mode nat for IPv4, routed for IPv6",
        vec![
            Step::Docker(
                "network create --ipv6 --subnet 172.30.21.0/24 --subnet fd00:321::/64 \
                 -o com.docker.network.bridge.gateway_mode_ipv4=nat \
                 -o com.docker.network.bridge.gateway_mode_ipv6=routed mixed",
            ),
            run("web", "--network mixed -p 8080:80 -p 8080:80/udp"),
            run("peer", "--network mixed"),
            Step::Try(vec![
                ask(Lan, Target::Host, 8080).reaches("web", Client).families(V4),
                ask(Host, Target::Loopback, 8080).reaches("web", Gateway("mixed")).families(V4),
                ask(Lan, web, 80).reaches("web", Client).families(V6).routed(),
                ask(Internet, web, 80).reaches("web", Client).families(V6).routed(),
                ask(Lan, web, 80).fails().families(V4),
                ask(Lan, web, 81).fails(),
                ask(Lan, Container("peer", "mixed"), 80).fails(),
                ask(In("peer"), web, 80).reaches("web", Client),
                ask(In("peer"), Target::Internet, 80).reaches("far", Uplink).families(V4),
                ask(In("peer"), Target::Internet, 80).reaches("far", Client).families(V6),
            ]),
        ],
    )
    .routing_outside()
}

/// `nat-unprotected`: translated, and reached from outside by the containers' own addresses too, at any port.
pub fn unprotected() -> Scenario {
    let web = Container("web", "open");
    Scenario::new(
        "gateway mode nat-unprotected",
        vec![
            Step::Docker(
                "network create --ipv6 --subnet 172.30.22.0/24 --subnet fd00:322::/64 \
                 -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected \
                 -o com.docker.network.bridge.gateway_mode_ipv6=nat-unprotected open",
            ),
            run("web", "--network open -p 8080:80 -p 8080:80/udp"),
            run("peer", "--network open"),
            run("elsewhere", ""),
            Step::Try(vec![
                ask(Lan, Target::Host, 8080).reaches("web", Client),
                ask(Host, Target::Loopback, 8080).reaches("web", Gateway("open")),
                ask(Lan, web, 80).reaches("web", Client),
                ask(Internet, web, 81).reaches("web", Client),
                ask(Lan, Container("peer", "open"), 81).reaches("peer", Client),
                ask(In("peer"), web, 81).reaches("web", Client),
                // The networks of one host stay apart.
                ask(In("elsewhere"), web, 80).fails(),
                ask(In("web"), Container("elsewhere", "bridge"), 80).fails(),
                ask(In("peer"), Target::Internet, 80).reaches("far", Uplink),
            ]),
        ],
    )
    .routing_outside()
}

/// `isolated`: an internal network without the host.
pub fn isolated() -> Scenario {
    let web = Container("web", "alone");
    Scenario::new(
        "gateway mode isolated",
        vec![
            Step::Docker(
                "network create --internal --ipv6 --subnet 172.30.23.0/24 --subnet fd00:323::/64 \
                 -o com.docker.network.bridge.gateway_mode_ipv4=isolated \
                 -o com.docker.network.bridge.gateway_mode_ipv6=isolated alone",
            ),
            run("web", "--network alone -p 8080:80 -p 8080:80/udp"),
            run("peer", "--network alone"),
            run("elsewhere", ""),
            Step::Resolve("peer", "web", ("web", "alone")),
            Step::Unknown("peer", "www.example.com"),
            Step::Try(vec![
                ask(In("peer"), web, 80).reaches("web", Client),
                ask(In("web"), Container("peer", "alone"), 81).reaches("peer", Client),
                ask(Host, web, 80).fails(),
                ask(Lan, web, 80).fails(),
                ask(In("elsewhere"), web, 80).fails(),
                ask(In("web"), Container("elsewhere", "bridge"), 80).fails(),
                ask(In("web"), Target::Host, 8000).fails(),
                ask(In("web"), Target::Gateway("bridge"), 8000).fails(),
                ask(In("web"), Target::Internet, 80).fails(),
                ask(Lan, Target::Host, 8080).fails(),
                ask(Host, Target::Loopback, 8080).fails(),
            ]),
        ],
    )
    .keeping_names_inside()
}

/// `--ipv4=false`: no IPv4 at all.
pub fn ipv6_only() -> Scenario {
    let web = Container("web", "six");
    let gateway = Gateway("six");
    Scenario::new(
        "IPv6 only",
        vec![
            Step::Docker("network create --ipv4=false --ipv6 --subnet fd00:324::/64 six"),
            run("web", "--network six -p 8080:80 -p 8080:80/udp"),
            run("peer", "--network six"),
            run("elsewhere", ""),
            Step::Resolve("peer", "web", ("web", "six")),
            Step::Try(vec![
                ask(Lan, Target::Host, 8080).reaches("web", Client).families(V6),
                ask(Internet, Target::Host, 8080).reaches("web", Client).families(V6),
                ask(Host, Target::Loopback, 8080).reaches("web", gateway).families(V6),
                ask(Host, Target::Host, 8080).reaches("web", Client).families(V6),
                ask(In("elsewhere"), Target::Host, 8080)
                    .reaches("web", Client)
                    .families(V6)
                    .stock_proxies("web", gateway),
                ask(In("web"), Target::Host, 8080).reaches("web", gateway).families(V6).stock_proxies("web", gateway),
                ask(Lan, Target::Host, 8080).fails().families(V4),
                ask(Host, Target::Loopback, 8080).fails().families(V4),
                ask(In("peer"), web, 81).reaches("web", Client).families(V6),
                ask(Host, web, 81).reaches("web", Client).families(V6),
                ask(Lan, web, 80).fails().families(V6),
                ask(In("elsewhere"), web, 80).fails().families(V6),
                ask(In("web"), Target::Internet, 80).reaches("far", Uplink).families(V6),
                ask(In("web"), Target::Internet, 80).fails().families(V4),
            ]),
        ],
    )
}

/// `gw-priority`: of several networks the one that leads out, and that ports are published through.
pub fn gateway_priority() -> Scenario {
    Scenario::new(
        "priority of gateways",
        vec![
            Step::Docker("network create --ipv6 --subnet 172.30.25.0/24 --subnet fd00:325::/64 alpha"),
            // Its containers leave by their own addresses, so that one sees which way they went. (With mode nat, stock 28
            // drops the answers.)
            Step::Docker(
                "network create --ipv6 --subnet 172.30.26.0/24 --subnet fd00:326::/64 \
                 -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected \
                 -o com.docker.network.bridge.gateway_mode_ipv6=nat-unprotected \
                 -o com.docker.network.bridge.enable_ip_masquerade=false omega",
            ),
            run("web", "--network alpha --network name=omega,gw-priority=1 -p 8080:80 -p 8080:80/udp"),
            run("peer", "--network alpha"),
            Step::Try(vec![
                ask(Lan, Target::Host, 8080).reaches("web", Client),
                ask(Host, Target::Loopback, 8080).reaches("web", Gateway("omega")),
                ask(In("web"), Target::Internet, 80).reaches("far", Client),
                ask(In("peer"), Container("web", "alpha"), 80).reaches("web", Client),
                ask(In("peer"), Container("web", "omega"), 80).fails(),
            ]),
            // Another one leads out now, and the ports go with it.
            Step::Docker("network disconnect alpha web"),
            Step::Docker("network connect --gw-priority 2 alpha web"),
            Step::Try(vec![
                ask(Lan, Target::Host, 8080).reaches("web", Client),
                ask(Host, Target::Loopback, 8080).reaches("web", Gateway("alpha")),
                ask(In("web"), Target::Internet, 80).reaches("far", Uplink),
            ]),
            Step::Docker("network disconnect alpha web"),
            Step::Try(vec![
                ask(Lan, Target::Host, 8080).reaches("web", Client),
                ask(Host, Target::Loopback, 8080).reaches("web", Gateway("omega")),
                ask(In("web"), Target::Internet, 80).reaches("far", Client),
            ]),
        ],
    )
    .routing_outside()
}

/// An interface in the container with a name of the user's.
pub fn interface_name() -> Scenario {
    Scenario::new(
        "named interface",
        vec![
            run(
                "web",
                "--network name=bridge,driver-opt=com.docker.network.endpoint.ifname=lan0 -p 8080:80 -p 8080:80/udp",
            ),
            run("peer", ""),
            Step::Docker("exec web /bin/ip link show lan0"),
            Step::Try(vec![
                ask(Lan, Target::Host, 8080).reaches("web", Client),
                ask(Host, Target::Loopback, 8080).reaches("web", Gateway("bridge")),
                ask(In("peer"), Container("web", "bridge"), 80).reaches("web", Client),
                ask(In("web"), Target::Internet, 80).reaches("far", Uplink),
            ]),
        ],
    )
}
