//! Running scenarios.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::capture::send_frames;
use lab::client::Client;
use lab::docker::{Release, Rules};
use lab::frame::Ethernet;
use lab::{Capture, Family, Lan, Namespace, Protocol};

use crate::attempt::{Attempt, Outcome, Place, Seen, Target};
use crate::checks;
use crate::converged;
use crate::scenario::{Scenario, Step};
use crate::scene::Scene;

/// What is refused is waited for this long, and not longer.
pub const REFUSAL: Duration = Duration::from_millis(400);

/// Runs all scenarios one after the other, each on an empty dockerd.
#[track_caller]
pub fn run_all(rules: Rules, scenarios: &[Scenario]) {
    let scene = Scene::start(rules).unwrap_or_else(|error| panic!("the scene stands: {error:#}"));
    for scenario in scenarios {
        run_in(&scene, scenario);
    }
}

/// Runs a scenario on an empty dockerd, and empties it again.
#[track_caller]
pub fn run_in(scene: &Scene, scenario: &Scenario) {
    let start = Instant::now();
    if let Err(error) = run(scene, scenario) {
        panic!("scenario {:?}, {:?}: {error:#}\n{}", scenario.name, scene.rules, checks::picture(scene));
    }
    println!("{:6.1} s  {}", start.elapsed().as_secs_f32(), scenario.name);
}

fn run(scene: &Scene, scenario: &Scenario) -> Result<()> {
    let uplink = Capture::start(&scene.lan.machine, Lan::TO_HOST)?;
    let folder = tempfile::Builder::new().prefix("datapath-lab-").tempdir()?;
    let file = folder.path().join("docker-compose.yml");
    std::fs::write(&file, scenario.compose)?;
    for (number, step) in scenario.steps.iter().enumerate() {
        let what = || format!("step {}", number + 1);
        match step {
            Step::Docker(line) => scene.docker.line(line).map(drop).with_context(what)?,
            Step::Run(name, options, ports) => scene.docker.serve(name, options, ports).map(drop).with_context(what)?,
            Step::Try(attempts) => try_all(scene, attempts).with_context(what)?,
            Step::Resolve(from, name, (server, network)) => {
                resolve(scene, from, name, server, network).with_context(what)?;
            }
            Step::Unknown(from, name) => unknown(scene, from, name).with_context(what)?,
            Step::Compose(line) => {
                scene.docker.compose("shop", &file, line.split_whitespace()).map(drop).with_context(what)?;
            }
            Step::LoopbackFromNeighbour(port, server) => {
                let expected = scene.rules == Rules::Stock && Release::current() < Release::V28;
                loopback_from_neighbour(scene, *port, server, expected).with_context(what)?;
            }
        }
    }
    checks::after(scene, scenario, uplink)?;
    scene.docker.remove_everything()
}

/// One exchange: an attempt by one family and one protocol.
struct Try<'a> {
    attempt: &'a Attempt,
    outcome: Outcome,
    target: SocketAddr,
    protocol: Protocol,
    published: bool,
}

/// All attempts at once; every one that ends otherwise than expected is told.
fn try_all(scene: &Scene, attempts: &[Attempt]) -> Result<()> {
    scene.refresh()?;
    converged::wait(scene)?;
    let tries = prepare(scene, attempts)?;
    ensure!(!tries.is_empty(), "nothing was tried");
    let before = checks::published_flows(scene)?;
    let wrong: Vec<String> = thread::scope(|scope| {
        let started: Vec<_> = tries.iter().map(|each| scope.spawn(|| make(scene, each))).collect();
        started.into_iter().filter_map(|thread| thread.join().unwrap_or_else(|_| Some("panicked".to_owned()))).collect()
    });
    if !wrong.is_empty() {
        bail!("{} of {} attempts:\n  {}", wrong.len(), tries.len(), wrong.join("\n  "));
    }
    let reached = tries.iter().filter(|each| each.published && each.outcome != Outcome::Refused).count();
    checks::published_counted(scene, before, reached)
}

fn prepare<'a>(scene: &Scene, attempts: &'a [Attempt]) -> Result<Vec<Try<'a>>> {
    let published = checks::published_ports(scene)?;
    let mut tries = Vec::new();
    for attempt in attempts {
        let outcome = attempt.expected(scene.rules);
        for family in attempt.families {
            for protocol in attempt.protocols {
                // A connected socket is refused like any other.
                if matches!(outcome, Outcome::Refused | Outcome::Unanswered) && *protocol == Protocol::ConnectedUdp {
                    continue;
                }
                let target = scene.address(attempt.to, *family)?;
                let target = target.with_context(|| format!("{:?} has no address of {family:?}", attempt.to))?;
                let port = scene.port(attempt.port, *protocol)?;
                let published = attempt.routed
                    || attempt.asks_the_host() && published.contains(&(port, *protocol == Protocol::Tcp));
                let target = SocketAddr::new(target, port);
                tries.push(Try { attempt, outcome, target, protocol: *protocol, published });
            }
        }
    }
    Ok(tries)
}

