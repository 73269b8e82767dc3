//! What is fixed when the programs are loaded.

/// Load-time settings. The verifier sees constants, so what is off costs nothing.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Idle time of UDP flows (RFC 4787 REQ-5: 120 s at least, 300 s recommended).
    pub udp_timeout: u64,
    /// Idle time of established TCP flows (RFC 5382 REQ-5: 7,440 s at least).
    pub tcp_established_timeout: u64,
    /// Idle time of half-open and closing TCP flows (RFC 5382 REQ-5: 240 s at least).
    pub tcp_transitory_timeout: u64,
    /// Idle time of ICMP queries (RFC 5508 REQ-2: 60 s at least).
    pub icmp_timeout: u64,
    /// Idle time of flows of other protocols.
    pub other_timeout: u64,
    /// Broadcast and multicast packets an endpoint may send a second; also the burst.
    pub flood_rate: u32,
    /// Flows one endpoint may have.
    pub flow_quota: u32,
    /// Slots of `FLOWS`: a power of two.
    pub flow_capacity: u32,
    /// The bit of `skb->mark` that says our programs have judged a packet.
    pub mark: u32,
    /// ifindex of the lo device of the host's namespace.
    pub loopback_ifindex: u32,
    /// 1 where the kernel's FIB lookup gives the source address (Linux 6.7, commit dab4e1f06cab).
    pub fib_source: u32,
    /// What the programs log of their slow path: [`program_log`].
    pub program_log: u32,
    /// Number of the [`super::Mutant`] to behave as; 0, none. Read only by builds with the `mutants` feature.
    pub mutant: u32,
    /// Events of one drop reason are at least this far apart on a CPU.
    pub event_interval: u64,
    /// Ports that masquerade takes when the source's own is not free: the first, host order.
    pub masquerade_port_first: u32,
    /// The last, host order.
    pub masquerade_port_last: u32,
    /// ICMP errors a second to an endpoint, and to all that is outside; also the burst.
    pub icmp_error_rate: u32,
    /// Zero.
    pub padding: u32,
}

/// Values of [`Settings::program_log`]; each includes those before it.
pub mod program_log {
    /// Nothing.
    pub const OFF: u32 = 0;
    /// What led to a drop.
    pub const DEBUG: u32 = 1;
    /// What led to any other outcome.
    pub const TRACE: u32 = 2;
}

const SECOND: u64 = 1_000_000_000;

impl Settings {
    /// What the daemon starts from.
    pub const DEFAULT: Self = Self {
        udp_timeout: 300 * SECOND,
        tcp_established_timeout: 7_440 * SECOND,
        tcp_transitory_timeout: 240 * SECOND,
        icmp_timeout: 60 * SECOND,
        other_timeout: 600 * SECOND,
        flood_rate: 1_000,
        flow_quota: 32_768,
        flow_capacity: 131_072,
        mark: 1 << 22,
        loopback_ifindex: 1,
        fib_source: 0,
        program_log: program_log::OFF,
        mutant: 0,
        event_interval: SECOND / 10,
        masquerade_port_first: 1_024,
        masquerade_port_last: 65_535,
        // As Linux (net.ipv4.icmp_msgs_per_sec).
        icmp_error_rate: 1_000,
        padding: 0,
    };

    /// UDP mappings that are remembered: with the default capacity, as many as an external address has ports.
    #[must_use]
    pub const fn udp_mappings(&self) -> u32 {
        let half = self.flow_capacity / 2;
        if half > 1_024 { half } else { 1_024 }
    }
}

/// Indices of the per-CPU `METRICS` array.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// Flows begun.
    FlowsCreated = 0,
    /// Expired flows whose slot a new flow took.
    FlowsReclaimed = 1,
    /// Drop events that found no room in the ring buffer.
    EventsLost = 2,
    /// Flows ended because the host itself used their tuple.
    FlowsYielded = 3,
    /// Datagrams of which fragments were held whose first one never came, or sets of them.
    DatagramsForgotten = 4,
    /// ICMP time exceeded messages sent.
    TimeExceededSent = 5,
    /// ICMP fragmentation needed and packet too big messages sent.
    TooBigSent = 6,
    /// ICMP errors not sent because there were too many.
    IcmpErrorsLimited = 7,
    /// Frames whose source was not learnt because as many stations as may be are behind the port.
    StationsRefused = 8,
}

impl Metric {
    /// Every metric, with its name as `/metrics` and `status` show it.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::FlowsCreated, "flows_created"),
        (Self::FlowsReclaimed, "flows_reclaimed"),
        (Self::EventsLost, "events_lost"),
        (Self::FlowsYielded, "flows_yielded"),
        (Self::DatagramsForgotten, "datagrams_forgotten"),
        (Self::TimeExceededSent, "time_exceeded_sent"),
        (Self::TooBigSent, "too_big_sent"),
        (Self::IcmpErrorsLimited, "icmp_errors_limited"),
        (Self::StationsRefused, "stations_refused"),
    ];
}
