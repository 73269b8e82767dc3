//! Sends batches into both worlds and compares what arrived.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::canonical::{Canonical, Context};
use crate::difference::{Difference, Missing};
use crate::fixture;
use crate::grammar::{Grammar, Kind, Step};
use crate::twins::{Arrival, ORACLE, OURS, Twins};

/// A batch is over when nothing has come for so many milliseconds.
const QUIET: u16 = 3;
/// The same, where the worlds differ at first.
const PATIENCE: u16 = 60;
/// So many unexplained differences are enough.
const ENOUGH: usize = 400;

/// How a run went.
#[derive(Default)]
pub struct Report {
    pub packets: usize,
    pub failures: usize,
    /// Packets by kind: sent, and arrived somewhere.
    kinds: BTreeMap<Kind, (usize, usize)>,
    differences: BTreeMap<Difference, usize>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} packets, {} unexplained differences", self.packets, self.failures)?;
        for (kind, (sent, arrived)) in &self.kinds {
            writeln!(f, "{sent:>7} {kind:?}, {arrived} arrived")?;
        }
        for (difference, count) in &self.differences {
            writeln!(f, "{count:>7} {difference:?}: {}", difference.reason())?;
        }
        Ok(())
    }
}

/// What was seen of one canonical frame: how often in each world, and one of the frames themselves.
#[derive(Clone, Default)]
struct Seen {
    counts: [usize; 2],
    flow: Option<u32>,
    frames: [Option<Vec<u8>>; 2],
}

/// The judge of one pair of worlds.
pub struct Judge {
    seed: u64,
    twins: Twins,
    grammar: Grammar,
    report: Report,
}

impl Judge {
    pub fn new(seed: u64) -> Self {
        let twins = Twins::start();
        let grammar = Grammar::new(seed, &twins.plan);
        Self { seed, twins, grammar, report: Report::default() }
    }

    /// Sends about so many packets.
    pub fn run(mut self, packets: usize) -> Report {
        while self.report.packets < packets && self.report.failures < ENOUGH {
            let steps = self.grammar.batch();
            self.report.packets += steps.len();
            self.send(&steps);
        }
        self.report
    }

    fn send(&mut self, steps: &[Step]) {
        for step in steps {
            for (world, frames) in self.twins.worlds.iter().zip(&step.frames) {
                frames.iter().for_each(|frame| world.send(step.port, frame));
            }
        }
        let mut arrivals = [OURS, ORACLE].map(|world| self.twins.worlds[world].settle(QUIET));
        let by_flow: HashMap<u32, &Step> = steps.iter().map(|step| (step.flow, step)).collect();
        let mut seen = self.compare(&arrivals, &by_flow, steps);
        if seen.iter().any(|(frame, seen)| self.verdict(frame, seen, &by_flow) == Some(None)) {
            for (world, arrivals) in arrivals.iter_mut().enumerate() {
                arrivals.extend(self.twins.worlds[world].settle(PATIENCE));
            }
            seen = self.compare(&arrivals, &by_flow, steps);
        }
        self.judge(&seen, &by_flow);
        self.learn(&arrivals, steps);
        for step in steps {
            let kind = self.report.kinds.entry(step.traits.kind).or_default();
            kind.0 += 1;
            kind.1 += usize::from(seen.values().any(|seen| seen.flow == Some(step.flow) && seen.counts[OURS] > 0));
        }
    }

    fn compare(
        &self,
        arrivals: &[Vec<Arrival>; 2],
        by_flow: &HashMap<u32, &Step>,
        steps: &[Step],
    ) -> BTreeMap<Canonical, Seen> {
        let context = Context::of(&self.grammar, steps);
        let mut seen = BTreeMap::<Canonical, Seen>::new();
        for (world, arrivals) in arrivals.iter().enumerate() {
            for arrival in arrivals {
                let flow = context.origin(arrival);
                let step = flow.and_then(|flow| by_flow.get(&flow)).copied();
                if let Some(canonical) = context.canonical(arrival, step) {
                    let entry = seen.entry(canonical).or_default();
                    entry.counts[world] += 1;
                    entry.flow = flow;
                    entry.frames[world] = Some(arrival.frame.clone());
                }
            }
        }
        seen
    }

    /// `None` where the worlds agree; otherwise the documented difference, if it is one.
    fn verdict(&self, frame: &Canonical, seen: &Seen, by_flow: &HashMap<u32, &Step>) -> Option<Option<Difference>> {
        let missing = self.missing(frame, seen, by_flow)?;
        Some(Difference::explain(&missing))
    }

    fn missing<'a>(&self, frame: &'a Canonical, seen: &Seen, by_flow: &HashMap<u32, &'a Step>) -> Option<Missing<'a>> {
        let world = match seen.counts[OURS].cmp(&seen.counts[ORACLE]) {
            Ordering::Less => OURS,
            Ordering::Greater => ORACLE,
            Ordering::Equal => return None,
        };
        Some(Missing { world, frame, step: seen.flow.and_then(|flow| by_flow.get(&flow)).copied() })
    }

    fn judge(&mut self, seen: &BTreeMap<Canonical, Seen>, by_flow: &HashMap<u32, &Step>) {
        for (frame, one) in seen {
            let Some(missing) = self.missing(frame, one, by_flow) else { continue };
            if let Some(difference) = Difference::explain(&missing) {
                *self.report.differences.entry(difference).or_default() += 1;
                continue;
            }
            self.report.failures += 1;
            let others = seen.iter().filter(|(_, other)| other.flow == one.flow && one.flow.is_some());
            let others: Vec<_> = others.map(|(frame, other)| (frame, other.counts)).collect();
            let history = one.flow.and_then(|flow| self.grammar.flow(flow)).map_or(&[][..], |flow| &flow.history);
            fixture::save(self.seed, self.report.failures, &missing, one.counts, &others, history);
        }
    }

    fn learn(&mut self, arrivals: &[Vec<Arrival>; 2], steps: &[Step]) {
        let context = Context::of(&self.grammar, steps);
        let mut of_flows = Vec::new();
        for (world, arrivals) in arrivals.iter().enumerate() {
            of_flows.extend(arrivals.iter().filter_map(|one| Some((context.origin(one)?, world, one))));
        }
        for (flow, world, arrival) in of_flows {
            self.grammar.saw(flow, world, arrival.port, &arrival.frame);
        }
    }
}
