//! The fence around dockerd's bridges: one nftables table of the bridge family, in which all that a Linux bridge itself
//! would take in or give out is dropped. Our programs do that for its ports, before the bridge; so what gets there comes
//! from, or goes to, a port that has none, because dockerd made it while no daemon was there.
//!
//! A bridge that dockerd makes meanwhile has no name in the fence yet. Unless the user names it, its name is `br-` and 12
//! hexadecimal digits. nftables can only ask for the `br-`: so the bridges of others with such names are taken out one by
//! one, and of a bridge that others make meanwhile, only veths are taken for dockerd's. Before Docker 28, containers are
//! known by their MAC addresses too, which begin with 02:42 (moby: libnetwork/netutils, GenerateMACFromIP).

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// What is fenced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// Names of the bridges.
    pub bridges: BTreeSet<String>,
    /// Bridges of others, which could be taken for some that dockerd makes.
    pub others: BTreeSet<String>,
    /// Their subnets, for kernels whose nftables cannot tell bridges apart.
    pub subnets: BTreeSet<IpNet>,
}

/// How exactly a fence is drawn, with the rules as nftables lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// By bridge: nothing passes.
    ByBridge(String),
    /// By subnet, as the kernel lacks CONFIG_NFT_BRIDGE_META: where containers have other MAC addresses than Docker's, other
    /// protocols than IP and ARP are not fenced.
    BySubnet(String),
    /// There is nothing to fence.
    Not,
}

/// How long `nft` may take.
const PATIENCE: Duration = Duration::from_secs(5);

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
    if load(&ruleset(&rules_by_bridge(fence))).await?.is_ok() {
        return Ok(Drawn::ByBridge(list().await?));
    }
    match load(&ruleset(&rules_by_subnet(&fence.subnets))).await? {
        Ok(()) => Ok(Drawn::BySubnet(list().await?)),
        Err(refusal) => bail!("nft refuses the fence around Docker's bridges: {refusal}"),
    }
}

/// Whether it stands as it was drawn. Where that cannot be seen, it counts as if not: then it is drawn again.
pub async fn stands(drawn: &Drawn) -> bool {
    match drawn {
        Drawn::ByBridge(rules) | Drawn::BySubnet(rules) => list().await.is_ok_and(|listed| listed == *rules),
        Drawn::Not => true,
    }
}

/// Takes the fence down. There need not be one, and without `nft` there is none.
///
/// # Errors
/// When the kernel refuses.
pub async fn remove() -> Result<()> {
    if which_nft().is_none() {
        return Ok(());
    }
    match load(&format!("add table {TABLE}\ndelete table {TABLE}\n")).await? {
        Ok(()) => Ok(()),
        Err(refusal) => bail!("nft does not remove the fence around Docker's bridges: {refusal}"),
    }
}

/// Matches of what comes in, and of what goes out.
type Matches = (Vec<String>, Vec<String>);

/// What the names of bridges begin with that dockerd makes without being told a name.
pub const FUTURE_BRIDGES: &str = "br-";
/// The first bytes of the MAC addresses that dockerd makes of IPv4 addresses.
const DOCKER_MAC: &str = "& ff:ff:00:00:00:00 == 02:42:00:00:00:00";

fn ruleset((incoming, outgoing): &Matches) -> String {
    let chain = |hook: &str, matches: &[String], kind: &str, end: &str| {
        let rules: Vec<_> = matches.iter().map(|matched| format!("    {matched} counter drop\n")).collect();
        format!(
            "  chain {hook} {{\n    type filter hook {hook} priority filter; policy accept;\n{}    meta {kind} \"veth\" ether \
             {end} {DOCKER_MAC} counter drop\n  }}\n",
            rules.concat()
        )
    };
    format!(
        "add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n{}{}}}\n",
        chain("prerouting", incoming, "iifkind", "saddr"),
        chain("postrouting", outgoing, "oifkind", "daddr")
    )
}

fn rules_by_bridge(fence: &Fence) -> Matches {
    let names = quoted(&fence.bridges);
    let matches = |name: &str, kind: &str| {
        let mut matches = vec![format!("meta {name} {{ {names} }}")];
        let future = format!("meta {kind} \"veth\" meta {name} \"{FUTURE_BRIDGES}*\"");
        if fence.others.is_empty() {
            matches.push(future);
        } else if fence.others.iter().all(|name| is_quotable(name)) {
            matches.push(format!("{future} meta {name} != {{ {} }}", quoted(&fence.others)));
        }
        matches
    };
    (matches("ibrname", "iifkind"), matches("obrname", "oifkind"))
}

