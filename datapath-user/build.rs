//! Says where the BPF object is that the binary embeds, with a hash of it, and which command makes it when it is not there.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// The environment variable that `kernel::programs` reads the object's path from; behind `_DIGEST`, its hash. Set to an absolute path by the
/// caller, it names another object.
const OBJECT: &str = "DATAPATH_BPF_OBJECT";
/// The same, of the object with the seeded faults, which builds for the tests embed as well.
const FAULTY_OBJECT: &str = "DATAPATH_FAULTY_BPF_OBJECT";

fn main() {
    embed(OBJECT, "datapath", "cargo xtask build");
    if env::var_os("CARGO_FEATURE_MUTANTS").is_some() {
        embed(FAULTY_OBJECT, "datapath-mutants", "cargo xtask build --mutants");
    }
}

/// Passes on the path in this variable; where it is not set, that of the object of this name, which `command` makes.
fn embed(variable: &str, name: &str, command: &str) {
    println!("cargo::rerun-if-env-changed={variable}");
    let object = match env::var_os(variable).map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        Some(path) => fail(&format!("{variable} is `{}`; set it to an absolute path", path.display())),
        None => built_object(name),
    };
    println!("cargo::rerun-if-changed={}", object.display());
    match fs::read(&object) {
        Ok(bytes) => {
            println!("cargo::rustc-env={variable}={}", object.display());
            let mut hasher = DefaultHasher::new();
            hasher.write(&bytes);
            println!("cargo::rustc-env={variable}_DIGEST={:016x}", hasher.finish());
        }
        Err(_) => fail(&format!("the BPF object {} is missing; run `{command}`", object.display())),
    }
}

/// Where `cargo xtask build` puts the object.
fn built_object(name: &str) -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let workspace = Path::new(&manifest).parent().expect("the package is inside the workspace").to_path_buf();
    workspace.join("target/bpf").join(name)
}

fn fail(sentence: &str) -> ! {
    println!("cargo::error={sentence}");
    process::exit(1)
}
