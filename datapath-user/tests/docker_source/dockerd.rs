//! A dockerd that answers what the test says, on a socket in a directory of its own.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How a request is spoilt.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    /// Answered with status 500.
    Refuse,
    /// Answered with what is no JSON.
    Garbage,
    /// Not answered while this lasts.
    Block,
}

/// What the fake has, and what it was asked.
#[derive(Default)]
pub struct World {
    /// Answers to `/networks/{id}`.
    pub networks: BTreeMap<String, Value>,
    /// Answers to `/containers/{id}/json`.
    pub containers: BTreeMap<String, Value>,
    /// Faults by path.
    pub faults: HashMap<String, Fault>,
    /// All paths asked for.
    pub asked: Vec<String>,
    /// Most inspections of containers under way at a time.
    pub most_at_a_time: usize,
    at_a_time: usize,
    events: Vec<(f64, String)>,
    endpoints: usize,
}

/// The fake. What it has outlives its restarts.
pub struct Dockerd {
    directory: tempfile::TempDir,
    world: Arc<Mutex<World>>,
    /// Changes with each event; `false` ends all streams.
    news: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    world: Arc<Mutex<World>>,
    news: watch::Receiver<bool>,
}

/// An id of dockerd's length.
pub fn id(text: &str) -> String {
    format!("{text:0<64}")
}

impl Dockerd {
    /// Not started yet.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory, world: Arc::default(), news: watch::Sender::new(true), server: None }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panicked")
    }

    pub fn start(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).expect("a socket");
        self.news.send_replace(true);
        let shared = Shared { world: self.world.clone(), news: self.news.subscribe() };
        let router = Router::new().fallback(answer).with_state(shared);
        self.server = Some(tokio::spawn(async { axum::serve(listener, router).await.expect("it serves") }));
    }

    /// As `kill -9` does: streams end, and the socket stays but refuses.
    pub fn kill(&mut self) {
        self.server.take().expect("it runs").abort();
        self.cut();
    }

    /// Ends all streams of events.
    pub fn cut(&self) {
        self.news.send_replace(false);
        if self.server.is_some() {
            let news = self.news.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                news.send_replace(true);
            });
        }
    }

    /// Sends an event of a container or a network.
    pub fn event(&self, kind: &str, action: &str, of: &str, attributes: Value) {
        let event =
            json!({"Type": kind, "Action": action, "Actor": {"ID": of, "Attributes": attributes}, "scope": "local"});
        self.say(&event.to_string());
    }

    /// Sends a line among the events.
    pub fn say(&self, line: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64();
        self.world().events.push((now, format!("{line}\n")));
        self.news.send_replace(true);
    }

    pub fn network_event(&self, action: &str, network: &str, container: &str) {
        self.event("network", action, &id(network), json!({"type": "bridge", "container": id(container)}));
    }

    pub fn container_event(&self, action: &str, container: &str) {
        self.event("container", action, &id(container), json!({"name": container}));
    }
}

impl World {
    pub fn add_network(&mut self, name: &str, third: u8) {
        let network = json!({"Name": name, "Id": id(name), "Scope": "local", "Driver": "bridge", "EnableIPv6": false,
            "IPAM": {"Config": [{"Subnet": format!("10.{third}.0.0/16"), "Gateway": format!("10.{third}.0.1")}]},
            "Internal": false, "Options": {}, "Labels": {}, "Containers": {}});
        self.networks.insert(id(name), network);
    }

    /// Gives a container an endpoint, as dockerd does before it starts the process.
    pub fn join(&mut self, container: &str, network: &str) {
        self.endpoints += 1;
        let n = self.endpoints;
        let network = self.networks.get_mut(&id(network)).expect("the network");
        let subnet = network["IPAM"]["Config"][0]["Subnet"].as_str().expect("a subnet").to_owned();
        let first: Vec<_> = subnet.split('.').take(2).collect();
        network["Containers"][id(container)] = json!({"Name": container, "EndpointID": id(&format!("e{n}x")),
            "MacAddress": format!("02:42:00:00:{:02x}:{:02x}", n / 256, n % 256),
            "IPv4Address": format!("{}.{}.{}/16", first.join("."), n / 250, n % 250 + 2), "IPv6Address": ""});
    }

    pub fn leave(&mut self, container: &str, network: &str) {
        let network = self.networks.get_mut(&id(network)).expect("the network");
        network["Containers"].as_object_mut().expect("a map").remove(&id(container));
    }

    /// Lets a container run, with these published ports, on the networks it has joined.
    pub fn run(&mut self, container: &str, ports: &[(u16, u16)]) {
        let joined: serde_json::Map<_, _> = self
            .networks
            .values()
            .filter_map(|network| {
                let endpoint = network["Containers"].get(id(container))?;
                let settings = json!({"NetworkID": network["Id"], "EndpointID": endpoint["EndpointID"],
                    "Gateway": network["IPAM"]["Config"][0]["Gateway"], "Aliases": ["alias", id(container)[..12]]});
                Some((network["Name"].as_str()?.to_owned(), settings))
            })
            .collect();
        let ports: serde_json::Map<_, _> = ports
            .iter()
            .map(|(host, port)| (format!("{port}/tcp"), json!([{"HostIp": "0.0.0.0", "HostPort": host.to_string()}])))
            .collect();
        let inspected = json!({"Id": id(container), "Name": format!("/{container}"),
            "State": {"Status": "running", "Running": true}, "NetworkSettings": {"Ports": ports, "Networks": joined}});
        self.containers.insert(id(container), inspected);
    }

