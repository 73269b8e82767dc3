//! Whether our daemon says the same as Docker: which containers are on which networks, and which ports are published.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::scene::Scene;

/// The daemon follows dockerd within this time.
pub const CONVERGED: Duration = Duration::from_secs(2);

/// What there is: networks by name, endpoints as `container@network`, ports as `number/protocol container`.
type Picture = BTreeSet<String>;

/// Waits until both tell the same; without our daemon there is nothing to wait for.
pub fn wait(scene: &Scene) -> Result<()> {
    wait_within(scene, CONVERGED)
}

pub fn wait_within(scene: &Scene, limit: Duration) -> Result<()> {
    if scene.datapath().is_none() {
        return Ok(());
    }
    let wanted = docker(scene)?;
    let end = Instant::now() + limit;
    loop {
        let found = ours(scene)?;
        if found == wanted {
            return Ok(());
        }
        if Instant::now() > end {
            let missing: Vec<_> = wanted.difference(&found).collect();
            let stale: Vec<_> = found.difference(&wanted).collect();
            bail!("after {limit:?} the daemon does not tell what Docker does: missing {missing:?}, stale {stale:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// From `docker inspect` of everything that runs.
fn docker(scene: &Scene) -> Result<Picture> {
    let bridges = scene.docker.line("network ls --filter driver=bridge --format {{.Name}}")?;
    let options = scene.docker.command(["network", "inspect"].into_iter().chain(bridges.lines()))?;
    let options: Vec<Value> = serde_json::from_str(&options)?;
    let mut picture: Picture = bridges.lines().map(|network| format!("network {network}")).collect();
    for container in scene.docker.running()? {
        let networks: Vec<_> =
            options.iter().filter(|network| container.is_on(network["Name"].as_str().unwrap_or_default())).collect();
        let routed = |address: IpAddr| {
            let version = if address.is_ipv4() { "4" } else { "6" };
            let option = format!("com.docker.network.bridge.gateway_mode_ipv{version}");
            networks.iter().any(|network| network["Options"][&option] == "routed")
        };
        for network in &networks {
            picture.insert(format!("{}@{}", container.name, network["Name"].as_str().unwrap_or_default()));
        }
        for port in container.published()? {
            // Where nothing is translated it is the container's own port that is published.
            let number = port.host.filter(|_| !routed(port.address)).unwrap_or(port.private);
            picture.insert(format!("{number}/{} {}", port.protocol, container.name));
        }
    }
    Ok(picture)
}

/// From `datapath endpoint ls` and `datapath port ls`.
fn ours(scene: &Scene) -> Result<Picture> {
    let host = scene.datapath().context("the daemon is part of the scene")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut picture = Picture::new();
    let networks = host.json(["network", "ls"])?;
    // Others are its own.
    let dockers = networks.as_array().into_iter().flatten().filter(|network| network["docker"].is_string());
    picture.extend(dockers.map(|network| format!("network {}", text(&network["name"]))));
    for endpoint in host.json(["endpoint", "ls"])?.as_array().context("`endpoint ls --json` is a list")? {
        picture.insert(format!("{}@{}", text(&endpoint["name"]), text(&endpoint["network"])));
    }
    for port in host.json(["port", "ls"])?.as_array().context("`port ls --json` is a list")? {
        let number = |field: &str| port[field].as_u64().with_context(|| format!("a port has {field}: {port}"));
        for number in number("host_port")?..=number("host_port_end")? {
            picture.insert(format!("{number}/{} {}", text(&port["protocol"]), text(&port["endpoint"])));
        }
    }
    Ok(picture)
}
