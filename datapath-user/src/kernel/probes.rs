//! What this kernel has of what the datapath can use.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bpf;

/// Features of the running kernel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Features {
    /// Release, as `uname -r` prints it.
    pub kernel: String,
    /// The kernel describes its types.
    pub btf: bool,
    /// Programs are compiled to machine code.
    pub jit: bool,
    /// Programs are attached by links to ordered chains (Linux 6.6, commit e420bed02507).
    pub tcx: bool,
    /// The route lookup of a program also gives the source address (Linux 6.7, commit dab4e1f06cab).
    pub fib_source: bool,
    /// Devices take IPv4 packets above 64 KiB (BIG TCP; Linux 6.3, commit b1a78b9b9886), as those of IPv6 since Linux 5.19.
    pub big_tcp_ipv4: bool,
}

/// Looks. Asks the kernel where it can be asked without changing anything; `fib_source` and `big_tcp_ipv4` go by the
/// release: a lookup with an unknown flag only fails inside a program that is attached to a device, and an unknown attribute of
/// a device does not fail at all.
pub fn features() -> Features {
    let kernel = release();
    let since = |wanted| version(&kernel).is_some_and(|version| version >= wanted);
    Features {
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: bpf::has_jit().unwrap_or(false),
        tcx: bpf::has_tcx().unwrap_or(false),
        fib_source: since((6, 7)),
        big_tcp_ipv4: since((6, 3)),
        kernel,
    }
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "unknown".into(), |text| text.trim().into())
}

/// Major and minor of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.1.0-18-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.15-rc1"), Some((5, 15)));
        assert_eq!(version("unknown"), None);
    }
}
