//! Differential test: the same packets to two hosts, the real daemon's and Linux bridges with nftables (the oracle). What
//! arrives where must be the same, but for the documented differences (`difference/documented.rs`).
//!
//! `DATAPATH_DIFFERENTIAL` is the number of packets, `DATAPATH_DIFFERENTIAL_SEED` the seed of the first world.
//! Each world is built afresh after [`WORLD`] packets, with a seed of its own, so that a failure is repeated alone.

mod canonical;
mod difference;
mod exchange;
mod fixture;
mod grammar;
mod judge;
mod locate;
mod minimise;
mod quotation;
mod reassembly;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod twins;

use exchange::{Exchange, Taken};
use judge::Judge;
use report::Report;
use twins::Twins;

/// Packets of a run that asks for no number: enough for each kind of flow, few enough for the suite.
const FEW: usize = 6_000;
/// Seed of the packets that must notice seeded faults.
const OF_MUTANTS: u64 = 5;
/// Packets that one pair of hosts sees: what flows leave behind in their tables stays well below their size.
const WORLD: usize = 20_000;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

#[test]
fn both_worlds_agree() {
    let packets = setting("DATAPATH_DIFFERENTIAL").map_or(FEW, |count| usize::try_from(count).expect("64 bits"));
    // Whether a seeded fault is noticed is to be no matter of luck.
    let mutant = std::env::var_os(lab::MUTANT_VARIABLE).map(|_| OF_MUTANTS);
    // Those few that every run of the tests sends are the same ones.
    let few = std::env::var_os("DATAPATH_DIFFERENTIAL").is_none().then_some(1);
    let seed = setting("DATAPATH_DIFFERENTIAL_SEED").or(mutant).or(few);
    let first = seed.unwrap_or_else(|| fastrand::u64(..));
    let worlds = packets.div_ceil(WORLD);
    let mut total = Report::default();
    for number in 0..worlds {
        let seed = first.wrapping_add(number as u64);
        let count = WORLD.min(packets - number * WORLD);
        println!("world {} of {worlds}: {count} packets, seed {seed}", number + 1);
        let report = Judge::new(seed).run(count);
        total.add(&report);
        if report.failures > 0 {
            println!("{} unexplained differences; seed {seed}", report.failures);
        }
    }
    println!("{total}");
    assert!(total.failures == 0, "{} unexplained differences; first seed {first}", total.failures);
    let silent = total.silent();
    assert!(silent.is_empty(), "too little arrives for the comparison to mean anything: {silent:?}");
}

/// What was found and mended stays so: about these packets the worlds agree, without exceptions.
#[test]
fn what_was_mended_stays_so() {
    let fixtures = fixture::mended().expect("the fixtures can be read");
    let twins = Twins::start();
    let mut complaints = Vec::new();
    for (name, steps) in &fixtures {
        for (step, arrives) in steps {
            let exchange = Exchange::of(&twins.worlds, std::slice::from_ref(step), Taken::default());
            let of_step = fixture::complaints(&exchange, *arrives);
            complaints.extend(of_step.into_iter().map(|complaint| format!("{name}: {complaint}")));
        }
    }
    assert!(!fixtures.is_empty() && complaints.is_empty(), "{}", complaints.join("\n"));
}

/// A seed stands for its packets: without that, no failure could be repeated.
#[test]
fn a_seed_stands_for_its_packets() {
    let sent = |seed: u64| {
        let mut grammar = grammar::Grammar::new(seed, &twins::plan());
        let steps: Vec<_> = (0..200).flat_map(|_| grammar.batch()).collect();
        steps.into_iter().flat_map(|step| step.frames.concat()).collect::<Vec<_>>()
    };
    let (first, again, other) = (sent(7), sent(7), sent(8));
    assert!(first.len() > 10_000 && first.iter().all(|frame| frame.len() >= locate::ETHERNET));
    assert!(first == again && first != other);
}
