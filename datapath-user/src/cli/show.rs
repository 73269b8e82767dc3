//! Views as text for people.

use std::fmt::{Display, Write};

use anyhow::Result;
use serde::Serialize;

use crate::doctor::{Finding, Level};
use crate::view::{
    Docker, Endpoint, Event, FdbEntry, FdbKind, Fill, Flow, Guard, GuardLimits, Network, Port, PortState, Status,
};

/// Columns as wide as their widest cell.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>) -> Result<String> {
    let header: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    let all = || std::iter::once(&header).chain(&rows);
    let widths: Vec<usize> =
        (0..header.len()).map(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in all() {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(text, "{}", cells.join("  ").trim_end())?;
    }
    Ok(text)
}

fn list<T: Display>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(",") }
}

fn or_dash<T: Display>(item: Option<T>) -> String {
    item.map_or_else(|| "-".to_owned(), |item| item.to_string())
}

/// `inspect`: everything, as JSON.
pub fn inspect<T: Serialize>(value: &T) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// `network create`
pub fn created(network: &Network) -> Result<String> {
    let (subnets, gateways) = (list(&network.subnets), list(&network.gateways));
    let mut text = format!("network {} created: {subnets}, gateway {gateways}\n", network.name);
    if network.big_tcp.is_some_and(|size| size.ipv4 < size.ipv6) {
        text += "BIG TCP is for IPv6 only: this kernel has it for IPv4 from Linux 6.3 on\n";
    }
    Ok(text)
}

/// `network ls`
pub fn networks(networks: &[Network]) -> Result<String> {
    let rows = networks.iter().map(|network| {
        let mut options = Vec::new();
        options.extend(network.docker.as_ref().map(|_| "docker"));
        options.extend(network.internal.then_some("internal"));
        options.extend((!network.icc).then_some("no-icc"));
        options.extend((!network.masquerade).then_some("no-masquerade"));
        options.extend(network.mss_clamp.then_some("mss-clamp"));
        options.extend(network.learning.then_some("learning"));
        options.extend(network.big_tcp.map(|_| "big-tcp"));
        let modes = if network.gateway_mode == network.gateway_mode_ipv6 {
            network.gateway_mode.to_string()
        } else {
            format!("{},{}", network.gateway_mode, network.gateway_mode_ipv6)
        };
        vec![
            network.name.clone(),
            list(&network.subnets),
            list(&network.gateways),
            modes,
            network.mtu.to_string(),
            network.endpoints.len().to_string(),
            list(&options),
        ]
    });
    table(&["NAME", "SUBNETS", "GATEWAYS", "MODE", "MTU", "ENDPOINTS", "OPTIONS"], rows.collect())
}

/// `attach`
pub fn attached(endpoint: &Endpoint) -> Result<String> {
    let addresses: Vec<_> = endpoint.ipv4.into_iter().chain(endpoint.ipv6).collect();
    let Endpoint { name, network, ifname, mac, .. } = endpoint;
    Ok(format!("endpoint {name} attached to {network}: {ifname} {} {mac}\n", list(&addresses)))
}

/// `detach`
pub fn detached(endpoints: &[Endpoint]) -> Result<String> {
    Ok(endpoints
        .iter()
        .map(|endpoint| format!("endpoint {} detached from {}\n", endpoint.name, endpoint.network))
        .collect())
}

/// `endpoint ls`
pub fn endpoints(endpoints: &[Endpoint]) -> Result<String> {
    let rows = endpoints.iter().map(|endpoint| {
        vec![
            endpoint.name.clone(),
            endpoint.network.clone(),
            or_dash(endpoint.ipv4),
            or_dash(endpoint.ipv6),
            endpoint.mac.to_string(),
            endpoint.ifname.clone(),
            endpoint.netns.clone(),
            list(&endpoint.ports),
        ]
    });
    table(&["NAME", "NETWORK", "IPV4", "IPV6", "MAC", "INTERFACE", "NETNS", "PORTS"], rows.collect())
}

