//! Seeded faults: each breaks one rule, so that the test of the rule can be seen to fail.

/// A fault to build into the programs when they are loaded. Only builds with the `mutants` feature look at it.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// ICC off is not enforced (I1).
    IccIgnored = 1,
    /// Networks are not isolated from each other (I2).
    IsolationIgnored = 2,
    /// `--internal` is not enforced (I3).
    InternalIgnored = 3,
    /// Packets are not checked for a forged source (S1).
    SourceGuardSkipped = 4,
    /// Publications match any destination address (P4).
    AnyDestinationPublished = 5,
    /// The wildcard beats a specific host address (P5).
    WildcardFirst = 6,
    /// Container addresses are reachable by direct routing (P10).
    DirectRoutingAllowed = 7,
    /// 127/8 destinations from outside meet publications (P6).
    LoopbackFromOutside = 8,
    /// Checksums are not mended (N7).
    ChecksumSkipped = 9,
    /// Masquerade leaves the source as it is (N1, N13).
    MasqueradeSkipped = 10,
    /// A masqueraded port may be taken twice or from the host (N1).
    PortTakenTwice = 11,
    /// Generations are not compared (B5).
    GenerationIgnored = 12,
    /// UDP flows outlive their publication (P8).
    PublicationGenerationIgnored = 13,
    /// The last guard on uplinks lets everything pass (N13).
    UplinkGuardSkipped = 14,
    /// Broadcasts come back to their sender (B2).
    FloodToSender = 15,
    /// ARP and neighbour discovery are flooded instead of answered (B3).
    NeighboursUnanswered = 16,
    /// Expired flows are not reclaimed (N10).
    ReclaimSkipped = 17,
    /// The per-endpoint quota is not enforced (N10).
    QuotaIgnored = 18,
    /// Sources that cannot come from outside are accepted (S2).
    MartiansAccepted = 19,
    /// The server sees the host instead of the client (P3).
    ClientHidden = 20,
    /// Hairpin clients are not translated back (N8).
    HairpinUntranslated = 21,
    /// IPv6 passes on networks that have none (N12).
    Ipv6Unguarded = 22,
    /// UDP mappings depend on the destination (N2).
    MappingPerDestination = 23,
    /// `to_container` passes what is unmarked (I5).
    UnmarkedDelivered = 24,
    /// ICMP errors keep the packet they quote as it is (N5).
    QuotedUntranslated = 25,
    /// Fragments that come before the first one are dropped (N6).
    FragmentsNotHeld = 26,
    /// Fragments that overlap pass (N6).
    OverlapsPassed = 27,
    /// Fragments keep the identification that their sender gave them (N6).
    IdentificationKept = 28,
    /// No ICMP error is sent (N9, B6).
    ErrorsUnsent = 29,
    /// Packets may have any size (B6).
    SizeIgnored = 30,
    /// Segments may have any size (B6).
    SegmentsIgnored = 31,
    /// ICMP errors are sent as fast as they are asked for (N9).
    ErrorsUnlimited = 32,
    /// An ICMP error is still to be completed by a device (N7).
    ErrorsUnfinished = 33,
    /// A reset ends its connection whatever its number (N3).
    ResetsBelieved = 34,
    /// The segment size that TCP asks for is never lowered (`--mss-clamp`).
    MssUnclamped = 35,
    /// UDP mappings cannot be reached from inside (N8).
    MappingsUnreachable = 36,
    /// No station is learnt (B4).
    LearningSkipped = 37,
    /// Stations are never forgotten (B4).
    StationsNeverAge = 38,
    /// A port with as many stations as may be takes more, in the place of others (B4).
    StationsUnbounded = 39,
    /// A station may have a MAC address that was given out (B4, S1).
    GivenMacsTaken = 40,
    /// Packets of stations reach the gateway whomever they are for (B4).
    StationsRouted = 41,
    /// A masqueraded flow leaves from the port it goes to (N1).
    PortsSwapped = 42,
    /// Segments of unknown connections leave (N3).
    UnknownPassed = 43,
    /// Denied sources are let in (`datapath guard`).
    DenyIgnored = 44,
    /// The user's limits are not enforced (`datapath guard`).
    LimitsIgnored = 45,
    /// `from_uplink` counts what the XDP program has counted (`datapath guard`).
    GuardedTwice = 46,
    /// All gateways are taken for the first one that was met.
    GatewaysConfused = 47,
}

impl Mutant {
    /// Every mutant.
    pub const ALL: [Self; 47] = [
        Self::IccIgnored,
        Self::IsolationIgnored,
        Self::InternalIgnored,
        Self::SourceGuardSkipped,
        Self::AnyDestinationPublished,
        Self::WildcardFirst,
        Self::DirectRoutingAllowed,
        Self::LoopbackFromOutside,
        Self::ChecksumSkipped,
        Self::MasqueradeSkipped,
        Self::PortTakenTwice,
        Self::GenerationIgnored,
        Self::PublicationGenerationIgnored,
        Self::UplinkGuardSkipped,
        Self::FloodToSender,
        Self::NeighboursUnanswered,
        Self::ReclaimSkipped,
        Self::QuotaIgnored,
        Self::MartiansAccepted,
        Self::ClientHidden,
        Self::HairpinUntranslated,
        Self::Ipv6Unguarded,
        Self::MappingPerDestination,
        Self::UnmarkedDelivered,
        Self::QuotedUntranslated,
        Self::FragmentsNotHeld,
        Self::OverlapsPassed,
        Self::IdentificationKept,
        Self::ErrorsUnsent,
        Self::SizeIgnored,
        Self::SegmentsIgnored,
        Self::ErrorsUnlimited,
        Self::ErrorsUnfinished,
        Self::ResetsBelieved,
        Self::MssUnclamped,
        Self::MappingsUnreachable,
        Self::LearningSkipped,
        Self::StationsNeverAge,
        Self::StationsUnbounded,
        Self::GivenMacsTaken,
        Self::StationsRouted,
        Self::PortsSwapped,
        Self::UnknownPassed,
        Self::DenyIgnored,
        Self::LimitsIgnored,
        Self::GuardedTwice,
        Self::GatewaysConfused,
    ];

    /// The mutant of this name, as `{:?}` prints it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        struct Matches<'a>(&'a str, bool);
        impl core::fmt::Write for Matches<'_> {
            fn write_str(&mut self, text: &str) -> core::fmt::Result {
                match self.0.strip_prefix(text) {
                    Some(rest) => self.0 = rest,
                    None => self.1 = false,
                }
                Ok(())
            }
        }
        Self::ALL.into_iter().find(|mutant| {
            let mut matches = Matches(name, true);
            core::fmt::write(&mut matches, format_args!("{mutant:?}")).is_ok() && matches.1 && matches.0.is_empty()
        })
    }
}
