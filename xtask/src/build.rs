//! `cargo xtask build`: the BPF object first, then the workspace that embeds it.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    setup,
    shell::{self, say},
    toolchain::Toolchain,
};

const TARGET: &str = "bpfel-unknown-none";
/// `v3` has what the programs use (atomics, 32-bit jumps) and every kernel since 5.12 runs it. BTF is made from
/// debuginfo.
const RUSTFLAGS: &[&str] = &["-C", "target-cpu=v3", "-C", "link-arg=--btf", "-C", "debuginfo=2"];

/// Options of `build`.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Compile for BPF this way, instead of the one that fits this machine.
    #[arg(long, value_enum)]
    pub toolchain: Option<Toolchain>,
    /// Only the BPF objects.
    #[arg(long)]
    pub bpf_only: bool,
    /// Also the object with the seeded faults that `test --mutants` uses.
    #[arg(long)]
    pub mutants: bool,
    /// Optimise the workspace's programs.
    #[arg(long)]
    pub release: bool,
}

/// Which of the two BPF objects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// What is installed.
    Plain,
    /// With the seeded faults.
    Mutants,
}

impl Object {
    /// Where the build scripts look for it.
    pub fn path(self) -> PathBuf {
        shell::target().join("bpf").join(match self {
            Self::Plain => "datapath",
            Self::Mutants => "datapath-mutants",
        })
    }
}

/// Builds what is asked for.
pub fn run(options: &Options) -> Result<()> {
    let toolchain = setup::install_toolchain(options.toolchain)?;
    bpf_object(toolchain, Object::Plain)?;
    if options.mutants {
        bpf_object(toolchain, Object::Mutants)?;
    }
    if options.bpf_only {
        return Ok(());
    }
    say("building the workspace");
    let mut build = shell::cargo();
    build.arg("build");
    if options.release {
        build.arg("--release");
    }
    shell::run(&mut build)
}

/// Compiles one object and puts it where the build scripts look for it.
fn bpf_object(toolchain: Toolchain, object: Object) -> Result<()> {
    let folder = shell::target().join("bpf-build");
    let mut build = toolchain.cargo()?;
    build
        .args(["build", "--package", "datapath-ebpf", "--profile", "bpf", "--target", TARGET])
        .args(toolchain.build_arguments())
        .arg("--target-dir")
        .arg(&folder)
        // Takes the place of every other source of flags, the caller's RUSTFLAGS included.
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    if object == Object::Mutants {
        build.args(["--features", "mutants"]);
    }
    say(format!("building {} with {}", object.path().display(), toolchain.name()));
    shell::run(&mut build)?;
    copy_if_changed(&folder.join(TARGET).join("bpf/datapath-ebpf"), &object.path())
}

/// Copies only a different file, so that what embeds it is not compiled again for nothing.
fn copy_if_changed(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("the build left no {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::create_dir_all(to.parent().expect("a file in a folder"))?;
    // In one step: another build must never embed half of it.
    let beside = to.with_extension("new");
    fs::write(&beside, new)?;
    fs::rename(&beside, to).with_context(|| format!("cannot write {}", to.display()))
}
