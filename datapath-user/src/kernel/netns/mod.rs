//! Network namespaces of containers: found, verified, entered on threads of their own, configured.

mod announce;
mod configure;
#[cfg(test)]
mod configure_tests;

use std::fs::File;
use std::future::Future;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

pub use announce::announce;
pub use configure::{ContainerInterface, configure_container, deconfigure_container};

/// Where `ip netns` keeps its names.
const NAMED: &str = "/run/netns";

/// An open network namespace that is not the host's. It lives at least as long as this.
#[derive(Debug)]
pub struct Netns {
    file: File,
    shown: String,
    identity: (u64, u64),
}

impl Netns {
    /// Opens the namespace that `reference` names: a path, a name under /run/netns, or `pid:N`.
    pub fn open(reference: &str) -> Result<Self> {
        let path = path_of(reference)?;
        let file = open_file(&path, reference)?;
        verify(&file, reference)?;
        let identity = identity_of(&file)?;
        let host = File::open("/proc/self/ns/net").context("/proc/self/ns/net cannot be opened")?;
        ensure!(
            identity != identity_of(&host)?,
            "{reference} is the host's own network namespace; name the container's"
        );
        Ok(Self { file, shown: reference.to_owned(), identity })
    }

    /// Device and inode: equal for every way to reach the same namespace, and never reused while it lives.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// The same namespace, held once more.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { file: self.file.try_clone()?, shown: self.shown.clone(), identity: self.identity })
    }

    /// Runs `work` on a thread inside the namespace, and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread.join().unwrap_or_else(|_| Err(self.panicked()))
        })
    }

    /// Runs the future that `work` makes on a thread inside the namespace, with a runtime of its own. Sockets that it
    /// opens are the namespace's.
    pub async fn run_async<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let inside = self.try_clone()?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        thread::Builder::new()
            .name("netns".into())
            .spawn(move || {
                let result = inside.enter().and_then(|()| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    runtime.block_on(work())
                });
                // The receiver is gone when the caller gave up; the work is done all the same.
                drop(sender.send(result));
            })
            .context("no thread can be started")?;
        receiver.await.unwrap_or_else(|_| Err(self.panicked()))
    }

    fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("the network namespace {} cannot be entered", self.shown))
    }

    fn panicked(&self) -> anyhow::Error {
        anyhow!("the work in the network namespace {} ended in a panic", self.shown)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Device and inode of the namespace of this process.
pub fn host_identity() -> Result<(u64, u64)> {
    identity_of(&File::open("/proc/self/ns/net").context("/proc/self/ns/net cannot be opened")?)
}

fn path_of(reference: &str) -> Result<PathBuf> {
    if let Some(pid) = reference.strip_prefix("pid:") {
        let pid: u32 = pid.parse().ok().filter(|&pid| pid > 0).with_context(|| {
            format!("`{reference}` is no process; write pid: and the number of a process, such as pid:1234")
        })?;
        return Ok(format!("/proc/{pid}/ns/net").into());
    }
    ensure!(!reference.is_empty() && !reference.contains('\0'), "the network namespace has no name");
    if reference.contains('/') {
        ensure!(reference.starts_with('/'), "`{reference}` is a relative path; write it from / on");
        return Ok(reference.into());
    }
    ensure!(reference != "." && reference != "..", "`{reference}` is no network namespace");
    Ok(Path::new(NAMED).join(reference))
}

fn open_file(path: &Path, reference: &str) -> Result<File> {
    // O_NONBLOCK: opening a FIFO must not wait for somebody to write to it.
    let opened = std::os::unix::fs::OpenOptionsExt::custom_flags(
        std::fs::OpenOptions::new().read(true),
        libc::O_NONBLOCK | libc::O_CLOEXEC,
    )
    .open(path);
    match opened {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "there is no network namespace {reference} ({} does not exist); \
             give a path, a name that `ip netns` lists, or pid:N of a running process",
            path.display()
        ),
        Err(error) => Err(error).with_context(|| format!("{} cannot be opened", path.display())),
    }
}

/// A plain file, or a namespace of another type, would be an error much later, or none at all.
fn verify(file: &File, reference: &str) -> Result<()> {
    let not_one =
        || format!("{reference} is not a network namespace; give a path, a name that `ip netns` lists, or pid:N");
    ensure!(fstatfs(file).with_context(not_one)?.filesystem_type() == NSFS_MAGIC, not_one());
    // SAFETY: NS_GET_NSTYPE takes no argument and changes nothing.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    ensure!(kind == libc::CLONE_NEWNET, not_one());
    Ok(())
}

/// `_IO(0xb7, 3)` of linux/nsfs.h.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

fn identity_of(file: &File) -> Result<(u64, u64)> {
    let found = file.metadata().context("a network namespace cannot be examined")?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reference: &str) -> String {
        format!("{:#}", Netns::open(reference).expect_err(reference))
    }

    #[test]
    fn what_is_no_namespace_of_a_container_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "").expect("a file");
        let plain = plain.to_str().expect("ASCII");
        assert!(refusal(plain).contains("is not a network namespace"));
        assert!(refusal("/proc/self/ns/mnt").contains("is not a network namespace"));
        assert!(refusal("/proc/self/ns/net").contains("host's own"));
        assert!(refusal(&format!("pid:{}", std::process::id())).contains("host's own"));
        assert!(refusal("pid:x").contains("is no process"));
        assert!(refusal("kt-missing").contains("there is no network namespace"));
        assert!(refusal("../etc/passwd").contains("relative path"));
        assert!(refusal("").contains("no name"));
    }
}
