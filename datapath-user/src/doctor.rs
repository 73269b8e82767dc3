//! What on this host is missing, conflicting or risky, and the remedy.

mod receive_queues;

use datapath_common::abi::Program;
use serde::{Deserialize, Serialize};

use crate::docker_setup;
use crate::engine::Readers;
use crate::kernel::netlink::{BIG_TCP, Netlink};
use crate::kernel::{probes, sysctl};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// Something will not work as meant.
    Warning,
    /// The datapath cannot run, or is not whole.
    Error,
}

/// One finding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

/// A finding; what is as it should be needs no remedy.
pub(crate) fn finding(check: &str, level: Level, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    let remedy = if level == Level::Ok { String::new() } else { remedy.into() };
    Finding { check: check.to_owned(), level, found: found.into(), remedy }
}

/// What keeps the datapath from running on this kernel at all.
pub(crate) fn obstacles() -> impl Iterator<Item = Finding> {
    let findings = kernel_features().into_iter().chain([bpf_filesystem()]);
    findings.filter(|finding| finding.level == Level::Error)
}

/// Examines the host, and the daemon's datapath where there is one. Changes nothing.
pub async fn examine(daemon: Option<&Readers>) -> Vec<Finding> {
    let mut findings = kernel_features();
    findings.push(bpf_filesystem());
    findings.extend(sysctls(daemon));
    findings.extend(other_translators());
    let followed = daemon.and_then(|readers| readers.snapshot().config.docker.clone());
    findings.extend(docker_setup::findings(followed.as_deref()).await);
    if let Some(readers) = daemon {
        findings.extend(uplinks(readers));
        findings.extend(receive_queues::findings(readers).await);
        findings.extend(guard(readers));
        findings.extend(large_packets(readers).await);
        findings.extend(foreign_programs(readers).await);
        findings.extend(tables(readers));
    }
    findings
}

fn kernel_features() -> Vec<Finding> {
    let features = probes::features();
    let level = |there: bool, missing: Level| if there { Level::Ok } else { missing };
    let present = |there: bool| if there { "available" } else { "missing" };
    vec![
        finding(
            "kernel",
            level(version_is_known(&features.kernel), Level::Error),
            &features.kernel,
            "use Linux 6.1 or later",
        ),
        finding(
            "btf",
            level(features.btf, Level::Warning),
            present(features.btf),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, so that bpftool can show the maps",
        ),
        finding(
            "bpf_jit",
            level(features.jit, Level::Warning),
            present(features.jit),
            "set net.core.bpf_jit_enable=1, or use a kernel with CONFIG_BPF_JIT: without it the datapath is slow",
        ),
        finding(
            "tcx",
            level(features.tcx, Level::Note),
            present(features.tcx),
            "Linux 6.6 and later have it; before, clsact filters are used, which others may remove",
        ),
        finding(
            "fib_source",
            level(features.fib_source, Level::Note),
            present(features.fib_source),
            "Linux 6.7 and later have it; before, masquerade takes the uplink's first address, whatever the route says",
        ),
    ]
}

fn version_is_known(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 1)
}

fn bpf_filesystem() -> Finding {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let there = mounts.lines().any(|line| line.split(' ').nth(2) == Some("bpf"));
    let found = if there { "mounted" } else { "not mounted" };
    let level = if there { Level::Ok } else { Level::Error };
    finding("bpf_filesystem", level, found, "`mount -t bpf bpf /sys/fs/bpf`, and add it to /etc/fstab")
}

