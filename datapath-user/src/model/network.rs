//! Networks: validation, creation and removal.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::counters::next_in_round;
use super::subnets::{choose_gateways, is_v4};
use super::{DockerBridge, Host, Mac, Model, Refusal, check_name};

/// Ids of networks are below this: entries of the `NETWORKS` map, and half of a `NETWORK_MEMBERS` key.
const NETWORK_LIMIT: u32 = 4_096;

/// MTU of networks created without `--mtu`: Ethernet's.
const DEFAULT_MTU: u32 = 1_500;

/// Seconds after which a learnt MAC address is forgotten without `--ageing` (IEEE 802.1Q table 8-6).
const DEFAULT_AGEING: u16 = 300;

/// Whether what a network's published ports reach is translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Published ports are reached at addresses of the host.
    #[default]
    Nat,
    /// Published ports are reached at the containers' own addresses, untranslated.
    Routed,
    /// As `Nat`, and every port of a container is reached at its own address, published or not.
    NatUnprotected,
}

impl fmt::Display for GatewayMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat => "nat",
            Self::Routed => "routed",
            Self::NatUnprotected => "nat-unprotected",
        })
    }
}

/// One network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its number in the maps, 1 and up.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// At most one subnet of each IP version.
    pub subnets: Vec<IpNet>,
    /// The host's address on each subnet, in the same order.
    pub gateways: Vec<IpAddr>,
    /// How endpoints are reached by IPv4.
    pub gateway_mode: GatewayMode,
    /// How endpoints are reached by IPv6.
    #[serde(default)]
    pub gateway_mode_ipv6: GatewayMode,
    /// Nothing in or out.
    pub internal: bool,
    /// Endpoints may talk to each other.
    pub icc: bool,
    /// What leaves by an uplink takes an address of the uplink.
    pub masquerade: bool,
    /// TCP connections that cross an uplink ask for segments that fit the path.
    #[serde(default)]
    pub mss_clamp: bool,
    /// Of a network that learns MAC addresses: seconds after which one is forgotten that was not heard.
    #[serde(default)]
    pub ageing: Option<u16>,
    /// Largest IP packet.
    pub mtu: u32,
    /// Its devices take TCP packets above 64 KiB, which are cut into segments where they leave it.
    #[serde(default)]
    pub big_tcp: bool,
    /// MAC address of the gateway device.
    pub mac: Mac,
    /// MAC address of the far end of the gateway device's pair.
    pub far_mac: Mac,
    /// Last address given out, for each subnet.
    pub last_given: Vec<Option<IpAddr>>,
    /// Where the network is dockerd's: its bridge is the gateway device, and dockerd gives out the addresses.
    #[serde(default)]
    pub docker: Option<DockerBridge>,
}

impl Network {
    /// Name of the gateway device on the host.
    #[must_use]
    pub fn device(&self) -> String {
        match &self.docker {
            Some(docker) => docker.bridge.clone(),
            None => format!("{}g{}", crate::DEVICE_PREFIX, self.id),
        }
    }

    /// Name of the far end of the gateway device's pair. A bridge has none.
    #[must_use]
    pub fn far_device(&self) -> String {
        format!("{}x{}", crate::DEVICE_PREFIX, self.id)
    }

    /// Whether it has an IPv6 subnet.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.subnets.iter().any(|subnet| matches!(subnet, IpNet::V6(_)))
    }

    /// Whether it has an IPv4 subnet.
    #[must_use]
    pub fn has_ipv4(&self) -> bool {
        self.subnets.iter().any(|subnet| matches!(subnet, IpNet::V4(_)))
    }

    /// Gateway addresses with the prefix of their subnets.
    pub fn gateway_prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.subnets
            .iter()
            .zip(&self.gateways)
            .filter_map(|(subnet, gateway)| IpNet::new(*gateway, subnet.prefix_len()).ok())
    }
}

/// What `network create` asks for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// Subnets; none: one is chosen.
    #[serde(default)]
    pub subnets: Vec<IpNet>,
    /// Whether to add a random IPv6 subnet.
    #[serde(default)]
    pub ipv6: bool,
    /// The host's addresses; none: the first of each subnet.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Translated or routed.
    #[serde(default)]
    pub gateway_mode: GatewayMode,
    /// Nothing in or out.
    #[serde(default)]
    pub internal: bool,
    /// Endpoints may not talk to each other.
    #[serde(default)]
    pub no_icc: bool,
    /// Addresses are not translated on the way out.
    #[serde(default)]
    pub no_masquerade: bool,
    /// TCP connections that cross an uplink ask for segments that fit the path.
    #[serde(default)]
    pub mss_clamp: bool,
    /// Learn source MAC addresses.
    #[serde(default)]
    pub learning: bool,
    /// Seconds after which a learnt MAC address is forgotten.
    #[serde(default)]
    pub ageing: Option<u32>,
    /// Largest IP packet.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// TCP packets above 64 KiB between endpoints.
    #[serde(default)]
    pub big_tcp: bool,
}

