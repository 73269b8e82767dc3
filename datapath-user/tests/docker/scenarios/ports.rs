//! P1: `docker run -p` in all its forms, and `-P`.

use crate::attempt::{Place, Port, Seen, TCP, Target, UDP, V4, V6, ask};
use crate::scenario::{Scenario, Step, run};

use Place::{Host, In, Lan};
use Seen::{Client, Gateway};

/// Its sockets are bound to the addresses here, so that its answers come from them.
const PROXY: &str = "20.10 leads containers to docker-proxy, which hides them";

/// Ports on single addresses of the host, by `-p` and by the network's own option.
pub fn addresses() -> Scenario {
    let bridge = Gateway("bridge");
    Scenario::new(
        "published on single addresses",
        vec![
            Step::Docker(
                "network create --subnet 172.30.6.0/24 -o com.docker.network.bridge.host_binding_ipv4=192.0.2.9 bound",
            ),
            run("local", "-p 127.0.0.1:8101:80 -p 127.0.0.1:8101:80/udp -p [::1]:8101:80 -p [::1]:8101:80/udp"),
            run(
                "one",
                "-p 192.0.2.1:8102:80 -p 192.0.2.1:8102:80/udp -p [2001:db8:2::1]:8102:80 -p [2001:db8:2::1]:8102:80/udp",
            ),
            run(
                "two",
                "-p 192.0.2.9:8102:80 -p 192.0.2.9:8102:80/udp -p [2001:db8:2::9]:8102:80 -p [2001:db8:2::9]:8102:80/udp",
            ),
            run("bound", "--network bound -p 8103:80 -p 8103:80/udp"),
            run("client", ""),
            Step::Try(vec![
                // P6: the host's alone.
                ask(Host, Target::Loopback, 8101).reaches("local", bridge),
                ask(Lan, Target::Host, 8101).fails(),
                ask(Host, Target::Host, 8101).fails(),
                ask(In("client"), Target::Host, 8101).fails(),
                ask(In("client"), Target::Gateway("bridge"), 8101).fails(),
                // P5: one port, two addresses.
                ask(Lan, Target::Host, 8102).reaches("one", Client),
                ask(Lan, Target::Second, 8102).reaches("two", Client),
                ask(Host, Target::Host, 8102).reaches("one", Client),
                ask(Host, Target::Second, 8102).reaches("two", Client),
                ask(Host, Target::Loopback, 8102).fails(),
                ask(In("client"), Target::Host, 8102).reaches("one", Client).stock_reaches("one", bridge, PROXY),
                ask(In("client"), Target::Second, 8102).reaches("two", Client).stock_reaches("two", bridge, PROXY),
                ask(In("client"), Target::Gateway("bridge"), 8102).fails(),
                // host_binding_ipv4.
                ask(Lan, Target::Second, 8103).reaches("bound", Client).families(V4),
                ask(Lan, Target::Host, 8103).fails().families(V4),
                ask(Host, Target::Loopback, 8103).fails().families(V4),
            ]),
            Step::LoopbackFromNeighbour(8101, "local"),
        ],
    )
}

/// Ranges, ports that Docker chooses, and protocols of their own.
pub fn ranges_and_free_ports() -> Scenario {
    let bridge = Gateway("bridge");
    let published = |port| Port::Published("any", port);
    Scenario::new(
        "ranges, free ports, one protocol",
        vec![
            run("range", "-p 8111-8112:80-81 -p 8111-8112:80-81/udp"),
            run("first", "-p 8120-8129:80 -p 8120-8129:80/udp"),
            run("stream", "-p 8115:80/tcp"),
            run("datagram", "-p 8115:80/udp"),
            run("any", "-P --expose 80 --expose 80/udp --expose 81/tcp"),
            run("free", "-p 192.0.2.9::80 -p 192.0.2.9::80/udp"),
            Step::Try(vec![
                ask(Lan, Target::Host, 8111).reaches("range", Client),
                ask(Lan, Target::Host, 8112).reaches("range", Client),
                ask(Host, Target::Loopback, 8112).reaches("range", bridge),
                ask(Lan, Target::Host, 8113).fails(),
                ask(Lan, Target::Host, 8115).reaches("stream", Client).protocols(TCP),
                ask(Lan, Target::Host, 8115).reaches("datagram", Client).protocols(UDP),
                ask(Lan, Target::Host, Port::Published("first", 80)).reaches("first", Client),
                ask(Lan, Target::Host, published(80)).reaches("any", Client),
                ask(Lan, Target::Host, published(81)).reaches("any", Client).protocols(TCP),
                ask(Host, Target::Loopback, published(80)).reaches("any", bridge),
                ask(Lan, Target::Second, Port::Published("free", 80)).reaches("free", Client).families(V4),
                ask(Lan, Target::Host, Port::Published("free", 80)).fails().families(V4),
                ask(Lan, Target::Second, Port::Published("free", 80)).fails().families(V6),
            ]),
        ],
    )
}
