//! What the comparison has found: as text, JSON, and one HTML file without anything outside it.

mod bars;
mod charts;
mod curves;
mod html;
mod scale;
mod session;
mod svg;

use std::path::Path;

use anyhow::{Context as _, Result};
use comparison::{Results, Run, Subject, family_name, load::placement_name, table::Table};
use serde_json::{Value, json};

pub use session::Session;

use crate::control::Figure;
use crate::judge::{self, Judgement, Verdict};

/// All that is told.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    /// When, where and how.
    pub session: &'a Session,
    /// What was measured.
    pub results: &'a Results,
    /// What is said of it.
    pub judgements: &'a [Judgement],
    /// What else the daemon was asked: nothing is asked of these.
    pub figures: &'a [Figure],
}

impl Report<'_> {
    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut rates = Table::new(&["", "rate", "p50", "p99"]);
        self.rates().into_iter().for_each(|row| rates.row(row));
        let mut figures = Table::new(&["what", "how", "measured"]);
        self.figures.iter().for_each(|figure| figures.row(figure.cells()));
        format!(
            "{}\n{}\n{}\n{}\n\n{}\n",
            rates.markdown(),
            figures.markdown(),
            judge::table(self.judgements).markdown(),
            self.session.told(),
            self.summary()
        )
    }

    /// What each run came to: rate, and the latencies of requests.
    fn rates(&self) -> Vec<[String; 4]> {
        let rows = self.results.runs().into_iter().filter_map(|run| {
            let rate = self.results.rate(run)?;
            let [p50, p99] =
                self.results.percentiles(run).map(|time| time.map_or_else(String::new, |time| format!("{time:.1} µs")));
            let digits = if rate.median < 1_000.0 { 2 } else { 0 };
            Some([run.to_string(), format!("{rate:.digits$} {}", run.load.measure.unit()), p50, p99])
        });
        rows.collect()
    }

    /// How many of what must be is so.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |wanted: &[Verdict]| self.judgements.iter().filter(|j| wanted.contains(&j.verdict())).count();
        let measured = self.judgements.len() - count(&[Verdict::NotMeasured]);
        format!(
            "{} of {measured} targets met, {} missed ({} within the quartiles), {} not measured.",
            count(&[Verdict::Met, Verdict::Reached]),
            count(&[Verdict::Missed]),
            self.judgements.iter().filter(|j| j.verdict() == Verdict::Missed && j.is_close()).count(),
            count(&[Verdict::NotMeasured]),
        )
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let runs: Vec<Value> = self.results.runs().into_iter().map(|run| self.run_json(run)).collect();
        let judgements: Vec<Value> = self
            .judgements
            .iter()
            .map(|judgement| json!({ "judgement": judgement, "verdict": judgement.verdict() }))
            .collect();
        json!({ "session": self.session, "runs": runs, "judgements": judgements, "figures": self.figures })
    }

    fn run_json(&self, run: Run) -> Value {
        let [p50, p99] = self.results.percentiles(run);
        let references = [Subject::Wire, Subject::Routed];
        json!({
            "subject": run.subject.to_string(),
            "family": family_name(run.family),
            "measure": run.load.measure.to_string(),
            "placement": placement_name(run.load.placement),
            "flows": run.load.flows,
            "unit": run.load.measure.unit(),
            "rounds": self.results.rounds_of(run),
            "rate": self.results.rate(run),
            "p50_microseconds": p50,
            "p99_microseconds": p99,
            "by_wire": self.results.ratio(run, references[0]),
            "by_router": self.results.ratio(run, references[1]),
        })
    }

    /// As a page.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(self)
    }
}

/// Writes a file, and the folder it is in.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
