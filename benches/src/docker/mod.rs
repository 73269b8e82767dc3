//! `docker run` on a host that has containers already: what it takes, when the container answers, and what the network
//! of all of them weighs.
//!
//! Three hosts stand at once, each with its own dockerd. On [`Who::Stock`] dockerd makes the network itself, by
//! iptables and docker-proxy. On [`Who::Datapath`] we do. [`Who::Bare`] has a dockerd with the settings that the
//! datapath asks for, and nobody in its place: what the datapath adds is the difference to it. A round measures each host
//! once, in shuffled order, and differences are taken inside a round.

mod contender;
mod memory;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use comparison::shuffle::Random;

use contender::Contender;
pub use contender::{Answer, Sample, Who};
pub use memory::Memory;
pub use report::print;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The hosts.
    pub hosts: Vec<Who>,
    /// Published ports of each container.
    pub ports: Vec<u16>,
    /// Containers that a host has already, rising.
    pub containers: Vec<usize>,
    /// Rounds for each of these.
    pub rounds: usize,
    /// What one host may cost for each of these.
    pub limits: Limits,
}

/// What one host may cost until it has so many containers, and to be measured then.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// To start containers.
    pub filling: Duration,
    /// To measure. A host that takes longer has fewer rounds, but not fewer than [`FEWEST_ROUNDS`].
    pub measuring: Duration,
    /// Memory of all its network processes together, in bytes.
    pub memory: u64,
}

/// Of a host that is slow.
pub const FEWEST_ROUNDS: usize = 3;

/// What was measured with so many ports and containers.
#[derive(Debug)]
pub struct Cell {
    /// Published ports of the container that is measured.
    pub ports: u16,
    /// Containers that are there already.
    pub containers: usize,
    /// Published ports of all those.
    pub published: usize,
    /// Of each host, or why there is nothing.
    pub hosts: BTreeMap<Who, Result<Figures, String>>,
}

/// What was measured of one host.
#[derive(Debug)]
pub struct Figures {
    /// What its network weighs with the containers that were there already.
    pub memory: Memory,
    /// One a round, from the first on.
    pub samples: Vec<Sample>,
}

/// Measures all of it, with new hosts for each number of ports. `tell` hears what is being done.
pub fn measure(datapath: &Path, plan: &Plan, tell: &(dyn Fn(String) + Sync)) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for &ports in &plan.ports {
        tell(format!("{ports} ports: starting {} hosts", plan.hosts.len()));
        let mut contenders = in_parallel(plan.hosts.iter().copied(), |who| Contender::start(who, datapath, ports))?;
        let mut left_out: BTreeMap<Who, String> = BTreeMap::new();
        for &containers in &plan.containers {
            tell(format!("{ports} ports: {containers} containers a host"));
            let going = contenders.iter_mut().filter(|contender| !left_out.contains_key(&contender.who));
            let filled = in_parallel(going, |contender| {
                let why_not = contender.fill(containers, &plan.limits)?;
                Ok((contender.who, why_not))
            })?;
            left_out.extend(filled.into_iter().filter_map(|(who, why_not)| Some((who, why_not?))));
            let going: Vec<_> = contenders.iter().filter(|c| !left_out.contains_key(&c.who)).collect();
            let published = going.iter().map(|contender| contender.published()).max().unwrap_or(0);
            let mut hosts: BTreeMap<_, _> = left_out.iter().map(|(who, why)| (*who, Err(why.clone()))).collect();
            for (who, figures) in rounds(&going, plan, tell)? {
                hosts.insert(who, Ok(figures));
            }
            cells.push(Cell { ports, containers, published, hosts });
        }
    }
    Ok(cells)
}

/// The rounds of one cell.
fn rounds(contenders: &[&Contender], plan: &Plan, tell: &dyn Fn(String)) -> Result<Vec<(Who, Figures)>> {
    let mut figures = Vec::new();
    for contender in contenders {
        figures.push((contender.who, Figures { memory: contender.memory()?, samples: Vec::new() }, Duration::ZERO));
    }
    let mut random = Random::seeded();
    for round in 0..plan.rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        random.shuffle(&mut order);
        for at in order {
            let (who, Figures { samples, .. }, spent) = &mut figures[at];
            if *spent > plan.limits.measuring && samples.len() >= FEWEST_ROUNDS {
                continue;
            }
            let began = Instant::now();
            let sample = contenders[at].measure()?;
            *spent += began.elapsed();
            tell(format!("  round {}: {} {sample}", round + 1, who.name()));
            samples.push(sample);
        }
    }
    Ok(figures.into_iter().map(|(who, figures, _)| (who, figures)).collect())
}

fn in_parallel<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        let ended = started.into_iter().map(|thread| thread.join());
        ended.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
