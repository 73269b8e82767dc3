//! `--network none`, `host` and `container:`.

use crate::attempt::{Place, Seen, Target, ask};
use crate::scenario::{Scenario, Step, run};

use Place::{Host, In, Lan};
use Seen::{Client, Gateway};
use Target::Container;

pub fn shared_namespaces() -> Scenario {
    Scenario::new(
        "none, host, container:",
        vec![
            run("web", "-p 8301:80 -p 8301:80/udp -p 8302:82 -p 8302:82/udp"),
            run("peer", ""),
            Step::Run("none", "--network none", &[80]),
            Step::Run("guest", "--network host", &[8303]),
            Step::Run("sharer", "--network container:web", &[82]),
            Step::Try(vec![
                ask(In("none"), Target::Internet, 80).fails(),
                ask(In("none"), Target::Host, 8000).fails(),
                ask(In("none"), Container("web", "bridge"), 80).fails(),
                ask(Lan, Target::Host, 8303).reaches("guest", Client),
                ask(Host, Target::Loopback, 8303).reaches("guest", Client),
                ask(In("peer"), Target::Gateway("bridge"), 8303).reaches("guest", Client),
                ask(In("guest"), Container("web", "bridge"), 80).reaches("web", Client),
                ask(In("guest"), Target::Internet, 80).reaches("far", Client),
                ask(Lan, Target::Host, 8301).reaches("web", Client),
                ask(Lan, Target::Host, 8302).reaches("sharer", Client),
                ask(Host, Target::Loopback, 8302).reaches("sharer", Gateway("bridge")),
                ask(In("peer"), Container("web", "bridge"), 82).reaches("sharer", Client),
                ask(In("sharer"), Container("peer", "bridge"), 80).reaches("peer", Client),
            ]),
        ],
    )
}
