//! What dockerd would not start with, or not work with, found before anything is changed.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::change::Scene;
use super::document::{self, Document};

/// `ip6tables` is an option since then; an older dockerd does not start with it.
const OLDEST: (u32, u32) = (20, 10);

/// Refuses to go on with this text as `daemon.json`.
pub(super) fn check(scene: &Scene, new: &str) -> Result<()> {
    let Scene { file, dockerd } = scene;
    if let Some(state) = dockerd.swarm() {
        bail!(
            "this host is in a swarm (state {state}), whose ingress network lives from iptables; `docker swarm leave` first"
        );
    }
    if dockerd.info.is_none() && swarm_on_disk(new)?.exists() {
        bail!("dockerd does not run, and was in a swarm when it did; start it, `docker swarm leave`, and try again");
    }
    if let Some(version) = dockerd.version().filter(|version| *version < OLDEST) {
        bail!("dockerd {}.{} does not know `ip6tables`; upgrade to 20.10 or later", version.0, version.1);
    }
    for key in document::KEYS {
        if dockerd.process.as_ref().is_some_and(|process| process.option(key).is_some()) {
            bail!(
                "dockerd was started with --{key}, and does not start when the file says it too; remove the option from \
                 its unit (`systemctl edit docker`) or /etc/default/docker"
            );
        }
    }
    // moby, verifyDaemonSettings: "You specified --iptables=false with --icc=false".
    let remedy = "dockerd does not start with both; take it out, and create networks with \
                  `-o com.docker.network.bridge.enable_icc=false`, which the datapath enforces";
    if Document::parse(new)?.boolean("icc") == Some(false) {
        bail!("{} has `\"icc\": false`, which is made with iptables; {remedy}", file.path.display());
    }
    if dockerd.process.as_ref().is_some_and(|process| process.option("icc") == Some("false")) {
        bail!("dockerd was started with --icc=false, which is made with iptables; {remedy}");
    }
    Ok(())
}

/// Where dockerd remembers its swarm (moby, `daemon/cluster`).
fn swarm_on_disk(text: &str) -> Result<PathBuf> {
    let root = Document::parse(text)?.string("data-root").unwrap_or_else(|| "/var/lib/docker".to_owned());
    Ok(Path::new(&root).join("swarm/docker-state.json"))
}
