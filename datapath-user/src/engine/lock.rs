//! One daemon for each state directory, pin directory and network namespace.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::config::Config;
use crate::kernel::netns::host_identity;

/// Where network namespaces are marked as served. Only root may write there: an abstract socket, say, could be taken by
/// anybody.
const NAMESPACE_LOCKS: &str = "/run/datapath-namespaces";

/// How long is waited for a daemon that has just been killed: the kernel takes its time to close thousands of sockets.
const PATIENCE: Duration = Duration::from_millis(800);

/// Held as long as the daemon runs.
#[derive(Debug)]
pub struct Locks {
    _namespace: Flock<File>,
    _state: Flock<File>,
    _pins: Option<Flock<File>>,
}

impl Locks {
    /// Takes all locks, or none.
    ///
    /// # Errors
    /// When another daemon has one, well within a second. Nothing was written then.
    pub fn take(config: &Config) -> Result<Self> {
        let begun = Instant::now();
        loop {
            match Self::try_take(config) {
                Err(error) if error.is::<Running>() && begun.elapsed() < PATIENCE => sleep(PATIENCE / 16),
                result => return result,
            }
        }
    }

    fn try_take(config: &Config) -> Result<Self> {
        let namespace = mark_namespace()?;
        let pins = match File::open(&config.pin_dir) {
            Ok(directory) => Some(lock(directory, &config.pin_dir)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => bail!("the pin directory {} cannot be opened: {error}", config.pin_dir.display()),
        };
        let path = config.state_dir.join("lock");
        let file = match OpenOptions::new().write(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => create(&config.state_dir, &path)?,
            opened => opened.with_context(|| format!("{} cannot be opened", path.display()))?,
        };
        let mut state = lock(file, &config.state_dir)?;
        state.set_len(0)?;
        writeln!(state, "{}", std::process::id())?;
        Ok(Self { _namespace: namespace, _state: state, _pins: pins })
    }
}

/// Another daemon has a lock.
#[derive(Debug, thiserror::Error)]
#[error("another datapath daemon {0}")]
struct Running(String);

/// A locked file that is named for the namespace. Files of namespaces that are gone are left: they are empty, and their
/// numbers come back.
fn mark_namespace() -> Result<Flock<File>> {
    let (device, inode) = host_identity()?;
    let directory = Path::new(NAMESPACE_LOCKS);
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("{} cannot be made", directory.display()));
        }
        _ => {}
    }
    let found = fs::metadata(directory)?;
    ensure!(
        found.uid() == 0 && found.mode() & 0o077 == 0,
        "{} belongs to others; remove it, so that it is made anew with mode 0700",
        directory.display()
    );
    let path = directory.join(format!("{device}-{inode}"));
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("{} cannot be made", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => {
            let what = "serves this network namespace; stop it first, or start this one in a namespace of its own";
            Running(what.to_owned()).into()
        }
        error => anyhow::Error::from(error).context(format!("{} cannot be locked", path.display())),
    })
}

fn create(directory: &Path, path: &Path) -> Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("the state directory {} cannot be made", directory.display()))?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    file.with_context(|| format!("{} cannot be made", path.display()))
}

fn lock(file: File, what: &Path) -> Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        if error != nix::errno::Errno::EWOULDBLOCK {
            return anyhow::Error::from(error).context(format!("{} cannot be locked", what.display()));
        }
        let owner = fs::read_to_string(what.join("lock")).unwrap_or_default();
        let owner = if owner.trim().is_empty() { String::new() } else { format!(" (process {})", owner.trim()) };
        Running(format!("uses {}{owner}; stop it first, or name another directory", what.display())).into()
    })
}
