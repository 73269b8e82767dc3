//! `cargo xtask bench`: the paired comparison of docs/performance.md.

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use benches::{
    compare::{Measure, Results, Scenario},
    table::Table,
};
use clap::Parser;

/// Compares the datapath with the wire, a router, and a bridge with iptables.
#[derive(Parser)]
struct Arguments {
    /// The daemon's binary.
    #[arg(long)]
    datapath: PathBuf,
    /// Rounds to measure.
    #[arg(long, default_value_t = 12)]
    rounds: usize,
    /// How long each run of a round lasts.
    #[arg(long, default_value_t = 400, value_name = "MILLISECONDS")]
    run: u64,
    /// Three short rounds: a check that everything runs, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Print what each round measures.
    #[arg(long)]
    trace: bool,
    /// Also write the results here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Scenario, reference, and what is said of the pair.
const PAIRS: &[(&str, &str)] = &[
    ("B1n", "L"),
    ("E-W", "L"),
    ("E-W", "B1n"),
    ("B2n, 1 port", "R"),
    ("N-S, 1 port", "R"),
    ("N-S, 1 port", "B2n, 1 port"),
    ("N-S, 10,000 ports", "R"),
    ("N-S, 10,000 ports", "B2n, 10,000 ports"),
    ("N-S, 10,000 ports", "N-S, 1 port"),
];

fn main() -> std::process::ExitCode {
    benches::exit(measure())
}

fn measure() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.rounds, arguments.run) = (3, 150);
    }
    eprintln!("building the scenarios");
    let daemon = &arguments.datapath;
    let scenarios = [
        Scenario::wire()?,
        Scenario::bridge()?,
        Scenario::switched("E-W", daemon)?,
        Scenario::routed()?,
        Scenario::bridge_published("B2n, 1 port", 1)?,
        Scenario::bridge_published("B2n, 10,000 ports", 10_000)?,
        Scenario::published("N-S, 1 port", daemon, 1)?,
        Scenario::published("N-S, 10,000 ports", daemon, 10_000)?,
    ];
    let results = Results::take(&scenarios, arguments.rounds, Duration::from_millis(arguments.run), |done, round| {
        if arguments.trace {
            round.iter().for_each(|((name, measure), rate)| eprintln!("{name}, {}: {rate:.0}", measure.name()));
            scenarios.iter().for_each(|scenario| eprintln!("{} drops: {:?}", scenario.name(), scenario.drops()));
        }
        eprint!("\rround {done} of {}", arguments.rounds);
        // Progress that cannot be shown is no reason to stop.
        let _ = std::io::stderr().flush();
    })?;
    eprintln!();
    print(&results, &arguments);
    match &arguments.json {
        Some(path) => std::fs::write(path, json(&results, &arguments)?).with_context(|| path.display().to_string()),
        None => Ok(()),
    }
}

fn print(results: &Results, arguments: &Arguments) {
    println!(
        "Medians (and quartiles) of {} rounds of {} ms, client and server on one core.\n",
        arguments.rounds, arguments.run
    );
    let mut table = Table::new(&["ratio", "request/response", "connect rate"]);
    for (scenario, reference) in PAIRS {
        let cells = Measure::ALL.map(|measure| shown(results.ratio(scenario, reference, measure)));
        table.row([format!("{scenario} / {reference}")].into_iter().chain(cells));
    }
    println!("{}", table.markdown());
    let mut table = Table::new(&["a second", "request/response", "connect rate"]);
    let mut names: Vec<&'static str> = PAIRS.iter().flat_map(|(a, b)| [*a, *b]).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let rate = |measure| results.rate(name, measure).map_or_else(String::new, |rate| format!("{:.0}", rate.median));
        table.row([name.to_owned()].into_iter().chain(Measure::ALL.map(rate)));
    }
    println!("{}", table.markdown());
}

fn shown(ratio: Option<benches::quartiles::Quartiles>) -> String {
    ratio.map_or_else(String::new, |ratio| ratio.to_string())
}

fn json(results: &Results, arguments: &Arguments) -> Result<String> {
    let ratios: Vec<_> = PAIRS
        .iter()
        .flat_map(|(scenario, reference)| {
            Measure::ALL.map(|measure| {
                serde_json::json!({
                    "scenario": scenario,
                    "reference": reference,
                    "measure": measure.name(),
                    "ratio": results.ratio(scenario, reference, measure),
                })
            })
        })
        .collect();
    let report = serde_json::json!({ "rounds": arguments.rounds, "run_milliseconds": arguments.run, "ratios": ratios });
    Ok(serde_json::to_string_pretty(&report)?)
}
