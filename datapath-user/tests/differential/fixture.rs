//! What the worlds disagreed about: told on the terminal, saved, and sent again.
//!
//! A fixture is text. `packet <number> flow <number> from <port>` begins a packet, with `arrives` where something of it
//! arrived in the oracle's world; its frames follow in hexadecimal, `frame` for both worlds or `datapath` and `oracle`
//! where an answer is not the same in both. Lines that begin with `#` are for the reader.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lab::frame::View;

use crate::canonical::Canonical;
use crate::difference::Missing;
use crate::exchange::{Exchange, Seen};
use crate::grammar::{Step, Traits};
use crate::twins::{HOST, LAN, MEMBERS, ORACLE, OURS};

/// Fixtures of what was found and mended.
const MENDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/fixtures");

/// Packets in their order, each with whether something of it arrives in the oracle's world.
type History = Vec<(Step, bool)>;

/// Names of the worlds in fixtures.
const WORLDS: [&str; 2] = ["datapath", "oracle"];

/// What is said about a difference: who delivered what, where, of which packet, and what else came of it.
pub fn told(missing: &Missing<'_>, seen: &Seen, exchange: &Exchange<'_>) -> String {
    let by = if missing.world == OURS { "the oracle" } else { "the datapath" };
    let arrival = |frame: &Canonical, [ours, oracle]: [usize; 2]| {
        format!(
            "to {}, {ours} by the datapath and {oracle} by the oracle: {}\n",
            port_name(frame.port),
            shown(&frame.frame)
        )
    };
    let mut text = format!("more often delivered by {by}, {}", arrival(missing.frame, seen.counts));
    let _ = writeln!(text, "{}", hex(&missing.frame.frame));
    let Some(step) = missing.step else { return text + "caused by an unknown packet\n" };
    let _ = writeln!(text, "caused by packet {} from {}: {:?}", step.number, port_name(step.port), step.traits);
    for (frame, other) in
        exchange.seen.iter().filter(|(frame, other)| *frame != missing.frame && other.flow == seen.flow)
    {
        text += &arrival(frame, other.counts);
        let _ = writeln!(text, "{}", hex(&frame.frame));
    }
    text
}

/// Saves what leads to a difference under `target/differential/<seed>/`, and returns where.
pub fn save(seed: u64, number: u32, about: &str, steps: &[(Step, bool)]) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("differential").join(seed.to_string());
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("packet-{number}.txt"));
    fs::write(&path, text(about, steps)).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Packets as a fixture, each with whether it arrives.
fn text(about: &str, steps: &[(Step, bool)]) -> String {
    let mut text: String = about.lines().map(|line| format!("# {line}\n")).collect();
    for (step, arrives) in steps {
        let arrives = if *arrives { " arrives" } else { "" };
        let _ = writeln!(text, "packet {} flow {} from {}{arrives}", step.number, step.flow, port_name(step.port));
        let [ours, oracle] = &step.frames;
        for frame in ours {
            let _ = writeln!(text, "  # {}", shown(frame));
        }
        let worlds: &[(&str, &Vec<Vec<u8>>)] =
            if ours == oracle { &[("frame", ours)] } else { &[(WORLDS[OURS], ours), (WORLDS[ORACLE], oracle)] };
        for (world, frames) in worlds {
            for frame in *frames {
                let _ = writeln!(text, "  {world} {}", hex(frame));
            }
        }
    }
    text
}

/// Reads a fixture.
fn read(path: &Path) -> Result<History> {
    let mut steps = History::new();
    for line in fs::read_to_string(path)?.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let words: Vec<_> = line.split_whitespace().collect();
        match (words.as_slice(), steps.last_mut()) {
            (["packet", number, "flow", flow, "from", port, rest @ ..], _) => {
                let port = port_named(port).with_context(|| format!("{port} is no port"))?;
                let (number, flow) = (number.parse()?, flow.parse()?);
                let step = Step { number, flow, port, frames: [Vec::new(), Vec::new()], traits: Traits::saved() };
                steps.push((step, *rest == ["arrives"]));
            }
            ([world, hex], Some((step, _))) => {
                let frame = bytes(hex).with_context(|| format!("{hex} is no frame"))?;
                let wanted = |name: &str| *world == "frame" || *world == name;
                let worlds = step.frames.iter_mut().zip(WORLDS);
                worlds.filter(|(_, name)| wanted(name)).for_each(|(frames, _)| frames.push(frame.clone()));
            }
            _ => bail!("{line}: what is that?"),
        }
    }
    Ok(steps)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

/// The fixtures of the repository, by name.
pub fn mended() -> Result<Vec<(String, History)>> {
    let mut paths = fs::read_dir(MENDED)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let fixture = |path: PathBuf| {
        let steps = read(&path).with_context(|| path.display().to_string())?;
        Ok((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), steps))
    };
    paths.into_iter().map(fixture).collect()
}

/// What is wrong with an exchange of a fixture: any difference, or a packet that arrives no more.
pub fn complaints(exchange: &Exchange<'_>, arrives: bool) -> Vec<String> {
    let mut complaints: Vec<_> =
        exchange.differences().map(|(missing, seen, _)| told(&missing, seen, exchange)).collect();
    for (step, arrived) in exchange.outcomes() {
        if arrived[ORACLE] != arrives {
            complaints.push(format!("packet {}: something arrives: {}", step.number, arrived[ORACLE]));
        }
    }
    complaints
}

fn port_name(port: usize) -> String {
    match port {
        LAN => "lan".to_owned(),
        HOST => "host".to_owned(),
        member => char::from(b'a' + u8::try_from(member).expect("there are few")).to_string(),
    }
}

fn port_named(name: &str) -> Option<usize> {
    (0..MEMBERS).chain([LAN, HOST]).find(|port| port_name(*port) == name)
}

fn shown(frame: &[u8]) -> String {
    View::of(frame, None).map_or_else(|| "no frame".to_owned(), |view| format!("{view:?}"))
}
