//! One daemon for each state directory, pin directory and network namespace.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::config::Config;

/// Name of the abstract socket that marks a network namespace as served: such names are the namespace's own, and go
/// with the process.
const NAMESPACE_MARK: &str = "datapath-daemon";

/// How long is waited for a daemon that has just been killed: the kernel takes its time to close thousands of sockets.
const PATIENCE: Duration = Duration::from_millis(800);

/// Held as long as the daemon runs.
#[derive(Debug)]
pub struct Locks {
    _namespace: UnixListener,
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

fn mark_namespace() -> Result<UnixListener> {
    let name = SocketAddr::from_abstract_name(NAMESPACE_MARK)?;
    UnixListener::bind_addr(&name).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => {
            let what = "serves this network namespace; stop it first, or start this one in a namespace of its own";
            Running(what.to_owned()).into()
        }
        _ => anyhow::Error::from(error).context("the network namespace cannot be marked as served"),
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
