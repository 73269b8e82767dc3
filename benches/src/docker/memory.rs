//! What the network of a host's containers weighs.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context as _, Result};
use lab::docker::DockerHost;

/// Threads take process ids, and the machine needs some for other things.
const SHARE_OF_PIDS: (usize, usize) = (3, 4);

/// Of one host.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Processes that are there for the network alone: the datapath's daemon, every docker-proxy.
    pub processes: usize,
    /// Their threads.
    pub threads: usize,
    /// Their memory in bytes, what they share counted once (PSS).
    pub resident: u64,
    /// What the kernel has allocated for the daemon's BPF maps and programs, in bytes.
    pub kernel: u64,
    /// The memory of dockerd itself in bytes, which holds the ports where there is no docker-proxy.
    pub dockerd: u64,
}

impl Memory {
    /// Looks at the processes of a host.
    pub fn of(host: &DockerHost) -> Result<Self> {
        let dockerd = host.dockerd.pid()?;
        let mut memory = Self { dockerd: resident(dockerd)?, ..Self::default() };
        for pid in proxies(dockerd)? {
            memory.add(pid)?;
        }
        if let Some(datapath) = host.datapath() {
            let daemon = datapath.daemon_pid()?;
            memory.add(daemon)?;
            memory.kernel = bpf(daemon)?;
        }
        Ok(memory)
    }

    fn add(&mut self, pid: u32) -> Result<()> {
        self.processes += 1;
        self.threads += fs::read_dir(format!("/proc/{pid}/task"))?.count();
        self.resident += resident(pid)?;
        Ok(())
    }

    /// What it will be with `more` containers, when it is this with so many.
    #[must_use]
    pub fn of_more(self, containers: usize, more: usize) -> Self {
        let grown = |now: usize| now * more / containers;
        Self {
            processes: grown(self.processes),
            threads: grown(self.threads),
            resident: self.resident * more as u64 / containers as u64,
            ..self
        }
    }

    /// Whether, and in what, this is more than may be. One process never is.
    pub fn exceeds(&self, limit: u64) -> Result<Option<String>> {
        let ids: usize = fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse()?;
        let Self { processes, threads, resident, .. } = self;
        let (share, of) = SHARE_OF_PIDS;
        Ok(match () {
            () if *processes <= 1 => None,
            () if *threads > ids * share / of => {
                Some(format!("{processes} processes with {threads} threads, of {ids} process ids"))
            }
            () if *resident > limit => Some(format!("{} MiB for {processes} processes", resident >> 20)),
            () => None,
        })
    }
}

/// The docker-proxy processes that this dockerd has started.
fn proxies(dockerd: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended since.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // proc_pid_stat(5): pid (comm) state ppid
        let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
        let parent = rest.split(' ').nth(1).and_then(|parent| parent.parse().ok());
        if name.ends_with("(docker-proxy") && parent == Some(dockerd) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The proportional set size of a process, in bytes.
fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let kilobytes = field(&text, "Pss:").with_context(|| format!("{path} has no Pss"))?;
    Ok(kilobytes << 10)
}

/// The memory of every map and program that a process has open, in bytes, as their fdinfo tells it.
fn bpf(pid: u32) -> Result<u64> {
    let mut found: HashMap<(bool, u64), u64> = HashMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // It may have been closed since.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let (map, program) = (field(&text, "map_id:"), field(&text, "prog_id:"));
        if let (Some(id), Some(bytes)) = (map.or(program), field(&text, "memlock:")) {
            found.insert((map.is_some(), id), bytes);
        }
    }
    Ok(found.into_values().sum())
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_containers_need_as_much_more() {
        let ten = Memory { processes: 20, threads: 120, resident: 40 << 20, kernel: 1, dockerd: 2 };
        let fifty = ten.of_more(10, 50);
        assert_eq!(fifty, Memory { processes: 100, threads: 600, resident: 200 << 20, ..ten });
        assert!(fifty.exceeds(300 << 20).expect("/proc").is_none());
        assert!(fifty.exceeds(100 << 20).expect("/proc").expect("too much").contains("200 MiB"));
        assert!(ten.of_more(10, 1_000_000).exceeds(u64::MAX).expect("/proc").expect("too many").contains("threads"));
    }

    #[test]
    fn own_memory_is_found() {
        assert!(resident(std::process::id()).expect("/proc") > 100 << 10);
        assert_eq!(field("pos:\t0\nmemlock:\t4096\n", "memlock:"), Some(4096));
    }
}
