//! `cargo xtask demo`: the main job at work, then its speed beside a Linux bridge with iptables.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use benches::{
    compare::{Measure, Results, Scenario},
    demo::Scene,
    table::Table,
};
use clap::Parser;
use lab::Protocol;

/// Shows who reaches whom, what is refused and why, and how fast it is.
#[derive(Parser)]
struct Arguments {
    /// The daemon's binary.
    #[arg(long)]
    datapath: PathBuf,
}

const ROUNDS: usize = 5;
const RUN: Duration = Duration::from_millis(400);

fn main() -> std::process::ExitCode {
    benches::exit(play())
}

fn play() -> Result<()> {
    let arguments = Arguments::parse();
    let start = Instant::now();
    let wrong = show_traffic(&arguments.datapath)?;
    show_speed(&arguments.datapath)?;
    println!("All namespaces, devices and pins of this demo are gone again ({:.0} s).", start.elapsed().as_secs_f32());
    ensure!(wrong == 0, "{wrong} of the attempts above did not end as they should (marked ✗)");
    Ok(())
}

/// Plays all attempts, prints the table, and returns how many ended wrongly.
fn show_traffic(daemon: &Path) -> Result<usize> {
    eprintln!("building a LAN, a host with the daemon, two networks and four endpoints");
    let scene = Scene::build(daemon)?;
    println!("\n{}", scene.host().datapath(["endpoint", "ls"])?.trim_end());
    println!("\n{}\n", scene.host().datapath(["port", "ls"])?.trim_end());
    let mut table = Table::new(&["", "who", "asks for", "by", "way", "outcome"]);
    let mut wrong = 0;
    for attempt in scene.attempts() {
        let outcome = attempt.make(scene.host())?;
        wrong += usize::from(!outcome.right);
        table.row([
            if outcome.right { "✓" } else { "✗" }.to_owned(),
            attempt.who.to_owned(),
            attempt.target.to_string(),
            if attempt.protocol == Protocol::Tcp { "TCP" } else { "UDP" }.to_owned(),
            attempt.way.to_owned(),
            outcome.told,
        ]);
    }
    println!("{}", table.aligned());
    Ok(wrong)
}

/// Prints the rates beside those of a bridge with iptables.
fn show_speed(daemon: &Path) -> Result<()> {
    eprintln!("measuring beside a Linux bridge with iptables, in {ROUNDS} paired rounds");
    let scenarios = [
        Scenario::bridge()?,
        Scenario::switched("E-W", daemon)?,
        Scenario::bridge_published("B2n", 1)?,
        Scenario::published("N-S", daemon, 1)?,
    ];
    let results = Results::take(&scenarios, ROUNDS, RUN, |_, _| {})?;
    let mut table = Table::new(&["a second", "", "datapath", "bridge + iptables", "ratio"]);
    for (what, ours, theirs) in [("same network", "E-W", "B1n"), ("published port", "N-S", "B2n")] {
        for measure in Measure::ALL {
            let rate = |scenario| {
                results.rate(scenario, measure).map_or_else(String::new, |rate| format!("{:.0}", rate.median))
            };
            let ratio =
                results.ratio(ours, theirs, measure).map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
            table.row([what.to_owned(), measure.name().to_owned(), rate(ours), rate(theirs), ratio]);
        }
    }
    println!("{}", table.aligned());
    Ok(())
}
