//! `cargo xtask setup`: installs what is missing. Looks first, so that a second run does nothing and takes no time.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    docker,
    shell::{self, find_program, say},
    stun,
    toolchain::{self, BPF_LINKER_VERSION, Toolchain},
};

/// Options of `setup`.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Compile for BPF this way, instead of the one that fits this machine.
    #[arg(long, value_enum)]
    pub toolchain: Option<Toolchain>,
    /// Only what building needs, not the programs the tests use.
    #[arg(long)]
    pub no_test_programs: bool,
}

/// How a package's presence shows.
enum Shown {
    /// By a program on the path.
    Program(&'static str),
    /// By a file.
    File(&'static str),
}

impl Shown {
    fn present(&self) -> bool {
        match self {
            Self::Program(name) => find_program(name).is_some(),
            Self::File(path) => Path::new(path).exists(),
        }
    }
}

use Shown::{File, Program};

/// Debian's compiler for BPF.
const COMPILER: &[(Shown, &str)] = &[
    (File(toolchain::DEBIAN_RUSTC), "rustc-web"),
    (File("/usr/lib/rustlib/bpfel-unknown-none/lib"), "libstd-rust-web-dev-bpf"),
];

/// Debian's archive, where apt is told of another suite than the machine's.
pub const MIRROR: &str = "http://deb.debian.org/debian";

/// What bpf-linker is built with; not needed once it is there.
const LINKER: &[(Shown, &str)] = &[
    (Program("c++"), "g++"),
    (File("/usr/lib/llvm-22/bin/llvm-config"), "llvm-22-dev"),
    (File("/usr/lib/llvm-22/lib/libPolly.a"), "libpolly-22-dev"),
    (File("/usr/include/zstd.h"), "libzstd-dev"),
    (File("/usr/include/zlib.h"), "zlib1g-dev"),
    (File("/usr/include/libxml2/libxml/parser.h"), "libxml2-dev"),
];

/// What the tests, the demo and the comparison run.
const TEST_PROGRAMS: &[(Shown, &str)] = &[
    (Program("ip"), "iproute2"),
    (Program("iptables"), "iptables"),
    (Program("nft"), "nftables"),
    (Program("tcpdump"), "tcpdump"),
    (Program("ethtool"), "ethtool"),
    (Program("bpftool"), "bpftool"),
    (Program("qemu-system-x86_64"), "qemu-system-x86"),
    (File("/usr/share/seabios/bios-256k.bin"), "seabios"),
    (Program("cpio"), "cpio"),
    (Program("xz"), "xz-utils"),
    (File("/usr/share/doc/busybox-static"), "busybox-static"),
    // Of Debian 12: Compose 1.29, which only talks to a dockerd, and the libraries of the unpacked ones.
    (File("/usr/bin/docker-compose"), "docker-compose"),
    (File("/usr/share/doc/libdevmapper1.02.1"), "libdevmapper1.02.1"),
    (File("/usr/share/doc/libseccomp2"), "libseccomp2"),
];

/// What a Debian package, and the clean Debian that it is tried in, are made with.
const PACKAGING: &[(Shown, &str)] = &[(Program("dpkg-shlibdeps"), "dpkg-dev"), (Program("debootstrap"), "debootstrap")];

/// A program that cargo builds and installs.
pub struct CargoProgram {
    sub_command: &'static str,
    version: &'static str,
}

/// Makes Debian packages.
const CARGO_DEB: CargoProgram = CargoProgram { sub_command: "deb", version: "3.8.0" };
/// Checks licences, sources and advisories.
pub const CARGO_DENY: CargoProgram = CargoProgram { sub_command: "deny", version: "0.20.2" };

/// Installs what is missing.
pub fn run(options: &Options) -> Result<()> {
    let toolchain = install_toolchain(options.toolchain)?;
    say(format!("compiling for BPF with {} and bpf-linker {BPF_LINKER_VERSION}", toolchain.name()));
    if !options.no_test_programs {
        install_packages("what the tests run", TEST_PROGRAMS)?;
        install_packaging()?;
        install_cargo_program(&CARGO_DENY)?;
        docker::unpack()?;
        stun::unpack()?;
    }
    install_stable_components()
}

/// The way that is complete, after installing one if none was.
pub fn install_toolchain(wanted: Option<Toolchain>) -> Result<Toolchain> {
    if let Some(found) = toolchain::complete()
        && wanted.is_none_or(|wanted| wanted == found)
    {
        return Ok(found);
    }
    let toolchain = wanted.unwrap_or_else(fitting_toolchain);
    match toolchain {
        Toolchain::Debian => install_packages("the compiler for BPF", COMPILER)?,
        Toolchain::Rustup if !toolchain.has_compiler() => install_nightly()?,
        Toolchain::Rustup => {}
    }
    if !toolchain::has_linker() {
        install_linker(toolchain)?;
    }
    ensure!(
        toolchain.has_compiler() && toolchain::has_linker(),
        "{} or bpf-linker {BPF_LINKER_VERSION} is still missing after installing it; see docs/building.md",
        toolchain.name()
    );
    Ok(toolchain)
}

/// Debian's packages where apt has them; rustup elsewhere.
fn fitting_toolchain() -> Toolchain {
    if Toolchain::Debian.has_compiler() {
        return Toolchain::Debian;
    }
    if Toolchain::Rustup.has_compiler() {
        return Toolchain::Rustup;
    }
    if find_program("apt-get").is_some() { Toolchain::Debian } else { Toolchain::Rustup }
}

fn install_nightly() -> Result<()> {
    say("installing rustup's nightly with rust-src");
    let status = shell::run_within(
        shell::command("rustup").args([
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]),
        Duration::from_secs(600),
    )?;
    ensure!(
        status.success(),
        "rustup cannot install nightly with rust-src; on Debian, `cargo xtask setup --toolchain debian`"
    );
    Ok(())
}

fn install_linker(toolchain: Toolchain) -> Result<()> {
    let version = ["bpf-linker", "--version", BPF_LINKER_VERSION, "--locked", "--force"];
    if toolchain == Toolchain::Rustup && find_program("cargo-binstall").is_some() {
        say(format!("installing bpf-linker {BPF_LINKER_VERSION} with cargo-binstall"));
        return shell::run(shell::cargo().args(["binstall", "--no-confirm"]).args(version));
    }
    if find_program("apt-get").is_some() {
        install_packages("what bpf-linker is built with", LINKER)?;
    }
    say(format!("building bpf-linker {BPF_LINKER_VERSION} (about a minute)"));
    shell::run(
        shell::cargo()
            .env("LLVM_PREFIX", "/usr/lib/llvm-22")
            // The checkout's own settings are not meant for other people's programs.
            .env_remove("CARGO_TARGET_DIR")
            .current_dir("/")
            .arg("install")
            .args(version)
            .args(["--no-default-features", "--features", "llvm-22"]),
    )
    .context("cannot build bpf-linker; a ready-built one is at https://github.com/aya-rs/bpf-linker/releases")
}

/// What makes a Debian package and tries it.
pub fn install_packaging() -> Result<()> {
    install_packages("what makes and tries the package", PACKAGING)?;
    install_cargo_program(&CARGO_DEB)
}

/// Builds and installs a program of cargo's, if this version of it is not there.
pub fn install_cargo_program(program: &CargoProgram) -> Result<()> {
    let CargoProgram { sub_command, version } = program;
    let name = format!("cargo-{sub_command}");
    let installed = shell::output(shell::command(shell::cargo_bin().join(&name)).arg("--version"));
    if installed.is_ok_and(|installed| installed.split_whitespace().last() == Some(version)) {
        return Ok(());
    }
    say(format!("building {name} {version} (about two minutes)"));
    let mut install = shell::cargo();
    // It runs for seconds: what optimising it costs is never earned back.
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    // The checkout's own settings are not meant for other people's programs.
    install.env_remove("CARGO_TARGET_DIR").current_dir("/");
    shell::run(install.args(["install", &name, "--version", version, "--locked", "--force"]))
        .with_context(|| format!("cannot build {name}"))
}

/// rustfmt and clippy of the toolchain that runs us.
fn install_stable_components() -> Result<()> {
    for (sub_command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if shell::succeeds(shell::cargo().args([sub_command, "--version"])) {
            continue;
        }
        say(format!("installing {component}"));
        shell::run(shell::command("rustup").args(["component", "add", component]))?;
    }
    Ok(())
}

/// Installs those of these Debian packages that are not there.
fn install_packages(purpose: &str, packages: &[(Shown, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|(shown, _)| !shown.present()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if find_program("apt-get").is_none() {
        bail!("missing: {list}. This is not Debian: install what gives these, then run `cargo xtask setup` again");
    }
    say(format!("installing {purpose}: {list}"));
    update_package_lists()?;
    let mut install = shell::command("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing);
    shell::run(install.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null()))
        .with_context(|| format!("cannot install {list}; run `cargo xtask setup` as root"))?;
    if let Some((_, package)) = packages.iter().find(|(shown, _)| !shown.present()) {
        bail!("{package} is installed but does not hold what was looked for; is this Debian 12 or later?");
    }
    Ok(())
}

/// Brings apt's lists up to date, once a run.
pub fn update_package_lists() -> Result<()> {
    static UPDATED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    if UPDATED.swap(true, std::sync::atomic::Ordering::Relaxed) {
        return Ok(());
    }
    shell::run(shell::command("apt-get").args(["update", "-qq"]).stdin(Stdio::null()).stdout(Stdio::null()))
        .context("cannot bring apt's package lists up to date; run as root, with Debian's archive within reach")
}
