//! Network namespaces that go away with the value that made them.

use std::ffi::OsStr;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{Output, run, run_with_input};

const FOLDER: &str = "/run/netns";
const PINS: &str = "/sys/fs/bpf";
const PREFIX: &str = "dp-";
/// What the names of daemons' folders end in, before what makes them unique.
pub(crate) const FOLDER_ROLE: &str = "daemon-";

static COUNTER: AtomicU32 = AtomicU32::new(0);
static SWEPT: Once = Once::new();

/// A network namespace under `/run/netns`, removed when this is dropped, on panics too.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace `dp-<pid>-<n>-<role>`, with lo up and neither forwarding nor address detection.
    pub fn new(role: &str) -> Result<Self> {
        SWEPT.call_once(|| {
            if let Err(error) = sweep() {
                eprintln!("lab: leftovers of earlier runs could not be removed: {error:#}");
            }
        });
        let namespace = Self { name: unique_name(role) };
        run("ip", ["netns", "add", &namespace.name])?;
        namespace.ip("link set lo up")?;
        // What a new namespace inherits from the machine is not what a test may depend on.
        for (setting, value) in [
            ("ipv4/ip_forward", "0"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv6/conf/all/forwarding", "0"),
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/dad_transmits", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            ("ipv6/conf/default/router_solicitations", "0"),
        ] {
            namespace.sysctl(setting, value)?;
        }
        Ok(namespace)
    }

    /// The namespace of a process that somebody else made, under a name of ours for as long as this value lives.
    pub fn of_process(role: &str, pid: u32) -> Result<Self> {
        let name = unique_name(role);
        run("ip", ["netns", "attach", &name, &pid.to_string()])?;
        Ok(Self { name })
    }

    /// The name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// Runs `work` on a thread inside the namespace. Sockets made there stay there, wherever they are used.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter_thread(&path).expect("the namespace exists as long as its owner");
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside the namespace.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let path = self.path();
        std::thread::spawn(move || {
            enter_thread(&path).expect("the namespace exists as long as its owner");
            work()
        })
    }

    /// Runs `ip` commands inside, one a line.
    pub fn ip(&self, commands: &str) -> Result<()> {
        run_with_input("ip", ["-n", &self.name, "-batch", "-"], commands)
            .with_context(|| format!("in {}: {commands}", self.name))
            .map(drop)
    }

    /// Runs a program inside, and returns what it printed.
    pub fn run(&self, program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        self.output(program, arguments)?.ok()
    }

    /// Runs a program inside with this text on its standard input.
    pub fn run_with_input(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &str,
    ) -> Result<String> {
        Output::of(self.command(program, arguments), Some(input))?.ok()
    }

    /// Runs a program inside and returns all it said, whether it failed or not.
    pub fn output(&self, program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
        Output::of(self.command(program, arguments), None)
    }

    /// A program to be started inside.
    pub fn command(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program).args(arguments);
        command
    }

    /// Sets `/proc/sys/net/<setting>` inside.
    pub fn sysctl(&self, setting: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{setting}");
        self.enter(|| std::fs::write(&path, value)).with_context(|| format!("{path} = {value} in {}", self.name))
    }

    /// Reads `/proc/sys/net/<setting>` inside.
    pub fn read_sysctl(&self, setting: &str) -> Result<String> {
        let path = format!("/proc/sys/net/{setting}");
        let text = self.enter(|| std::fs::read_to_string(&path)).with_context(|| format!("{path} in {}", self.name))?;
        Ok(text.trim().to_owned())
    }

    /// The index of an interface inside.
    pub fn ifindex(&self, interface: &str) -> Result<u32> {
        self.enter(|| nix::net::if_::if_nametoindex(interface))
            .with_context(|| format!("no interface {interface} in {}", self.name))
    }

    /// The MAC address of an interface inside.
    pub fn mac(&self, interface: &str) -> Result<crate::frame::Mac> {
        let json = run("ip", ["-n", &self.name, "-j", "link", "show", "dev", interface])?;
        let links: serde_json::Value = serde_json::from_str(&json)?;
        let text = links[0]["address"].as_str().context("a link has an address")?;
        text.parse().map_err(|error| anyhow::anyhow!("MAC address {text}: {error}"))
    }

    /// The addresses of an interface inside, link-local ones left out.
    pub fn addresses(&self, interface: &str) -> Result<Vec<IpAddr>> {
        let json = run("ip", ["-n", &self.name, "-j", "address", "show", "dev", interface, "scope", "global"])?;
        let links: serde_json::Value = serde_json::from_str(&json)?;
        let addresses = links[0]["addr_info"].as_array().into_iter().flatten();
        Ok(addresses.filter_map(|address| address["local"].as_str()?.parse().ok()).collect())
    }

    /// Lets the namespace route between its interfaces.
    pub fn forward(&self) -> Result<()> {
        self.sysctl("ipv4/ip_forward", "1")?;
        self.sysctl("ipv6/conf/all/forwarding", "1")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run("ip", ["netns", "del", &self.name]) {
            eprintln!("lab: {error:#}");
        }
    }
}

