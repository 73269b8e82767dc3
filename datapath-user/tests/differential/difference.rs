//! The documented differences between the datapath and the oracle. All others are failures.

use crate::canonical::{Canonical, RIGHT};
use crate::grammar::{Kind, Step, Traits};
use crate::locate::{ICMP, ICMPV6, Located, SCTP, TCP, UDP, locate, word};
use crate::twins::{HOST, LAN, MEMBERS, ORACLE, OURS, plan};

/// A frame that arrived in one world (more often than) in the other.
pub struct Missing<'a> {
    /// Where it is missing.
    pub world: usize,
    pub frame: &'a Canonical,
    /// The packet that caused it, where it is known.
    pub step: Option<&'a Step>,
}

/// Why the worlds differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Difference {
    IcmpError,
    Fragment,
    TimeExceeded,
    NeighbourAnswered,
    OtherProtocol,
    HeaderChecksum,
    GroupFrame,
    Malformed,
    SourceRoute,
    FlowByTuple,
    TcpState,
    PortChoice,
}

impl Difference {
    /// Every difference, with the reason for it.
    const ALL: [(Self, &'static str); 12] = [
        (Self::IcmpError, "ICMP errors and answers to nothing are dropped where packets are translated (N5)"),
        (Self::Fragment, "fragments are dropped where packets are translated, and not put together elsewhere (N6)"),
        (Self::TimeExceeded, "time exceeded is not sent yet (N9)"),
        (Self::NeighbourAnswered, "ARP and neighbour discovery are answered and not flooded (B3)"),
        (Self::OtherProtocol, "protocols without ports are not translated (drop reason `protocol`)"),
        (Self::HeaderChecksum, "a wrong IPv4 header checksum is passed on, as wrong as it came"),
        (Self::GroupFrame, "unicast IP in a group frame from outside is the host's own, published or not"),
        (Self::Malformed, "lying lengths are dropped (N11), on the way to siblings and to the host too"),
        (Self::SourceRoute, "source routes, routing header 0 and more than six extension headers are dropped (N11)"),
        (Self::FlowByTuple, "a packet of a flow is known by its tuple, to whatever MAC address the endpoint sent it"),
        (
            Self::TcpState,
            "flags and windows that do not fit the state are passed on; netfilter's go to the host, which resets (N3)",
        ),
        (
            Self::PortChoice,
            "a damaged packet may begin a flow from a port that is published or another flow's, and gets any other (N1)",
        ),
    ];

    /// For the report.
    pub fn reason(self) -> &'static str {
        Self::ALL.iter().find(|(difference, _)| *difference == self).map_or("", |(_, reason)| reason)
    }

    /// The documented difference that this is.
    pub fn explain(missing: &Missing<'_>) -> Option<Self> {
        let step = missing.step?;
        Self::ALL.into_iter().map(|(difference, _)| difference).find(|difference| difference.holds(missing, step))
    }

    fn holds(self, missing: &Missing<'_>, step: &Step) -> bool {
        let Traits { kind, what, damage, decoration, quotes, collides } = &step.traits;
        let frame = &missing.frame.frame;
        let located = locate(frame);
        let ours_drops = missing.world == OURS;
        match self {
            Self::IcmpError => *quotes || *what == "other ICMP" && ours_drops,
            Self::Fragment => decoration.fragments.is_some(),
            // What is translated on a bridge is no hop for netfilter.
            Self::TimeExceeded => {
                ours_drops && decoration.ttl == 1 && (is_icmp(located, frame, [11, 3]) || *kind == Kind::Hairpin)
            }
            Self::NeighbourAnswered => {
                (what.starts_with("arp ") || what.starts_with("solicitation"))
                    && if ours_drops {
                        missing.frame.port != step.port
                    } else {
                        what.ends_with("a sibling") && missing.frame.port == step.port
                    }
            }
            Self::OtherProtocol => {
                let unknown = ours_drops && located.is_some_and(|ip| !has_ports(&ip));
                missing.frame.port == LAN && (unknown || *what == "other protocol")
            }
            Self::PortChoice => {
                let own = located.and_then(|ip| word(&step.frames[OURS][0], ip.transport));
                missing.frame.port == LAN && damage.is_some() && (*collides || own.is_some_and(is_published))
            }
            Self::HeaderChecksum => {
                missing.world == ORACLE
                    && damage.is_some()
                    && located.is_some_and(|ip| ip.v4)
                    && word(frame, 24) != Some(RIGHT)
            }
            Self::GroupFrame => *what == "published port in a group frame" && !ours_drops && missing.frame.port == HOST,
            Self::FlowByTuple => !ours_drops && *damage == Some("bit in Ethernet"),
            Self::Malformed => {
                let siblings = missing.frame.port < MEMBERS && missing.frame.port / 2 == step.port / 2;
                ours_drops && damage.is_some() && (missing.frame.port == HOST || siblings)
            }
            // Flags and numbers are behind IP.
            Self::TcpState => *what == "tcp" && *damage == Some("bit behind IP"),
            Self::SourceRoute => {
                (matches!(decoration.options, Some(("loose source route", _)))
                    || matches!(decoration.extensions, Some(("routing type 0" | "seven headers", _))))
            }
        }
    }
}

fn is_published(port: u16) -> bool {
    plan().publications.iter().any(|publication| publication.port == port)
}

fn has_ports(ip: &Located) -> bool {
    matches!(ip.protocol, TCP | UDP | SCTP | ICMP | ICMPV6)
}

/// Whether it is an ICMP message of this type, or an ICMPv6 message of the second.
fn is_icmp(located: Option<Located>, frame: &[u8], kinds: [u8; 2]) -> bool {
    located.is_some_and(|ip| match ip.protocol {
        ICMP => frame.get(ip.transport) == Some(&kinds[0]),
        ICMPV6 => frame.get(ip.transport) == Some(&kinds[1]),
        _ => false,
    })
}
