//! How a run went, in numbers.

use std::collections::BTreeMap;
use std::fmt;

use crate::exchange::Exchange;
use crate::grammar::Kind;
use crate::twins::{HOST, LAN, ORACLE, OURS};

/// Packets of a class: sent, and those of which something arrived somewhere, in each world.
#[derive(Clone, Copy, Default)]
struct Count {
    sent: usize,
    arrived: [usize; 2],
}

/// How a run went.
#[derive(Default)]
pub struct Report {
    pub packets: usize,
    pub failures: usize,
    classes: BTreeMap<(Kind, &'static str), Count>,
    /// Documented differences: name, who delivered more, and where.
    differences: BTreeMap<(&'static str, &'static str, &'static str), usize>,
}

/// Classes that must get through, for silence on both sides proves nothing: so many percent of their packets.
const LIVELY: [(Kind, usize); 6] = [
    (Kind::Outbound, 60),
    (Kind::Published, 60),
    (Kind::Hairpin, 50),
    (Kind::Sibling, 50),
    (Kind::ToHost, 50),
    (Kind::FromHost, 50),
];

impl Report {
    /// Counts what came of a batch.
    pub fn count(&mut self, exchange: &Exchange<'_>) {
        for (step, arrived) in exchange.outcomes() {
            self.packets += 1;
            let count = self.classes.entry((step.traits.kind, step.traits.what)).or_default();
            count.sent += 1;
            for world in [OURS, ORACLE] {
                count.arrived[world] += usize::from(arrived[world]);
            }
        }
        for (missing, _, difference) in exchange.differences() {
            let Some(difference) = difference else {
                self.failures += 1;
                continue;
            };
            let by = if missing.world == OURS { "the oracle" } else { "the datapath" };
            let at = match missing.frame.port {
                LAN => "the LAN",
                HOST => "the host",
                _ => "endpoints",
            };
            *self.differences.entry((difference.name, by, at)).or_default() += 1;
        }
    }

    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.failures += other.failures;
        for (class, other) in &other.classes {
            let count = self.classes.entry(*class).or_default();
            count.sent += other.sent;
            for world in [OURS, ORACLE] {
                count.arrived[world] += other.arrived[world];
            }
        }
        for (difference, count) in &other.differences {
            *self.differences.entry(*difference).or_default() += count;
        }
    }

    /// Classes of which too little arrived in one world for the comparison to mean anything.
    pub fn silent(&self) -> Vec<Kind> {
        let of = |kind| self.classes.iter().filter(move |((of, _), _)| *of == kind).map(|(_, count)| count);
        let enough = |kind, percent| {
            let sent: usize = of(kind).map(|count| count.sent).sum();
            [OURS, ORACLE].iter().all(|world| {
                let arrived: usize = of(kind).map(|count| count.arrived[*world]).sum();
                arrived * 100 >= sent * percent
            })
        };
        LIVELY.iter().filter(|(kind, percent)| !enough(*kind, *percent)).map(|(kind, _)| *kind).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} packets, {} unexplained differences", self.packets, self.failures)?;
        writeln!(f, "   sent   datapath     oracle  (arrived somewhere)")?;
        for ((kind, what), Count { sent, arrived: [ours, oracle] }) in &self.classes {
            writeln!(f, "{sent:>7} {ours:>10} {oracle:>10}  {kind:?}, {what}")?;
        }
        for ((name, by, at), count) in &self.differences {
            writeln!(f, "{count:>7} allowed: {name}, delivered by {by} to {at}")?;
        }
        Ok(())
    }
}
