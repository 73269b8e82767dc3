//! `verifier-budget.toml`: what each program may cost the verifier, per kernel.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    artifacts::{TESTED, executables},
    build::Object,
    shell::{self, say},
};

/// What a program costs, or may cost.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Cost {
    /// Instructions the verifier walks.
    pub instructions: u32,
    /// Bytes of stack of the deepest chain of calls.
    pub stack: u32,
}

/// The ceilings: kernel → program → cost.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Budget(BTreeMap<String, BTreeMap<String, Cost>>);

/// The kernel whose ceilings apply where tests run directly: the machine's own may be newer, never cheaper to trust.
const NATIVE: &str = "6.18";

impl Budget {
    /// Reads the file.
    pub fn read() -> Result<Self> {
        let path = shell::root().join("verifier-budget.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Fails when a program is above its ceiling, or one side knows a program that the other does not.
    pub fn check(&self, kernel: &str, costs: &BTreeMap<String, Cost>) -> Result<()> {
        let ceilings = self.0.get(kernel).with_context(|| format!("verifier-budget.toml has no [\"{kernel}\".…]"))?;
        let mut faults = Vec::new();
        for (program, cost) in costs {
            say(format!(
                "  {kernel} {program}: {} instructions verified, {} bytes of stack",
                cost.instructions, cost.stack
            ));
            match ceilings.get(program) {
                None => faults.push(format!("{program} has no ceiling")),
                Some(ceiling) if cost.instructions > ceiling.instructions || cost.stack > ceiling.stack => {
                    faults.push(format!("{program} costs {cost:?}, above {ceiling:?}"));
                }
                Some(_) => {}
            }
        }
        let gone = ceilings.keys().filter(|program| !costs.contains_key(*program));
        faults.extend(gone.map(|program| format!("{program} has a ceiling but was not loaded")));
        if !faults.is_empty() {
            bail!("verifier budget of kernel {kernel}: {}; see verifier-budget.toml", faults.join("; "));
        }
        Ok(())
    }
}

/// Loads every program on this machine's kernel and holds its costs against the budget.
pub fn check_here() -> Result<()> {
    let [verify] = executables(&TESTED, ["verify"])?;
    let costs = shell::output(shell::command(verify).arg(Object::Plain.path()))?;
    Budget::read()?.check(NATIVE, &serde_json::from_str(&costs)?)
}
