//! Processes of the network namespace this runs in, as /proc has them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// A running program.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line, the program first.
    pub arguments: Vec<String>,
    /// When it was started.
    pub started: Option<SystemTime>,
}

impl Process {
    /// Whether an option is on the command line, and its value: that after `=`, or an empty one.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.arguments.iter().skip(1).find_map(|argument| {
            let rest = argument.strip_prefix("--")?.strip_prefix(name)?;
            if rest.is_empty() { Some("") } else { rest.strip_prefix('=') }
        })
    }

    /// The value of an option, after `=` or as the next argument.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        match self.option(name)? {
            "" => {
                let at = self.arguments.iter().position(|argument| argument.strip_prefix("--") == Some(name))?;
                self.arguments.get(at + 1).map(String::as_str)
            }
            value => Some(value),
        }
    }
}

/// The processes whose program has this name, in this network namespace: other namespaces are other hosts to us.
#[must_use]
pub fn named(name: &str) -> Vec<Process> {
    let here = namespace(Path::new("/proc/self"));
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path();
            let is_named = fs::read_to_string(folder.join("comm")).ok()?.trim_end() == name;
            (is_named && namespace(&folder) == here).then(|| read(pid, &folder))
        })
        .collect()
}

fn namespace(process: &Path) -> Option<u64> {
    fs::metadata(process.join("ns/net")).ok().map(|namespace| namespace.ino())
}

fn read(pid: u32, folder: &Path) -> Process {
    let line = fs::read(folder.join("cmdline")).unwrap_or_default();
    let arguments = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut arguments: Vec<_> = arguments.collect();
    // The list ends in a separator.
    arguments.pop();
    Process { pid, arguments, started: started(folder) }
}

/// Field 22 of proc_pid_stat(5) counts from boot; the names before it may hold anything but end in the last `)`.
fn started(folder: &Path) -> Option<SystemTime> {
    const FIELDS_BEFORE: usize = 19;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let ticks: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(FIELDS_BEFORE)?.parse().ok()?;
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let after_boot = Duration::from_millis(ticks * 1_000 / per_second);
    let since_boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
    SystemTime::now().checked_sub(since_boot.checked_sub(after_boot)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_its_start() {
        let comm = fs::read_to_string("/proc/self/comm").expect("every process has a name");
        let found = named(comm.trim_end());
        let me = found.iter().find(|process| process.pid == std::process::id()).expect("this process runs");
        let age = me.started.and_then(|started| started.elapsed().ok()).expect("it has a start in the past");
        assert!(age < Duration::from_secs(3_600), "{age:?}");
    }

    #[test]
    fn options() {
        let arguments = ["dockerd", "--iptables=false", "--config-file", "/x.json", "--debug"].map(str::to_owned);
        let process = Process { pid: 1, arguments: arguments.to_vec(), started: None };
        assert_eq!(process.option("iptables"), Some("false"));
        assert_eq!(process.option("ip6tables"), None);
        assert_eq!(process.option("debug"), Some(""));
        assert_eq!(process.value("config-file"), Some("/x.json"));
        assert_eq!(process.value("data-root"), None);
    }
}
