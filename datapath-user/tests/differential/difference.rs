//! The documented differences between the datapath and the oracle. All others are failures.
//!
//! Each holds for packets of a kind, not for a frame that happened to differ: it says of which packets it may be, in
//! which world something may be missing, and where.

use crate::canonical::{Canonical, RIGHT};
use crate::grammar::{Kind, Step, Traits};
use crate::locate::{ICMP, ICMPV6, Located, TCP, UDP, locate, word};
use crate::twins::{HOST, LAN, MEMBERS, OURS, plan};

/// A frame that arrived in one world more often than in the other.
pub struct Missing<'a> {
    /// Where it is missing.
    pub world: usize,
    pub frame: &'a Canonical,
    /// The packet that caused it, where it is known.
    pub step: Option<&'a Step>,
}

/// Why the worlds differ; [`Difference::reason`] says it in words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Difference {
    IcmpError,
    Fragment,
    TimeExceeded,
    NeighbourAnswered,
    OtherProtocol,
    SourceRoute,
    Malformed,
    HeaderChecksum,
    ExtensionOption,
    GroupFrame,
    FlowByTuple,
    TcpState,
    PortChoice,
}

impl Difference {
    const ALL: [Self; 13] = [
        Self::IcmpError,
        Self::Fragment,
        Self::TimeExceeded,
        Self::NeighbourAnswered,
        Self::OtherProtocol,
        Self::SourceRoute,
        Self::Malformed,
        Self::HeaderChecksum,
        Self::ExtensionOption,
        Self::GroupFrame,
        Self::FlowByTuple,
        Self::TcpState,
        Self::PortChoice,
    ];

    /// Why it is right, or known.
    pub fn reason(self) -> &'static str {
        match self {
            Self::IcmpError => "ICMP errors, and answers to nothing, are dropped where packets are translated (N5)",
            Self::Fragment => {
                "fragments are dropped where packets are translated, and passed as they are elsewhere (N6)"
            }
            Self::TimeExceeded => "time exceeded is not sent; netfilter's translation on a bridge is no hop (N9)",
            Self::NeighbourAnswered => "neighbours are answered for, and questions not flooded (B3)",
            Self::OtherProtocol => {
                "protocols without ports are not translated, SCTP's ports never (drop reason `protocol`)"
            }
            Self::SourceRoute => {
                "source routes, routing header 0 and more than six extension headers are refused (N11)"
            }
            Self::Malformed => "lying lengths are dropped on the way to siblings and to the host too (N11)",
            Self::HeaderChecksum => "a wrong IPv4 header checksum stays as wrong as it is, for the receiver to drop",
            Self::ExtensionOption => "options within extension headers are for the destination to read",
            Self::GroupFrame => "unicast IP in a group frame from outside is the host's own, whatever is published",
            Self::FlowByTuple => "a flow's packet is known by its tuple, whatever MAC address it is for",
            Self::TcpState => "flags and numbers that do not fit a connection are passed on in it (N3)",
            Self::PortChoice => "a damaged packet may begin a flow from a port that another has, and gets any (N1)",
        }
    }

    /// The documented difference that this is.
    pub fn explain(missing: &Missing<'_>) -> Option<Self> {
        let step = missing.step?;
        Self::ALL.into_iter().find(|difference| difference.holds(missing, step))
    }

    fn holds(self, missing: &Missing<'_>, step: &Step) -> bool {
        let Traits { kind, what, damage, decoration, quotes, collides } = &step.traits;
        let Canonical { port, frame, .. } = missing.frame;
        let (ours_less, located, sent) = (missing.world == OURS, locate(frame), &step.frames[OURS][0]);
        let untouched = locate(sent).is_some_and(|ip| !has_ports(&ip));
        match self {
            Self::IcmpError => *quotes || *what == "other ICMP" && ours_less,
            Self::Fragment => decoration.fragments.is_some(),
            Self::TimeExceeded => {
                ours_less && decoration.ttl == 1 && (*kind == Kind::Hairpin || is_icmp(located, frame, [11, 3]))
            }
            Self::NeighbourAnswered if ours_less => asks_neighbour(what) && *port != step.port,
            Self::NeighbourAnswered => asks_neighbour(what) && what.ends_with("a sibling") && *port == step.port,
            Self::OtherProtocol => untouched && *kind != Kind::Sibling && (*kind != Kind::Single || *port == LAN),
            Self::SourceRoute => {
                let options = matches!(decoration.options, Some(("loose source route", _)));
                options || matches!(decoration.extensions, Some(("routing type 0" | "seven headers", _)))
            }
            Self::Malformed => {
                let siblings = *port < MEMBERS && port / 2 == step.port / 2;
                ours_less && damage.is_some() && (*port == HOST || siblings)
            }
            Self::HeaderChecksum => {
                !ours_less && damage.is_some() && located.is_some_and(|ip| ip.v4) && word(frame, 24) != Some(RIGHT)
            }
            Self::ExtensionOption => !ours_less && decoration.extensions.is_some() && *damage == Some("bit in IP"),
            Self::GroupFrame => *what == "published port in a group frame" && !ours_less && *port == HOST,
            Self::FlowByTuple => *damage == Some("bit in Ethernet"),
            Self::TcpState => *what == "tcp" && *damage == Some("bit behind IP"),
            Self::PortChoice => {
                let source = locate(sent).and_then(|ip| word(sent, ip.transport));
                *port == LAN && damage.is_some() && (*collides || source.is_some_and(is_published))
            }
        }
    }
}

fn asks_neighbour(what: &str) -> bool {
    what.starts_with("arp ") || what.starts_with("solicitation")
}

fn is_published(port: u16) -> bool {
    plan().publications.iter().any(|publication| publication.port == port)
}

/// SCTP has ports that netfilter translates, and the datapath does not.
fn has_ports(ip: &Located) -> bool {
    matches!(ip.protocol, TCP | UDP | ICMP | ICMPV6)
}

/// Whether it is an ICMP message of this type, or an ICMPv6 message of the second.
fn is_icmp(located: Option<Located>, frame: &[u8], kinds: [u8; 2]) -> bool {
    located.is_some_and(|ip| match ip.protocol {
        ICMP => frame.get(ip.transport) == Some(&kinds[0]),
        ICMPV6 => frame.get(ip.transport) == Some(&kinds[1]),
        _ => false,
    })
}
