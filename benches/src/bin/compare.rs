//! `cargo xtask bench`: the paired comparison of docs/performance.md.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use benches::{
    compare::{self, matrix::Plan, targets},
    control,
    judge::{self, Judgement},
    report::{self, Session},
};
use clap::Parser;
use comparison::{Results, Site, Stand, interruption::Interruption, progress::Progress};

/// Compares the datapath with the wire, a router, and a bridge with iptables, and judges what it measures.
///
/// Ends with 1 where something fails, with 3 where a target is missed.
#[derive(Parser)]
struct Arguments {
    /// The daemon's binary.
    #[arg(long)]
    datapath: PathBuf,
    /// Under two minutes: every target, few and short runs. The full run takes under thirty.
    #[arg(long)]
    quick: bool,
    /// Rounds to measure [default: 12; 6 with --quick].
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each run of a round lasts [default: 400; 120 with --quick].
    #[arg(long, value_name = "MILLISECONDS")]
    run: Option<u64>,
    /// Only runs with each of these words in family and load, such as `IPv4,stream`.
    #[arg(long, value_delimiter = ',', value_name = "WORD")]
    only: Vec<String>,
    /// Nothing but what is asked of the daemon, about six minutes: publishing, endpoints, its start, memory.
    #[arg(long, conflicts_with_all = ["only", "subjects"])]
    control: bool,
    /// Only these subjects, as tables name them, such as `L,E-W,adopted E-W`.
    #[arg(long, value_delimiter = ',', value_name = "SUBJECT")]
    subjects: Vec<String>,
    /// Figures only: what is missed is no failure.
    #[arg(long)]
    no_judge: bool,
    /// Print what each run measures.
    #[arg(long)]
    trace: bool,
    /// Also write the results here, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the report is written.
    #[arg(long, value_name = "FILE", default_value = "target/bench/report.html")]
    html: PathBuf,
}

fn main() -> ExitCode {
    benches::exit_judged(measure(&Arguments::parse()))
}

/// Measures, tells, and says whether all is as it must be.
fn measure(arguments: &Arguments) -> Result<bool> {
    let plan = plan(arguments);
    let mut session = Session::begin(arguments.quick, plan.run);
    let mut progress = Progress::new();
    let interruption = Interruption::listen()?;
    let mut sites: BTreeSet<Site> = plan.runs.iter().map(|run| run.subject.site()).collect();
    if arguments.control {
        sites.extend(control::sites());
    }
    let mut stand = compare::build(sites, &arguments.datapath, &interruption, |site| {
        progress.say(&format!("building {site}"));
    })?;
    let results = rounds(&mut stand, &plan, arguments.trace, &mut progress, &interruption)?;
    let interrupted = interruption.came();
    if !interrupted {
        session.drops = stand.drops()?;
    }
    let mut figures = Vec::new();
    let mut judgements: Vec<Judgement> = targets::all().iter().map(|target| target.judge(&results)).collect();
    if arguments.only.is_empty() && arguments.subjects.is_empty() && !interrupted {
        progress.say("asking the daemons");
        let control = control::measure(&stand, &arguments.datapath, !arguments.quick)?;
        judgements.extend(control.judgements);
        figures = control.figures;
    }
    drop(stand);
    session.end();
    progress.end();
    let report = report::Report { session: &session, results: &results, judgements: &judgements, figures: &figures };
    print!("{}", report.text());
    if let Some(path) = &arguments.json {
        report::write(path, &format!("{:#}\n", report.json()))?;
    }
    report::write(&arguments.html, &report.html())?;
    println!("The report is {}.", arguments.html.display());
    ensure!(!interrupted, "interrupted: the figures above are of the rounds before");
    let complete = !arguments.quick && !arguments.control && arguments.only.is_empty() && arguments.subjects.is_empty();
    Ok(arguments.no_judge || judge::all_met(&judgements, complete))
}

fn plan(arguments: &Arguments) -> Plan {
    let mut plan = if arguments.quick { Plan::quick() } else { Plan::full() };
    plan.keep(&arguments.only, &arguments.subjects);
    if arguments.control {
        plan.runs.clear();
        plan.flatness.clear();
    }
    if let Some(rounds) = arguments.rounds {
        (plan.rounds, plan.flatness_rounds) = (rounds, plan.flatness_rounds.min(rounds));
    }
    plan.run = arguments.run.map_or(plan.run, Duration::from_millis);
    plan
}

/// Takes all rounds, and then those that only some runs have.
fn rounds(
    stand: &mut Stand,
    plan: &Plan,
    trace: bool,
    progress: &mut Progress,
    interruption: &Interruption,
) -> Result<Results> {
    let mut results = Results::default();
    progress.begin(plan.total());
    for number in 0..plan.rounds.max(plan.flatness_rounds) {
        let runs = if number < plan.rounds { &plan.runs } else { &plan.flatness };
        let round = stand.round(runs, plan.run, |run, reading| {
            progress.step(&format!("round {}: {run}", number + 1));
            if trace {
                progress.say(&format!("{run}: {:.0}", reading.rate));
            }
        });
        results.add(round.with_context(|| format!("in round {}", number + 1))?);
        if interruption.came() {
            break;
        }
    }
    Ok(results)
}
