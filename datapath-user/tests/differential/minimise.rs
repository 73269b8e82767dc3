//! The shortest history after which the worlds still differ.

use crate::exchange::{Exchange, Taken};
use crate::grammar::Step;
use crate::twins::Twins;

/// So many pairs of worlds are started for one difference, at most.
const TRIES: usize = 60;

/// Looks for what is needed of what was sent before a packet, for the worlds to differ about it.
pub struct Minimiser {
    number: u32,
    tries: usize,
}

impl Minimiser {
    /// For the difference that the packet of this number makes.
    pub fn of(number: u32) -> Self {
        Self { number, tries: TRIES }
    }

    /// The history with all taken out that is not needed, each packet with whether it arrives in the oracle's world.
    /// `None` when the packet makes no difference a second time.
    pub fn shortest(mut self, sent: &[Step]) -> Option<Vec<(Step, bool)>> {
        let last = sent.iter().find(|step| step.number == self.number)?;
        let of_flow: Vec<_> = sent.iter().filter(|step| step.flow == last.flow && step.number <= last.number).collect();
        let before: Vec<_> = sent.iter().filter(|step| step.number <= last.number).collect();
        let mut needed = [of_flow, before].into_iter().find(|steps| self.differs(steps).is_some())?;
        // Ever smaller parts are left out, down to single packets (Zeller's ddmin, the half of it that is needed here).
        let mut part = needed.len() / 2;
        while part > 0 && self.tries > 0 {
            let mut at = 0;
            while at + 1 < needed.len() && self.tries > 0 {
                let until = (at + part).min(needed.len() - 1);
                let rest: Vec<_> = needed[..at].iter().chain(&needed[until..]).copied().collect();
                if self.differs(&rest).is_some() {
                    needed = rest;
                } else {
                    at = until;
                }
            }
            part /= 2;
        }
        self.tries = 1;
        let arrived = self.differs(&needed)?;
        Some(needed.into_iter().cloned().zip(arrived).collect())
    }

    /// Sends these packets, one by one, into new worlds. Says which of them arrived in the oracle's, when the last one made
    /// a difference again.
    fn differs(&mut self, steps: &[&Step]) -> Option<Vec<bool>> {
        self.tries = self.tries.checked_sub(1)?;
        let twins = Twins::start();
        let mut arrived = Vec::new();
        let (mut differs, mut taken) = (false, Taken::default());
        for step in steps {
            let alone = std::slice::from_ref(*step);
            let exchange = Exchange::of(&twins.worlds, alone, taken);
            arrived.extend(exchange.outcomes().map(|(_, [_, oracle])| oracle));
            differs = exchange.unexplained().next().is_some();
            taken = exchange.taken;
        }
        differs.then_some(arrived)
    }
}
