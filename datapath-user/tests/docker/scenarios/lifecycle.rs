//! Pause, restart, rename, update, stop and start; and links, which Docker has not forgotten.

use crate::attempt::{Place, Seen, Target, ask};
use crate::scenario::{Scenario, Step, run};

use Place::{Host, In, Lan};
use Seen::{Client, Gateway};
use Target::Container;

/// From outside, from the host and from a sibling.
fn reached(server: &'static str, port: u16) -> Step {
    Step::Try(vec![
        ask(Lan, Target::Host, port).reaches(server, Client),
        ask(Host, Target::Loopback, port).reaches(server, Gateway("bridge")),
        ask(Host, Target::Host, port).reaches(server, Client),
    ])
}

fn refused(port: u16) -> Step {
    Step::Try(vec![
        ask(Lan, Target::Host, port).fails(),
        ask(Host, Target::Loopback, port).fails(),
        ask(Host, Target::Host, port).fails(),
    ])
}

pub fn lifecycle() -> Scenario {
    Scenario::new(
        "life of a container",
        vec![
            run("web", "-p 8401:80 -p 8401:80/udp"),
            reached("web", 8401),
            Step::Docker("restart web"),
            reached("web", 8401),
            Step::Docker("rename web alpha"),
            reached("web", 8401),
            Step::Docker("update --cpu-shares 512 alpha"),
            reached("web", 8401),
            Step::Docker("pause alpha"),
            Step::Try(vec![
                ask(Lan, Target::Host, 8401).hangs(),
                ask(Host, Target::Loopback, 8401).hangs(),
                ask(Host, Target::Host, 8401).hangs(),
            ]),
            Step::Docker("unpause alpha"),
            reached("web", 8401),
            Step::Docker("stop alpha"),
            refused(8401),
            // Its address goes to another one, its port comes back with it.
            run("peer", ""),
            Step::Docker("start alpha"),
            reached("web", 8401),
            Step::Try(vec![
                ask(In("peer"), Container("alpha", "bridge"), 80).reaches("web", Client),
                ask(In("alpha"), Container("peer", "bridge"), 80).reaches("peer", Client),
            ]),
            Step::Docker("rm --force alpha"),
            refused(8401),
            run("third", "-p 8401:80 -p 8401:80/udp"),
            reached("third", 8401),
        ],
    )
}

pub fn links() -> Scenario {
    Scenario::new(
        "links",
        vec![
            run("web", ""),
            run("peer", "--link web:store"),
            Step::Resolve("peer", "store", ("web", "bridge")),
            Step::Try(vec![
                ask(In("peer"), Container("web", "bridge"), 80).reaches("web", Client),
                ask(In("web"), Container("peer", "bridge"), 80).reaches("peer", Client),
            ]),
        ],
    )
}
