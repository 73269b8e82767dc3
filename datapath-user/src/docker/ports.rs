//! Published ports: what dockerd says of them, and by which network they lead.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bollard::models::{PortBinding, PortSummary};

use crate::model::{DockerPort, GatewayMode, PortRange, Protocol};

/// All addresses of one IP version, as dockerd writes them.
const ALL_IPV4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ALL_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// One published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The protocol.
    pub protocol: Protocol,
    /// The host address; none: all.
    pub host_ip: Option<IpAddr>,
    /// The container's port.
    pub target: u16,
    /// The host port; none where the network's gateway mode is routed.
    pub host: Option<u16>,
}

/// The network that published ports of one IP version lead through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way<'a> {
    /// Id of the network.
    pub network: &'a str,
    /// How containers on it are reached.
    pub mode: GatewayMode,
}

/// What `NetworkSettings.Ports` of an inspected container says. `null` means exposed, not published.
pub fn inspected(ports: &HashMap<String, Option<Vec<PortBinding>>>, causes: &mut Vec<String>) -> BTreeSet<Binding> {
    let mut found = BTreeSet::new();
    for (target, bindings) in ports {
        for binding in bindings.iter().flatten() {
            match read(target, binding) {
                Ok(binding) => drop(found.insert(binding)),
                Err(cause) => causes.push(cause),
            }
        }
    }
    found
}

/// What the list of containers says.
pub fn listed(ports: &[PortSummary], causes: &mut Vec<String>) -> BTreeSet<Binding> {
    let mut found = BTreeSet::new();
    for port in ports {
        let (Some(host), Some(protocol)) = (port.public_port, port.typ) else { continue };
        let target = format!("{}/{protocol}", port.private_port);
        match read(&target, &PortBinding { host_ip: port.ip.clone(), host_port: Some(host.to_string()) }) {
            Ok(binding) => drop(found.insert(binding)),
            Err(cause) => causes.push(cause),
        }
    }
    found
}

fn read(target: &str, binding: &PortBinding) -> Result<Binding, String> {
    let refuse = |what: &str, value: &str| format!("a published port is left out: {what} {value:?} means nothing");
    let (port, protocol) = target.split_once('/').unwrap_or((target, "tcp"));
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.to_string() == protocol);
    let protocol = protocol.ok_or_else(|| refuse("the port", target))?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(|| refuse("the port", target))?;
    let host = match binding.host_port.as_deref().unwrap_or_default() {
        "" | "0" => None,
        text => Some(text.parse::<u16>().map_err(|_| refuse("the host port", text))?),
    };
    let host_ip = match binding.host_ip.as_deref().unwrap_or_default() {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| refuse("the host address", text))?.to_canonical()),
    };
    Ok(Binding { protocol, host_ip, target: port, host })
}

/// The ports of a container, those in a row together. What binds IPv4 addresses leads by the first way, IPv6 by the second.
pub fn published(container: &str, bindings: &BTreeSet<Binding>, ipv4: Way<'_>, ipv6: Way<'_>) -> Vec<DockerPort> {
    let mut single = BTreeSet::new();
    for binding in bindings {
        let all = [ALL_IPV4, ALL_IPV6];
        for host_ip in binding.host_ip.as_ref().map_or(all.as_slice(), std::slice::from_ref) {
            let way = if host_ip.is_ipv4() { ipv4 } else { ipv6 };
            // A routed network's ports are opened at the container's own address: what the host would listen on is
            // ignored (docs.docker.com/engine/network/port-publishing, gateway modes).
            let (host_ip, host) = if way.mode == GatewayMode::Routed {
                (if host_ip.is_ipv4() { ALL_IPV4 } else { ALL_IPV6 }, Some(binding.target))
            } else {
                (*host_ip, binding.host)
            };
            if let Some(host) = host {
                single.insert((way.network, binding.protocol, Some(host_ip), host, binding.target));
            }
        }
    }
    in_rows(container, one_for_both_versions(single))
}

/// A port of the container: network, protocol, host address, host port, port.
type Single<'a> = (&'a str, Protocol, Option<IpAddr>, u16, u16);

/// What is published on all IPv4 and on all IPv6 addresses alike is one port.
fn one_for_both_versions(single: BTreeSet<Single<'_>>) -> BTreeSet<Single<'_>> {
    let at = |(network, protocol, _, host, target): &Single<'_>, host_ip| {
        single.contains(&(*network, *protocol, Some(host_ip), *host, *target))
    };
    single
        .iter()
        .map(|port| {
            let all = port.2 == Some(ALL_IPV4) || port.2 == Some(ALL_IPV6);
            let both = all && at(port, ALL_IPV4) && at(port, ALL_IPV6);
            if both { (port.0, port.1, None, port.3, port.4) } else { *port }
        })
        .collect()
}

fn in_rows(container: &str, single: BTreeSet<Single<'_>>) -> Vec<DockerPort> {
    let mut rows: Vec<DockerPort> = Vec::new();
    for (network, protocol, host_ip, host, target) in single {
        if let Some(row) = rows.last_mut()
            && (row.network.as_str(), row.protocol, row.host_ip) == (network, protocol, host_ip)
            && row.host.last.checked_add(1) == Some(host)
            && row.target.last.checked_add(1) == Some(target)
        {
            (row.host.last, row.target.last) = (host, target);
            continue;
        }
        rows.push(DockerPort {
            container: container.to_owned(),
            network: network.to_owned(),
            host_ip,
            host: PortRange::one(host),
            target: PortRange::one(target),
            protocol,
        });
    }
    rows
}

#[cfg(test)]
#[path = "tests/ports.rs"]
mod tests;
