//! `cargo xtask bench --guard`: what it takes to drop a packet of a denied source, and to look at one that is not.

use std::path::PathBuf;

use anyhow::Result;
use benches::guard;
use benches::judge::{self, Bound, Judgement, Unit};
use clap::Parser;
use comparison::quartiles::Quartiles;
use comparison::table::Table;

/// Times the XDP program frame by frame, and then a flood that one core drops, and judges both.
///
/// Ends with 1 where something fails, with 3 where a target is missed.
#[derive(Parser)]
struct Arguments {
    /// The daemon's binary.
    #[arg(long)]
    datapath: PathBuf,
    /// The BPF object.
    #[arg(long)]
    object: PathBuf,
    /// Figures only: what is missed is no failure.
    #[arg(long)]
    no_judge: bool,
}

fn main() -> std::process::ExitCode {
    benches::exit_judged(measure(&Arguments::parse()))
}

/// Measures, tells, and says whether all is as it must be.
fn measure(arguments: &Arguments) -> Result<bool> {
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
    let floods = guard::live::measure(&arguments.datapath)?;
    for row in &floods {
        let way = if row.xdp { "XDP" } else { "from_uplink" };
        table.row([
            way.to_owned(),
            format!("{:.2}", row.sent),
            format!("{:.2}", row.dropped),
            format!("{:.0}", row.each),
        ]);
    }
    println!("{}", table.markdown());
    // The first one behind the empty program: one prefix is denied, by IPv4.
    let denied = rows.iter().skip(1).find(|row| row.dropped).map(|row| row.time);
    let flood = floods.iter().find(|row| row.xdp).map(|row| row.dropped);
    let judgements = [
        judgement("one frame", Unit::Nanoseconds, denied, Bound::AtMost(15.0), 9.0),
        judgement("live on one core", Unit::MillionsASecond, flood, Bound::AtLeast(3.0), 4.5),
    ];
    println!("{}", judge::table(&judgements).markdown());
    Ok(arguments.no_judge || judge::all_met(&judgements, true))
}

fn judgement(detail: &str, unit: Unit, measured: Option<f64>, must: Bound, better: f64) -> Judgement {
    let measured = measured.map(|median| Quartiles { lower: median, median, upper: median });
    let (row, detail) = ("XDP guard, drop".to_owned(), detail.to_owned());
    Judgement { row, detail, unit, measured, samples: guard::RUNS, must, reach: Some(better) }
}
