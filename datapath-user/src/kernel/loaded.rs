//! The programs in the kernel: loaded from the object, or found as an earlier daemon has left them.
//!
//! The verifier takes most of a second for them. So they are pinned, below a name that says all they were made of: the object, the
//! settings, and which maps. A daemon that would load the very same ones takes those; any other loads its own.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Error, Result, ensure};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use aya_obj::programs::XdpAttachType;
use datapath_common::abi::{Program, Settings, map, program_log};

use super::{bpf, pins};

/// What is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// The ELF file.
    pub bytes: &'static [u8],
    /// A hash of it, as it was built.
    pub digest: &'static str,
}

/// The programs, without what they were loaded from.
#[derive(Debug)]
pub struct Loaded {
    /// Those of tc, by name.
    classifiers: BTreeMap<&'static str, SchedClassifier>,
    /// That of XDP, where it is wanted.
    guard: Option<Xdp>,
}

impl Loaded {
    /// Takes the programs that are pinned, if they are those of this object and these settings on the maps that are pinned now;
    /// else loads them, with the maps that are there or with new ones, and pins them. That of XDP only if it is wanted. Blocks
    /// while the kernel verifies.
    pub fn open(pin_dir: &Path, settings: &Settings, xdp: bool, object: Object) -> Result<Self> {
        let name = fingerprint(pin_dir, settings, object)?;
        if let Some(programs) = Self::pinned(&pins::programs(pin_dir).join(name), xdp)? {
            tracing::info!("the programs are in the kernel already, and stay");
            return Ok(programs);
        }
        let ebpf = load(pin_dir, settings, xdp, object.bytes)?;
        // The maps may be new.
        let directory = pins::programs(pin_dir).join(fingerprint(pin_dir, settings, object)?);
        // Those of other builds go on where they are attached, until each is replaced.
        pins::remove_programs(pin_dir)?;
        pin(ebpf, xdp, &directory)?;
        Self::pinned(&directory, xdp)?.with_context(|| format!("programs are missing in {}", directory.display()))
    }

    /// The programs pinned in this directory; none, if one is missing.
    fn pinned(directory: &Path, xdp: bool) -> Result<Option<Self>> {
        if !wanted(xdp).all(|(_, name)| directory.join(name).exists()) {
            return Ok(None);
        }
        let mut loaded = Self { classifiers: BTreeMap::new(), guard: None };
        for (program, name) in wanted(xdp) {
            let pin = directory.join(name);
            let failed = || format!("{} cannot be opened", pin.display());
            if program == Program::Guard {
                loaded.guard = Some(Xdp::from_pin(&pin, XdpAttachType::Interface).with_context(failed)?);
            } else {
                loaded.classifiers.insert(name, SchedClassifier::from_pin(&pin).with_context(failed)?);
            }
        }
        Ok(Some(loaded))
    }

    /// The program of tc with this name.
    pub fn program_mut(&mut self, name: &str) -> Result<&mut SchedClassifier> {
        self.classifiers.get_mut(name).with_context(|| format!("the object has no program {name}"))
    }

    /// The program of XDP.
    pub fn guard_mut(&mut self) -> Result<&mut Xdp> {
        self.guard.as_mut().context("the XDP program was not loaded")
    }
}

/// What is loaded, with its name in the object.
fn wanted(xdp: bool) -> impl Iterator<Item = (Program, &'static str)> {
    Program::ALL.into_iter().filter(move |(program, _)| xdp || *program != Program::Guard)
}

/// What the programs are made of, as the name of a directory. The id of a map is never another's in one boot.
fn fingerprint(pin_dir: &Path, settings: &Settings, object: Object) -> Result<PathBuf> {
    let mut maps = BTreeMap::new();
    for name in pins::map_names(pin_dir)? {
        let path = pin_dir.join(&name);
        let info = bpf::open_pin(&path).and_then(|map| bpf::map_info(map.as_fd()));
        maps.insert(name, info.with_context(|| format!("{} cannot be examined", path.display()))?.id);
    }
    let mut hasher = DefaultHasher::new();
    (format!("{settings:?}"), maps).hash(&mut hasher);
    Ok(PathBuf::from(format!("{}-{:016x}", object.digest, hasher.finish())))
}

/// Makes the maps that are not there, and loads every program, all at the same time: the verifier has one thread for each.
fn load(pin_dir: &Path, settings: &Settings, xdp: bool, object: &[u8]) -> Result<Ebpf> {
    ensure!(settings.flow_capacity > 0, "there must be room for one flow at least");
    let keys = settings.flow_capacity.checked_mul(2).context("flow_capacity is too large")?;
    let mut loader = EbpfLoader::new();
    if settings.program_log == program_log::OFF {
        // Nobody writes to it; a page is the least there can be.
        loader.map_max_entries(super::program_log::MAP, 4_096);
    }
    let mut programs = loader
        // Why a program was refused, without the state at each of a million instructions.
        .verifier_log_level(VerifierLogLevel::STATS)
        .default_map_pin_directory(pin_dir)
        .map_max_entries(map::FLOWS, settings.flow_capacity)
        .map_max_entries(map::FLOW_BY_KEY, keys)
        .map_max_entries(map::UDP_MAPPING, settings.udp_mappings())
        .map_max_entries(map::UDP_MAPPED, settings.udp_mappings())
        .override_global(map::SETTINGS, settings, true)
        .load(object)
        .context("the maps cannot be made; see `datapath doctor`")?;
    thread::scope(|scope| {
        let loading: Vec<_> = programs
            .programs_mut()
            .filter(|(name, _)| wanted(xdp).any(|(_, wanted)| wanted == *name))
            .map(|(name, program)| {
                scope.spawn(move || {
                    let loaded = match program {
                        aya::programs::Program::Xdp(guard) => guard.load(),
                        other => <&mut SchedClassifier>::try_from(other)?.load(),
                    };
                    loaded.with_context(|| format!("the kernel refuses the program {name}"))
                })
            })
            .collect();
        let ended =
            loading.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Error::msg("loading panicked"))));
        ended.fold(Ok(()), Result::and)
    })?;
    Ok(programs)
}

/// Pins every program. One that is missing makes them all be loaded anew, so it matters not where this is cut short.
fn pin(mut programs: Ebpf, xdp: bool, directory: &Path) -> Result<()> {
    pins::create_private(directory)?;
    for (_, name) in wanted(xdp) {
        let program = programs.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
        let pin = directory.join(name);
        program.pin(&pin).with_context(|| format!("{} cannot be pinned", pin.display()))?;
    }
    Ok(())
}
