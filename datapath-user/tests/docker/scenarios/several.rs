//! I4: containers on several networks, that come and go.

use crate::attempt::{Place, Seen, Target, ask};
use crate::scenario::{Scenario, Step, run};

use Place::{Host, In, Lan};
use Seen::{Client, Gateway, Uplink};
use Target::Container;

pub fn several_networks() -> Scenario {
    let (one, two) = (Container("web", "one"), Container("web", "two"));
    Scenario::new(
        "several networks",
        vec![
            Step::Docker("network create --ipv6 --subnet 172.30.11.0/24 --subnet fd00:311::/64 one"),
            Step::Docker("network create --ipv6 --subnet 172.30.12.0/24 --subnet fd00:312::/64 two"),
            run("web", "--network one -p 8201:80 -p 8201:80/udp"),
            run("peer", "--network one"),
            run("third", "--network two"),
            Step::Docker("network connect --alias data two web"),
            Step::Resolve("third", "web", ("web", "two")),
            Step::Resolve("third", "data", ("web", "two")),
            Step::Resolve("peer", "web", ("web", "one")),
            Step::Unknown("peer", "data"),
            Step::Try(vec![
                ask(In("peer"), one, 80).reaches("web", Client),
                ask(In("third"), two, 80).reaches("web", Client),
                ask(In("web"), Container("peer", "one"), 80).reaches("peer", Client),
                ask(In("web"), Container("third", "two"), 80).reaches("third", Client),
                ask(In("peer"), two, 80).fails(),
                ask(In("third"), one, 80).fails(),
                ask(In("peer"), Container("third", "two"), 80).fails(),
                ask(Lan, Target::Host, 8201).reaches("web", Client),
                ask(Host, Target::Loopback, 8201).reaches("web", Gateway("one")),
                ask(Host, one, 80).reaches("web", Client),
                ask(Host, two, 80).reaches("web", Client),
                ask(In("web"), Target::Internet, 80).reaches("far", Uplink),
            ]),
            Step::Docker("network disconnect two web"),
            Step::Unknown("third", "data"),
            Step::Try(vec![
                ask(In("third"), two, 80).fails(),
                ask(In("web"), Container("third", "two"), 80).fails(),
                ask(In("peer"), one, 80).reaches("web", Client),
                ask(Lan, Target::Host, 8201).reaches("web", Client),
            ]),
            // The address that web has left goes to somebody else, with another MAC address since 28.
            run("fourth", "--network two"),
            Step::Docker("network connect two peer"),
            Step::Try(vec![
                ask(In("third"), Container("fourth", "two"), 80).reaches("fourth", Client),
                ask(Host, Container("fourth", "two"), 80).reaches("fourth", Client),
                ask(In("third"), Container("peer", "two"), 80).reaches("peer", Client),
                ask(In("peer"), Container("fourth", "two"), 80).reaches("fourth", Client),
                ask(In("web"), Container("fourth", "two"), 80).fails(),
            ]),
        ],
    )
}
