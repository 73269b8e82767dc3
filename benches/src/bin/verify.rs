//! Prints what each program of a BPF object costs this kernel's verifier, as JSON: `verify OBJECT`.

use anyhow::{Context as _, Result};
use benches::verifier;
use datapath_common::abi::Settings;

fn main() -> std::process::ExitCode {
    benches::exit(measure())
}

fn measure() -> Result<()> {
    let path = std::env::args_os().nth(1).context("usage: verify OBJECT")?;
    let object = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let costs = verifier::costs(&object, &Settings::DEFAULT)?;
    println!("{}", serde_json::to_string(&costs)?);
    Ok(())
}
