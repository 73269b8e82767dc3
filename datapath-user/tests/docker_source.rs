//! The source of what dockerd has, against a dockerd that appears, refuses, lies, dies and comes back.

#[path = "docker_source/dockerd.rs"]
mod dockerd;

use std::sync::Arc;
use std::time::{Duration, Instant};

use datapath_user::docker::{Status, follow};
use datapath_user::model::Inventory;
use dockerd::{Dockerd, Fault, id};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What follows the fake.
struct Source {
    inventory: watch::Receiver<Option<Arc<Inventory>>>,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source {
    fn of(dockerd: &Dockerd) -> Self {
        let (inventory, inventory_seen) = watch::channel(None);
        let (status, status_seen) = watch::channel(Status::default());
        let socket = dockerd.socket();
        let task = tokio::spawn(async move { follow(socket, inventory, status).await });
        Self { inventory: inventory_seen, status: status_seen, task }
    }

    fn now(&self) -> Inventory {
        self.inventory.borrow().as_deref().cloned().expect("dockerd was heard")
    }

    /// Waits until the inventory is so, and says how long it took.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Inventory) -> bool) -> Duration {
        let began = Instant::now();
        let waited = self.inventory.wait_for(|inventory| inventory.as_deref().is_some_and(&is_so));
        if timeout(Duration::from_secs(20), waited).await.is_err() {
            panic!("{what}: not within 20 s, but {:#?}, {:?}", self.inventory.borrow(), self.status.borrow());
        }
        began.elapsed()
    }

    async fn until_status(&mut self, what: &str, is_so: impl Fn(&Status) -> bool) -> Duration {
        let began = Instant::now();
        let waited = self.status.wait_for(is_so);
        if timeout(Duration::from_secs(20), waited).await.is_err() {
            panic!("{what}: not within 20 s, but {:?}", self.status.borrow());
        }
        began.elapsed()
    }
}