impl Try<'_> {
    /// Whether the answer of docker-proxy comes from where the client has asked.
    fn is_heard(&self) -> bool {
        self.protocol == Protocol::Tcp
            || Release::current() >= Release::V28
            || matches!(self.attempt.to, Target::Gateway(_) | Target::Loopback)
            || self.attempt.from == Place::Lan
    }
}

fn reaches(scene: &Scene, each: &Try<'_>, from: &Namespace, server: &str, seen: Seen) -> Result<()> {
    let seen = scene.seen(seen, from, each.target)?;
    let exchange = Client::new(from).exchange(each.protocol, each.target)?;
    ensure!(exchange.server == server, "reached {} instead of {server}", exchange.server);
    ensure!(exchange.seen.ip() == seen, "{server} saw {} instead of {seen}", exchange.seen);
    ensure!(exchange.peer == each.target, "the answer came from {}", exchange.peer);
    Ok(())
}

/// Makes one exchange; returns what was wrong with it.
fn make(scene: &Scene, each: &Try<'_>) -> Option<String> {
    let result = scene.at(each.attempt.from, |from| match each.outcome {
        Outcome::Reached(server, seen) => reaches(scene, each, from, server, seen),
        Outcome::Proxied(server, seen) if each.is_heard() => reaches(scene, each, from, server, seen),
        Outcome::Refused | Outcome::Unanswered | Outcome::Proxied(..) => {
            match Client::new(from).timeout(REFUSAL).exchange(each.protocol, each.target) {
                Ok(exchange) if exchange.peer == each.target => {
                    bail!("must fail, but reached {} as {}", exchange.server, exchange.seen)
                }
                _ => Ok(()),
            }
        }
    });
    let error = result.and_then(|inner| inner).err()?;
    let (attempt, protocol) = (each.attempt, each.protocol);
    Some(format!("{:?} -> {:?} ({}) by {protocol:?}: {error:#}", attempt.from, attempt.to, each.target))
}

/// Asks the container's own resolver, as its C library would: /etc/hosts first, then Docker's server.
fn resolve(scene: &Scene, from: &str, name: &str, server: &str, network: &str) -> Result<()> {
    let wanted = scene.docker.container(server)?.addresses(network);
    let said = look_up(scene, from, name)?;
    ensure!(wanted.iter().any(|address| said.contains(&address.to_string())), "{name} in {from} is {wanted:?}: {said}");
    Ok(())
}

fn unknown(scene: &Scene, from: &str, name: &str) -> Result<()> {
    let said = look_up(scene, from, name)?;
    ensure!(!said.contains("Address 1") && !said.contains("Name:"), "{name} is known in {from}: {said}");
    Ok(())
}

fn look_up(scene: &Scene, from: &str, name: &str) -> Result<String> {
    let hosts = scene.docker.command(["exec", from, "/bin/cat", "/etc/hosts"])?;
    if let Some(line) = hosts.lines().find(|line| line.split_whitespace().skip(1).any(|word| word == name)) {
        return Ok(line.to_owned());
    }
    let output = scene.docker.output(["exec", from, "/bin/timeout", "-s", "KILL", "1", "/bin/nslookup", name])?;
    // Docker answers at once what it knows, and asks others for what it does not. Without the lines on the server.
    Ok(output.stdout.lines().skip_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"))
}

/// Datagrams for 127.0.0.1 from a machine of the LAN, as anybody on the wire can send them.
fn loopback_from_neighbour(scene: &Scene, port: u16, server: &str, expected: bool) -> Result<()> {
    let container = scene.docker.container(server)?;
    let capture = Capture::start(&container.namespace, "eth0")?;
    let machine: &Namespace = &scene.lan.machine;
    let macs = (machine.mac(Lan::TO_HOST)?, scene.namespace().mac("up0")?);
    let source = Family::V4.of(Lan::MACHINE);
    let frame =
        Ethernet::new(macs.0, macs.1).ip(source, Family::V4.of(["127.0.0.1", "::1"])).udp(4000, port, b"inside job");
    send_frames(machine, Lan::TO_HOST, &[frame])?;
    let reached = capture.wait_for(REFUSAL, |frame| frame.view.payload == b"inside job").is_some();
    ensure!(
        reached == expected,
        "a frame for 127.0.0.1:{port} from the LAN: reached {server} {reached}, not {expected}"
    );
    Ok(())
}

impl Attempt {
    /// Whether it goes to an address of the host, where ports are published.
    fn asks_the_host(&self) -> bool {
        use crate::attempt::Target::{Gateway, Host, Loopback, Second};
        matches!(self.to, Loopback | Host | Second | Gateway(_)) && self.from != Place::In("none")
    }
}
