//! The control of everything the datapath is tested for: dockerd as it is told to be for it, and nobody in its place.

use lab::docker::{Release, Rules};

use crate::attempt::{Place, Seen, Target, V4, ask};
use crate::runner::run_in;
use crate::scenario::{Scenario, Step, run};
use crate::scene::Scene;

use Place::{Host, In, Lan};
use Seen::Client;
use Target::Container;

/// Nothing is published, nothing is translated, nothing is kept apart.
#[test]
fn without_rules_nothing_is_delivered_and_nothing_refused() {
    let scene = Scene::without_daemon().unwrap_or_else(|error| panic!("the scene stands: {error:#}"));
    assert_eq!(scene.rules, Rules::Datapath);
    let web = Container("web", "bridge");
    let from_inner = ask(In("inner"), web, 80);
    // 28 gives containers of internal networks no route.
    let routed = Release::current() < Release::V28;
    let from_inner = if routed { from_inner.reaches("web", Client) } else { from_inner.fails() };
    let steps = vec![
        Step::Docker("network create --internal secret"),
        Step::Docker("network create -o com.docker.network.bridge.enable_icc=false quiet"),
        run("web", "-p 8080:80 -p 8080:80/udp"),
        run("inner", "--network secret"),
        run("one", "--network quiet"),
        run("two", "--network quiet"),
        Step::Try(vec![
            // dockerd itself listens, accepts, and says nothing.
            ask(Lan, Target::Host, 8080).fails(),
            ask(Host, Target::Loopback, 8080).fails(),
            ask(Host, Target::Host, 8080).fails(),
            ask(In("one"), Target::Host, 8080).fails().families(V4),
            ask(Lan, web, 80).reaches("web", Client),
            ask(Lan, web, 81).reaches("web", Client),
            ask(In("two"), Container("one", "quiet"), 80).reaches("one", Client).families(V4),
            ask(In("two"), web, 80).reaches("web", Client).families(V4),
            from_inner.families(V4),
            // Not masqueraded; it is answered because the LAN knows a way to it.
            ask(In("web"), Target::Internet, 80).reaches("far", Client),
        ]),
    ];
    run_in(&scene, &Scenario::new("nobody makes rules", steps).routing_outside());
}