fn endpoints(inventory: &Inventory) -> Vec<&str> {
    let mut names: Vec<_> = inventory.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn ports(inventory: &Inventory) -> Vec<String> {
    let show = |port: &datapath_user::model::DockerPort| format!("{}:{}/{}", port.host, port.target, port.protocol);
    let mut ports: Vec<_> = inventory.ports.iter().map(show).collect();
    ports.sort_unstable();
    ports
}

/// A dockerd with the network "app", and a source that has heard it.
async fn with_app() -> (Dockerd, Source) {
    let mut dockerd = Dockerd::new();
    dockerd.world().add_network("app", 1);
    dockerd.start();
    let mut source = Source::of(&dockerd);
    source.until("the network", |inventory| inventory.networks.len() == 1).await;
    (dockerd, source)
}

#[tokio::test]
async fn a_dockerd_that_comes_later() {
    let mut dockerd = Dockerd::new();
    let mut source = Source::of(&dockerd);
    source.until_status("an error", |status| status.last_error.is_some()).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(*source.inventory.borrow(), None, "not heard yet is not the same as empty");
    assert_eq!(source.status.borrow().connected_since, None);
    {
        let mut world = dockerd.world();
        world.add_network("app", 1);
        world.join("web", "app");
        world.run("web", &[(8080, 80)]);
    }
    dockerd.start();
    let took = source.until("all of it", |inventory| inventory.networks.len() == 1).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    let first = source.now();
    assert_eq!(
        (endpoints(&first), ports(&first)),
        (vec!["web"], vec!["8080:80/tcp".to_owned()]),
        "nothing is left for later"
    );
    source.until("aliases", |inventory| inventory.endpoints[0].aliases == ["alias"]).await;
    source.until_status("connected", |status| status.connected_since.is_some()).await;
    let status = source.status.borrow().clone();
    assert_eq!((status.version.as_deref(), status.api_version.as_deref()), (Some("20.10.24"), Some("1.41")));
}

#[tokio::test]
async fn an_empty_dockerd_is_heard() {
    let mut dockerd = Dockerd::new();
    dockerd.start();
    let mut source = Source::of(&dockerd);
    source.until("nothing", |inventory| *inventory == Inventory::default()).await;
}

#[tokio::test]
async fn the_endpoint_is_known_before_the_container_answers() {
    let (dockerd, mut source) = with_app().await;
    let path = format!("/containers/{}/json", id("web"));
    {
        let mut world = dockerd.world();
        world.faults.insert(path.clone(), Fault::Block);
        world.join("web", "app");
        world.run("web", &[(8080, 80), (8081, 81)]);
    }
    dockerd.container_event("start", "web");
    dockerd.network_event("connect", "app", "web");
    source.until("the endpoint", |inventory| endpoints(inventory) == ["web"]).await;
    sleep(Duration::from_millis(100)).await;
    assert!(dockerd.world().asked(&path) == 1, "it was asked, and has not answered");
    assert_eq!(ports(&source.now()), [""; 0]);
    dockerd.world().faults.clear();
    source.until("the ports", |inventory| ports(inventory) == ["8080-8081:80-81/tcp"]).await;
}

#[tokio::test]
async fn containers_that_do_not_answer_delay_no_network() {
    let (dockerd, mut source) = with_app().await;
    for n in 0..40 {
        let name = format!("hung{n}n");
        dockerd.world().faults.insert(format!("/containers/{}/json", id(&name)), Fault::Block);
        dockerd.container_event("start", &name);
    }
    sleep(Duration::from_millis(100)).await;
    dockerd.world().join("web", "app");
    dockerd.network_event("connect", "app", "web");
    let took = source.until("the endpoint", |inventory| endpoints(inventory) == ["web"]).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(dockerd.world().most_at_a_time, 16);
}

#[tokio::test]
async fn from_the_event_to_the_inventory() {
    let (dockerd, mut source) = with_app().await;
    let mut took = Vec::new();
    for n in 0..50 {
        let name = format!("web{n}n");
        dockerd.world().join(&name, "app");
        dockerd.network_event("connect", "app", &name);
        took.push(source.until("the endpoint", |inventory| inventory.endpoints.len() == n + 1).await);
    }
    took.sort_unstable();
    println!("from the event to the inventory: median {:?}, worst {:?}", took[25], took[49]);
    assert!(took[25] < Duration::from_millis(200), "{took:?}");
}

#[tokio::test]
async fn containers_come_and_go() {
    let (dockerd, mut source) = with_app().await;
    dockerd.world().add_network("back", 2);
    dockerd.network_event("create", "back", "");
    source.until("a network", |inventory| inventory.networks.len() == 2).await;

    dockerd.world().join("web", "app");
    dockerd.network_event("connect", "app", "web");
    dockerd.world().run("web", &[(8080, 80)]);
    dockerd.container_event("start", "web");
    source.until("its port", |inventory| ports(inventory) == ["8080:80/tcp"]).await;
    assert_eq!(source.now().ports[0].network, id("app"));

    // Connected while it runs, it publishes by the network whose name comes first; disconnected, by the other.
    dockerd.world().add_network("a", 3);
    dockerd.world().join("web", "a");
    dockerd.world().run("web", &[(8080, 80)]);
    dockerd.network_event("create", "a", "");
    dockerd.network_event("connect", "a", "web");
    source
        .until("the other way", |inventory| inventory.ports.first().is_some_and(|port| port.network == id("a")))
        .await;
    dockerd.world().leave("web", "a");
    dockerd.world().run("web", &[(8080, 80)]);
    dockerd.network_event("disconnect", "a", "web");
    source
        .until("the old way", |inventory| inventory.ports.first().is_some_and(|port| port.network == id("app")))
        .await;

    for action in ["pause", "unpause", "exec_start: sh", "health_status: healthy"] {
        dockerd.container_event(action, "web");
    }
    dockerd.world().networks.get_mut(&id("app")).expect("app")["Containers"][id("web")]["Name"] = "shop".into();
    dockerd.container_event("rename", "web");
    source.until("another name", |inventory| endpoints(inventory) == ["shop"]).await;
    assert_eq!(ports(&source.now()), ["8080:80/tcp"], "a pause takes nothing away");

    // The network goes while the container dies: neither answers any more.
    dockerd.world().networks.remove(&id("app"));
    dockerd.world().containers.remove(&id("web"));
    dockerd.container_event("die", "web");
    dockerd.network_event("disconnect", "app", "web");
    dockerd.network_event("destroy", "app", "");
    dockerd.container_event("destroy", "web");
    source.until("all gone", |inventory| endpoints(inventory).is_empty() && inventory.ports.is_empty()).await;
    source.until("the network gone", |inventory| inventory.networks.len() == 2).await;
    assert!(source.status.borrow().last_error.is_none(), "{:?}", source.status.borrow());
}

#[tokio::test]
async fn events_out_of_order_and_garbage_among_them() {
    let (dockerd, mut source) = with_app().await;
    dockerd.world().join("web", "app");
    dockerd.world().run("web", &[(8080, 80)]);
    dockerd.network_event("disconnect", "app", "web");
    dockerd.container_event("die", "web");
    dockerd.container_event("destroy", "other");
    dockerd.network_event("destroy", "app", "");
    dockerd.network_event("connect", "nowhere", "web");
    dockerd.event("container", "start", "../../version", serde_json::json!({}));
    dockerd.event("network", "connect", "", serde_json::json!(null));
    dockerd.say("{}");
    dockerd.say(r#"{"Type":"container","Action":"start","Actor":null}"#);
    source.until("the truth", |inventory| ports(inventory) == ["8080:80/tcp"]).await;
    assert_eq!((endpoints(&source.now()), source.now().networks.len()), (vec!["web"], 1));
    assert!(dockerd.world().asked.iter().all(|path| !path.contains("..")));

    let since = source.status.borrow().clone();
    dockerd.say("this is no JSON");
    source.until_status("it is noticed", |status| status.last_error.is_some() && since.last_error.is_none()).await;
    dockerd.world().join("db", "app");
    dockerd.network_event("connect", "app", "db");
    source.until("followed again", |inventory| endpoints(inventory) == ["db", "web"]).await;
}

#[tokio::test]
async fn refused_the_last_inventory_stays() {
    for (path, fault) in [
        ("/version", Fault::Refuse),
        ("/version", Fault::Garbage),
        ("/events", Fault::Refuse),
        ("/events", Fault::Garbage),
        ("/networks", Fault::Refuse),
        ("/networks", Fault::Garbage),
        ("/containers/json", Fault::Refuse),
        ("/containers/json", Fault::Garbage),
    ] {
        let (dockerd, mut source) = with_app().await;
        let before = source.now();
        dockerd.world().add_network("back", 2);
        dockerd.world().faults.insert(path.to_owned(), fault);
        dockerd.cut();
        source.until_status("an error", |status| status.last_error.is_some()).await;
        sleep(Duration::from_millis(300)).await;
        // A stream of events that is refused leaves the lists, which may be heard first.
        if path != "/events" {
            assert_eq!(source.now(), before, "{path}");
            assert_eq!(source.status.borrow().connected_since, None, "{path}");
        }
        dockerd.world().faults.clear();
        let took = source.until("healed", |inventory| inventory.networks.len() == 2).await;
        assert!(took < Duration::from_secs(2), "{path}: {took:?}");
    }
}

#[tokio::test]
async fn one_network_that_is_refused_leaves_the_others() {
    let (dockerd, mut source) = with_app().await;
    {
        let mut world = dockerd.world();
        world.add_network("bad", 2);
        world.add_network("good", 3);
        world.faults.insert(format!("/networks/{}", id("bad")), Fault::Refuse);
        world.faults.insert(format!("/containers/{}/json", id("odd")), Fault::Garbage);
        world.join("odd", "good");
        world.run("odd", &[(8080, 80)]);
    }
    dockerd.network_event("create", "bad", "");
    dockerd.network_event("create", "good", "");
    dockerd.container_event("start", "odd");
    source.until("the good one", |inventory| inventory.networks.len() == 2).await;
    source.until("what is not told is taken from the list", |inventory| ports(inventory) == ["8080:80/tcp"]).await;
    // Healed without an event, and changed without one: the next look finds both.
    {
        let mut world = dockerd.world();
        world.faults.clear();
        world.join("web", "app");
        world.run("web", &[(9090, 90)]);
    }
    source.until("the bad one too", |inventory| inventory.networks.len() == 3).await;
    source.until("the missed one", |inventory| ports(inventory) == ["8080:80/tcp", "9090:90/tcp"]).await;
    dockerd.world().leave("web", "app");
    dockerd.world().containers.remove(&id("web"));
    dockerd.container_event("destroy", "web");
    source.until("gone", |inventory| endpoints(inventory) == ["odd"]).await;
    assert!(source.status.borrow().connected_since.is_some());
}

#[tokio::test]
async fn a_dockerd_that_dies_and_comes_back() {
    let (mut dockerd, mut source) = with_app().await;
    {
        let mut world = dockerd.world();
        for name in ["stays", "dies"] {
            world.join(name, "app");
        }
        world.run("stays", &[(8080, 80)]);
        world.run("dies", &[(8081, 81)]);
    }
    for name in ["stays", "dies"] {
        dockerd.network_event("connect", "app", name);
        dockerd.container_event("start", name);
    }
    source.until("both", |inventory| inventory.ports.len() == 2).await;
    dockerd.kill();
    source.until_status("it is noticed", |status| status.connected_since.is_none()).await;
    sleep(Duration::from_millis(700)).await;
    assert_eq!(endpoints(&source.now()), ["dies", "stays"], "containers may go on running");
    {
        let mut world = dockerd.world();
        world.leave("dies", "app");
        world.containers.remove(&id("dies"));
        world.add_network("new", 2);
        world.join("new", "new");
        world.run("new", &[(8082, 82)]);
    }
    let mut seen = source.inventory.clone();
    seen.mark_unchanged();
    dockerd.start();
    let took = source.until("what is new", |inventory| inventory.networks.len() == 2).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(endpoints(&source.now()), ["new", "stays"]);
    assert_eq!(ports(&source.now()), ["8080:80/tcp", "8082:82/tcp"], "at once, without a gap");
}

#[tokio::test]
async fn a_thousand_containers_at_once() {
    const MANY: usize = 1_000;
    let (dockerd, mut source) = with_app().await;
    dockerd.world().add_network("back", 2);
    dockerd.network_event("create", "back", "");
    source.until("both", |inventory| inventory.networks.len() == 2).await;
    dockerd.world().asked.clear();
    let began = Instant::now();
    for n in 0..MANY {
        let (name, network) = (format!("c{n}n"), if n % 2 == 0 { "app" } else { "back" });
        dockerd.world().join(&name, network);
        dockerd.world().run(&name, &[(10_000 + 2 * n as u16, 80)]);
        dockerd.network_event("connect", network, &name);
        dockerd.container_event("start", &name);
        if n % 20 == 0 {
            tokio::task::yield_now().await;
        }
    }
    source.until("all endpoints", |inventory| inventory.endpoints.len() == MANY).await;
    let endpoints_after = began.elapsed();
    source.until("all ports", |inventory| inventory.ports.len() == MANY).await;
    let took = began.elapsed();
    let world = dockerd.world();
    let (inspections, networks) = (world.asked("/containers/c"), world.asked("/networks/"));
    println!(
        "{MANY} containers: endpoints after {endpoints_after:?}, ports after {took:?}, {inspections} inspections, {networks} of networks"
    );
    assert!((MANY..=MANY + 50).contains(&inspections), "{inspections}");
    assert!(networks <= MANY, "asked for networks {networks} times");
    assert!(world.most_at_a_time <= 16, "{} at a time", world.most_at_a_time);
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test]
async fn names_with_every_byte() {
    let mut dockerd = Dockerd::new();
    let odd: String = (1..128).chain([0xe9, 0x2028, 0x1f433]).filter_map(char::from_u32).collect();
    {
        let mut world = dockerd.world();
        world.add_network("app", 1);
        world.networks.get_mut(&id("app")).expect("app")["Name"] = odd.clone().into();
        world.join("web", "app");
        world.networks.get_mut(&id("app")).expect("app")["Containers"][id("web")]["Name"] = odd.clone().into();
        world.run("web", &[(8080, 80)]);
    }
    dockerd.start();
    let mut source = Source::of(&dockerd);
    source.until("the port", |inventory| inventory.ports.len() == 1).await;
    let inventory = source.now();
    assert_eq!((&inventory.networks[0].name, &inventory.endpoints[0].name), (&odd, &odd));
}
