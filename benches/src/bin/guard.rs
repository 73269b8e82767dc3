//! `cargo xtask bench --guard`: what it takes to drop a packet of a denied source, and to look at one that is not.

use std::path::PathBuf;

use anyhow::Result;
use benches::guard;
use clap::Parser;
use comparison::table::Table;

/// Times the XDP program frame by frame, and then a flood that one core drops.
#[derive(Parser)]
struct Arguments {
    /// The daemon's binary.
    #[arg(long)]
    datapath: PathBuf,
    /// The BPF object.
    #[arg(long)]
    object: PathBuf,
}

fn main() -> std::process::ExitCode {
    benches::exit(measure())
}

fn measure() -> Result<()> {
    let arguments = Arguments::parse();
    let mut table = Table::new(&["frame", "verdict", "ns a frame", "above an empty program"]);
    let rows = guard::program::measure(&arguments.object)?;
    let empty = rows.first().map_or(0.0, |row| row.time);
    for row in &rows {
        let verdict = if row.dropped { "dropped" } else { "passed" };
        table.row([
            row.kind.clone(),
            verdict.to_owned(),
            format!("{:.0}", row.time),
            format!("{:.0}", row.time - empty),
        ]);
    }
    println!("{}", table.markdown());
    let mut table =
        Table::new(&["flood of a denied source", "sent, Mpps", "dropped on one core, Mpps", "ns of that core each"]);
    for row in guard::live::measure(&arguments.datapath)? {
        let way = if row.xdp { "XDP" } else { "from_uplink" };
        table.row([
            way.to_owned(),
            format!("{:.2}", row.sent),
            format!("{:.2}", row.dropped),
            format!("{:.0}", row.each),
        ]);
    }
    println!("{}", table.markdown());
    Ok(())
}
