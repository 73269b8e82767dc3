//! Events as they are shown: dropped packets and changes of the state.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use datapath_common::abi::{self, DropReason, Program};
use serde::{Deserialize, Serialize};

use super::flow::protocol_name;
use crate::engine::Snapshot;
use crate::kernel::flows;

/// Names for the numbers in the maps, of one moment.
pub struct Names<'a>(pub &'a Snapshot);

impl Names<'_> {
    /// The endpoint's name, if that owner of the index is still there.
    #[must_use]
    pub fn endpoint(&self, index: u32, generation: u32) -> Option<String> {
        let endpoint = self.0.model.endpoints.get(&index)?;
        (endpoint.generation == generation).then(|| endpoint.name.clone())
    }

    /// The network's name, or its number if it is gone.
    #[must_use]
    pub fn network(&self, id: u32) -> String {
        self.0.model.network_of_id(id).map_or_else(|| id.to_string(), |network| network.name.clone())
    }

    /// The endpoint and network of a host-side veth, or the network of a gateway device.
    fn device(&self, ifindex: u32) -> (Option<String>, Option<String>) {
        let devices = &self.0.devices;
        let port = devices.ports.iter().find(|(_, port)| port.ifindex == ifindex).map(|(generation, _)| *generation);
        if let Some(endpoint) = self.0.model.endpoints.values().find(|e| Some(e.generation) == port) {
            return (Some(endpoint.name.clone()), Some(endpoint.network.clone()));
        }
        let gateway = devices.gateways.iter().find(|(_, g)| g.ifindex == ifindex || g.far_ifindex == Some(ifindex));
        (None, gateway.map(|(id, _)| self.network(*id)))
    }

    fn owner(&self, address: IpAddr, network: Option<&str>) -> Option<String> {
        let mut owners = self.0.model.endpoints.values().filter(|e| e.addresses().any(|own| own == address));
        owners.find(|e| network.is_none_or(|network| e.network == network)).map(|e| e.name.clone())
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A packet was dropped. Sampled.
    Drop,
    /// A network was created.
    NetworkCreated,
    /// A network was removed.
    NetworkRemoved,
    /// An endpoint was attached.
    Attached,
    /// An endpoint was detached, or has vanished.
    Detached,
    /// A port was published.
    Published,
    /// A port was unpublished.
    Unpublished,
    /// The reader was too slow: events are missing.
    Lost,
}

/// One event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When, RFC 3339.
    pub time: String,
    /// In a sentence.
    pub message: String,
    /// The network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Of a drop: the packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<DroppedPacket>,
    /// How many events are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

/// A dropped packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DroppedPacket {
    /// Why.
    pub reason: String,
    /// What that means.
    pub meaning: String,
    /// What to do about it.
    pub remedy: String,
    /// The program that dropped it.
    pub program: String,
    /// ifindex of the device.
    pub ifindex: u32,
    /// Source address, as far as it was parsed.
    pub source: Option<IpAddr>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol.
    pub protocol: String,
    /// Ethertype, as 0x0800.
    pub ethertype: String,
    /// Bytes.
    pub length: u32,
    /// The endpoint that has the destination address.
    pub destination_endpoint: Option<String>,
}

impl Event {
    /// A change of the state, now.
    #[must_use]
    pub fn change(kind: EventKind, message: String, network: Option<String>, endpoint: Option<String>) -> Self {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Self { kind, time, message, network, endpoint, packet: None, lost: None }
    }

    /// So many events are missing here.
    #[must_use]
    pub fn lost(count: u64) -> Self {
        let message = format!("{count} events were lost: this reader is too slow");
        Self { lost: Some(count), ..Self::change(EventKind::Lost, message, None, None) }
    }

    /// A dropped packet.
    #[must_use]
    pub fn of_drop(event: &abi::Event, names: &Names<'_>) -> Self {
        let ago = Duration::from_nanos(flows::now().saturating_sub(event.time));
        let time = SystemTime::now().checked_sub(ago).unwrap_or_else(SystemTime::now);
        let (endpoint, network) = names.device(event.ifindex);
        let packet = packet(event, names, network.as_deref());
        let endpoint = endpoint.or_else(|| packet.destination_endpoint.clone());
        let ends = match (packet.source, packet.destination) {
            (Some(source), Some(destination)) => format!("{source} → {destination}"),
            _ => format!("ethertype {}", packet.ethertype),
        };
        let message = format!("{} dropped {ends}: {}", packet.program, packet.reason);
        let time = humantime::format_rfc3339_millis(time).to_string();
        Self { kind: EventKind::Drop, time, message, network, endpoint, packet: Some(packet), lost: None }
    }

    /// Whether the endpoint of this name has to do with it.
    #[must_use]
    pub fn is_of(&self, endpoint: &str) -> bool {
        let destination = self.packet.as_ref().and_then(|packet| packet.destination_endpoint.as_deref());
        self.endpoint.as_deref() == Some(endpoint) || destination == Some(endpoint)
    }
}

fn packet(event: &abi::Event, names: &Names<'_>, network: Option<&str>) -> DroppedPacket {
    let reason = DropReason::from_number(event.reason);
    let program = Program::ALL.into_iter().find(|(program, _)| *program as u32 == event.program);
    let address = |address: abi::Address| (!address.is_none()).then(|| IpAddr::from(address));
    let destination = address(event.key.destination);
    DroppedPacket {
        reason: reason.map_or_else(|| event.reason.to_string(), |reason| reason.name().to_owned()),
        meaning: reason.map_or("", DropReason::meaning).to_owned(),
        remedy: reason.map_or("", DropReason::remedy).to_owned(),
        program: program.map_or_else(|| event.program.to_string(), |(_, name)| name.to_owned()),
        ifindex: event.ifindex,
        source: address(event.key.source),
        destination,
        source_port: u16::from_be(event.key.source_port),
        destination_port: u16::from_be(event.key.destination_port),
        protocol: protocol_name(event.key.protocol),
        ethertype: format!("{:#06x}", event.ethertype),
        length: event.length,
        destination_endpoint: destination.and_then(|ip| names.owner(ip, network).or_else(|| names.owner(ip, None))),
    }
}