fn sysctls(daemon: Option<&Readers>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if daemon.is_some() {
        for (path, wanted) in sysctl::loopback_settings() {
            let value = sysctl::read(&path).unwrap_or_else(|_| "unreadable".to_owned());
            let level = if value == wanted { Level::Ok } else { Level::Warning };
            findings.push(finding(
                &path.replace('/', "."),
                level,
                format!("is {value}, needed is {wanted}"),
                "something changed it behind the daemon's back: set it again, or restart the daemon; published ports are not \
                 reachable over 127.0.0.1 without",
            ));
        }
    }
    let forwarding = sysctl::read("net/ipv4/ip_forward").is_ok_and(|value| value == "1");
    findings.push(if forwarding {
        finding(
            "net.ipv4.ip_forward",
            Level::Note,
            "the host forwards packets",
            "the datapath does not need it; if nothing else does, set net.ipv4.ip_forward=0",
        )
    } else {
        finding("net.ipv4.ip_forward", Level::Ok, "the host does not forward packets by itself", "")
    });
    let strict = sysctl::read("net/ipv4/conf/all/rp_filter").is_ok_and(|value| value == "1");
    findings.push(if strict {
        finding(
            "net.ipv4.conf.all.rp_filter",
            Level::Note,
            "packets must come in where answers go out (strict)",
            "on hosts with several uplinks set it to 2 (loose), or answers to the host itself may be dropped by the kernel",
        )
    } else {
        finding("net.ipv4.conf.all.rp_filter", Level::Ok, "not strict", "")
    });
    findings
}

/// Others that translate addresses on this host. They do not see what the datapath carries, nor it what they do.
fn other_translators() -> Vec<Finding> {
    let mut findings = Vec::new();
    let tables = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let iptables = [tables("/proc/net/ip_tables_names"), tables("/proc/net/ip6_tables_names")].concat();
    let nat = iptables.lines().any(|table| table == "nat");
    let found = if iptables.trim().is_empty() { "no tables" } else { "tables are loaded" };
    findings.push(finding(
        "iptables",
        if nat { Level::Note } else { Level::Ok },
        found,
        "rules there do not see traffic of containers on our networks; DNAT rules on ports that are published here never match",
    ));
    let tracked = tables("/proc/sys/net/netfilter/nf_conntrack_count");
    let count = tracked.trim().parse::<u64>().unwrap_or(0);
    findings.push(finding(
        "nf_conntrack",
        if count > 0 { Level::Note } else { Level::Ok },
        format!("{count} flows tracked by netfilter"),
        "the datapath does not use it; what is tracked there is the host's own or other software's",
    ));
    findings
}

fn uplinks(readers: &Readers) -> Vec<Finding> {
    let snapshot = readers.snapshot();
    let mut findings = Vec::new();
    if snapshot.uplinks.is_empty() {
        findings.push(finding(
            "uplinks",
            Level::Warning,
            "there is none: containers reach nothing outside",
            "give an interface an address, or correct --uplink",
        ));
    }
    for name in &snapshot.config.uplinks {
        if !snapshot.uplinks.iter().any(|uplink| uplink.name == *name) {
            findings.push(finding(
                "uplinks",
                Level::Warning,
                format!("{name} is named as an uplink, but there is no such interface with an address"),
                "create it and give it an address, or correct --uplink",
            ));
        }
    }
    for uplink in &snapshot.uplinks {
        for network in snapshot.model.networks.values().filter(|network| network.mtu > uplink.mtu && !network.internal)
        {
            findings.push(finding(
                "mtu",
                Level::Warning,
                format!(
                    "network {} has MTU {}, and the uplink {} only {}",
                    network.name, network.mtu, uplink.name, uplink.mtu
                ),
                format!("create the network with --mtu {}", uplink.mtu),
            ));
        }
    }
    if findings.is_empty() {
        let names: Vec<_> = snapshot.uplinks.iter().map(|uplink| uplink.name.as_str()).collect();
        findings.push(finding("uplinks", Level::Ok, names.join(", "), ""));
    }
    findings
}

