//! Sends batches into both worlds, and judges what came of them.

use crate::difference::Difference;
use crate::exchange::{Exchange, Taken};
use crate::fixture;
use crate::grammar::{Grammar, Step};
use crate::minimise::Minimiser;
use crate::report::Report;
use crate::twins::Twins;

/// So many unexplained differences are enough of one pair of worlds.
const ENOUGH: usize = 20;
/// So many of them are minimised, for that takes minutes; none of a seeded fault.
const MINIMISED: usize = 3;

/// The judge of one pair of worlds.
pub struct Judge {
    seed: u64,
    twins: Twins,
    grammar: Grammar,
    taken: Taken,
    report: Report,
    sent: Vec<Step>,
    /// Packets about which the worlds disagreed, and what is to be said about it.
    failed: Vec<(u32, String)>,
}

impl Judge {
    pub fn new(seed: u64) -> Self {
        let twins = Twins::start();
        let grammar = Grammar::new(seed, &twins.plan);
        Self {
            seed,
            twins,
            grammar,
            taken: Taken::default(),
            report: Report::default(),
            sent: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Sends about so many packets.
    pub fn run(mut self, packets: usize) -> Report {
        while self.report.packets < packets && self.report.failures < ENOUGH {
            let steps = self.grammar.batch();
            self.judge(&steps);
            self.sent.extend(steps);
        }
        let Self { seed, twins, report, sent, failed, .. } = self;
        drop(twins);
        for (position, (number, about)) in failed.iter().enumerate() {
            println!("seed {seed}: {about}");
            let worth_it = position < MINIMISED && std::env::var_os(lab::MUTANT_VARIABLE).is_none();
            let minimised = worth_it.then(|| Minimiser::of(*number).shortest(&sent));
            let (how, steps) = match minimised {
                Some(Some(steps)) => ("the shortest history", steps),
                Some(None) => ("the packets of its flow, which alone make no difference", of_flow(&sent, *number)),
                None => ("the packets of its flow", of_flow(&sent, *number)),
            };
            match fixture::save(seed, *number, &format!("Seed {seed}. {about}"), &steps) {
                Ok(path) => println!("{how}, {} packets: {}\n", steps.len(), path.display()),
                Err(error) => println!("{error:#}"),
            }
        }
        report
    }

    fn judge(&mut self, steps: &[Step]) {
        let exchange = Exchange::of(&self.twins.worlds, steps, self.taken.clone());
        for (missing, seen) in exchange.unexplained() {
            let number = missing.step.map_or(0, |step| step.number);
            let history = seen.flow.and_then(|flow| self.grammar.flow(flow)).map_or(&[][..], |flow| &flow.history);
            self.failed.push((number, fixture::told(&missing, seen, &exchange) + &history.join("\n")));
        }
        self.failed.dedup_by_key(|(number, _)| *number);
        self.report.count(&exchange);
        self.taken.clone_from(&exchange.taken);
        self.grammar.avoided.clone_from(&exchange.taken.ports);
        let arrivals = exchange.arrivals().filter(|(.., step)| step.traits.damage.is_none());
        arrivals.for_each(|(world, arrival, step)| self.grammar.saw(step.flow, world, arrival.port, &arrival.frame));
        for (missing, _, difference) in exchange.differences() {
            if let Some(step) = missing.step.filter(|_| difference.is_none_or(Difference::leaves_state)) {
                self.grammar.end(step.flow);
            }
        }
    }
}

/// The packets of a packet's flow, until it.
fn of_flow(sent: &[Step], number: u32) -> Vec<(Step, bool)> {
    let flow = sent.iter().find(|step| step.number == number).map(|step| step.flow);
    let steps = sent.iter().filter(|step| Some(step.flow) == flow && step.number <= number);
    steps.map(|step| (step.clone(), false)).collect()
}
