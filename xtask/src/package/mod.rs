//! `cargo xtask package`: the Debian package.

mod check;

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    artifacts::{TESTED, executables},
    build, setup,
    shell::{self, say},
};

/// Options of `package`.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Install it in a clean Debian, try it, purge it, and fail when something is left.
    #[arg(long)]
    pub check: bool,
}

/// Builds the package, and checks it if that is asked for.
pub fn run(options: &Options) -> Result<()> {
    setup::install_packaging()?;
    build::run(&build::Options { bpf_only: true, mutants: true, ..Default::default() })?;
    let package = make()?;
    say(format!("made {}", package.display()));
    if options.check {
        check::in_clean_root(&package)?;
    }
    Ok(())
}

/// What is made for the package and is no source: the manifest of `datapath-user` names it. Not below the target folder,
/// whose files cargo-deb would have to have built.
fn made() -> PathBuf {
    shell::root().join("packaging/made")
}

/// The package itself, and what it is tried in.
fn folder() -> PathBuf {
    shell::target().join("package")
}

fn make() -> Result<PathBuf> {
    let [datapath] = executables(&["--release", "--package", "datapath-user", "--bin", "datapath"], ["datapath"])?;
    man_pages()?;
    completions(&datapath)?;
    let output = folder().join("deb");
    recreate(&output)?;
    shell::run(shell::cargo().args(["deb", "--package", "datapath-user", "--no-build", "--output"]).arg(&output))?;
    let mut made = fs::read_dir(&output)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    made.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    ensure!(made.len() == 1, "cargo-deb made {} packages in {}, not one", made.len(), output.display());
    made.pop().context("there is one")
}

fn man_pages() -> Result<()> {
    // Not the release build: the tests have built most of this.
    let [man] = executables(&[&TESTED[..], &["--example", "man"]].concat(), ["man"])?;
    let pages = made().join("man");
    recreate(&pages)?;
    shell::run(shell::command(man).arg(&pages))
}

/// Scripts that ask the program itself, so that names of networks and endpoints are completed too.
fn completions(datapath: &Path) -> Result<()> {
    let scripts = made().join("completions");
    recreate(&scripts)?;
    for shell in ["bash", "zsh", "fish"] {
        let mut command = shell::command(datapath);
        // What it is called as is what the script will call.
        command.arg0("datapath").env("COMPLETE", shell);
        let mut script = shell::output(&mut command)?;
        if shell == "zsh" {
            // Loaded by the first use: that one has to be answered too.
            script.push_str("\n[[ $funcstack[1] = _datapath ]] && _clap_dynamic_completer_datapath \"$@\"\n");
        }
        fs::write(scripts.join(format!("datapath.{shell}")), script)?;
    }
    Ok(())
}

fn recreate(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
