//! The daemon under test, as a process.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Generous, because the verifier runs at every start and the machine may be busy.
const READY: Duration = Duration::from_secs(60);

/// How to start a daemon.
#[derive(Clone, Default, Debug)]
pub struct DaemonOptions {
    /// More arguments of `datapath daemon`, such as `--attach clsact`.
    pub arguments: Vec<String>,
    /// The text of its configuration file.
    pub config: String,
}

impl DaemonOptions {
    /// Options with these arguments.
    #[must_use]
    pub fn with_arguments<const N: usize>(arguments: [&str; N]) -> Self {
        Self { arguments: arguments.map(str::to_owned).to_vec(), config: String::new() }
    }

    /// Options with this configuration file.
    #[must_use]
    pub fn with_config(config: &str) -> Self {
        Self { arguments: Vec::new(), config: config.to_owned() }
    }
}

/// Where a daemon lives.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) namespace: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) pins: PathBuf,
    pub(crate) config: PathBuf,
}

/// A running daemon; killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// Starts the daemon and waits until it says `ready`.
    pub(crate) fn start(binary: &Path, places: &Places, options: &DaemonOptions) -> Result<Self> {
        let (mut daemon, ready) = Self::launch(binary, places, options)?;
        match ready.recv_timeout(READY) {
            Ok(()) => Ok(daemon),
            Err(RecvTimeoutError::Timeout) => bail!("the daemon is not ready after {READY:?}:\n{}", daemon.log()),
            Err(RecvTimeoutError::Disconnected) => {
                let status = daemon.child.wait()?;
                bail!("the daemon ended with {status} before it was ready:\n{}", daemon.log())
            }
        }
    }

    /// Starts the daemon, expecting that it refuses, and returns what it says.
    pub(crate) fn start_refused(
        binary: &Path,
        places: &Places,
        options: &DaemonOptions,
        within: Duration,
    ) -> Result<(ExitStatus, String)> {
        let (mut daemon, _ready) = Self::launch(binary, places, options)?;
        let end = Instant::now() + within;
        while Instant::now() < end {
            if let Some(status) = daemon.child.try_wait()? {
                // The reader of its stderr may be a moment behind.
                std::thread::sleep(Duration::from_millis(20));
                return Ok((status, daemon.log()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the daemon did not exit within {within:?}:\n{}", daemon.log())
    }

    fn launch(binary: &Path, places: &Places, options: &DaemonOptions) -> Result<(Self, mpsc::Receiver<()>)> {
        std::fs::write(&places.config, &options.config)?;
        let output = OpenOptions::new().write(true).open("/dev/null")?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", places.namespace.display()))
            .arg(binary)
            .arg("daemon")
            .args([Path::new("--config"), &places.config, Path::new("--socket"), &places.socket])
            .args([Path::new("--state-dir"), &places.state, Path::new("--pin-dir"), &places.pins])
            .args(&options.arguments)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::piped());
        command.envs(crate::mutant::environment());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (log, (sender, ready)) = (Arc::<Mutex<Vec<String>>>::default(), mpsc::channel());
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if line.trim() == "ready" {
                        // Nobody waits any more when it is said after the time limit.
                        let _ = sender.send(());
                    }
                    log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        });
        Ok((Self { child, log }, ready))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written on stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// `kill -9`: no chance to clean up.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a pid is small")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} for the daemon"))
    }

    /// Asks it to stop, and returns how it ended.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the daemon did not stop within 10 s of SIGTERM:\n{}", self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the daemon (pid {}) ---\n{}\n---", self.child.id(), self.log());
        }
    }
}
