//! The host under test: a namespace with the real daemon in it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::command::Output;
use crate::container::Container;
use crate::daemon::{Daemon, DaemonOptions, Places};
use crate::lan::Lan;
use crate::namespace::{FOLDER_ROLE, Namespace, unique_name};

const NO_ARGUMENTS: [&str; 0] = [];

/// The IP versions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of these two which is of this family.
    ///
    /// # Panics
    /// When the text is no address.
    #[must_use]
    pub fn of(self, pair: [&str; 2]) -> IpAddr {
        crate::lan::address(pair[usize::from(self == Self::V6)])
    }
}

/// A host with a running daemon. Dropping it kills the daemon and removes its pins and its namespace.
#[derive(Debug)]
pub struct Host {
    daemon: Mutex<Option<Daemon>>,
    binary: PathBuf,
    places: Places,
    options: Mutex<DaemonOptions>,
    _folder: TempDir,
    /// Where it is.
    pub namespace: Namespace,
}

impl Host {
    /// The uplink.
    pub const UPLINK: &str = "up0";

    /// Starts `binary` as the daemon of a new host on this LAN.
    pub fn start(binary: &Path, lan: &Lan, options: DaemonOptions) -> Result<Self> {
        let namespace = Namespace::new("host")?;
        lan.join(&namespace)?;
        Self::start_in(namespace, binary, options)
    }

    /// Starts `binary` as the daemon of a host that stands already.
    pub fn start_in(namespace: Namespace, binary: &Path, options: DaemonOptions) -> Result<Self> {
        // Named so that `sweep` finds what a killed lab left.
        let folder = tempfile::Builder::new().prefix(&unique_name(FOLDER_ROLE)).tempdir()?;
        let places = Places {
            namespace: namespace.path(),
            socket: folder.path().join("datapath.sock"),
            state: folder.path().join("state"),
            pins: Path::new("/sys/fs/bpf").join(unique_name("pins")),
            config: folder.path().join("config.toml"),
        };
        let host = Self {
            daemon: Mutex::default(),
            binary: binary.to_owned(),
            places,
            options: Mutex::new(options),
            _folder: folder,
            namespace,
        };
        host.start_daemon()?;
        Ok(host)
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.places.socket
    }

