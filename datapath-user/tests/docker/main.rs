//! Docker: a real dockerd, and everything that people do with it. `DATAPATH_TEST_DOCKER` names the release.
//!
//! Every scenario is run twice: with stock dockerd, its own rules and docker-proxy, which shows that the scenario tests
//! what it says (where dockerd is vulnerable or different, the attempt names how); and with the datapath in their place.

mod attempt;
mod bad_days;
mod checks;
mod control;
mod converged;
mod runner;
mod scenario;
mod scenarios;
mod scene;

use lab::docker::{Release, Rules};
use runner::run_all;
use scenario::Scenario;
use scenarios as list;

fn networks() -> Vec<Scenario> {
    let mut scenarios = vec![
        list::default_bridge(),
        list::ipv4_only(),
        list::internal(),
        list::icc_off(),
        list::no_masquerade(),
        list::routed(),
    ];
    if Release::current() >= Release::V28 {
        scenarios.extend([list::one_mode_each(), list::unprotected(), list::isolated(), list::ipv6_only()]);
    }
    scenarios
}

fn containers() -> Vec<Scenario> {
    let mut scenarios = vec![
        list::addresses(),
        list::ranges_and_free_ports(),
        list::several_networks(),
        list::shared_namespaces(),
        list::lifecycle(),
        list::links(),
        list::compose(),
    ];
    if Release::current() >= Release::V28 {
        scenarios.extend([list::gateway_priority(), list::interface_name()]);
    }
    scenarios
}

#[test]
fn stock_networks() {
    run_all(Rules::Stock, &networks());
}

#[test]
fn stock_containers() {
    run_all(Rules::Stock, &containers());
}

#[test]
fn datapath_networks() {
    run_all(Rules::Datapath, &networks());
}

#[test]
fn datapath_containers() {
    run_all(Rules::Datapath, &containers());
}