impl Model {
    /// Adds a network. `ula` is the subnet that `ipv6` adds.
    ///
    /// # Errors
    /// When anything of the request is wrong or in the way of what exists.
    pub fn create_network(&mut self, request: &NetworkRequest, ula: IpNet, host: &Host) -> Result<Network, Refusal> {
        check_name("network", &request.name)?;
        if self.networks.contains_key(&request.name) {
            return Err(Refusal::conflict(
                format!("network {} exists already", request.name),
                "choose another name, or remove it with `datapath network rm`",
            ));
        }
        let subnets = self.choose_subnets(request, ula, host)?;
        let gateways = choose_gateways(&subnets, &request.gateways)?;
        let ageing = check_ageing(request)?;
        let mtu = check_mtu(request.mtu.unwrap_or(DEFAULT_MTU), &subnets)?;
        let id = self.next_network_id()?;
        let network = Network {
            id,
            name: request.name.clone(),
            last_given: vec![None; subnets.len()],
            subnets,
            gateways,
            gateway_mode: request.gateway_mode,
            gateway_mode_ipv6: request.gateway_mode,
            internal: request.internal,
            icc: !request.no_icc,
            masquerade: !request.no_masquerade && request.gateway_mode != GatewayMode::Routed,
            mss_clamp: request.mss_clamp,
            ageing,
            mtu,
            big_tcp: request.big_tcp,
            mac: self.counters.next_mac()?,
            far_mac: self.counters.next_mac()?,
            docker: None,
        };
        self.networks.insert(network.name.clone(), network.clone());
        Ok(network)
    }

    /// Removes a network.
    ///
    /// # Errors
    /// When there is none of this name, or something is attached or published to it.
    pub fn remove_network(&mut self, name: &str) -> Result<Network, Refusal> {
        let network = self.own_network(name)?.clone();
        let attached: Vec<_> = self.endpoints_on(name).map(|endpoint| endpoint.name.as_str()).collect();
        if !attached.is_empty() {
            return Err(Refusal::conflict(
                format!("network {name} has {} attached: {}", count(attached.len(), "endpoint"), some_of(&attached)),
                format!("detach first, as in `datapath detach {} --network {name}`", attached[0]),
            ));
        }
        if let Some(publication) = self.publications.values().find(|p| p.network.as_deref() == Some(name)) {
            return Err(Refusal::conflict(
                format!("port {} is published to {} on network {name}", publication.describe(), publication.endpoint),
                format!("unpublish it first: `datapath unpublish {}`", publication.describe()),
            ));
        }
        self.networks.remove(name);
        Ok(network)
    }

    /// The network of this name, which must not be dockerd's.
    pub(super) fn own_network(&self, name: &str) -> Result<&Network, Refusal> {
        match self.network(name)? {
            network if network.docker.is_none() => Ok(network),
            _ => Err(Refusal::conflict(
                format!("network {name} is Docker's"),
                "use `docker network` and `docker run --network` for it",
            )),
        }
    }

    /// A number for a new network.
    pub(super) fn next_network_id(&mut self) -> Result<u32, Refusal> {
        let id = next_in_round(self.counters.network, NETWORK_LIMIT, |id| self.network_of_id(id).is_some());
        self.counters.network = id.ok_or_else(|| {
            Refusal::conflict(
                format!("there are {} networks, the most there can be", NETWORK_LIMIT - 1),
                "remove one first",
            )
        })?;
        Ok(self.counters.network)
    }
}

/// Seconds until a learnt MAC address is forgotten; none: none is learnt.
fn check_ageing(request: &NetworkRequest) -> Result<Option<u16>, Refusal> {
    match (request.learning, request.ageing) {
        (false, None) => Ok(None),
        (false, Some(_)) => Err(Refusal::invalid(
            "--ageing is about learnt MAC addresses, and this network would learn none",
            "add --learning, or leave out --ageing",
        )),
        (true, asked) => match u16::try_from(asked.unwrap_or(DEFAULT_AGEING.into())) {
            Ok(seconds @ 1..) => Ok(Some(seconds)),
            _ => Err(Refusal::invalid(
                format!("{} seconds of --ageing are not between 1 and {}", asked.unwrap_or_default(), u16::MAX),
                "choose a time in this range, or leave out --ageing",
            )),
        },
    }
}

fn check_mtu(mtu: u32, subnets: &[IpNet]) -> Result<u32, Refusal> {
    // RFC 791 section 3.2 and RFC 8200 section 5: what every IPv4 and IPv6 link must carry.
    let least = if subnets.iter().all(is_v4) { 68 } else { 1_280 };
    if !(least..=65_535).contains(&mtu) {
        let version = if least == 68 { "IPv4" } else { "IPv6" };
        return Err(Refusal::invalid(
            format!("MTU {mtu} is not between {least} and 65535, as a network with {version} needs"),
            "choose one in this range, or leave out --mtu",
        ));
    }
    Ok(mtu)
}

/// `1 endpoint`, `2 endpoints`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn some_of(names: &[&str]) -> String {
    let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}
