//! Compiles `src/bin/inside.rs` once more, without libraries, for the image of the laboratory's Docker containers.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/bin/inside.rs");
    let variable = |name| std::env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let program = PathBuf::from(variable("OUT_DIR")).join("inside");
    let status = Command::new(variable("RUSTC"))
        .args(["--edition", "2024", "--crate-name", "inside", "src/bin/inside.rs", "--target"])
        .arg(variable("TARGET"))
        .args(["-Copt-level=2", "-Cpanic=abort", "-Cstrip=symbols", "-Ctarget-feature=+crt-static", "-o"])
        .arg(&program)
        .status()
        .unwrap_or_else(|error| panic!("cannot run rustc: {error}"));
    assert!(status.success(), "inside.rs does not link statically; libc6-dev has the library that this needs");
}
