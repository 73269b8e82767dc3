//! dockerd, as a process.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::cli::Docker;
use super::leftovers::{self, ROLE};
use super::options::DockerdOptions;
use super::{image, programs};
use crate::http;
use crate::namespace::{Namespace, unique_name};

/// Generous: it loads its containers first, and the machine may be busy.
const READY: Duration = Duration::from_secs(60);
/// A container that ignores SIGTERM is killed by dockerd after ten seconds.
const STOPPED: Duration = Duration::from_secs(30);

/// A dockerd in the namespace of a host, with its own containerd. Dropping it ends everything it started.
///
/// It must go before the namespace it is in.
#[derive(Debug)]
pub struct Dockerd {
    process: Mutex<Option<Child>>,
    pub(super) name: String,
    namespace: PathBuf,
    options: Mutex<DockerdOptions>,
}

impl Dockerd {
    /// Starts it in the namespace of a host, with [`image::NAME`] ready to run.
    pub fn start(host: &Namespace, options: DockerdOptions) -> Result<Self> {
        let dockerd = Self::prepare(host, options)?;
        dockerd.start_again()?;
        image::import(&dockerd.docker())?;
        Ok(dockerd)
    }

    /// Makes its folder, and knows where its socket will be; it is started by [`Self::start_again`].
    pub fn prepare(host: &Namespace, options: DockerdOptions) -> Result<Self> {
        leftovers::sweep_once();
        leftovers::adopt_orphans()?;
        let name = unique_name(ROLE);
        std::fs::create_dir(leftovers::folder(&name))?;
        Ok(Self { process: Mutex::default(), name, namespace: host.path(), options: Mutex::new(options) })
    }

    /// Starts it (again) with the containers it has, and waits until it answers.
    pub fn start_again(&self) -> Result<()> {
        let options = self.options.lock().unwrap_or_else(PoisonError::into_inner).clone();
        std::fs::write(self.file("daemon.json"), format!("{:#}", options.configuration()))?;
        let mut process = self.lock();
        ensure!(process.is_none(), "dockerd runs already");
        let child = process.insert(self.command()?.spawn().context("cannot start dockerd")?);
        let end = Instant::now() + READY;
        while http::get(&self.socket(), "/_ping").is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("dockerd ended with {status} before it was ready:\n{}", self.log());
            }
            ensure!(Instant::now() < end, "dockerd is not ready after {READY:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Starts it again with other options than before.
    pub fn start_again_with(&self, options: DockerdOptions) -> Result<()> {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
        self.start_again()
    }

    /// Stops it as systemd would. Its containers end too, unless it was started with live-restore.
    pub fn stop(&self) -> Result<()> {
        let mut child = self.lock().take().context("dockerd does not run")?;
        let pid = i32::try_from(child.id()).context("a pid is small")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let end = Instant::now() + STOPPED;
        while child.try_wait()?.is_none() {
            if Instant::now() > end {
                // It stays ours, so that it is killed with everything else.
                *self.lock() = Some(child);
                bail!("dockerd did not stop within {STOPPED:?} of SIGTERM:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// `kill -9`. Its containers go on until it is started again (and beyond, with live-restore).
    pub fn kill(&self) -> Result<()> {
        let mut child = self.lock().take().context("dockerd does not run")?;
        child.kill()?;
        child.wait()?;
        self.reap_containerd()
    }

    /// containerd ends with its dockerd, and is then our child (see [`leftovers::adopt_orphans`]). Until somebody waits
    /// for it, the next dockerd takes it for running, and waits for its socket in vain.
    fn reap_containerd(&self) -> Result<()> {
        let pid = std::fs::read_to_string(self.file("exec/containerd/containerd.pid"))?.trim().parse()?;
        match waitpid(Pid::from_raw(pid), None) {
            Ok(_) | Err(Errno::ECHILD) => Ok(()),
            Err(error) => Err(error).context("containerd"),
        }
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.file("docker.sock")
    }

    /// Its configuration file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.file("daemon.json")
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.lock().as_ref().context("dockerd does not run")?.id())
    }

    /// The client for it.
    #[must_use]
    pub fn docker(&self) -> Docker {
        Docker::new(self.folder())
    }

    /// The last that it has written.
    #[must_use]
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.file("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.display())).arg(programs::program("usr/sbin/dockerd")?);
        for (option, file) in
            [("--config-file", "daemon.json"), ("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            command.arg(option).arg(self.file(file));
        }
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.args(["--storage-driver", "vfs", "--cgroup-parent"]).arg(format!("/{}", self.name));
        let log = File::options().create(true).append(true).open(self.file("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).env_remove("NOTIFY_SOCKET");
        programs::prefer(&mut command);
        Ok(command)
    }

    fn folder(&self) -> PathBuf {
        leftovers::folder(&self.name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the last of dockerd's log ---\n{}\n---", self.log());
        }
        if let Some(mut child) = self.lock().take() {
            // It may have ended already; then there is nothing to do.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Err(error) = leftovers::remove(&self.name) {
            eprintln!("lab: what dockerd left cannot be removed: {error:#}");
        }
    }
}