/// A name no other value of any running lab has.
pub(crate) fn unique_name(role: &str) -> String {
    format!("{PREFIX}{}-{}-{role}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

fn enter_thread(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    setns(file, CloneFlags::CLONE_NEWNET).context("setns")
}

/// Removes what labs of processes that are gone left behind: their namespaces with the processes in them, pins, and the
/// folders of daemons.
pub fn sweep() -> Result<()> {
    for name in names_of_the_dead(FOLDER)? {
        // Whoever still runs in a namespace of ours was started by the lab that made it.
        for pid in run("ip", ["netns", "pids", &name]).unwrap_or_default().split_whitespace() {
            if let Ok(pid) = pid.parse() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        run("ip", ["netns", "del", &name])?;
    }
    for name in names_of_the_dead(PINS)? {
        std::fs::remove_dir_all(Path::new(PINS).join(name))?;
    }
    let folders = std::env::temp_dir();
    for name in names_of_the_dead(&folders)?.iter().filter(|name| name.contains(&format!("-{FOLDER_ROLE}"))) {
        std::fs::remove_dir_all(folders.join(name))?;
    }
    Ok(())
}

/// Entries of `folder` named by a lab whose process has gone.
pub(crate) fn names_of_the_dead(folder: impl AsRef<Path>) -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut dead = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            dead.push(name);
        }
    }
    Ok(dead)
}

/// The process that a name of ours names, or `None` if it is not ours.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    Some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        assert_eq!(owner("dp-12-3-host"), Some(12));
        assert_eq!(owner("dp-12-3"), Some(12));
        for foreign in ["cni-1234", "dp-web", "dp-12-web", "dp-", "xdp-12-3-host"] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_namespace_goes_with_its_value_even_on_panic() {
        let namespace = Namespace::new("gone").expect("root can make namespaces");
        let path = namespace.path();
        assert!(path.exists());
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _owned = namespace;
            panic!("on purpose");
        }));
        assert!(panic.is_err() && !path.exists());
    }

    #[test]
    fn the_dead_are_swept_and_the_living_kept() {
        let living = Namespace::new("living").expect("a namespace");
        // Above the largest pid the kernel gives out (PID_MAX_LIMIT, 2^22).
        let dead = "dp-4194305-0-dead";
        run("ip", ["netns", "add", dead]).expect("a namespace");
        let folder = std::env::temp_dir().join(format!("{PREFIX}4194305-1-{FOLDER_ROLE}abc"));
        std::fs::create_dir(&folder).expect("a folder");
        sweep().expect("sweeps");
        assert!(!Path::new(FOLDER).join(dead).exists() && !folder.exists());
        assert!(living.path().exists());
    }
}