/// `8080`, `8000-8010`
fn ports_of(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// `publish`
pub fn published(port: &Port) -> Result<String> {
    let inside = ports_of(port.container_port, port.container_port_end);
    Ok(format!("port {} published to {}:{inside}\n", port.published, port.endpoint))
}

/// `unpublish`
pub fn unpublished(port: &Port) -> Result<String> {
    Ok(format!("port {} unpublished\n", port.published))
}

/// `port ls`
pub fn ports(ports: &[Port]) -> Result<String> {
    let rows = ports.iter().map(|port| {
        vec![
            port.published.clone(),
            port.endpoint.clone(),
            ports_of(port.container_port, port.container_port_end),
            port.network.clone().unwrap_or_else(|| "-".to_owned()),
            if port.state == PortState::Active { "active" } else { "waiting" }.to_owned(),
            port.hits.to_string(),
        ]
    });
    table(&["PUBLISHED", "ENDPOINT", "PORT", "NETWORK", "STATE", "HITS"], rows.collect())
}

/// `address:port`, with brackets where they are needed.
fn at(address: std::net::IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// `fdb ls`
pub fn fdb(entries: &[FdbEntry]) -> Result<String> {
    let rows = entries.iter().map(|entry| {
        vec![
            entry.network.clone(),
            entry.mac.to_string(),
            entry.endpoint.clone().unwrap_or_else(|| "(gateway)".to_owned()),
            if entry.kind == FdbKind::Static { "static" } else { "learnt" }.to_owned(),
            entry.age.map_or_else(|| "-".to_owned(), |age| format!("{age}s")),
        ]
    });
    table(&["NETWORK", "MAC", "ENDPOINT", "KIND", "AGE"], rows.collect())
}

/// `flow ls`
pub fn flows(flows: &[Flow]) -> Result<String> {
    let rows = flows.iter().map(|flow| {
        vec![
            flow.protocol.clone(),
            flow.from.clone(),
            at(flow.source, flow.source_port),
            at(flow.destination, flow.destination_port),
            format!(
                "{} → {}",
                at(flow.translated_source, flow.translated_source_port),
                at(flow.translated_destination, flow.translated_destination_port)
            ),
            flow.state.clone(),
            format!("{}s", flow.age),
            format!("{}/{}", flow.packets_out, flow.packets_in),
            format!("{}/{}", flow.bytes_out, flow.bytes_in),
        ]
    });
    let header = ["PROTOCOL", "FROM", "SOURCE", "DESTINATION", "TRANSLATED", "STATE", "AGE", "PACKETS", "BYTES"];
    table(&header, rows.collect())
}

/// `status`
pub fn status(status: &Status) -> Result<String> {
    let mut text = String::new();
    let Status { version, pid, started, kernel, attach, networks, endpoints, ports, .. } = status;
    writeln!(text, "datapath {version} (process {pid}) since {started}")?;
    let features = [("btf", status.features.btf), ("jit", status.features.jit), ("tcx", status.features.tcx)];
    let features: Vec<_> = features.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    writeln!(text, "kernel {kernel}, attached by {attach} (has {})", list(&features))?;
    let uplinks = status.uplinks.iter().map(|uplink| {
        let addresses: Vec<_> = uplink.ipv4.into_iter().chain(uplink.ipv6).collect();
        format!("{} ({})", uplink.name, list(&addresses))
    });
    writeln!(text, "uplinks: {}", list(&uplinks.collect::<Vec<_>>()))?;
    guard(&status.guard, &mut text)?;
    if let Some(docker) = &status.docker {
        writeln!(text, "{}", docker_line(docker))?;
        docker.problems.iter().try_for_each(|problem| writeln!(text, "  not followed: {problem}"))?;
    }
    writeln!(text, "{networks} networks, {endpoints} endpoints, {ports} published ports")?;
    let fill = |name: &str, fill: &Fill| vec![name.to_owned(), fill.used.to_string(), fill.capacity.to_string()];
    let rows = std::iter::once(fill("flows", &status.flows));
    let rows = rows.chain(status.tables.iter().map(|(name, table)| fill(name, table)));
    writeln!(text, "\n{}", table(&["TABLE", "USED", "CAPACITY"], rows.collect())?.trim_end())?;
    let counted = |counts: &std::collections::BTreeMap<String, u64>| -> Vec<Vec<String>> {
        counts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(name, count)| vec![name.clone(), count.to_string()])
            .collect()
    };
    let drops = counted(&status.drops);
    if drops.is_empty() {
        writeln!(text, "\nno packets dropped")?;
    } else {
        writeln!(text, "\n{}", table(&["DROPPED", "PACKETS"], drops)?.trim_end())?;
    }
    writeln!(text, "\n{}", table(&["COUNTER", "VALUE"], counted(&status.metrics))?.trim_end())?;
    Ok(text)
}

/// The guard of uplinks, where there is one.
fn guard(guard: &Guard, text: &mut String) -> Result<()> {
    let GuardLimits { packets, syn, port_syn } = guard.limits;
    let limits = [("packets", packets), ("syn", syn), ("port-syn", port_syn)];
    let mut rules: Vec<_> = (guard.denied > 0).then(|| format!("{} denied", guard.denied)).into_iter().collect();
    rules.extend(limits.iter().filter_map(|(name, limit)| limit.map(|limit| format!("{name} {}/s", limit.rate))));
    if !rules.is_empty() {
        writeln!(text, "guard: {}", rules.join(", "))?;
    }
    for uplink in &guard.uplinks {
        match &uplink.reason {
            None => writeln!(text, "  XDP on {}", uplink.name)?,
            Some(reason) => writeln!(text, "  no XDP on {}, from_uplink makes the same checks: {reason}", uplink.name)?,
        }
    }
    if guard.uplinks.iter().any(|uplink| uplink.native) {
        let dropped: Vec<_> = guard.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        writeln!(text, "  XDP passed {}, dropped {}", guard.passed, list(&dropped))?;
    }
    Ok(())
}

fn docker_line(docker: &Docker) -> String {
    let Docker { socket, connection, .. } = docker;
    match (&connection.connected_since, &connection.version, &connection.last_error) {
        (Some(since), version, _) => format!("dockerd {} at {socket} since {since}", or_dash(version.as_ref())),
        (None, _, Some(error)) => format!("dockerd is away: {error}"),
        (None, _, None) => format!("dockerd at {socket} has not been heard yet"),
    }
}

/// `doctor`
pub fn findings(findings: &[Finding]) -> Result<String> {
    let mut text = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
        };
        writeln!(text, "{level:8}{}: {}", finding.check, finding.found)?;
        if !finding.remedy.is_empty() {
            writeln!(text, "        → {}", finding.remedy)?;
        }
    }
    Ok(text)
}

