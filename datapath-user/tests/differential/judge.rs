//! Sends batches into both worlds, and judges what came of them.

use crate::exchange::Exchange;
use crate::fixture;
use crate::grammar::{Grammar, Step};
use crate::report::Report;
use crate::twins::Twins;

/// So many unexplained differences are enough.
const ENOUGH: usize = 100;

/// The judge of one pair of worlds.
pub struct Judge {
    seed: u64,
    twins: Twins,
    grammar: Grammar,
    report: Report,
    /// All that was sent so far.
    sent: Vec<Vec<Step>>,
}

impl Judge {
    pub fn new(seed: u64) -> Self {
        let twins = Twins::start();
        let grammar = Grammar::new(seed, &twins.plan);
        Self { seed, twins, grammar, report: Report::default(), sent: Vec::new() }
    }

    /// Sends about so many packets.
    pub fn run(mut self, packets: usize) -> Report {
        while self.report.packets < packets && self.report.failures < ENOUGH {
            let steps = self.grammar.batch();
            self.judge(&steps);
            self.sent.push(steps);
        }
        self.report
    }

    fn judge(&mut self, steps: &[Step]) {
        let exchange = Exchange::of(&self.twins.worlds, steps);
        for (number, (missing, seen)) in exchange.unexplained().enumerate() {
            let history = seen.flow.and_then(|flow| self.grammar.flow(flow)).map_or(&[][..], |flow| &flow.history);
            fixture::save(self.seed, self.report.failures + number + 1, &missing, seen, &exchange, history);
        }
        self.report.count(&exchange);
        let arrivals = exchange.arrivals().filter(|(.., step)| step.traits.damage.is_none());
        arrivals.for_each(|(world, arrival, step)| self.grammar.saw(step.flow, world, arrival.port, &arrival.frame));
        exchange.differences().filter_map(|(missing, ..)| missing.step).for_each(|step| self.grammar.end(step.flow));
    }
}
