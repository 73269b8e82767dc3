//! The segment size that the ends of a TCP connection ask for, lowered to what fits the path (`--mss-clamp`): for peers
//! that never learn the path's MTU, because somebody on the way drops the ICMP errors that tell it.

use super::{Checksum, Packet, Tables, flow_table};
use crate::{
    abi::{DropReason, Mutant, network_flags, scope},
    logic::{checksum::Sum, headers::ethertype, parse::Parsed},
};

/// Kinds of TCP options (RFC 9293 section 3.1).
mod option {
    pub const END: u8 = 0;
    pub const NO_OPERATION: u8 = 1;
    pub const MAXIMUM_SEGMENT_SIZE: u8 = 2;
}

/// Bytes of the option that names the segment size.
const OPTION: u32 = 4;
/// Bytes that options may take, and so the most there can be.
const OPTIONS: u32 = 40;

/// Lowers what a segment with SYN on its way to `to` asks for, if it crosses an uplink to or from a network that wants it:
/// to the smaller one of the network's MTU and that of the route to the outside, less headers without options, as nftables'
/// `tcp option maxseg size set rt mtu` does. `route_mtu` is that of the flow's route, 0 when that was not asked for yet.
///
/// # Errors
/// [`DropReason::WriteFailed`].
// Part of its caller, whose stack has room for no other on top of it when the route is asked for.
#[inline(always)]
pub(super) fn clamp<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    parsed: &Parsed,
    to: u16,
    route_mtu: u32,
) -> Result<(), DropReason> {
    let inside = match (parsed.key.scope, to) {
        (scope::UPLINK, inside) | (inside, scope::UPLINK) => inside,
        _ => return Ok(()),
    };
    let Some(network) = tables.network(inside as u32) else {
        return Ok(());
    };
    if !network.has(network_flags::MSS_CLAMP) || tables.mutant(Mutant::MssUnclamped) {
        return Ok(());
    }
    let outside = match route_mtu {
        // The first segment comes from outside, so this is the way back.
        0 => flow_table::route(packet, tables, &parsed.key, inside).map_or(network.mtu, |route| route.mtu()),
        known => known,
    };
    let mtu = if outside < network.mtu { outside } else { network.mtu };
    lower_to(packet, tables, parsed, mtu)
}

/// Lowers what the segment asks for to what fits packets of `mtu` bytes.
#[inline(never)]
fn lower_to<P: Packet, T: Tables>(packet: &mut P, tables: &T, parsed: &Parsed, mtu: u32) -> Result<(), DropReason> {
    let ipv6 = parsed.ethertype != ethertype::IPV4;
    let headers = if ipv6 { 60 } else { 40 };
    if mtu <= headers {
        return Ok(());
    }
    let begin = parsed.transport_offset as u32;
    let [length] = packet.load(begin + 12).ok_or(DropReason::WriteFailed)?;
    let end = begin + (length >> 4) as u32 * 4;
    let mut walk = Walk { packet, begin, at: begin + 20, end, most: mtu - headers, ipv6, failed: false };
    tables.repeat(OPTIONS, &mut walk, next_option);
    if walk.failed { Err(DropReason::WriteFailed) } else { Ok(()) }
}

/// A walk over the options of a segment.
struct Walk<'a, P> {
    packet: &'a mut P,
    /// Where the TCP header begins.
    begin: u32,
    at: u32,
    end: u32,
    /// Largest segment that fits the path, in bytes of payload.
    most: u32,
    ipv6: bool,
    failed: bool,
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn next_option<P: Packet>(_: u64, walk: *mut Walk<'_, P>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let walk = unsafe { &mut *walk };
    if walk.at + OPTION > walk.end {
        return 1;
    }
    let Some([kind, length, high, low]) = walk.packet.load(walk.at) else {
        return 1;
    };
    match kind {
        option::END => return 1,
        option::NO_OPERATION => walk.at += 1,
        // No option is shorter than its kind and length.
        _ if length < 2 => return 1,
        _ => {
            let asked = u16::from_be_bytes([high, low]);
            let is_size = kind == option::MAXIMUM_SEGMENT_SIZE && length as u32 == OPTION;
            if is_size && asked as u32 > walk.most && lower(walk, asked).is_err() {
                walk.failed = true;
                return 1;
            }
            walk.at += length as u32;
        }
    }
    0
}

/// Writes the lower size, and mends the checksum.
#[inline(always)]
fn lower<P: Packet>(walk: &mut Walk<'_, P>, asked: u16) -> Result<(), DropReason> {
    let size = walk.most as u16;
    walk.packet.store(walk.at + 2, &size.to_be_bytes())?;
    // At an odd offset the two bytes are in two words of the sum (RFC 1071 section 2 (B)).
    let odd = (walk.at - walk.begin) & 1 != 0;
    let word = |size: u16| if odd { size.to_be().swap_bytes() } else { size.to_be() };
    walk.packet.mend_checksum(&Checksum {
        offset: walk.begin + 16,
        difference: Sum::ZERO.subtract16(word(asked)).add16(word(size)),
        pseudo: false,
        zero_is_none: false,
        ipv6: walk.ipv6,
    })
}
