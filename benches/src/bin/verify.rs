//! Prints what each program of a BPF object costs this kernel's verifier, as JSON: `verify OBJECT [--program-log]`, the latter
//! with all that the programs can log.

use anyhow::{Context as _, Result};
use benches::verifier;
use datapath_common::abi::{Settings, program_log};

fn main() -> std::process::ExitCode {
    benches::exit(measure())
}

fn measure() -> Result<()> {
    let path = std::env::args_os().nth(1).context("usage: verify OBJECT")?;
    let object = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let program_log = match std::env::args().nth(2).as_deref() {
        None => program_log::OFF,
        Some("--program-log") => program_log::TRACE,
        Some(other) => anyhow::bail!("there is no `{other}`; usage: verify OBJECT [--program-log]"),
    };
    let costs = verifier::costs(&object, &Settings { program_log, ..Settings::DEFAULT })?;
    println!("{}", serde_json::to_string(&costs)?);
    Ok(())
}
