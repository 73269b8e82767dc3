//! `datapath bench`: what would be gained on this host, measured in namespaces that are made for it.
//!
//! Nothing of the host's own network is touched, and no daemon of it is needed: this program is started as a daemon once more,
//! in such a namespace and with places of its own.
//!
//! - `requirements`: what is needed, asked before anything is built.
//! - `rules`: which rules of iptables there are to compare with.
//! - `plan`: the ways that are measured, and the runs of a round.
//! - `verdict`: whether a difference is one.
//! - `report`: what came of it.

mod plan;
mod report;
mod requirements;
mod rules;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use comparison::interruption::Interruption;
use comparison::machine::{Machine, Watch};
use comparison::progress::Progress;
use comparison::{Results, Site, Stand, place};
use lab::Family;

use plan::Plan;
pub use plan::Way;
pub use report::{Comparison, Figure, Report, Row};
use rules::Rules;
pub use rules::Wanted;
pub use verdict::{CERTAINTY, Change, SAME};

/// How long each run of a round lasts. Eighteen rounds of 36 runs take a minute and three quarters then.
const RUN: Duration = Duration::from_millis(150);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// So many rounds.
    pub rounds: usize,
    /// With so many published ports.
    pub ports: u16,
    /// By IPv4 or IPv6.
    pub family: Family,
    /// Beside which iptables.
    pub iptables: Wanted,
}

/// Measures. Where that is interrupted, what was measured before is reported.
///
/// # Errors
/// When the host lacks something, nothing can be built, or nothing was measured. Nothing is left behind in any case.
pub fn run(options: Options) -> Result<Report> {
    requirements::check()?;
    let interruption = Interruption::listen()?;
    let began = Instant::now();
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let (machine, watch, mut progress) = (Machine::here(), Watch::begin(), Progress::new());
    let mut rules = Rules::find(options.iptables);
    progress.say("building hosts, containers and wires, in network namespaces of their own");
    let mut stand = Stand::new(&interruption);
    build(&mut stand, options, &mut rules)?;
    let plan = Plan::new(options, &rules.backends);
    let results = measure(&mut stand, &plan, &mut progress, &interruption);
    progress.end();
    let results = results?;
    // An interruption reaches our daemon too, so that it may not answer any more.
    let drops = stand.drops();
    let drops = if interruption.came() { Vec::new() } else { drops?.into_values().collect() };
    drop(stand);
    let report = Report {
        date,
        took: began.elapsed(),
        run: RUN,
        interrupted: interruption.came(),
        family: options.family,
        published_ports: options.ports,
        machine,
        disturbance: watch.end(),
        comparisons: plan.compare(&results),
        left_out: rules.left_out,
        drops: report::sum(drops),
    };
    ensure!(report.rounds() > 0, "interrupted before anything was measured");
    Ok(report)
}

/// Builds what is measured. Ours, the wire and the router must stand; rules that cannot be loaded are left out.
fn build(stand: &mut Stand, options: Options, rules: &mut Rules) -> Result<()> {
    // By this way it is the same program, even if another was installed meanwhile.
    let daemon = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    let calls = rules.calls;
    let mut build = |site: Site| stand.build(site, || place::build(site, &daemon, calls));
    for site in plan::sites(None, options.ports) {
        build(site).map_err(requirements::explain)?;
    }
    let mut backends = std::mem::take(&mut rules.backends);
    backends.retain(|backend| {
        let built = plan::sites(Some(*backend), options.ports).into_iter().try_for_each(&mut build);
        let Err(error) = built else { return true };
        rules.leave_out(*backend, &error);
        false
    });
    rules.backends = backends;
    Ok(())
}

fn measure(stand: &mut Stand, plan: &Plan, progress: &mut Progress, interruption: &Interruption) -> Result<Results> {
    let mut results = Results::default();
    progress.begin(plan.runs.len() * plan.rounds);
    for number in 1..=plan.rounds {
        let round = stand.round(&plan.runs, RUN, |_, _| progress.step(&format!("round {number} of {}", plan.rounds)));
        results.add(round.with_context(|| format!("in round {number}"))?);
        if interruption.came() {
            break;
        }
    }
    Ok(results)
}
