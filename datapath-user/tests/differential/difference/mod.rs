//! The documented differences between the datapath and the oracle (docs/differences.md). All others are failures.
//!
//! Each holds for packets of a kind, in one direction, and where it can be seen; none is about a frame that happened to
//! differ.

mod documented;

use std::collections::HashSet;
use std::net::IpAddr;

use lab::Lan;

use crate::canonical::Canonical;
use crate::grammar::{Step, Traits};
use crate::locate::{Ends, Located, locate};
use crate::twins::{LAN, MEMBERS, OURS, plan};

/// A frame that arrived in one world more often than in the other.
pub struct Missing<'a> {
    /// Where it is missing.
    pub world: usize,
    pub frame: &'a Canonical,
    /// The packet that caused it, where it is known.
    pub step: Option<&'a Step>,
    /// External ports of UDP mappings that came about by chance.
    pub mapped: &'a HashSet<u16>,
}

/// Why the worlds may differ.
pub struct Difference {
    /// As docs/differences.md has it.
    pub name: &'static str,
    /// Whether this is of the kind.
    holds: fn(&Case<'_>) -> bool,
}

/// What a difference is judged by.
struct Case<'a> {
    /// Whether the datapath has less than the oracle.
    ours_less: bool,
    /// Where the frame arrived that one world has and the other has not.
    port: usize,
    /// That frame.
    frame: &'a [u8],
    /// Its headers.
    arrived: Option<Located>,
    /// The port that the packet came from, what it is, and its (first) frame.
    from: usize,
    traits: &'a Traits,
    sent: &'a [u8],
    /// Whether it is for a port of the host that a UDP mapping has by chance.
    meets_mapping: bool,
}

impl Difference {
    /// All of them.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        documented::DIFFERENCES.iter()
    }

    /// Whether the state of a flow may differ from then on. Where it has no state, or is left as it was, it may not.
    pub fn leaves_state(&self) -> bool {
        self.name == documented::TCP_STATE
    }

    /// The documented difference that this is.
    pub fn explain(missing: &Missing<'_>) -> Option<&'static Self> {
        let step = missing.step?;
        let sent = step.frames[OURS][0].as_slice();
        let case = Case {
            ours_less: missing.world == OURS,
            port: missing.frame.port,
            frame: &missing.frame.frame,
            arrived: locate(&missing.frame.frame),
            from: step.port,
            traits: &step.traits,
            sent,
            meets_mapping: Ends::of(sent).is_some_and(|ends| {
                is_of_host(ends.destination.ip()) && missing.mapped.contains(&ends.destination.port())
            }),
        };
        Self::all().find(|difference| (difference.holds)(&case))
    }
}

/// Whether a port is published.
pub fn is_published(port: u16) -> bool {
    plan().publications.iter().any(|publication| publication.port == port)
}

/// Whether this is an address of the host: on its uplink, or a gateway's.
fn is_of_host(address: IpAddr) -> bool {
    let is_gateway = || plan().networks.iter().any(|network| network.gateways.contains(&address));
    Lan::HOST.map(lab::lan::address).contains(&address) || is_gateway()
}

impl Case<'_> {
    fn is(&self, what: &str) -> bool {
        self.traits.what == what
    }

    /// Whether it arrived at an endpoint of the sender's network, itself included.
    fn within_network(&self) -> bool {
        self.port < MEMBERS && self.from < MEMBERS && self.port / 2 == self.from / 2
    }

    /// The headers of what was sent.
    fn original(&self) -> Option<Located> {
        locate(self.sent)
    }

    /// Whether it came from outside or by loopback, and went to the host or was answered by it: what our programs cannot
    /// read there is none of ours, and passes.
    fn is_left_to_the_host(&self) -> bool {
        !self.ours_less && self.from >= LAN && self.port >= LAN
    }

    /// Whether the packet had no hop left.
    fn dies(&self) -> bool {
        self.original().and_then(|ip| self.sent.get(if ip.v4 { 22 } else { 21 })).is_some_and(|ttl| *ttl <= 1)
    }

    /// Whether it arrived as an ICMP error of this type, IPv4 or IPv6.
    fn is_icmp(&self, kinds: [u8; 2]) -> bool {
        use crate::locate::{ICMP, ICMPV6};
        self.arrived.is_some_and(|ip| match ip.protocol {
            ICMP => self.frame.get(ip.transport) == Some(&kinds[0]),
            ICMPV6 => self.frame.get(ip.transport) == Some(&kinds[1]),
            _ => false,
        })
    }
}

/// What is documented is what is there.
#[test]
fn every_difference_is_in_the_guide() {
    let guide = include_str!("../../../../docs/differences.md");
    for difference in Difference::all() {
        assert!(guide.contains(&format!("| {} |", difference.name)), "docs/differences.md lacks {}", difference.name);
    }
    let rows = guide.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| name")).count();
    assert_eq!(rows, Difference::all().count(), "docs/differences.md has what the test does not allow");
}
