//! What may stand between the IP header and what it carries: options of IPv4, extension headers of IPv6 (N11).

use super::{
    headers::{ETHERNET, Headers},
    parse::{Fragment, Parsed, protocol},
};
use crate::{abi::DropReason, path::Readable};

/// IPv6 extension headers that are followed (N11); a correct sender uses each at most once (RFC 8200 section 4.1).
const EXTENSION_HEADERS: u32 = 6;

/// Most options that an IPv4 header can have: 40 bytes of one each.
const OPTIONS: u32 = 40;

/// IPv4 options 131 and 137 (LSRR, SSRR) are refused (RFC 7126 sections 4.3 and 4.4).
#[inline(always)]
pub(super) fn refuse_source_route<P: Readable>(packet: &P, header_length: u16) -> Result<(), DropReason> {
    let mut walk = Walk { packet, at: ETHERNET + 20, end: ETHERNET + header_length as u32, refused: None };
    packet.repeat(OPTIONS, &mut walk, next_option);
    walk.refused.map_or(Ok(()), Err)
}

/// A walk over IPv4 options, from one to the next.
struct Walk<'a, P> {
    packet: &'a P,
    at: u32,
    end: u32,
    refused: Option<DropReason>,
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn next_option<P: Readable>(_: u64, walk: *mut Walk<'_, P>) -> u64 {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;

    // SAFETY: `repeat` calls the body with the state it was given.
    let walk = unsafe { &mut *walk };
    if walk.at >= walk.end {
        return 1;
    }
    let refused = match walk.packet.load(walk.at) {
        Some([END]) => return 1,
        Some([NO_OPERATION]) => {
            walk.at += 1;
            return 0;
        }
        Some([LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE]) => DropReason::SourceRouted,
        _ => match walk.packet.load(walk.at + 1) {
            Some([length]) if length >= 2 && walk.at + length as u32 <= walk.end => {
                walk.at += length as u32;
                return 0;
            }
            _ => DropReason::Malformed,
        },
    };
    walk.refused = Some(refused);
    1
}

/// Bytes of the hop-by-hop header that `is_jumbo` looks for.
pub const JUMBO: u32 = 8;

/// Whether behind the IPv6 header is what Linux puts into a TCP packet above 64 KiB, and takes away from its segments
/// (80e425b61342, 09f3d1a3a52c; until 741d069aa488): hop-by-hop options of a jumbo payload length alone (RFC 2675 section 2), of all that the packet has there.
#[inline(always)]
pub(super) fn is_jumbo<P: Readable>(packet: &P, headers: &Headers, payload: u32) -> bool {
    const JUMBO_PAYLOAD: u8 = 0xc2;

    let [a, b, c, d] = payload.to_be_bytes();
    let wanted = [protocol::TCP, 0, JUMBO_PAYLOAD, 4, a, b, c, d];
    headers.bytes[20] == protocol::HOP_BY_HOP && packet.load(ETHERNET + 40) == Some(wanted)
}

/// Walks from the IPv6 header to the transport header (RFC 8200 section 4). An authentication header is none of those that are
/// walked over: it vouches for the addresses, so what is behind it is as little to be translated as in IPv4 (RFC 3715).
#[inline(always)]
pub(super) fn follow_extension_headers<P: Readable>(packet: &P, parsed: &mut Parsed) -> Result<(), DropReason> {
    let mut followed = 0;
    loop {
        let kind = parsed.key.protocol;
        if !matches!(
            kind,
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION_OPTIONS
        ) {
            return Ok(());
        }
        if followed == EXTENSION_HEADERS {
            return Err(DropReason::ExtensionHeaders);
        }
        let [next, length, third, fourth] = packet.load(parsed.transport_offset as u32).ok_or(DropReason::Malformed)?;
        let mut bytes = (length as u16 + 1) * 8;
        match kind {
            protocol::ROUTING if third == 0 => return Err(DropReason::SourceRouted),
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
}