/// Uplinks that take less than a network with BIG TCP hands them.
async fn large_packets(readers: &Readers) -> Vec<Finding> {
    let snapshot = readers.snapshot();
    let big: Vec<_> =
        snapshot.model.networks.values().filter(|n| n.big_tcp && !n.internal).map(|n| n.name.as_str()).collect();
    let Some(netlink) = Netlink::open().ok().filter(|_| !big.is_empty()) else { return Vec::new() };
    let mut findings = Vec::new();
    for uplink in &snapshot.uplinks {
        let Ok(Some(link)) = netlink.link(uplink.ifindex).await else { continue };
        if link.largest_tcp.iter().any(|&size| size < BIG_TCP) {
            findings.push(finding(
                "big_tcp",
                Level::Note,
                format!(
                    "{} takes TCP packets of {} KiB; larger ones of {} are cut into segments by the CPU",
                    link.name,
                    link.largest_tcp.iter().min().unwrap_or(&0) >> 10,
                    big.join(", ")
                ),
                format!(
                    "if `ip -d link show {0}` has a tso_max_size of {BIG_TCP}, \
                     `ip link set {0} gso_max_size {BIG_TCP} gso_ipv4_max_size {BIG_TCP}`; \
                     else keep what sends much to the outside on a network without --big-tcp",
                    link.name
                ),
            ));
        }
    }
    findings
}

/// Uplinks without the XDP program, where it was asked for.
fn guard(readers: &Readers) -> Vec<Finding> {
    let snapshot = readers.snapshot();
    let states =
        snapshot.uplinks.iter().filter_map(|uplink| Some((uplink, snapshot.guarded_natively.get(&uplink.ifindex)?)));
    states
        .map(|(uplink, state)| match state {
            Ok(_) => finding("xdp", Level::Ok, format!("{} is guarded in its driver", uplink.name), ""),
            Err(refused) => finding(
                "xdp",
                Level::Warning,
                format!("{} is not guarded by XDP: {refused}", uplink.name),
                "from_uplink makes the same checks there, at the cost of a packet each; correct it, or start without --xdp native",
            ),
        })
        .collect()
}

async fn foreign_programs(readers: &Readers) -> Vec<Finding> {
    let Ok(netlink) = Netlink::open() else { return Vec::new() };
    let snapshot = readers.snapshot();
    let uplinks = snapshot
        .uplinks
        .iter()
        .flat_map(|uplink| [(Program::FromUplink, uplink.ifindex), (Program::ToUplink, uplink.ifindex)]);
    let ports = snapshot.devices.ports.values().map(|port| (Program::FromContainer, port.ifindex));
    let mut findings = Vec::new();
    for (program, ifindex) in uplinks.chain(ports) {
        match readers.kernel.datapath.foreign_programs(&netlink, program, ifindex).await {
            Ok(foreign) => findings.extend(foreign.into_iter().map(|other| {
                let place = if other.ahead { "ahead of ours: what it takes, ours never sees" } else { "after ours" };
                let level = if other.ahead { Level::Warning } else { Level::Note };
                let found = format!("{} on {} ({}), {place}", other.name, other.device, other.hook);
                finding("foreign_programs", level, found, "find out whose it is: `bpftool net show`")
            })),
            Err(error) => findings.push(finding(
                "foreign_programs",
                Level::Warning,
                format!("device {ifindex} cannot be examined: {error:#}"),
                "run `datapath doctor` again",
            )),
        }
    }
    if findings.is_empty() {
        findings.push(finding("foreign_programs", Level::Ok, "none on our ports and uplinks", ""));
    }
    findings
}

fn tables(readers: &Readers) -> Vec<Finding> {
    let flows = readers.kernel.datapath.flows();
    let remedy = "raise flow_capacity in the configuration; `datapath flow ls` shows who has them";
    let (used, capacity) = match flows.used() {
        Ok(used) => (u64::from(used), u64::from(flows.capacity())),
        Err(error) => return vec![finding("flows", Level::Error, format!("{error:#}"), remedy)],
    };
    let full = used * 10 > capacity * 9;
    let level = if full { Level::Warning } else { Level::Ok };
    vec![finding("flows", level, format!("{used} of {capacity} in use"), remedy)]
}
