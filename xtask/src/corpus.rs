//! The corpus that is kept with the sources: for each fuzz target a few hundred inputs that reach all that hours of guessing have
//! reached, one a line in hexadecimal, the short ones first.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::fuzz;

fn kept(target: &str) -> PathBuf {
    fuzz::folder().join("corpus").join(target)
}

/// Puts the kept inputs into the folder that the fuzzer begins with and adds to.
pub fn unpack(target: &str, into: &Path) -> Result<()> {
    let kept = kept(target);
    let lines = match fs::read_to_string(&kept) {
        // A new target has none.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        lines => lines.with_context(|| kept.display().to_string())?,
    };
    for (number, line) in lines.lines().enumerate() {
        let input = hex::decode(line).with_context(|| format!("{}:{}", kept.display(), number + 1))?;
        fs::write(into.join(format!("kept-{number}")), input)?;
    }
    Ok(())
}

/// Keeps the inputs of this folder instead; how many.
pub fn keep(target: &str, from: &Path) -> Result<usize> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(from)? {
        inputs.push(fs::read(entry?.path())?);
    }
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    let lines: String = inputs.iter().map(|input| hex::encode(input) + "\n").collect();
    let kept = kept(target);
    fs::create_dir_all(fuzz::folder().join("corpus"))?;
    fs::write(&kept, lines).with_context(|| kept.display().to_string())?;
    Ok(inputs.len())
}
