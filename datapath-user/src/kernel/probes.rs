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
}

/// Looks. Asks the kernel where it can be asked without changing anything; `fib_source` goes by the release, because
/// a lookup with an unknown flag only fails inside a program that is attached to a device.
pub fn features() -> Features {
    let kernel = release();
    Features {
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: bpf::has_jit().unwrap_or(false),
        tcx: bpf::has_tcx().unwrap_or(false),
        fib_source: version(&kernel).is_some_and(|version| version >= (6, 7)),
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
