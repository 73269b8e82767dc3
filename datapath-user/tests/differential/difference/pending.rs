//! Behaviours that are not there yet. Each goes with the work that brings it.

use super::Difference;
use crate::locate::ETHERNET;
use crate::twins::HOST;

pub const DIFFERENCES: &[Difference] = &[
    // N9: dropped, and nobody told.
    Difference { name: "time exceeded", holds: |case| case.ours_less && case.dies() && case.is_icmp([11, 3]) },
    // B6: the path MTU that the host has learnt is not asked for.
    Difference {
        name: "path mtu",
        holds: |case| {
            let is_large = case.sent.len() > 1_280 + ETHERNET;
            // What the host itself does not send, having learnt, is no concern of the datapath's.
            is_large && (!case.ours_less || case.is_icmp([3, 2]) || case.from == HOST)
        },
    },
    // N3: flags are not judged by the connection's state, and a reset does not end it at once (RFC 7857 section 2.2).
    Difference {
        name: "tcp state",
        holds: |case| {
            let of_connection = case.is("tcp") || case.traits.quotes;
            of_connection && (case.traits.disturbed || case.traits.reset || case.traits.damage == Some("bit behind IP"))
        },
    },
];
