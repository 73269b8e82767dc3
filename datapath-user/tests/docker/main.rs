//! Docker: a real dockerd 20.10, and everything that people do with it.
//!
//! Every scenario is run twice: with stock dockerd, its own rules and docker-proxy, which shows that the scenario tests
//! what it says (where 20.10 is vulnerable or different, the attempt names how); and with the datapath in their place.

mod attempt;
mod bad_days;
mod checks;
mod control;
mod converged;
mod runner;
mod scenario;
mod scenarios;
mod scene;

use lab::docker::Rules;
use runner::run_all;
use scenario::Scenario;
use scenarios as list;

fn networks() -> Vec<Scenario> {
    vec![
        list::default_bridge(),
        list::ipv4_only(),
        list::internal(),
        list::icc_off(),
        list::no_masquerade(),
        list::gateway_modes(),
    ]
}

fn containers() -> Vec<Scenario> {
    vec![
        list::addresses(),
        list::ranges_and_free_ports(),
        list::several_networks(),
        list::shared_namespaces(),
        list::lifecycle(),
        list::links(),
        list::compose(),
    ]
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
