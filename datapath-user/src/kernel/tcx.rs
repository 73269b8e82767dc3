//! Attachment by tcx links: pinned, so that they outlive the daemon; the program inside is replaced atomically.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use aya::programs::SchedClassifier;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use datapath_common::abi::Program;

use super::programs::{Hook, Place, device_name};
use super::{bpf, pins};

fn pin_path(pin_dir: &Path, program: Program, ifindex: u32) -> PathBuf {
    pins::links(pin_dir).join(format!("{}-{ifindex}", Hook::of(program).name))
}

/// Program and device of a pin's name.
fn parse_name(name: &str) -> Option<(Program, u32)> {
    let (program, ifindex) = name.rsplit_once('-')?;
    let (program, _) = Program::ALL.into_iter().find(|(_, known)| *known == program)?;
    Some((program, ifindex.parse().ok()?))
}

/// Attaches a program to a device, or replaces the one of an earlier daemon.
pub fn attach(pin_dir: &Path, classifier: &mut SchedClassifier, program: Program, ifindex: u32) -> Result<()> {
    let pin = pin_path(pin_dir, program, ifindex);
    let replaced = pins::replace_in::<SchedClassifierLink>(&pin, |old| {
        let id = classifier.attach_to_link(old)?;
        classifier.take_link(id).map(drop)
    })?;
    if replaced {
        return Ok(());
    }
    let hook = Hook::of(program);
    let device = device_name(ifindex)?;
    let order = match hook.place {
        Place::First => LinkOrder::first(),
        Place::Last => LinkOrder::last(),
    };
    let id = classifier.attach_with_options(&device, hook.direction, TcAttachOptions::TcxOrder(order))?;
    let link: FdLink = classifier.take_link(id)?.try_into()?;
    let pinned = link.pin(&pin).with_context(|| format!("the link cannot be pinned at {}", pin.display()))?;
    // aya goes by name, and names can move between devices.
    let attached = pins::link_at(&pin)?;
    if attached.ifindex != ifindex {
        drop(pinned.unpin());
        anyhow::bail!("{device} was renamed or replaced meanwhile");
    }
    Ok(())
}

impl pins::FromPin for SchedClassifierLink {
    fn from_pin(old: PinnedLink) -> Result<Self> {
        Ok(FdLink::from(old).try_into()?)
    }
}

/// Detaches a program from a device. Says whether it was attached.
pub fn detach(pin_dir: &Path, program: Program, ifindex: u32) -> Result<bool> {
    pins::remove_link(&pin_path(pin_dir, program, ifindex))
}

/// A pinned link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attached {
    /// What is in it.
    pub program: Program,
    /// The device it was made for.
    pub ifindex: u32,
    /// Id of the program inside.
    pub program_id: u32,
    /// The device still exists.
    pub alive: bool,
}

/// Program and device of every pinned link of tcx, whether they are still together or not.
pub fn pinned(pin_dir: &Path) -> Result<Vec<(Program, u32)>> {
    let names = pins::names_in(&pins::links(pin_dir))?;
    let known = names.iter().filter_map(|name| parse_name(name));
    Ok(known.filter(|(program, _)| *program != Program::Guard).collect())
}

/// Every pinned link of tcx.
pub fn attached(pin_dir: &Path) -> Result<Vec<Attached>> {
    let mut links = Vec::new();
    for (program, ifindex) in pinned(pin_dir)? {
        let pin = pin_path(pin_dir, program, ifindex);
        let found = pins::link_at(&pin)?;
        let is_tcx = found.hook == bpf::TCX_INGRESS || found.hook == bpf::TCX_EGRESS;
        ensure!(is_tcx, "{} is not a tcx link", pin.display());
        links.push(Attached { program, ifindex, program_id: found.program, alive: found.ifindex == ifindex });
    }
    Ok(links)
}

/// Removes every pinned link; the programs are detached with them. Goes on after failures and reports them all.
pub fn remove_all(pin_dir: &Path) -> (usize, Vec<anyhow::Error>) {
    let mut removed = 0;
    let mut errors = Vec::new();
    let directory = pins::links(pin_dir);
    match pins::names_in(&directory) {
        Err(error) => errors.push(error),
        Ok(names) => {
            for name in names {
                match fs::remove_file(directory.join(&name)).with_context(|| format!("link {name}")) {
                    Ok(()) => removed += 1,
                    Err(error) => errors.push(error),
                }
            }
        }
    }
    (removed, errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_names_are_read_back() {
        for (program, _) in Program::ALL {
            let path = pin_path(Path::new("/pins"), program, 4711);
            let name = path.file_name().expect("has one").to_str().expect("is ASCII");
            assert!(!name.contains('.'), "bpffs refuses dots");
            assert_eq!(parse_name(name), Some((program, 4711)));
        }
        assert_eq!(parse_name("from_container"), None);
        assert_eq!(parse_name("other-3"), None);
    }
}
