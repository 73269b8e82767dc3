//! Flows as they are shown.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use datapath_common::abi::{self, FlowKey, flow_flags, scope, tcp};
use serde::{Deserialize, Serialize};

use super::Names;
use crate::kernel::flows;

/// A live flow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Flow {
    /// `tcp`, `udp`, `icmp`, or the number.
    pub protocol: String,
    /// Where it came from: `uplink`, `host`, or a network.
    pub from: String,
    /// The initiator's address as it sends.
    pub source: IpAddr,
    /// Its port; of ICMP the identifier.
    pub source_port: u16,
    /// The address it asked for.
    pub destination: IpAddr,
    /// The port it asked for.
    pub destination_port: u16,
    /// Who answers: the address after translation.
    pub translated_destination: IpAddr,
    /// Its port.
    pub translated_destination_port: u16,
    /// Who the answering side sees: the source after translation.
    pub translated_source: IpAddr,
    /// Its port.
    pub translated_source_port: u16,
    /// The endpoint that began, if it is one.
    pub initiator: Option<String>,
    /// The endpoint that answers, if it is one.
    pub responder: Option<String>,
    /// State: of TCP that of the connection, else whether an answer was seen.
    pub state: String,
    /// `published`, `masqueraded`, both or none.
    pub kind: Vec<String>,
    /// When it began, RFC 3339.
    pub since: String,
    /// Age in seconds.
    pub age: u64,
    /// Seconds until it expires if nothing more is seen.
    pub expires_in: u64,
    /// Packets of the initiator.
    pub packets_out: u64,
    /// Packets of the responder.
    pub packets_in: u64,
    /// Bytes of the initiator.
    pub bytes_out: u64,
    /// Bytes of the responder.
    pub bytes_in: u64,
}

impl Flow {
    /// The view of a flow; `None` if it has expired.
    #[must_use]
    pub fn of(flow: &abi::Flow, names: &Names) -> Option<Self> {
        let now = flows::now();
        let left = flow.deadline.checked_sub(now)?;
        let age = Duration::from_nanos(now).saturating_sub(Duration::from_secs(flow.created.into()));
        let (original, reply) = (&flow.original, &flow.reply);
        Some(Self {
            protocol: protocol_name(original.protocol),
            from: scope_name(original, names),
            source: original.source.into(),
            source_port: u16::from_be(original.source_port),
            destination: original.destination.into(),
            destination_port: u16::from_be(original.destination_port),
            translated_destination: reply.source.into(),
            translated_destination_port: u16::from_be(reply.source_port),
            translated_source: reply.destination.into(),
            translated_source_port: u16::from_be(reply.destination_port),
            initiator: names.endpoint(flow.initiator.endpoint, flow.initiator.generation),
            responder: names.endpoint(flow.responder.endpoint, flow.responder.generation),
            state: state(flow).to_owned(),
            kind: KINDS.iter().filter(|(bit, _)| flow.flags & bit != 0).map(|(_, name)| (*name).to_owned()).collect(),
            since: humantime::format_rfc3339_seconds(SystemTime::now().checked_sub(age)?).to_string(),
            age: age.as_secs(),
            expires_in: Duration::from_nanos(left).as_secs(),
            packets_out: flow.packets[0],
            packets_in: flow.packets[1],
            bytes_out: flow.bytes[0],
            bytes_in: flow.bytes[1],
        })
    }

    /// Whether the endpoint of this name is one of its ends.
    #[must_use]
    pub fn is_of(&self, endpoint: &str) -> bool {
        [&self.initiator, &self.responder].into_iter().any(|end| end.as_deref() == Some(endpoint))
    }
}

fn scope_name(key: &FlowKey, names: &Names) -> String {
    match key.scope {
        scope::UPLINK => "uplink".to_owned(),
        scope::LOOPBACK => "host".to_owned(),
        network => names.network(network.into()),
    }
}

/// What a flow can be besides, by bit.
const KINDS: [(u32, &str); 3] =
    [(flow_flags::PUBLISHED, "published"), (flow_flags::MASQUERADED, "masqueraded"), (flow_flags::HAIRPIN, "hairpin")];

/// The state's name: of TCP as RFC 9293 has them, as far as they can be told from outside.
fn state(flow: &abi::Flow) -> &'static str {
    if flow.original.protocol != libc::IPPROTO_TCP as u8 {
        return if flow.flags & flow_flags::REPLIED != 0 { "replied" } else { "unreplied" };
    }
    let seen = |bits: u32| flow.tcp & bits == bits;
    if seen(tcp::RST) {
        "reset"
    } else if seen(tcp::FIN | tcp::REPLY_FIN) {
        "closed"
    } else if flow.tcp & (tcp::FIN | tcp::REPLY_FIN) != 0 {
        "closing"
    } else if seen(tcp::ACKED) {
        "established"
    } else if seen(tcp::REPLY_SYN) {
        "syn_received"
    } else {
        "syn_sent"
    }
}

/// The protocol's name.
#[must_use]
pub fn protocol_name(protocol: u8) -> String {
    match i32::from(protocol) {
        libc::IPPROTO_TCP => "tcp".to_owned(),
        libc::IPPROTO_UDP => "udp".to_owned(),
        libc::IPPROTO_ICMP => "icmp".to_owned(),
        libc::IPPROTO_ICMPV6 => "icmpv6".to_owned(),
        libc::IPPROTO_SCTP => "sctp".to_owned(),
        other => other.to_string(),
    }
}
