//! The pin directory: where maps and links outlive the daemon.
//!
//! ```text
//! PIN_DIR/MAP                    every map, by its name
//! PIN_DIR/links/PROGRAM-IFINDEX  tcx and XDP: the link of a program on a device
//! PIN_DIR/programs/OF/PROGRAM    every program, below what it was made of
//! PIN_DIR/qdiscs/IFINDEX         clsact: an empty directory, "we added this device's qdisc" (bpffs takes no files)
//! PIN_DIR/qdiscs/used            clsact: the same, "there may be filters of ours"
//! ```

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::ProgramError;
use aya::programs::links::{LinkError, PinnedLink};
use aya::sys::SyscallError;
use datapath_common::abi::{ABI_VERSION, map};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::bpf;
use super::map::Map;

/// Where bpffs is mounted by custom.
const BPFFS: &str = "/sys/fs/bpf";

/// Makes sure the pin directory is there, on bpffs, and root's alone (S4).
pub fn prepare(pin_dir: &Path) -> Result<()> {
    if pin_dir.starts_with(BPFFS) {
        mount_bpffs()?;
    }
    for directory in [pin_dir.to_path_buf(), links(pin_dir), programs(pin_dir), qdiscs(pin_dir)] {
        create_private(&directory)?;
        verify_private(&directory)?;
    }
    Ok(())
}

/// The directory of pinned links.
pub fn links(pin_dir: &Path) -> PathBuf {
    pin_dir.join("links")
}

/// The directory of pinned programs.
pub fn programs(pin_dir: &Path) -> PathBuf {
    pin_dir.join("programs")
}

/// The directory that remembers which qdiscs are ours.
pub fn qdiscs(pin_dir: &Path) -> PathBuf {
    pin_dir.join("qdiscs")
}

/// Whether daemons have attached by clsact filters since these pins were made.
pub fn had_filters(pin_dir: &Path) -> Result<bool> {
    Ok(!names_in(&qdiscs(pin_dir))?.is_empty())
}

/// Remembers that filters are attached, by a directory as well: a device's qdisc need not be ours.
pub fn note_filters(pin_dir: &Path) -> Result<()> {
    create_private(&qdiscs(pin_dir).join("used"))
}

fn mount_bpffs() -> Result<()> {
    if is_bpffs(Path::new(BPFFS))? {
        return Ok(());
    }
    tracing::info!("mounting bpffs at {BPFFS}");
    let no_data: Option<&str> = None;
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), no_data)
        .with_context(|| format!("bpffs cannot be mounted at {BPFFS}; mount it there: mount -t bpf bpf {BPFFS}"))
}

fn is_bpffs(path: &Path) -> Result<bool> {
    let found = statfs(path).with_context(|| format!("{} cannot be examined", path.display()))?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}