    /// How often paths that begin so were asked for.
    pub fn asked(&self, start: &str) -> usize {
        self.asked.iter().filter(|path| path.starts_with(start)).count()
    }

    fn list_of_containers(&self) -> Value {
        self.containers
            .values()
            .filter(|container| container["State"]["Running"] == true)
            .map(|container| {
                let ports = container["NetworkSettings"]["Ports"].as_object().expect("a map");
                let ports = ports.iter().map(|(port, bindings)| {
                    let (port, protocol) = port.split_once('/').expect("a port");
                    let host: u16 = bindings[0]["HostPort"].as_str().expect("a port").parse().expect("a port");
                    json!({"IP": bindings[0]["HostIp"], "PrivatePort": port.parse::<u16>().expect("a port"),
                        "PublicPort": host, "Type": protocol})
                });
                json!({"Id": container["Id"], "Names": [container["Name"]], "State": "running",
                    "Ports": ports.collect::<Vec<_>>(),
                    "NetworkSettings": {"Networks": container["NetworkSettings"]["Networks"]}})
            })
            .collect()
    }

    fn find(&self, path: &str) -> Option<Value> {
        if let Some(network) = path.strip_prefix("/networks/") {
            return self.networks.get(network).cloned();
        }
        match path {
            "/version" => Some(json!({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"})),
            "/networks" => Some(self.networks.values().cloned().collect()),
            "/containers/json" => Some(self.list_of_containers()),
            _ => self.containers.get(path.strip_prefix("/containers/")?.strip_suffix("/json")?).cloned(),
        }
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response<Body> {
    let path = request.uri().path();
    let versioned = path.strip_prefix("/v1.41");
    assert!(versioned.is_some() || path == "/version", "{path} is asked for without the version that was agreed on");
    let path = versioned.unwrap_or(path).to_owned();
    let inspects = path.starts_with("/containers/") && path != "/containers/json";
    {
        let mut world = shared.world.lock().expect("no test panicked");
        world.asked.push(path.clone());
        world.at_a_time += usize::from(inspects);
        world.most_at_a_time = world.most_at_a_time.max(world.at_a_time);
    }
    let response = spoilt(&shared, &path, request.uri().query().unwrap_or_default()).await;
    shared.world.lock().expect("no test panicked").at_a_time -= usize::from(inspects);
    response
}

async fn spoilt(shared: &Shared, path: &str, query: &str) -> Response<Body> {
    let fault = |path: &str| shared.world.lock().expect("no test panicked").faults.get(path).copied();
    while fault(path) == Some(Fault::Block) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (status, body) = match fault(path) {
        Some(Fault::Refuse) => (500, Body::from(r#"{"message":"the fake refuses"}"#)),
        Some(Fault::Garbage) => (200, Body::from(r#"[{"Id": 7, "#)),
        _ if path == "/events" => (200, events(shared.clone(), query)),
        _ => match shared.world.lock().expect("no test panicked").find(path) {
            Some(found) => (200, Body::from(found.to_string())),
            None => (404, Body::from(r#"{"message":"no such thing"}"#)),
        },
    };
    Response::builder()
        .status(StatusCode::from_u16(status).expect("a status"))
        .header("content-type", "application/json")
        .body(body)
        .expect("an answer")
}

/// Events from `since` on, for ever. Lines that are no JSON are said once.
fn events(mut shared: Shared, query: &str) -> Body {
    let since =
        query.split('&').find_map(|part| part.strip_prefix("since=")).and_then(|since| since.parse::<f64>().ok());
    let since = since.expect("the source says since when");
    assert!(query.contains("filters="), "the source asks for containers and networks only");
    shared.news.borrow_and_update();
    Body::from_stream(futures::stream::unfold((shared, 0, since), |(mut shared, mut next, since)| async move {
        loop {
            let events: Vec<_> = {
                let mut world = shared.world.lock().expect("no test panicked");
                let from = next.min(world.events.len());
                let news = world.events.split_off(from);
                world
                    .events
                    .extend(news.iter().filter(|(_, line)| serde_json::from_str::<Value>(line).is_ok()).cloned());
                next = world.events.len();
                news.into_iter().filter(|(time, _)| *time >= since).map(|(_, line)| line).collect()
            };
            if !events.is_empty() {
                return Some((Ok::<_, std::io::Error>(Bytes::from(events.concat())), (shared, next, since)));
            }
            shared.news.changed().await.ok()?;
            if !*shared.news.borrow_and_update() {
                return None;
            }
        }
    }))
}
