//! `cargo xtask demo`: the main job at work, then its speed beside a Linux bridge with iptables.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use benches::{compare, demo::Scene};
use clap::Parser;
use comparison::{Load, Results, Run, Subject, interruption::Interruption, table::Table};
use lab::{Family, Protocol, reference::Backend};

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
    let backend = Backend::Nft;
    let pairs = [
        ("same network", Subject::Switched, Subject::Bridge(Some(backend))),
        ("published port", Subject::Published(1), Subject::BridgePublished(backend, 1)),
    ];
    let loads = [Load::REQUESTS, Load::CONNECTIONS];
    let run = |subject, load| Run { subject, family: Family::V4, load };
    let runs: BTreeSet<Run> = pairs
        .iter()
        .flat_map(|&(_, ours, theirs)| [ours, theirs])
        .flat_map(|subject| loads.map(|load| run(subject, load)))
        .collect();
    let mut stand =
        compare::build(runs.iter().map(|run| run.subject.site()).collect(), daemon, &Interruption::default(), |_| {})?;
    let mut results = Results::default();
    for _ in 0..ROUNDS {
        results.add(stand.round(&runs, RUN, |_, _| {})?);
    }
    let mut table = Table::new(&["a second", "", "datapath", "bridge + iptables", "ratio"]);
    for (what, ours, theirs) in pairs {
        for load in loads {
            let rate = |subject| {
                results.rate(run(subject, load)).map_or_else(String::new, |rate| format!("{:.0}", rate.median))
            };
            let ratio = results.ratio(run(ours, load), theirs);
            let ratio = ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
            table.row([what.to_owned(), load.measure.to_string(), rate(ours), rate(theirs), ratio]);
        }
    }
    println!("{}", table.aligned());
    Ok(())
}
