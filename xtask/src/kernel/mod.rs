//! `cargo xtask test --kernel 6.1`: the daemon and its programs on a real older kernel (F10), in a virtual machine.

mod boot;
mod image;
mod initramfs;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::{
    artifacts::{TESTED, executables},
    budget::{Budget, Cost},
    build::Object,
    shell::{self, say},
};

/// An older kernel that can be tested on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kernel {
    /// Debian 12's: without TCX (6.6), with what the clsact fall-back needs.
    #[value(name = "6.1")]
    V6_1,
}

impl Kernel {
    /// Its version, as the verifier budget names it.
    pub fn version(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
        }
    }

    fn folder(self) -> PathBuf {
        shell::target().join(format!("kernel-{}", self.version()))
    }
}

/// Boots the kernel, and fails unless every program loads within its budget and the traffic passes.
pub fn test(kernel: Kernel) -> Result<()> {
    let image = image::fetch(kernel)?;
    let [datapath, guest] = executables(&TESTED, ["datapath", "guest"])?;
    let contents = initramfs::Contents { datapath, guest, object: Object::Plain.path() };
    let archive = initramfs::build(&kernel.folder(), &image, &contents)?;
    say(format!("booting {}", image.release));
    let report = boot::boot(&kernel.folder(), &image.vmlinuz, &archive)?;
    ensure!(report.verdict == "passed", "kernel {}: {}", kernel.version(), report.verdict);
    let costs: BTreeMap<String, Cost> =
        serde_json::from_str(report.costs.as_deref().context("the machine reported no costs of the programs")?)?;
    Budget::read()?.check(kernel.version(), &costs)?;
    say(format!(
        "kernel {}: every program loads; switched and published connections pass, large packets of IPv6, and one of learnt stations; XDP keeps out",
        kernel.version()
    ));
    Ok(())
}
