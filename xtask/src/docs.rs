//! `cargo xtask docs`: the documents that are made from the code, so that they cannot drift from it.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use datapath_common::abi::DropReason;

use crate::{
    artifacts::{TESTED, executables},
    build,
    shell::{self, say},
};

/// Options of `docs`.
#[derive(clap::Args)]
pub struct Options {
    /// Write nothing; fail when a document is not what it would be.
    #[arg(long)]
    pub check: bool,
}

const NOTICE: &str = "<!-- Made by `cargo xtask docs`; do not edit. -->\n";

/// Writes the documents, or checks them.
pub fn run(options: &Options) -> Result<()> {
    build::run(&build::Options { bpf_only: true, mutants: true, ..Default::default() })?;
    let mut stale = Vec::new();
    for (name, text) in [("drops.md", drops()?), ("maps.md", maps()?), ("commands.md", commands()?)] {
        let path = shell::root().join("docs").join(name);
        let old = fs::read_to_string(&path).unwrap_or_default();
        if old == text {
            continue;
        }
        if options.check {
            stale.push(format!("docs/{name}"));
        } else {
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            say(format!("wrote docs/{name}"));
        }
    }
    ensure!(stale.is_empty(), "out of date: {}; run `cargo xtask docs` and commit what it writes", stale.join(", "));
    Ok(())
}

fn drops() -> Result<String> {
    let mut text = format!(
        "{NOTICE}# Drop reasons\n\n\
         Every packet that the programs drop is counted under one of these names: `datapath status` shows the counters,\n\
         `datapath monitor --drops` the packets (sampled), and `/metrics` has them as `datapath_drops_total`.\n\n\
         | number | name | what it means | what to do |\n|---|---|---|---|\n"
    );
    for reason in DropReason::ALL {
        let (number, name) = (*reason as u32, reason.name());
        writeln!(text, "| {number} | `{name}` | {} | {} |", cell(reason.meaning()), cell(reason.remedy()))?;
    }
    Ok(text)
}

/// The doc comments of `abi::map`, which is where the maps are described.
fn maps() -> Result<String> {
    let source = shell::root().join("datapath-common/src/abi/mod.rs");
    let code = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
    let mut text = format!(
        "{NOTICE}# Maps\n\n\
         The tables that the programs and the daemon share, pinned under these names in the pin directory\n\
         (`/sys/fs/bpf/datapath` by default). `bpftool map dump pinned …` shows what is in them.\n\n\
         | map | what it holds |\n|---|---|\n"
    );
    let mut comment = String::new();
    let mut found = 0;
    for line in code.lines().map(str::trim).skip_while(|line| *line != "pub mod map {").take_while(|line| *line != "}")
    {
        if let Some(words) = line.strip_prefix("///") {
            comment.push_str(words);
        } else if let Some((_, name)) = line.split_once("&str = ") {
            let name = name.trim_end_matches(';').trim_matches('"');
            writeln!(text, "| `{name}` | {} |", cell(&without_links(comment.trim())))?;
            comment.clear();
            found += 1;
        }
    }
    ensure!(found > 0, "{} has no `pub mod map` any more; mend xtask/src/docs.rs", source.display());
    Ok(text)
}

/// A link of rustdoc to `super::Name`, as plain `Name`.
fn without_links(text: &str) -> String {
    text.replace("[`super::", "`").replace("`]", "`").replace("[`", "`")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// What `datapath --help` says, and each of its commands.
fn commands() -> Result<String> {
    let [datapath] = executables(&TESTED, ["datapath"])?;
    let mut text = format!("{NOTICE}# Commands\n\nWhat `datapath COMMAND --help` prints.\n");
    describe(&datapath, &[], &mut text)?;
    Ok(text)
}

fn describe(datapath: &Path, path: &[&str], text: &mut String) -> Result<()> {
    let help = shell::output(shell::command(datapath).args(path).arg("--help").env("COLUMNS", "100"))?;
    let name = std::iter::once("datapath").chain(path.iter().copied()).collect::<Vec<_>>().join(" ");
    let body: Vec<&str> = help.lines().map(str::trim_end).collect();
    writeln!(text, "\n## `{name}`\n\n```text\n{}\n```", body.join("\n").trim_end())?;
    for command in subcommands(&help) {
        let below: Vec<&str> = path.iter().copied().chain([command]).collect();
        describe(datapath, &below, text)?;
    }
    Ok(())
}

/// The names in the help's list of commands.
fn subcommands(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn commands_are_found_in_the_help() {
        let help = "Networks\n\nUsage: x\n\nCommands:\n  daemon  Runs\n          on\n  help    Print\n\nOptions:\n  -h  Print\n";
        assert_eq!(super::subcommands(help), ["daemon"]);
        assert!(super::subcommands("Usage: x\n").is_empty());
    }

    #[test]
    fn links_become_plain_names() {
        assert_eq!(super::without_links("Array: index → [`super::Endpoint`]"), "Array: index → `Endpoint`");
    }
}