    /// The daemon's pin directory.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.places.pins
    }

    /// The daemon's state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.places.state
    }

    /// Starts the daemon (again), and waits until it is ready.
    pub fn start_daemon(&self) -> Result<()> {
        let daemon = Daemon::start(&self.binary, &self.places, &self.options())?;
        *self.lock() = Some(daemon);
        Ok(())
    }

    /// Starts the daemon again with other options than before.
    pub fn start_daemon_with(&self, options: DaemonOptions) -> Result<()> {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
        self.start_daemon()
    }

    /// Starts another daemon in the same places, which must end by itself `within` this time.
    pub fn start_refused(&self, options: &DaemonOptions, within: Duration) -> Result<(ExitStatus, String)> {
        Daemon::start_refused(&self.binary, &self.places, options, within)
    }

    /// Ends the daemon with `kill -9`.
    pub fn kill_daemon(&self) -> Result<()> {
        let daemon = self.lock().take().context("the daemon does not run")?;
        daemon.kill()
    }

    /// Stops the daemon as systemd would.
    pub fn stop_daemon(&self) -> Result<()> {
        let daemon = self.lock().take().context("the daemon does not run")?;
        let status = daemon.stop()?;
        ensure!(status.success(), "the daemon ended with {status} after SIGTERM");
        Ok(())
    }

    /// Runs `work` while the daemon lives but does nothing (SIGSTOP), so that it cannot set right in between what
    /// `work` breaks.
    pub fn while_paused<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        self.signal(Signal::SIGSTOP)?;
        let result = work();
        self.signal(Signal::SIGCONT)?;
        Ok(result)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.lock().as_ref().context("the daemon does not run")?.signal(signal)
    }

    /// The daemon's process id.
    pub fn daemon_pid(&self) -> Result<u32> {
        Ok(self.lock().as_ref().context("the daemon does not run")?.pid())
    }

    /// What the daemon has logged since its last start.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        self.lock().as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// Kills the daemon and removes its pins, so that the kernel detaches every program: the control run of all
    /// delivery tests.
    pub fn detach_programs(&self) -> Result<()> {
        self.kill_daemon()?;
        self.remove_pins()?;
        // The kernel lets go of links by deferred work, after a grace period.
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    /// Runs `datapath` with these arguments, and returns all it said.
    pub fn output<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Output> {
        let mut command = self.namespace.command(&self.binary, arguments);
        command.env("DATAPATH_SOCKET", &self.places.socket);
        Output::of(command, None)
    }

    /// Runs `datapath` with these arguments, and returns what it printed.
    pub fn datapath<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        self.output(arguments)?.ok()
    }

    /// Runs `datapath --json` with these arguments.
    pub fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Value> {
        let arguments: Vec<_> = arguments.into_iter().chain(["--json"]).collect();
        let text = self.datapath(arguments.iter().copied())?;
        serde_json::from_str(&text).with_context(|| format!("`datapath {}` printed {text:?}", arguments.join(" ")))
    }

    /// Runs `datapath` with these arguments, which it must refuse, and returns its reason.
    pub fn refused<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let output = self.output(arguments)?;
        match output.code {
            1 | 2 if !output.stderr.trim().is_empty() => Ok(output.stderr),
            0 => bail!("`{}` was not refused: {}", output.command, output.stdout),
            code => bail!("`{}` ended with {code} and said {:?}", output.command, output.stderr),
        }
    }

    /// Dropped packets by reason.
    pub fn drops(&self) -> Result<BTreeMap<String, u64>> {
        let status = self.json(["status"])?;
        let drops = status["drops"].as_object().context("`status --json` has drops")?;
        drops
            .iter()
            .map(|(reason, count)| Ok((reason.clone(), count.as_u64().with_context(|| format!("drops.{reason}"))?)))
            .collect()
    }

    /// A metric that the programs count.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let status = self.json(["status"])?;
        status["metrics"][name].as_u64().with_context(|| format!("`status --json` has metrics.{name}"))
    }

    /// How many packets were dropped for this reason.
    pub fn dropped(&self, reason: &str) -> Result<u64> {
        Ok(self.drops()?.get(reason).copied().unwrap_or(0))
    }

    /// Makes a container and attaches it to `network` under its role's name, with these addresses (none: the daemon
    /// chooses).
    pub fn container(&self, name: &str, network: &str, addresses: &[&str]) -> Result<Container> {
        let mut container =
            Container { namespace: Namespace::new(name)?, name: name.to_owned(), addresses: Vec::new() };
        self.attach(&container, network, addresses)?;
        container.addresses = if addresses.is_empty() {
            self.addresses_of(name)?
        } else {
            addresses.iter().map(|address| crate::lan::address(address)).collect()
        };
        Ok(container)
    }

    /// Attaches a container to one more network, and returns nothing but errors.
    pub fn attach(&self, container: &Container, network: &str, addresses: &[&str]) -> Result<()> {
        let mut arguments = vec!["attach", container.namespace.name(), "--network", network, "--name", &container.name];
        for address in addresses {
            arguments.extend(["--ip", address]);
        }
        self.datapath(arguments).map(drop)
    }

    /// The addresses that an interface of a container's namespace has, link-local ones left out.
    fn addresses_of(&self, name: &str) -> Result<Vec<IpAddr>> {
        let endpoint = self.json(["endpoint", "inspect", name])?;
        let mut found = Vec::new();
        collect_addresses(&endpoint, &mut found);
        Ok(found)
    }

    /// That nothing of netfilter, no Linux bridge and no proxy helps: what passes is the programs' doing.
    pub fn check_no_other_means(&self) -> Result<()> {
        let rules = self.namespace.run("nft", ["list", "ruleset"])?;
        ensure!(rules.trim().is_empty(), "the host has netfilter rules:\n{rules}");
        for program in ["iptables-legacy-save", "ip6tables-legacy-save"] {
            let rules = self.namespace.run(program, NO_ARGUMENTS)?;
            ensure!(!rules.contains("-A "), "the host has rules by {program}:\n{rules}");
        }
        let bridges = self.namespace.run("ip", ["-o", "link", "show", "type", "bridge"])?;
        ensure!(bridges.trim().is_empty(), "the host has a Linux bridge:\n{bridges}");
        let daemon = self.daemon_pid()?.to_string();
        let others = self.namespace.run("ip", ["netns", "pids", self.namespace.name()])?;
        let others: Vec<_> = others.split_whitespace().filter(|pid| *pid != daemon && is_proxy(pid)).collect();
        ensure!(others.is_empty(), "a proxy runs in the host's namespace: {others:?}");
        Ok(())
    }

    fn options(&self) -> DaemonOptions {
        self.options.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_pins(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.places.pins) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.with_context(|| self.places.pins.display().to_string()),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.lock().take());
        if let Err(error) = self.remove_pins() {
            eprintln!("lab: {error:#}");
        }
    }
}

fn is_proxy(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.contains("proxy"))
}

/// Addresses among the values named `ip`, `ips`, `ipv4`, `ipv6` or `addresses`.
fn collect_addresses(value: &Value, found: &mut Vec<IpAddr>) {
    match value {
        Value::String(text) => {
            let text = text.split('/').next().unwrap_or(text);
            if let Ok(address) = text.parse::<IpAddr>()
                && !found.contains(&address)
            {
                found.push(address);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_addresses(value, found)),
        Value::Object(fields) => {
            for (_, value) in fields.iter().filter(|(name, _)| {
                matches!(name.as_str(), "ip" | "ips" | "ipv4" | "ipv6" | "addresses" | "interfaces" | "endpoints")
            }) {
                collect_addresses(value, found);
            }
        }
        _ => {}
    }
}
