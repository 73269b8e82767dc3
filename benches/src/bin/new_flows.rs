//! `cargo xtask bench --new-flows`: how long it takes to begin a flow when nearly everything is in use.

use std::path::PathBuf;

use anyhow::Result;
use benches::new_flows::{self, Row};
use clap::Parser;
use comparison::table::Table;

/// Times new flows by how much of the flow table, and of the ports towards one target, is in use.
#[derive(Parser)]
struct Arguments {
    /// The daemon's binary.
    #[arg(long)]
    datapath: PathBuf,
}

fn main() -> std::process::ExitCode {
    benches::exit(measure())
}

fn measure() -> Result<()> {
    let results = new_flows::measure(&Arguments::parse().datapath)?;
    print("slots in use", &results.slots);
    print("ports in use", &results.ports);
    Ok(())
}

fn print(what: &str, rows: &[Row]) {
    let mut table = Table::new(&[what, "first packet, µs", "second packet, µs"]);
    let micros = |time: std::time::Duration| format!("{:.1}", time.as_secs_f64() * 1e6);
    for Row { in_use, new, followed } in rows {
        table.row([format!("{:.1} %", f64::from(*in_use) / 10.0), micros(*new), micros(*followed)]);
    }
    println!("{}", table.markdown());
}
