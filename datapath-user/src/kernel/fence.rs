//! The fence around dockerd's bridges: one nftables table of the bridge family, in which all that a Linux bridge would
//! forward by itself is dropped. Our programs forward between its ports; so what gets there comes from a port that has
//! none, because dockerd made it while no daemon was there.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What is fenced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// Names of the bridges.
    pub bridges: BTreeSet<String>,
    /// Their subnets, for kernels whose nftables cannot tell bridges apart.
    pub subnets: BTreeSet<IpNet>,
}

/// How exactly a fence is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// By bridge: nothing passes.
    ByBridge,
    /// By subnet, as the kernel lacks CONFIG_NFT_BRIDGE_META: other protocols than IP and ARP are not fenced.
    BySubnet,
    /// There is nothing to fence.
    Not,
}

const TABLE: &str = "bridge datapath";

/// Puts up the fence, in one step instead of the one before.
///
/// # Errors
/// When `nft` is missing, or the kernel refuses.
pub async fn draw(fence: &Fence) -> Result<Drawn> {
    if fence.bridges.is_empty() {
        remove().await?;
        return Ok(Drawn::Not);
    }
    let by_bridge = nft(&ruleset(&[format!("meta ibrname {{ {} }} counter drop", quoted(&fence.bridges))])).await?;
    if by_bridge.is_none() {
        return Ok(Drawn::ByBridge);
    }
    match nft(&ruleset(&rules_by_subnet(&fence.subnets))).await? {
        None => Ok(Drawn::BySubnet),
        Some(refusal) => bail!("nft refuses the fence around Docker's bridges: {refusal}"),
    }
}

/// Takes the fence down. There need not be one.
///
/// # Errors
/// When `nft` is missing, or the kernel refuses.
pub async fn remove() -> Result<()> {
    match nft(&format!("add table {TABLE}\ndelete table {TABLE}\n")).await? {
        None => Ok(()),
        Some(refusal) => bail!("nft does not remove the fence around Docker's bridges: {refusal}"),
    }
}

fn ruleset(rules: &[String]) -> String {
    format!(
        "add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n  chain forward {{\n    type filter hook forward \
         priority filter; policy accept;\n    {}\n  }}\n}}\n",
        rules.join("\n    ")
    )
}

fn rules_by_subnet(subnets: &BTreeSet<IpNet>) -> Vec<String> {
    let matches = |subnet: &IpNet| match subnet {
        IpNet::V4(v4) => vec![format!("ip saddr {v4}"), format!("ip daddr {v4}"), format!("arp saddr ip {v4}")],
        IpNet::V6(v6) => vec![format!("ip6 saddr {v6}"), format!("ip6 daddr {v6}")],
    };
    subnets.iter().flat_map(matches).map(|matched| format!("{matched} counter drop")).collect()
}

/// Names as nftables has them. A device name has no quotation mark that could end the string: see [`is_quotable`].
fn quoted(names: &BTreeSet<String>) -> String {
    let quotable = names.iter().filter(|name| is_quotable(name));
    quotable.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// Whether a device name can be named to `nft` as it is: `*` would be a pattern.
fn is_quotable(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b'+'))
}

/// Has `nft` read `script`; what it says against it, if it refuses.
async fn nft(script: &str) -> Result<Option<String>> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("nft cannot be run; install the package nftables")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await.context("nft does not read")?;
    }
    let output = child.wait_with_output().await.context("nft does not end")?;
    if output.status.success() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("without a reason").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_every_subnet() {
        let subnets = ["10.1.0.0/24", "fd00:1::/64"].map(|text| text.parse().expect("a subnet"));
        let rules = rules_by_subnet(&subnets.into());
        assert_eq!(rules.len(), 5);
        assert!(ruleset(&rules).contains("    ip6 daddr fd00:1::/64 counter drop\n"));
    }

    #[test]
    fn odd_names_do_not_reach_nft() {
        let names = ["docker0", "br-0123456789ab", "a\"b", "br*"].map(str::to_owned);
        assert_eq!(quoted(&names.into()), "\"br-0123456789ab\", \"docker0\"");
    }
}
