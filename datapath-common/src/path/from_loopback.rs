//! The host's own connections to published ports, by 127.0.0.1, `::1` and its other addresses.

use super::{Outcome, Packet, Scratch, Tables, Verdict, flow_table, publish};
use crate::{
    abi::{FlowEnd, scope},
    logic::{
        headers::{ETHERNET, ethertype},
        parse::{Fragment, parse},
    },
};

/// The path of a packet that the host sends to itself. What meets no publication passes at once.
///
/// # Errors
/// Why it is dropped; only what met a publication ever is.
#[inline(always)]
pub fn from_loopback<P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Outcome {
    let Scratch { headers, parsed } = scratch;
    if !packet.read_headers(ETHERNET, headers) {
        return Ok(Verdict::Pass);
    };
    if !matches!(headers.ethertype(), ethertype::IPV4 | ethertype::IPV6)
        || parse(packet, headers, parsed).is_err()
        || parsed.fragment == Fragment::Later
    {
        return Ok(Verdict::Pass);
    }
    parsed.key.scope = scope::LOOPBACK;
    if let Some(outcome) = flow_table::follow(packet, tables, headers, parsed, FlowEnd::default()) {
        return outcome;
    }
    match publish::find(tables, &parsed.key) {
        Some(index) if publish::begins(parsed) => {
            publish::begin(tables, parsed, index, FlowEnd::default())?;
            flow_table::follow_begun(packet, tables, headers, parsed, FlowEnd::default())
        }
        _ => Ok(Verdict::Pass),
    }
}
