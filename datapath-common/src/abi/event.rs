//! What the programs tell as it happens.

use super::FlowKey;

/// The programs, as events and tests name them.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// tcx ingress of an endpoint's host-side veth.
    FromContainer = 0,
    /// tcx ingress of an uplink.
    FromUplink = 1,
    /// tcx egress of a gateway device, adopted bridges included.
    FromHost = 2,
    /// tcx egress of the host's lo.
    FromLoopback = 3,
    /// tcx egress of an uplink.
    ToUplink = 4,
    /// tcx egress of an endpoint's host-side veth.
    ToContainer = 5,
    /// tcx ingress of an adopted bridge.
    ToHost = 6,
    /// XDP of an uplink.
    Guard = 7,
}

impl Program {
    /// Every program, with the name it has in the BPF object.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::FromContainer, "from_container"),
        (Self::FromUplink, "from_uplink"),
        (Self::FromHost, "from_host"),
        (Self::FromLoopback, "from_loopback"),
        (Self::ToUplink, "to_uplink"),
        (Self::ToContainer, "to_container"),
        (Self::ToHost, "to_host"),
        (Self::Guard, "guard"),
    ];
}

/// A dropped packet. Sampled: see [`super::Settings::event_interval`].
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Event {
    /// When.
    pub time: u64,
    /// Addresses, as far as they were parsed.
    pub key: FlowKey,
    /// Number of the [`super::DropReason`].
    pub reason: u32,
    /// Number of the [`Program`].
    pub program: u32,
    /// Device the hook is on.
    pub ifindex: u32,
    /// Bytes of the packet.
    pub length: u32,
    /// Ethertype, host order.
    pub ethertype: u32,
    /// Zero.
    pub padding: u32,
}
