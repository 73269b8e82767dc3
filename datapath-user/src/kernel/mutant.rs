//! The seeded fault that a test asked for. Only in builds with the `mutants` feature.

use std::env;

use anyhow::{Context, Result};
use datapath_common::abi::{Mutant, Settings};

/// Names the fault, as `{:?}` prints a [`Mutant`].
const VARIABLE: &str = "DATAPATH_MUTANT";

/// The settings with the fault that the environment names.
pub fn chosen(settings: Settings) -> Result<Settings> {
    let Some(name) = env::var_os(VARIABLE) else { return Ok(settings) };
    let name = name.to_string_lossy();
    let mutant = Mutant::named(&name)
        .with_context(|| format!("there is no mutant {name}; {VARIABLE} takes one of {:?}", Mutant::ALL))?;
    tracing::warn!("running with the seeded fault {mutant:?}");
    Ok(Settings { mutant: mutant as u32, ..settings })
}
