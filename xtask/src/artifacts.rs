//! Where cargo puts what it builds, asked of cargo itself: the target folder can be anywhere.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result};

use crate::shell;

/// What is built for tests and by their way: all of the workspace in one go and with one set of features, so that no step
/// compiles again what another has. The BPF programs are another target's; both their objects must be there.
pub const TESTED: [&str; 5] =
    ["--workspace", "--exclude", "datapath-ebpf", "--features", "datapath-user/mutants,datapath-common/native"];

/// Builds with these arguments, and returns where these executables are.
pub fn executables<const N: usize>(arguments: &[&str], names: [&str; N]) -> Result<[PathBuf; N]> {
    let mut build = shell::cargo();
    build.args(["build", "--message-format=json-render-diagnostics"]).args(arguments).stderr(Stdio::inherit());
    let messages = shell::output(&mut build)?;
    let built: Vec<PathBuf> = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .collect();
    let mut found = [const { PathBuf::new() }; N];
    for (slot, name) in found.iter_mut().zip(names) {
        let path = built.iter().find(|path| path.file_name().is_some_and(|file| file == name));
        *slot = path.with_context(|| format!("`{}` made no {name}", shell::shown(&build)))?.clone();
    }
    Ok(found)
}
