//! What an answer of `GET /networks/{id}` means.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::{EndpointResource, NetworkInspect};
use ipnet::IpNet;

use super::subnets::subnets;
use crate::model::{DockerNetwork, GatewayMode, Mac};

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const MODE_IPV4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE_IPV6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const MTU: &str = "com.docker.network.driver.mtu";

/// Options of Docker 27 and later that the datapath has nothing for, and what it does instead.
const NOT_FOLLOWED: [(&str, &str); 4] = [
    ("com.docker.network.host_ipv4", "what leaves is masqueraded as the uplink's own address"),
    ("com.docker.network.host_ipv6", "what leaves is masqueraded as the uplink's own address"),
    ("com.docker.network.bridge.trusted_host_interfaces", "other hosts reach containers by published ports only"),
    ("com.docker.network.bridge.inhibit_ipv4", "the host is the gateway all the same"),
];

/// MTU of networks without the option for it, and of those where it is 0.
const DEFAULT_MTU: u32 = 1_500;

/// A network and who is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The network.
    pub network: DockerNetwork,
    /// Endpoints on it, in the order of their ids.
    pub attached: Vec<Attached>,
}

/// An endpoint as the network knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its id.
    pub endpoint: String,
    /// Id of the container.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// MAC address of the interface.
    pub mac: Mac,
    /// IPv4 or IPv6 addresses.
    pub addresses: Vec<IpAddr>,
}

/// What this network is to us, and what of it could not be understood; none: it is not of the bridge driver.
pub fn members(from: &NetworkInspect) -> Option<(Members, Vec<String>)> {
    let local = from.scope.as_deref().is_none_or(|scope| scope == "local");
    let bridge = from.driver.as_deref() == Some("bridge") && local && !from.config_only.unwrap_or(false);
    let id = from.id.clone().filter(|id| bridge && !id.is_empty())?;
    let mut causes = Vec::new();
    let network = network(id, from, &mut causes);
    let mut attached: Vec<_> = from
        .containers
        .iter()
        .flatten()
        .filter_map(|(container, endpoint)| attached(container, endpoint, &mut causes))
        .collect();
    attached.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
    causes.sort();
    Some((Members { network, attached }, causes))
}

fn network(id: String, from: &NetworkInspect, causes: &mut Vec<String>) -> DockerNetwork {
    let no_options = HashMap::new();
    let options = from.options.as_ref().unwrap_or(&no_options);
    let default_bridge = boolean(options, DEFAULT_BRIDGE, false, causes);
    let (mode, isolated_ipv4) = mode(options, MODE_IPV4, causes);
    let (mode_ipv6, isolated_ipv6) = self::mode(options, MODE_IPV6, causes);
    let set = |name| options.get(name).filter(|value| !value.is_empty() && *value != "false");
    for (name, value, instead) in NOT_FOLLOWED.iter().filter_map(|(name, instead)| Some((name, set(*name)?, instead))) {
        causes.push(format!("{name} is {value:?}, which is not followed: {instead}"));
    }
    let subnets = subnets(from, causes);
    let isolated = |subnet: &IpNet| if subnet.network().is_ipv4() { isolated_ipv4 } else { isolated_ipv6 };
    DockerNetwork {
        name: from.name.clone().unwrap_or_default(),
        bridge: bridge_name(&id, options, default_bridge),
        gateways: subnets.iter().filter(|(subnet, _)| !isolated(subnet)).map(|(_, gateway)| *gateway).collect(),
        subnets: subnets.iter().map(|(subnet, _)| *subnet).collect(),
        mtu: mtu(options, causes),
        icc: boolean(options, ICC, true, causes),
        internal: from.internal.unwrap_or(false) || isolated_ipv4 || isolated_ipv6,
        // `"iptables": false` makes dockerd say "false" for the default bridge, whatever the user wants
        // (moby, cmd/dockerd/daemon.go: `conf.BridgeConfig.EnableIPMasq = false`).
        masquerade: default_bridge || boolean(options, MASQUERADE, true, causes),
        gateway_mode: mode,
        gateway_mode_ipv6: mode_ipv6,
        id,
    }
}

fn bridge_name(id: &str, options: &HashMap<String, String>, default_bridge: bool) -> String {
    match options.get(BRIDGE_NAME).filter(|name| !name.is_empty()) {
        Some(name) => name.clone(),
        None if default_bridge => "docker0".to_owned(),
        None => format!("br-{}", id.get(..12).unwrap_or(id)),
    }
}

/// A gateway mode, and whether it is `isolated`: an internal network without an address of the host.
fn mode(options: &HashMap<String, String>, name: &str, causes: &mut Vec<String>) -> (GatewayMode, bool) {
    match options.get(name).map_or("", String::as_str) {
        "" | "nat" => (GatewayMode::Nat, false),
        "routed" => (GatewayMode::Routed, false),
        "nat-unprotected" => (GatewayMode::NatUnprotected, false),
        "isolated" => (GatewayMode::Nat, true),
        other => {
            causes.push(format!("{name} is {other:?}, which is not known: taken as nat"));
            (GatewayMode::Nat, false)
        }
    }
}

fn mtu(options: &HashMap<String, String>, causes: &mut Vec<String>) -> u32 {
    let Some(text) = options.get(MTU).filter(|text| !text.is_empty()) else { return DEFAULT_MTU };
    match text.parse::<u32>() {
        Ok(0) => DEFAULT_MTU,
        Ok(mtu) => mtu,
        Err(_) => {
            causes.push(format!("{MTU} is {text:?}, which is no number: taken as {DEFAULT_MTU}"));
            DEFAULT_MTU
        }
    }
}

/// An option, in all forms of Go's `strconv.ParseBool`, which dockerd reads them with.
fn boolean(options: &HashMap<String, String>, name: &str, default: bool, causes: &mut Vec<String>) -> bool {
    match options.get(name).map_or("", String::as_str) {
        "" => default,
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        other => {
            causes.push(format!("{name} is {other:?}, which is neither true nor false: taken as {default}"));
            default
        }
    }
}

fn attached(container: &str, from: &EndpointResource, causes: &mut Vec<String>) -> Option<Attached> {
    // An endpoint that no container has joined (moby, daemon/network.go: `buildContainerAttachments`).
    if container.starts_with("ep-") {
        return None;
    }
    let name = from.name.clone().unwrap_or_default();
    let endpoint = from.endpoint_id.clone().filter(|id| !id.is_empty())?;
    let mac = from.mac_address.as_deref().unwrap_or_default();
    let Ok(mac) = mac.parse::<Mac>() else {
        causes.push(format!("container {name:?} is left out: its MAC address is {mac:?}"));
        return None;
    };
    let mut addresses = Vec::new();
    for text in [&from.ipv4_address, &from.ipv6_address].into_iter().flatten().filter(|text| !text.is_empty()) {
        match text.split_once('/').map_or(text.as_str(), |(address, _)| address).parse() {
            Ok(address) => addresses.push(address),
            Err(_) => causes.push(format!("container {name:?} is without an address: dockerd says {text:?}")),
        }
    }
    Some(Attached { endpoint, container: container.to_owned(), name, mac, addresses })
}

#[cfg(test)]
#[path = "tests/network.rs"]
mod tests;
