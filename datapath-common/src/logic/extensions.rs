//! What may stand between the IP header and what it carries: options of IPv4, extension headers of IPv6 (N11).

use super::{
    headers::ETHERNET,
    parse::{Fragment, Parsed, protocol},
};
use crate::{abi::DropReason, path::Packet};

/// IPv6 extension headers that are followed (N11); a correct sender uses each at most once (RFC 8200 section 4.1).
const EXTENSION_HEADERS: u32 = 6;

/// IPv4 options 131 and 137 (LSRR, SSRR) are refused (RFC 7126 sections 4.3 and 4.4).
#[inline(always)]
pub(super) fn refuse_source_route<P: Packet>(packet: &P, header_length: u16) -> Result<(), DropReason> {
    // Counted down under a mask, so that the verifier sees the same range in every round and not a new state for
    // each sequence of lengths (Linux 6.18: over a million instructions without).
    let mut remaining = (header_length - 20) & 63;
    let mut option = 0;
    while option < 40 && remaining > 0 {
        let at = ETHERNET + ((header_length - remaining) & 63) as u32;
        let [kind] = packet.load(at).ok_or(DropReason::Malformed)?;
        let mut length = 1;
        match kind {
            0 => break,
            1 => {}
            131 | 137 => return Err(DropReason::SourceRouted),
            _ => {
                [length] = packet.load(at + 1).ok_or(DropReason::Malformed)?;
                if length < 2 || length as u16 > remaining {
                    return Err(DropReason::Malformed);
                }
            }
        }
        remaining = (remaining - length as u16) & 63;
        option += 1;
    }
    Ok(())
}

/// Walks from the IPv6 header to the transport header (RFC 8200 section 4). An authentication header is none of those that are
/// walked over: it vouches for the addresses, so what is behind it is as little to be translated as in IPv4 (RFC 3715).
#[inline(always)]
pub(super) fn follow_extension_headers<P: Packet>(packet: &P, parsed: &mut Parsed) -> Result<(), DropReason> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION_OPTIONS: u8 = 60;

    let mut followed = 0;
    while followed < EXTENSION_HEADERS {
        let kind = parsed.key.protocol;
        if !matches!(kind, HOP_BY_HOP | ROUTING | protocol::FRAGMENT | DESTINATION_OPTIONS) {
            return Ok(());
        }
        let [next, length, third, fourth] = packet.load(parsed.transport_offset as u32).ok_or(DropReason::Malformed)?;
        let mut bytes = (length as u16 + 1) * 8;
        match kind {
            ROUTING if third == 0 => return Err(DropReason::SourceRouted),
            protocol::FRAGMENT => {
                bytes = 8;
                let offset_and_more = u16::from_be_bytes([third, fourth]);
                // One for a datagram (RFC 8200 section 4.1), or what is inside the outer one would hide from us.
                if parsed.fragment != Fragment::Whole {
                    return Err(DropReason::Malformed);
                }
                parsed.fragment_header = parsed.transport_offset;
                if offset_and_more & 0xfff8 != 0 {
                    parsed.fragment = Fragment::Later;
                    parsed.key.protocol = next;
                    return Ok(());
                }
                if offset_and_more & 1 != 0 {
                    parsed.fragment = Fragment::First;
                }
            }
            _ => {}
        }
        parsed.key.protocol = next;
        parsed.transport_offset += bytes;
        followed += 1;
    }
    Err(DropReason::ExtensionHeaders)
}
