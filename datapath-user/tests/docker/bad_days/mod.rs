//! Bad days: what is killed, late, gone, garbled or in the way.

mod churn;
mod first_packet;
mod in_the_way;
mod kills;
mod socket;
mod watch;

use std::net::{IpAddr, SocketAddr};

use lab::client::Client;
use lab::docker::{DockerContainer, DockerdOptions, Rules};
use lab::{Family, Namespace, Protocol};

use crate::converged;
use crate::runner::REFUSAL;
use crate::scene::Scene;

const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

/// A scene with the datapath, whose containers outlive dockerd.
#[track_caller]
fn live_restore() -> Scene {
    start(DockerdOptions::new(Rules::Datapath).with_live_restore())
}

#[track_caller]
fn start(options: DockerdOptions) -> Scene {
    Scene::with(options).unwrap_or_else(|error| panic!("the scene stands: {error:#}"))
}

/// A container with the echo server on port 80.
#[track_caller]
fn serve(scene: &Scene, name: &str, options: &str) -> DockerContainer {
    scene.docker.serve(name, options, &[80]).unwrap_or_else(|error| panic!("{name}: {error:#}"))
}

#[track_caller]
fn docker(scene: &Scene, line: &str) -> String {
    scene.docker.line(line).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The daemon tells what Docker does, soon.
#[track_caller]
fn converge(scene: &Scene) {
    converged::wait(scene).unwrap_or_else(|error| panic!("{error:#}\n{}", crate::checks::picture(scene)));
}

/// This server answers, by both families and all protocols.
#[track_caller]
fn reach(from: &Namespace, targets: &[IpAddr], port: u16, server: &str) {
    for (target, protocol) in each(targets, port) {
        match Client::new(from).exchange(protocol, target) {
            Ok(exchange) => assert_eq!(exchange.server, server, "{target} by {protocol:?}"),
            Err(error) => panic!("{target} by {protocol:?} from {}: {error}", from.name()),
        }
    }
}

/// Nobody answers.
#[track_caller]
fn fail(from: &Namespace, targets: &[IpAddr], port: u16) {
    for (target, protocol) in each(targets, port).filter(|(_, protocol)| *protocol != Protocol::ConnectedUdp) {
        if let Ok(exchange) = Client::new(from).timeout(REFUSAL).exchange(protocol, target) {
            panic!("{target} by {protocol:?} from {} must fail, but: {exchange:?}", from.name());
        }
    }
}

fn each(targets: &[IpAddr], port: u16) -> impl Iterator<Item = (SocketAddr, Protocol)> {
    targets.iter().flat_map(move |target| Protocol::ALL.map(|protocol| (SocketAddr::new(*target, port), protocol)))
}

fn both(pair: [&str; 2]) -> [IpAddr; 2] {
    Family::ALL.map(|family| family.of(pair))
}
