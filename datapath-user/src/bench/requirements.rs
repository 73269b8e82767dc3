//! What a measurement needs of the host. Asked first, so that nobody waits for an error, and each has its remedy.

use std::path::{Path, PathBuf};

use anyhow::{Error, Result, bail, ensure};

use crate::doctor;

/// What it takes to make namespaces and devices, to serve low ports in them, and to load programs: with CAP_SYS_ADMIN, CAP_BPF
/// is not asked for. Numbers are those of include/uapi/linux/capability.h.
const CAPABILITIES: [(&str, u32); 3] = [("CAP_NET_BIND_SERVICE", 10), ("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21)];
/// The map of users of the namespace that the machine itself has (user_namespaces(7)).
const EVERYBODY: [&str; 3] = ["0", "0", "4294967295"];
/// Programs of others, and where they come from.
const PROGRAMS: [(&str, &str); 2] = [("ip", "iproute2"), ("nsenter", "util-linux")];

/// Looks, and changes nothing.
///
/// # Errors
/// Where something is missing, with what to do.
pub fn check() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "only root may make network namespaces and load programs; run it with sudo"
    );
    ensure!(
        std::fs::read_to_string("/proc/self/uid_map")?.split_whitespace().eq(EVERYBODY),
        "this is root in a user namespace only, as in a rootless container; run it on the host itself"
    );
    let missing = missing(&std::fs::read_to_string("/proc/self/status")?);
    ensure!(
        missing.is_empty(),
        "this process lacks {}, as in a container; run it on the host itself",
        missing.join(" and ")
    );
    if let Some(obstacle) = doctor::obstacles().next() {
        bail!("{} is {}; {}", obstacle.check, obstacle.found, obstacle.remedy);
    }
    ensure!(
        Path::new("/proc/sys/net/ipv6").exists(),
        "this kernel has no IPv6, which the hosts to compare are built with; boot it without ipv6.disable=1"
    );
    for (program, package) in PROGRAMS {
        ensure!(in_path(program).is_some(), "there is no program {program} in PATH; install the package {package}");
    }
    Ok(())
}

/// Where a program is, by PATH.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// What is not among the effective capabilities, of the text of /proc/self/status.
fn missing(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    CAPABILITIES.into_iter().filter(|(_, bit)| effective & 1 << bit == 0).map(|(name, _)| name).collect()
}

/// Says what is missing where the kernel only says that it does not know a kind of device.
pub fn explain(error: Error) -> Error {
    let told = format!("{error:#}");
    let unknown = ["Unknown device type", "Operation not supported"].iter().any(|text| told.contains(text));
    if unknown && told.contains("type veth") {
        return error.context("this kernel cannot make virtual wires; load the module veth (CONFIG_VETH)");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read() {
        let all = "Name:\tdatapath\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert!(missing(all).is_empty());
        // What Docker gives a container by default.
        let container = "CapEff:\t00000000a80425fb\n";
        assert_eq!(missing(container), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
        assert_eq!(missing("").len(), 3);
    }

    #[test]
    fn a_kernel_without_veth_is_told_so() {
        let error =
            anyhow::anyhow!("in dp-1-2-client: link add eth0 type veth peer name eth0: Error: Unknown device type.");
        assert!(
            format!("{:#}", explain(error.context("building L"))).starts_with("this kernel cannot make virtual wires")
        );
        assert_eq!(format!("{:#}", explain(anyhow::anyhow!("another"))), "another");
    }
}
