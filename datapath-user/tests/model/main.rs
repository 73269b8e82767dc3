//! Sequences of packets, time and change against small reference models.
//!
//! The path runs natively, and the daemon's planning beside it (`daemon.rs`). The models know nothing of slots, keys or ports to
//! choose: only which conversations exist, and what must be true of any right answer. What is true of any packet and at any time
//! is in `rules.rs`.

mod daemon;
mod masquerade;
mod published;
mod rules;

use std::{fmt::Debug, net::IpAddr};

use datapath_common::{
    abi::{Mutant, Settings, Uplink},
    native::{NativeTables, State},
};
use ipnet::IpNet;
use lab::{
    Mac,
    frame::{Ethernet, IpBuilder},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

const UPLINK: u32 = 2;
/// MAC addresses of the uplink, and of who is behind it.
const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0xff, 1];
const ROUTER_MAC: [u8; 6] = [2, 9, 9, 9, 9, 9];
const SECOND: u64 = 1_000_000_000;
/// A deadline is moved when it is more than a second off, and a flow never ends early: it may live this much longer.
const DOUBT: u64 = 2 * SECOND;
const NETWORKS: [&str; 2] = ["app", "other"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Endpoints 1 and 2 are on one network, 3 is on the other.
const fn network_of(endpoint: u8) -> &'static str {
    NETWORKS[if endpoint < 3 { 0 } else { 1 }]
}

fn subnets_of(network: &str) -> [IpNet; 2] {
    let subnets = if network == NETWORKS[0] { ["10.1.0.0/24", "fd00:1::/64"] } else { ["10.2.0.0/24", "fd00:2::/64"] };
    subnets.map(|text| text.parse().expect("a subnet"))
}

fn inside(v6: bool, endpoint: u8) -> IpAddr {
    let network = if network_of(endpoint) == NETWORKS[0] { 1 } else { 2 };
    ip(&if v6 { format!("fd00:{network}::1{endpoint}") } else { format!("10.{network}.0.1{endpoint}") })
}

fn outside(v6: bool, target: u8) -> IpAddr {
    ip(&if v6 { format!("fd99::{target}") } else { format!("10.99.0.{target}") })
}

fn external(v6: bool) -> IpAddr {
    ip(if v6 { "2001:db8:2::1" } else { "192.0.2.1" })
}

fn ethernet(from: [u8; 6], to: [u8; 6], source: IpAddr, destination: IpAddr) -> IpBuilder {
    Ethernet::new(Mac(from), Mac(to)).ip(source, destination)
}

/// The tables of a host with an uplink, and with room for so many flows. All else is for the daemon to say.
fn tables(settings: Settings, flows: u32) -> NativeTables {
    // As for the daemons of the traffic tests; the path looks at it in builds with the feature only.
    let mutant = std::env::var(lab::MUTANT_VARIABLE).ok();
    let mutant = mutant.map_or(0, |name| Mutant::named(&name).expect("a mutant of this name") as u32);
    let mut state = State { settings: Settings { mutant, ..settings }, ..State::default() };
    let uplink = Uplink {
        link_header: 14,
        mtu: 1_500,
        ipv4: external(false).into(),
        ipv6: external(true).into(),
        ..Uplink::default()
    };
    state.uplinks.insert(UPLINK, uplink);
    for v6 in [false, true] {
        state.host_addresses.insert(external(v6).into(), UPLINK);
    }
    NativeTables::new(state, flows)
}

/// Tries sequences of steps. A failure prints the shortest that still fails.
fn sequences<S: Debug>(step: impl Strategy<Value = S>, test: impl Fn(Vec<S>) -> Result<(), TestCaseError>) {
    // Not persisted: mutation runs fail on purpose. What fails otherwise becomes a test of its own.
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&prop::collection::vec(step, 1..120), test);
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