/// Makes a directory that is root's alone, if it is not there.
pub fn create_private(directory: &Path) -> Result<()> {
    if let Some(parent) = directory.parent() {
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        created.with_context(|| format!("{} cannot be created", parent.display()))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("{} cannot be created", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Whoever can write there could put programs of their own in place of ours.
fn verify_private(directory: &Path) -> Result<()> {
    let shown = directory.display();
    let found = fs::symlink_metadata(directory).with_context(|| format!("{shown} cannot be examined"))?;
    ensure!(found.is_dir(), "{shown} is not a directory; remove it or choose another --pin-dir");
    let mode = found.permissions().mode() & 0o7777;
    ensure!(
        found.uid() == 0 && mode == 0o700,
        "{shown} belongs to user {} with mode {mode:04o}, but the pin directory must be root's with mode 0700; \
         remove it or choose another --pin-dir",
        found.uid(),
    );
    ensure!(is_bpffs(directory)?, "{shown} is not on a BPF file system; choose a --pin-dir below {BPFFS}");
    Ok(())
}

/// Whether maps of an earlier daemon are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// None.
    Nothing,
    /// Maps that this version understands.
    Ours,
}

/// Looks at what an earlier daemon left, and refuses what this version would misread (F5). Changes nothing, but for
/// the left-overs of a first start that was cut short.
pub fn examine(pin_dir: &Path, flow_capacity: u32) -> Result<Found> {
    match pinned_version(pin_dir)? {
        Some(ABI_VERSION) => {}
        None | Some(0) => {
            let links = names_in(&links(pin_dir))?;
            ensure!(
                links.is_empty(),
                "{} has attached programs but no map version; run `datapath daemon --cleanup`",
                pin_dir.display()
            );
            remove_maps(pin_dir)?;
            return Ok(Found::Nothing);
        }
        Some(version) => bail!(
            "the maps in {} have version {version}, this program has {ABI_VERSION}; they go on as they are. \
             Start the version that made them, or run `datapath daemon --cleanup` (which ends all flows)",
            pin_dir.display()
        ),
    }
    let flows = bpf::open_pin(&pin_dir.join(map::FLOWS)).and_then(|flows| bpf::map_info(flows.as_fd()));
    let pinned =
        flows.with_context(|| format!("{} has no flows; run `datapath daemon --cleanup`", pin_dir.display()))?;
    ensure!(
        pinned.max_entries == flow_capacity,
        "the running datapath has room for {} flows and {flow_capacity} are configured; \
         run `datapath daemon --cleanup` to change it (which ends all flows)",
        pinned.max_entries,
    );
    Ok(Found::Ours)
}

fn pinned_version(pin_dir: &Path) -> Result<Option<u32>> {
    if !pin_dir.join(map::ABI).exists() {
        return Ok(None);
    }
    Map::<u32, u32>::open(pin_dir, map::ABI)?.get(&0)
}

/// Says whose layout the maps have. Last step of making them.
pub fn stamp_version(pin_dir: &Path) -> Result<()> {
    Map::<u32, u32>::open(pin_dir, map::ABI)?.set(&0, &ABI_VERSION)
}

/// Unpins every map; those that no program uses are gone. Says how many.
pub fn remove_maps(pin_dir: &Path) -> Result<usize> {
    let names = map_names(pin_dir)?;
    for name in &names {
        let path = pin_dir.join(name);
        fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    Ok(names.len())
}

/// Unpins every program; those that are attached nowhere are gone.
pub fn remove_programs(pin_dir: &Path) -> Result<()> {
    for name in names_in(&programs(pin_dir))? {
        let path = programs(pin_dir).join(name);
        fs::remove_dir_all(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    Ok(())
}

/// Names of the pinned maps.
pub fn map_names(pin_dir: &Path) -> Result<Vec<String>> {
    let mut names = names_in(pin_dir)?;
    names.retain(|name| !fs::symlink_metadata(pin_dir.join(name)).is_ok_and(|found| found.is_dir()));
    Ok(names)
}

/// A link of aya's that can be had from a pin.
pub trait FromPin: Sized {
    /// What was pinned.
    fn from_pin(pinned: PinnedLink) -> Result<Self>;
}

/// Has `replace` put a program into the link pinned here. False if there is none (any more).
pub fn replace_in<L: FromPin>(pin: &Path, replace: impl FnOnce(L) -> Result<(), ProgramError>) -> Result<bool> {
    let old = match PinnedLink::from_pin(pin) {
        Ok(old) => old,
        Err(LinkError::SyscallError(SyscallError { io_error, .. })) if io_error.kind() == io::ErrorKind::NotFound => {
            return Ok(false);
        }
        Err(error) => return Err(error).with_context(|| format!("{} cannot be opened", pin.display())),
    };
    match replace(L::from_pin(old)?) {
        Ok(()) => Ok(true),
        // A pin outlives its device.
        Err(ProgramError::SyscallError(SyscallError { io_error, .. }))
            if io_error.raw_os_error() == Some(libc::ENOLINK) =>
        {
            remove_link(pin)?;
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("the program in {} cannot be replaced", pin.display())),
    }
}

/// What the kernel says of the link pinned here.
pub fn link_at(pin: &Path) -> Result<bpf::LinkInfo> {
    let link = bpf::open_pin(pin).with_context(|| format!("{} cannot be opened", pin.display()))?;
    bpf::link_info(link.as_fd()).with_context(|| format!("{} is not a link", pin.display()))
}

/// Unpins a link; its program is detached with it. Says whether it was there.
pub fn remove_link(pin: &Path) -> Result<bool> {
    match fs::remove_file(pin) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be removed", pin.display())),
    }
}

/// Names in a directory; none if it does not exist.
pub fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", directory.display())),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
