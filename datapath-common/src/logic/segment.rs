//! Reading a TCP segment (RFC 9293 section 3.1).

use super::{
    headers::Headers,
    parse::{Parsed, TRANSPORT_V4, TRANSPORT_V6},
    tcp_state::{Segment, flag},
};
use crate::{abi::DropReason, path::Packet};

/// Reads what a segment says.
///
/// # Errors
/// [`DropReason::Malformed`] when its header would end behind the packet.
#[inline(always)]
pub fn read_segment<P: Packet>(packet: &P, headers: &Headers, parsed: &Parsed) -> Result<Segment, DropReason> {
    let [sequence, acknowledgement, rest] = match parsed.transport_offset {
        TRANSPORT_V4 => words::<38>(headers),
        TRANSPORT_V6 => words::<58>(headers),
        at => {
            let [a, b, c, d, e, f, g, h, i, j, k, l]: [u8; 12] =
                packet.load(at as u32 + 4).ok_or(DropReason::Malformed)?;
            [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_be_bytes)
        }
    };
    let header = rest >> 28 << 2;
    let data = headers.packet_end().wrapping_sub(parsed.transport_offset as u32 + header);
    // Below zero is above the largest.
    if header < 20 || data > i32::MAX as u32 {
        return Err(DropReason::Malformed);
    }
    let flags = parsed.flags;
    let counted = (flags & flag::SYN != 0) as u32 + (flags & flag::FIN != 0) as u32;
    Ok(Segment { flags, sequence, end: sequence.wrapping_add(data).wrapping_add(counted), acknowledgement })
}

/// Three words at a constant offset.
#[inline(always)]
fn words<const AT: usize>(headers: &Headers) -> [u32; 3] {
    [headers.number32(AT), headers.number32(AT + 4), headers.number32(AT + 8)]
}
