//! `cargo xtask bench --docker`: `docker run` beside stock dockerd, of docs/performance.md.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use benches::docker::{self, Limits, Plan, Who};
use clap::Parser;

/// Compares `docker run` with the datapath, with stock dockerd, and with nobody in their place.
#[derive(Parser)]
struct Arguments {
    /// The daemon's binary.
    #[arg(long)]
    datapath: PathBuf,
    /// The hosts to compare.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Who::ALL)]
    hosts: Vec<Who>,
    /// Published ports of each container.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 32, 206])]
    ports: Vec<u16>,
    /// Containers that are there already, rising.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 50, 100])]
    containers: Vec<usize>,
    /// Rounds for each of these.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Seconds that a host may take to start its containers, for each of these.
    #[arg(long, default_value_t = 240)]
    filling: u64,
    /// Seconds of measuring after which a slow host is left out of further rounds, for each of these.
    #[arg(long, default_value_t = 60)]
    measuring: u64,
    /// Few containers, ports and rounds: a check that everything runs, not a measurement.
    #[arg(long)]
    quick: bool,
}

fn main() -> std::process::ExitCode {
    benches::exit(measure())
}

fn measure() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        (arguments.ports, arguments.containers, arguments.rounds) = (vec![0, 8], vec![1, 3], 2);
    }
    let plan = Plan {
        hosts: arguments.hosts,
        ports: arguments.ports,
        containers: arguments.containers,
        rounds: arguments.rounds,
        limits: Limits {
            filling: Duration::from_secs(arguments.filling),
            measuring: Duration::from_secs(arguments.measuring),
            memory: 12 << 30,
        },
    };
    let began = Instant::now();
    let cells = docker::measure(&arguments.datapath, &plan, &|text| {
        eprintln!("{:5.0} s  {text}", began.elapsed().as_secs_f64());
    })?;
    docker::print(&cells);
    Ok(())
}