/// `monitor`
pub fn event(event: &Event) -> String {
    let Some(packet) = &event.packet else { return format!("{}  {}\n", event.time, event.message) };
    let address = |address: Option<std::net::IpAddr>, port: u16| match (address, port) {
        (Some(address), 0) => address.to_string(),
        (Some(address), port) => at(address, port),
        (None, _) => "?".to_owned(),
    };
    let source = address(packet.source, packet.source_port);
    let destination = address(packet.destination, packet.destination_port);
    let about = [
        event.endpoint.as_deref().map(|e| format!("endpoint {e}")),
        event.network.as_deref().map(|n| format!("network {n}")),
    ];
    let about: Vec<_> = about.into_iter().flatten().collect();
    format!(
        "{}  {}  {source} → {destination}  {} {} bytes  {} ({})\n    {} {}\n",
        event.time,
        packet.reason,
        if packet.protocol == "0" { &packet.ethertype } else { &packet.protocol },
        packet.length,
        packet.program,
        list(&about),
        packet.meaning,
        packet.remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = vec![vec!["a".to_owned(), "long cell".to_owned()], vec!["wide name".to_owned(), "b".to_owned()]];
        let expected = "NAME       X\na          long cell\nwide name  b\n";
        assert_eq!(table(&["NAME", "X"], rows).expect("a table"), expected);
    }
}
