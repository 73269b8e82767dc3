//! Says where the BPF object is that the binary embeds, and which command makes it when it is not there.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// The environment variable that `kernel::programs` reads the object's path from. Set to an absolute path by the
/// caller, it names another object.
const OBJECT: &str = "DATAPATH_BPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={OBJECT}");
    let object = match env::var_os(OBJECT).map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        Some(path) => fail(&format!("{OBJECT} is `{}`; set it to an absolute path", path.display())),
        None => built_object(),
    };
    println!("cargo::rerun-if-changed={}", object.display());
    match fs::metadata(&object) {
        Ok(found) if found.is_file() => println!("cargo::rustc-env={OBJECT}={}", object.display()),
        _ => fail(&format!("the BPF object {} is missing; run `cargo xtask build`", object.display())),
    }
}

/// Where `cargo xtask build` puts the object.
fn built_object() -> PathBuf {
    let name = if env::var_os("CARGO_FEATURE_MUTANTS").is_some() { "datapath-mutants" } else { "datapath" };
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let workspace = Path::new(&manifest).parent().expect("the package is inside the workspace").to_path_buf();
    workspace.join("target/bpf").join(name)
}

fn fail(sentence: &str) -> ! {
    println!("cargo::error={sentence}");
    process::exit(1)
}
