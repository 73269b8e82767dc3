//! What the worlds disagreed about, on the terminal and under `target/differential/<seed>/`.

use std::fmt::Write as _;
use std::path::Path;

use lab::frame::View;

use crate::canonical::Canonical;
use crate::difference::Missing;
use crate::exchange::{Exchange, Seen};
use crate::twins::{HOST, LAN, OURS};

/// Prints the difference, and saves it with all frames in hex.
pub fn save(seed: u64, number: usize, missing: &Missing<'_>, seen: &Seen, exchange: &Exchange<'_>, history: &[String]) {
    let others = exchange.seen.iter().filter(|(_, other)| other.flow == seen.flow && seen.flow.is_some());
    let others: Vec<_> = others.map(|(frame, other)| (frame, other.counts)).collect();
    let text = told(seed, missing, seen.counts, &others)
        + &history.iter().map(|line| format!("  history: {line}\n")).collect::<String>();
    println!("{text}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("differential").join(seed.to_string());
    let path = folder.join(format!("{number:03}.txt"));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &text));
    if let Err(error) = written {
        println!("{}: {error}", path.display());
    }
}

fn told(seed: u64, missing: &Missing<'_>, counts: [usize; 2], of_flow: &[(&Canonical, [usize; 2])]) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    let by = if missing.world == OURS { "the oracle alone" } else { "the datapath alone" };
    line(format!("seed {seed}: delivered by {by} to {} ({counts:?} times)", name(missing.frame.port)));
    line(format!("  {}", shown(&missing.frame.frame)));
    match missing.step {
        None => line("  caused by an unknown packet".to_owned()),
        Some(step) => {
            line(format!(
                "  caused by packet {} of flow {} from {}: {:?}",
                step.number,
                step.flow,
                name(step.port),
                step.traits
            ));
            for (world, frames) in ["datapath", "oracle"].iter().zip(&step.frames) {
                frames.iter().for_each(|frame| line(format!("  sent, {world}: {}", shown(frame))));
            }
        }
    }
    for (canonical, counts) in of_flow {
        line(format!("  of this flow, to {} {counts:?}: {}", name(canonical.port), shown(&canonical.frame)));
    }
    text
}

fn name(port: usize) -> String {
    match port {
        LAN => "the LAN".to_owned(),
        HOST => "the host".to_owned(),
        member => format!("endpoint {}", char::from(b'a' + member as u8)),
    }
}

fn shown(frame: &[u8]) -> String {
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    View::of(frame, None).map_or_else(|| hex.clone(), |view| format!("{view:?}\n    {hex}"))
}