fn rules_by_subnet(subnets: &BTreeSet<IpNet>) -> Matches {
    let incoming = subnets.iter().flat_map(|subnet| match subnet {
        IpNet::V4(v4) => vec![format!("ip saddr {v4}"), format!("arp saddr ip {v4}")],
        IpNet::V6(v6) => vec![format!("ip6 saddr {v6}")],
    });
    let outgoing = subnets.iter().map(|subnet| match subnet {
        IpNet::V4(v4) => format!("ip daddr {v4}"),
        IpNet::V6(v6) => format!("ip6 daddr {v6}"),
    });
    (incoming.collect(), outgoing.collect())
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

fn which_nft() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("nft")).find(|file| file.is_file())
}

/// Has `nft` read `script`; the inner error is what the kernel or `nft` says against it.
async fn load(script: &str) -> Result<Result<(), String>> {
    Ok(nft(&["-f", "-"], script).await?.map(drop))
}

/// The table as `nft` lists it, without counts.
async fn list() -> Result<String> {
    let arguments: Vec<_> = ["--stateless", "list", "table"].into_iter().chain(TABLE.split(' ')).collect();
    nft(&arguments, "")
        .await?
        .map_err(|refusal| anyhow!("nft does not list the fence around Docker's bridges: {refusal}"))
}

async fn nft(arguments: &[&str], input: &str) -> Result<Result<String, String>> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("nft cannot be run; install the package nftables")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.context("nft does not read")?;
    }
    let output = timeout(PATIENCE, child.wait_with_output()).await.context("nft does not end")??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(Ok(text(&output.stdout)));
    }
    Ok(Err(text(&output.stderr).lines().next().unwrap_or("without a reason").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::scratch;

    #[test]
    fn rules_name_every_subnet() {
        let subnets = ["10.1.0.0/24", "fd00:1::/64"].map(|text| text.parse().expect("a subnet"));
        let rules = rules_by_subnet(&subnets.into());
        assert_eq!((rules.0.len(), rules.1.len()), (3, 2));
        assert!(ruleset(&rules).contains("    ip6 daddr fd00:1::/64 counter drop\n"));
    }

    #[test]
    fn bridges_of_others_are_named() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let incoming = |others: &[&str]| {
            let fence = Fence { bridges: set(&["docker0"]), others: set(others), ..Fence::default() };
            rules_by_bridge(&fence).0
        };
        let docker = r#"meta ibrname { "docker0" }"#;
        assert_eq!(incoming(&[]), [docker, r#"meta iifkind "veth" meta ibrname "br-*""#]);
        let others = r#"meta iifkind "veth" meta ibrname "br-*" meta ibrname != { "br-lan", "br-wan" }"#;
        assert_eq!(incoming(&["br-lan", "br-wan"]), [docker, others]);
        assert_eq!(incoming(&["br-lan", "br-*"]), [docker], "one that cannot be named is not cut off");
    }

    #[test]
    fn the_kernel_takes_the_rules() {
        scratch::in_namespace_async(async || {
            let subnets = ["10.1.0.0/24", "fd00:1::/64"].map(|text| text.parse().expect("a subnet"));
            let others = ["br-lan".to_owned()].into();
            let fence = Fence { bridges: ["docker0".to_owned()].into(), others, subnets: subnets.into() };
            for _ in 0..2 {
                let drawn = draw(&fence).await.expect("drawn");
                assert_ne!(drawn, Drawn::Not);
                assert!(stands(&drawn).await);
                let flush = load(&format!("flush table {TABLE}\n")).await.expect("nft runs");
                flush.expect("somebody may flush it");
                assert!(!stands(&drawn).await, "nothing is in it");
            }
            remove().await.expect("removed");
            remove().await.expect("there is none");
        });
    }

    #[test]
    fn odd_names_do_not_reach_nft() {
        let names = ["docker0", "br-0123456789ab", "a\"b", "br*"].map(str::to_owned);
        assert_eq!(quoted(&names.into()), "\"br-0123456789ab\", \"docker0\"");
    }
}
