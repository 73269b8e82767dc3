//! The two ways to compile Rust for BPF, and which of them this machine has.
//!
//! - **debian**: Debian's `rustc-web`, which ships a ready-built `core` for BPF, and a bpf-linker built against the
//!   LLVM it uses. A fixed, packaged compiler, and what CI uses.
//! - **rustup**: rustup's nightly with `rust-src`, which builds `core` itself.

use std::{path::Path, process::Command};

use anyhow::Result;
use clap::ValueEnum;

use crate::shell;

/// The version of bpf-linker that both ways use.
pub const BPF_LINKER_VERSION: &str = "0.13.0";
/// Debian's compiler: called by its path, since rustup's comes first on `PATH`.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_BPF_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

/// A way to compile for BPF.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Toolchain {
    /// Debian's rustc-web.
    Debian,
    /// rustup's nightly with rust-src.
    Rustup,
}

impl Toolchain {
    /// What it is, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "Debian's rustc-web",
            Self::Rustup => "rustup's nightly with rust-src",
        }
    }

    /// Whether its compiler is installed.
    pub fn has_compiler(self) -> bool {
        match self {
            Self::Debian => Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_BPF_CORE).exists(),
            Self::Rustup => shell::output(
                shell::command("rustup")
                    .args(["component", "list", "--toolchain", "nightly", "--installed"])
                    .stderr(std::process::Stdio::null()),
            )
            .is_ok_and(|components| components.lines().any(|line| line == "rust-src")),
        }
    }

    /// The cargo command that compiles with it, up to the sub-command.
    pub fn cargo(self) -> Result<Command> {
        let mut command = match self {
            Self::Debian => {
                let mut command = shell::cargo();
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Self::Rustup => {
                let mut command = shell::command("rustup");
                // Set by the stable cargo that runs us; nightly must find its own compiler.
                command.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
                command.args(["run", "nightly", "cargo"]);
                command
            }
        };
        command.env("PATH", shell::path_with_cargo_bin()?);
        Ok(command)
    }

    /// What the build sub-command needs besides the target.
    pub fn build_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Debian => &[],
            Self::Rustup => &["-Z", "build-std=core"],
        }
    }
}

/// Whether the bpf-linker both ways use is there and starts.
pub fn has_linker() -> bool {
    let linker = shell::cargo_bin().join("bpf-linker");
    let linker = if linker.exists() { linker } else { "bpf-linker".into() };
    shell::output(Command::new(linker).arg("--version").stderr(std::process::Stdio::null()))
        .is_ok_and(|version| version.trim() == format!("bpf-linker {BPF_LINKER_VERSION}"))
}

/// The way this machine is complete for, Debian's first.
pub fn complete() -> Option<Toolchain> {
    if !has_linker() {
        return None;
    }
    [Toolchain::Debian, Toolchain::Rustup].into_iter().find(|toolchain| toolchain.has_compiler())
}
