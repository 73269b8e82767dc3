//! What the kernel's memory is taken for: of each flow, endpoint and published port.
//!
//! Tables have their full size from the start, so a place in one costs the same whether it is used or not: the memory of its map
//! (`memlock` in its fdinfo) by the number of places. That this is all is seen by filling one million of them, and by how much less
//! memory the machine then has.

use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use datapath_common::abi::map;
use lab::capture::send_frames;
use lab::frame::Ethernet;
use lab::lan::address;
use lab::{DaemonOptions, Host, Lan, World, http};

use super::Figure;

/// Places of the flow table.
const CAPACITY: u32 = 1 << 20;
/// So many flows are begun.
const FLOWS: u32 = 100_000;
/// Published at once, with a held socket for each.
const PORTS: u32 = 10_000;
const CONTAINER: &str = "10.20.1.10";
const OF_ENDPOINTS: [&str; 6] = [
    map::ENDPOINTS,
    map::ENDPOINT_BY_IFINDEX,
    map::ENDPOINT_BY_ADDRESS,
    map::ENDPOINT_BY_MAC,
    map::ENDPOINT_USAGE,
    map::NETWORK_MEMBERS,
];

/// What was measured.
pub(super) struct Memory {
    /// Bytes of a translated flow, both directions.
    pub(super) flow: f64,
    /// The rest.
    pub(super) figures: Vec<Figure>,
}

/// Measures on a host of its own.
pub(super) fn measure(daemon: &Path) -> Result<Memory> {
    let config = format!("flow_capacity = {CAPACITY}\nflow_quota = {CAPACITY}\n");
    let before = available()?;
    let world = World::start(daemon, DaemonOptions::with_config(&config))?;
    let host = &world.host;
    let started = before - available()?;
    let all = every_map(host.pins())?;
    let flow = place(host.pins(), map::FLOWS)? + 2.0 * place(host.pins(), map::FLOW_BY_KEY)?;
    let endpoint = OF_ENDPOINTS.iter().map(|name| place(host.pins(), name)).sum::<Result<f64>>()?;
    let port = place(host.pins(), map::PUBLISHED)?;
    let publication = place(host.pins(), map::PUBLICATIONS)? + place(host.pins(), map::PUBLICATION_HITS)?;
    let mut figures = vec![
        Figure::new("kernel memory of an endpoint", "its place in six tables", format!("{endpoint:.0} B")),
        Figure::new("kernel memory of a published port", "its place in the table of ports", format!("{port:.0} B")),
        Figure::new("kernel memory of a publication", "its place in two tables", format!("{publication:.0} B")),
    ];
    let shown = format!("{:.0} MiB less is available; the maps have {:.0}", mebibytes(started), mebibytes(all));
    figures.push(Figure::new("daemon start", "1,048,576 flows", shown));

    host.datapath("network create app --subnet 10.20.1.0/24".split(' '))?;
    let container = host.container("a", "app", &[CONTAINER])?;
    let (before, used) = (available()?, used(host)?);
    let network = host.json(["network", "ls"])?;
    let gateway = host.namespace.mac(network[0]["device"].as_str().context("the network has a device")?)?;
    let mac = container.namespace.mac("eth0")?;
    let frame = |number: u32| {
        let (source, target) = (20_000 + (number / 4_096) as u16, 1_024 + (number % 4_096) as u16);
        let packet = Ethernet::new(mac, gateway).ip(address(CONTAINER), address(Lan::INTERNET[0]));
        packet.udp(source, target, b"new")
    };
    send_frames(&container.namespace, "eth0", &(0..FLOWS).map(frame).collect::<Vec<_>>())?;
    let begun = self::used(host)? - used;
    let each = (before - available()?) / begun as f64;
    figures.push(Figure::new("one more flow", &format!("{begun} begun"), format!("{each:.0} B less are available")));

    let before = available()?;
    let request =
        serde_json::json!({ "port": format!("10000-{}:10000-{}", 9_999 + PORTS, 9_999 + PORTS), "endpoint": "a" });
    http::ask(host.socket(), "POST", "/ports", &request.to_string())?;
    let each = (before - available()?) / f64::from(PORTS);
    figures.push(Figure::new(
        "one more published port",
        "10,000, TCP, held",
        format!("{each:.0} B less are available"),
    ));
    Ok(Memory { flow, figures })
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// Flows there are.
fn used(host: &Host) -> Result<u64> {
    host.json(["status"])?["flows"]["used"].as_u64().context("`status --json` has flows.used")
}

/// Bytes of one place of a map.
fn place(pins: &Path, name: &str) -> Result<f64> {
    let (memory, places) = size(&pins.join(name))?;
    Ok(memory / places)
}

/// Bytes of every pinned map.
fn every_map(pins: &Path) -> Result<f64> {
    let mut sum = 0.0;
    for entry in std::fs::read_dir(pins)? {
        let path = entry?.path();
        if !path.is_dir() {
            sum += size(&path)?.0;
        }
    }
    Ok(sum)
}

/// Bytes and places of a map, as the kernel tells them of one that is open.
fn size(pin: &Path) -> Result<(f64, f64)> {
    let data = MapData::from_pin(pin).with_context(|| pin.display().to_string())?;
    let descriptor = std::os::fd::AsFd::as_fd(data.fd()).as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
    let number = |name: &str| field(&text, name).with_context(|| format!("a map's fdinfo has {name}"));
    Ok((number("memlock:")?, number("max_entries:")?))
}

/// Bytes that programs could have, as the kernel reckons.
fn available() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    Ok(field(&text, "MemAvailable:").context("/proc/meminfo has MemAvailable")? * 1024.0)
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}
