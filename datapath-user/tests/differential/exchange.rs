//! Packets go into both worlds, and what arrived is put side by side.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::canonical::{Canonical, Context};
use crate::difference::{Difference, Missing, is_published};
use crate::grammar::Step;
use crate::locate::{Ends, UDP, locate};
use crate::reassembly::reassembled;
use crate::twins::{Arrival, LAN, MEMBERS, ORACLE, OURS, World};

/// A batch is over when nothing has come for so many milliseconds.
const QUIET: u16 = 3;
/// The same, where the worlds differ at first: other work on the machine may be why.
const PATIENCE: u16 = 500;

/// What was seen of one canonical frame: how often in each world, and of which flow.
#[derive(Clone, Default)]
pub struct Seen {
    pub counts: [usize; 2],
    pub flow: Option<u32>,
}

/// What came of a batch: at most one packet of each flow.
pub struct Exchange<'a> {
    steps: &'a [Step],
    context: Context<'a>,
    of_flow: HashMap<u32, &'a Step>,
    arrivals: [Vec<Arrival>; 2],
    /// The arrivals, with datagrams in place of their fragments.
    datagrams: [Vec<Arrival>; 2],
    pub seen: BTreeMap<Canonical, Seen>,
    /// What chance has taken in this batch or before.
    pub taken: Taken,
}

/// Source ports by which a damaged packet, or one with a port that its host has chosen, has left.
#[derive(Clone, Default)]
pub struct Taken {
    /// All of them.
    pub ports: HashSet<u16>,
    /// Those that are the external ports of endpoints' UDP mappings.
    pub mapped: HashSet<u16>,
}

impl<'a> Exchange<'a> {
    /// Sends a batch, and waits for what comes of it. `taken` is that of the batches before.
    pub fn of(worlds: &[World; 2], steps: &'a [Step], taken: Taken) -> Self {
        for step in steps {
            for (world, frames) in worlds.iter().zip(&step.frames) {
                frames.iter().for_each(|frame| world.send(step.port, frame));
            }
        }
        let mut exchange = Self {
            steps,
            context: Context::of(steps),
            of_flow: steps.iter().map(|step| (step.flow, step)).collect(),
            arrivals: [OURS, ORACLE].map(|world| worlds[world].settle(QUIET)),
            datagrams: [Vec::new(), Vec::new()],
            seen: BTreeMap::new(),
            taken,
        };
        exchange.compare();
        if exchange.unexplained().next().is_some() {
            for (world, arrivals) in exchange.arrivals.iter_mut().enumerate() {
                arrivals.extend(worlds[world].settle(PATIENCE));
            }
            exchange.compare();
        }
        exchange
    }

    fn compare(&mut self) {
        let mut seen = BTreeMap::<Canonical, Seen>::new();
        self.datagrams = self.arrivals.each_ref().map(|arrivals| reassembled(arrivals));
        for (world, datagrams) in self.datagrams.iter().enumerate() {
            for arrival in datagrams {
                let flow = self.context.origin(arrival);
                let step = flow.and_then(|flow| self.of_flow.get(&flow)).copied();
                if let Some(canonical) = self.context.canonical(world, arrival, step) {
                    let entry = seen.entry(canonical).or_default();
                    entry.counts[world] += 1;
                    entry.flow = flow;
                }
            }
        }
        self.seen = seen;
        let by_chance = self.arrivals().filter(|(_, arrival, step)| {
            arrival.port == LAN && (step.traits.damage.is_some() || step.traits.renamed.is_some())
        });
        let sources = by_chance.filter_map(|(_, arrival, step)| {
            let maps = step.port < MEMBERS && locate(&arrival.frame)?.protocol == UDP;
            Some((Ends::of(&arrival.frame)?.source.port(), maps))
        });
        for (port, maps) in sources.collect::<Vec<_>>() {
            self.taken.ports.insert(port);
            if maps && !is_published(port) {
                self.taken.mapped.insert(port);
            }
        }
    }

    /// Everything in which the worlds differ, with the documented difference where it is one.
    pub fn differences(&self) -> impl Iterator<Item = (Missing<'_>, &Seen, Option<&'static Difference>)> {
        self.seen.iter().filter_map(|(frame, seen)| {
            let world = match seen.counts[OURS].cmp(&seen.counts[ORACLE]) {
                Ordering::Less => OURS,
                Ordering::Greater => ORACLE,
                Ordering::Equal => return None,
            };
            let step = seen.flow.and_then(|flow| self.of_flow.get(&flow)).copied();
            let missing = Missing { world, frame, step, mapped: &self.taken.mapped };
            let difference = Difference::explain(&missing);
            Some((missing, seen, difference))
        })
    }

    /// Those that are documented nowhere.
    pub fn unexplained(&self) -> impl Iterator<Item = (Missing<'_>, &Seen)> {
        self.differences().filter(|(.., difference)| difference.is_none()).map(|(missing, seen, _)| (missing, seen))
    }

    /// What arrived, with the flow that it is of and the packet of this batch that caused it.
    pub fn arrivals(&self) -> impl Iterator<Item = (usize, &Arrival, &'a Step)> {
        self.datagrams.iter().enumerate().flat_map(move |(world, datagrams)| {
            datagrams
                .iter()
                .filter_map(move |arrival| Some((world, arrival, *self.of_flow.get(&self.context.origin(arrival)?)?)))
        })
    }

    /// Each packet, and whether anything came of it in each world.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'a Step, [bool; 2])> {
        self.steps.iter().map(|step| {
            let of_step = || self.seen.values().filter(|seen| seen.flow == Some(step.flow));
            (step, [OURS, ORACLE].map(|world| of_step().any(|seen| seen.counts[world] > 0)))
        })
    }
}
