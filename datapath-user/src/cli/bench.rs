//! `datapath bench`

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use comparison::{family_name, grouped};
use lab::Family;

use super::run::print;
use super::show::table;
use crate::bench::{self, CERTAINTY, Change, Comparison, Figure, Options, Report, Row, SAME, Wanted};

/// `datapath bench`
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// Rounds to measure; more of them tell smaller differences
    #[arg(long, value_name = "N", default_value_t = 18, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Published ports that are there: rules cost more the more of them there are
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    ports: u16,
    /// Measure IPv6 instead of IPv4
    #[arg(long)]
    ipv6: bool,
    /// Whose rules to compare with; auto is what `iptables` is on this host
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    iptables: Wanted,
}

/// With more than this share of the processor in use before it begins, a machine is not quiet.
const QUIET: f64 = 0.1;
/// With more than this share of it taken by the hypervisor, neither.
const STOLEN: f64 = 0.02;

/// Carries it out.
pub fn run(arguments: BenchArguments, json: bool) -> Result<ExitCode> {
    let BenchArguments { rounds, ports, ipv6, iptables } = arguments;
    let family = if ipv6 { Family::V6 } else { Family::V4 };
    let report = bench::run(Options { rounds: rounds.into(), ports, family, iptables })?;
    // Everything is removed by now: from here on, this may end with its pipe.
    super::client::end_quietly_with_the_pipe();
    print(json, &report, text)?;
    ensure!(!report.interrupted, "interrupted: these are the figures of the rounds before");
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report) -> Result<String> {
    let mut text = circumstances(report);
    for comparison in &report.comparisons {
        writeln!(text, "\n{}", compared(comparison)?.trim_end())?;
    }
    writeln!(text, "\n{}", meaning(report).join("\n"))?;
    Ok(text)
}

/// When, where and how it was measured, and what may have disturbed it.
fn circumstances(report: &Report) -> String {
    let Report { machine, disturbance, .. } = report;
    let mut text = format!(
        "{} in {:.0} s by {}, {} published; Linux {}, {} of {}{}",
        counted(report.rounds(), "round"),
        report.took.as_secs_f64(),
        family_name(report.family),
        counted(report.published_ports.into(), "port"),
        machine.kernel,
        counted(machine.cores, "core"),
        if machine.virtual_machine { "a virtual machine, " } else { "" },
        machine.processor,
    );
    if !machine.spectre_v2.is_empty() {
        text += &format!(" (Spectre v2: {})", machine.spectre_v2);
    }
    let percent = |share: f64| share * 100.0;
    text += &format!("\nbefore: load {:.2}, processor {:.0} % busy", disturbance.load[0], percent(disturbance.busy));
    if machine.virtual_machine {
        text += &format!("; meanwhile {:.1} % of it went to other machines", percent(disturbance.stolen));
    }
    if disturbance.busy > QUIET || disturbance.stolen > STOLEN {
        text += "\nThis machine is not quiet: measure again when it is, before you rely on these figures.";
    }
    text + "\n"
}

fn counted(number: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(number as u64), if number == 1 { "" } else { "s" })
}

fn compared(comparison: &Comparison) -> Result<String> {
    let rules = comparison.iptables.as_ref().map(|name| format!("NOW ({})", name.to_uppercase()));
    let head: Vec<&str> = ["WHAT", "NO RULES"]
        .into_iter()
        .chain(rules.as_deref())
        .chain(["WITH DATAPATH", if rules.is_some() { "GAIN" } else { "BESIDE NO RULES" }])
        .collect();
    let (mut rows, mut way) = (Vec::new(), None);
    for row in &comparison.rows {
        if way.replace(row.way) != Some(row.way) {
            rows.push(padded(vec![row.way.to_string()], head.len()));
        }
        let cells = |show: fn(&Figure) -> String| {
            [Some(&row.bare), row.ruled.as_ref(), Some(&row.datapath)].into_iter().flatten().map(show)
        };
        let mut line = vec![format!("  {}", measure(row))];
        line.extend(cells(|figure| rate(figure.rate.median)));
        line.push(change(row));
        rows.push(line);
        if row.datapath.p50_microseconds.is_some() {
            let mut line = vec!["  half, 99 % answered within".to_owned()];
            line.extend(cells(times));
            rows.push(padded(line, head.len()));
        }
    }
    table(&head, rows)
}

fn padded(mut cells: Vec<String>, columns: usize) -> Vec<String> {
    cells.resize(columns, String::new());
    cells
}

/// `requests/s`; where the unit does not say what is counted, that too.
fn measure(row: &Row) -> String {
    match row.unit {
        "Gbit/s" | "packets/s" => format!("{}, {}", row.measure, row.unit),
        unit => unit.to_owned(),
    }
}

fn rate(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { grouped(rate.round() as u64) }
}

fn times(figure: &Figure) -> String {
    let [half, most] = [figure.p50_microseconds, figure.p99_microseconds]
        .map(|time| time.map_or_else(String::new, |time| format!("{time:.0}")));
    format!("{half}, {most} µs")
}

/// Median and quartiles of a change, and what it is called where it is none.
fn change(row: &Row) -> String {
    let percent = |ratio: f64| {
        let percent = ((ratio - 1.0) * 100.0).round();
        format!("{}{}", if percent < 0.0 { "−" } else { "+" }, grouped(percent.abs() as u64))
    };
    let quartiles = format!("{} to {}", percent(row.ratio.lower), percent(row.ratio.upper));
    match row.change {
        Change::Gain | Change::Loss => format!("{} % ({quartiles})", percent(row.ratio.median)),
        Change::NoDifference => format!("no difference ({quartiles})"),
        Change::Unclear => format!("unclear ({quartiles})"),
        Change::TooFewRounds => format!("too few rounds to tell ({quartiles})"),
    }
}

/// What the numbers mean, and what they do not.
fn meaning(report: &Report) -> Vec<String> {
    let mut lines = vec![
        "Figures are medians; a gain is the median of the ratios inside each round, with its quartiles in brackets.".to_owned(),
        format!(
            "It is \"no difference\" where it is less than {:.0} % or rounds lie on both sides, and \"unclear\" where it may be\n\
             chance (less than {:.0} % sure).",
            SAME * 100.0,
            CERTAINTY * 100.0
        ),
        "No rules: a bare virtual wire, or a router between two. Nobody between the two ends can be much faster than that.".to_owned(),
        "All of it is the way through this host alone, to ends that do nothing else; no network card has a part in it. What works"
            .to_owned(),
        "for its answers, or waits for a disk or a far client, gains less.".to_owned(),
    ];
    lines.extend(report.left_out.iter().map(|sentence| format!("note: {sentence}")));
    if !report.drops.is_empty() {
        let drops: Vec<_> = report.drops.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        lines.push(format!("note: the datapath dropped packets: {}", drops.join(", ")));
    }
    lines
}
