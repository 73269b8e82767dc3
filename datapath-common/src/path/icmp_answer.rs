//! What is told to the sender of a packet that cannot go on: time exceeded (N9), and what its size may be (B6). The packet
//! becomes the error and goes back where it came from.

use core::mem::offset_of;

use super::{Outcome, Packed, Packet, Scratch, Tables, Verdict};
use crate::{
    abi::{DropReason, Metric, Mutant, Settings, scope},
    logic::{
        checksum::Sum,
        headers::{ETHERNET, Headers, ethertype},
        message::{Message, QUOTED_V4, QUOTED_V6},
        parse::{Fragment, Parsed, Transport, icmp, protocol},
    },
};

/// The outcome, or, where that is a packet without hops left or too big, and nothing forbids it, its answer:
/// [`Verdict::Reflected`]. All those who find such a packet leave it as it was. `name_sender` puts into the message who
/// tells; `told` is the endpoint whose tokens are spent, or [`crate::abi::HOST`].
#[inline(always)]
pub(super) fn or_answer<P: Packet, T: Tables>(
    outcome: Outcome,
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    told: u32,
    name_sender: impl FnOnce(&mut Scratch),
) -> Outcome {
    match outcome {
        Err(reason) if matches!(reason, DropReason::TtlExceeded | DropReason::TooBig) => {
            name_sender(scratch);
            packet.answer(tables, scratch, told, reason == DropReason::TooBig).unwrap()
        }
        other => other,
    }
}

/// Makes of a packet that is too big or has no hop left what its sender is told: [`Verdict::Reflected`], or the reason where
/// nobody is told. `told` is the endpoint whose tokens are spent, or [`crate::abi::HOST`].
#[inline(always)]
pub fn answer<P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    told: u32,
    too_big: bool,
) -> Packed {
    let reason = if too_big { DropReason::TooBig } else { DropReason::TtlExceeded };
    let Scratch { headers, parsed, message, .. } = scratch;
    let answered = may_be_answered(headers, parsed)
        && !tables.mutant(Mutant::ErrorsUnsent)
        && is_in_time(tables, told)
        && quote(packet, headers, message)
        && write_message(tables, headers, parsed, message, too_big)
        && become_message(packet, headers, parsed, message);
    Packed::new(if answered {
        tables.count(if too_big { Metric::TooBigSent } else { Metric::TimeExceededSent });
        Ok(Verdict::Reflected)
    } else {
        Err(reason)
    })
}

// Each step is a function of its own and leaves what it found in memory, where the verifier knows no value of it: so the ways
// through one are not multiplied by those through the next.

/// Errors are never about errors, later fragments, what went to a group, or what came from no single host (RFC 1122 section
/// 3.2.2, RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)). Of ICMP, only queries are answered.
#[inline(never)]
fn may_be_answered(headers: &Headers, parsed: &Parsed) -> bool {
    let source = &parsed.key.source;
    parsed.fragment != Fragment::Later
        && parsed.transport != Transport::Icmp
        && !headers.to_group()
        && !parsed.key.destination.is_multicast()
        && !source.is_multicast()
        && !source.is_unspecified()
        && (parsed.key.scope == scope::LOOPBACK || !source.is_loopback())
}

/// Whether there is a token left (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f)).
#[inline(never)]
fn is_in_time<T: Tables>(tables: &T, told: u32) -> bool {
    let rate = tables.setting32(offset_of!(Settings, icmp_error_rate));
    let in_time = tables.usage(told).is_some_and(|usage| usage.take_icmp_error_token(rate, tables.now()))
        || tables.mutant(Mutant::ErrorsUnlimited);
    if !in_time {
        tables.count(Metric::IcmpErrorsLimited);
    }
    in_time
}

/// Reads as much of the packet as is quoted. Its length was found to fit when it was parsed; that of one that will be
/// segmented may not fit its field, which is then 0.
#[inline(never)]
fn quote<P: Packet>(packet: &P, headers: &Headers, message: &mut Message) -> bool {
    let (said, limit) = if headers.ethertype() == ethertype::IPV4 {
        (headers.number16(16) as u32, QUOTED_V4)
    } else {
        let payload = headers.number16(18) as u32;
        (if payload == 0 { 0 } else { payload + 40 }, QUOTED_V6)
    };
    let length = if said == 0 { headers.packet_length - ETHERNET } else { said };
    message.set_quoted(if length < limit { length } else { limit });
    packet.quote(message)
}

/// Writes the message around what is quoted.
#[inline(never)]
fn write_message<T: Tables>(
    tables: &T,
    headers: &Headers,
    parsed: &Parsed,
    message: &mut Message,
    too_big: bool,
) -> bool {
    let (kind, code, said, pseudo_header) = if headers.ethertype() == ethertype::IPV4 {
        let (kind, code) =
            if too_big { (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED) } else { (icmp::TIME_EXCEEDED, 0) };
        // The MTU is in the low half (RFC 1191 section 4).
        (kind, code, headers.exceeds & 0xffff, Sum::ZERO)
    } else {
        let kind = if too_big { icmp::V6_TOO_BIG } else { icmp::V6_TIME_EXCEEDED };
        let sum = Sum::ZERO
            .add_address(&message.sender)
            .add_address(&parsed.key.source)
            .add16((message.length() as u16).to_be())
            .add16((protocol::ICMPV6 as u16).to_be());
        (kind, 0, headers.exceeds, sum)
    };
    let [a, b, c, d] = if too_big { said } else { 0 }.to_be_bytes();
    message.set_header([kind, code, 0, 0, a, b, c, d]);
    let words = message.words();
    let mut summing = Summing { message: &mut *message, sum: pseudo_header };
    tables.repeat(words, &mut summing, add_word);
    let [high, low] = summing.sum.checksum().to_ne_bytes();
    message.set_header([kind, code, high, low, a, b, c, d]);
    true
}

/// A message being summed.
struct Summing<'a> {
    message: &'a mut Message,
    sum: Sum,
}

#[expect(unsafe_code, reason = "the state of a loop comes as the pointer that the kernel was given")]
extern "C" fn add_word(_: u64, summing: *mut Summing<'_>) -> u64 {
    // SAFETY: `repeat` calls the body with the state it was given.
    let summing = unsafe { &mut *summing };
    summing.sum = summing.sum.add(summing.message.next_word());
    0
}

/// TTL or hop limit of an error.
const HOPS: u8 = 64;
/// Internetwork control (RFC 1812 section 4.3.2.5).
const PRECEDENCE: u8 = 0xc0;

/// Makes the packet the message, to whom it came from.
#[inline(never)]
fn become_message<P: Packet>(packet: &mut P, headers: &mut Headers, parsed: &Parsed, message: &Message) -> bool {
    let asker = headers.source_mac();
    headers.set_macs(asker, message.sender_mac);
    let header_length = if headers.ethertype() == ethertype::IPV4 {
        write_v4(headers, parsed, message);
        ETHERNET + 20
    } else {
        write_v6(headers, parsed, message);
        ETHERNET + 40
    };
    packet.become_message(parsed, headers, header_length, message)
}

/// Writes the header of an IPv4 packet that is never fragmented, and so needs no identification (RFC 6864 section 4.1).
#[inline(always)]
fn write_v4(headers: &mut Headers, parsed: &Parsed, message: &Message) {
    let [a, b] = ((20 + message.length()) as u16).to_be_bytes();
    headers.put(14, [0x45, PRECEDENCE, a, b, 0, 0, 0x40, 0, HOPS, protocol::ICMP, 0, 0]);
    let sum = Sum::ZERO
        .add16(headers.wire16(14))
        .add16(headers.wire16(16))
        .add16(headers.wire16(20))
        .add16(headers.wire16(22))
        .add_address(&message.sender)
        .add_address(&parsed.key.source);
    headers.put16(24, sum.checksum());
    headers.put_ipv4(26, &message.sender);
    headers.put_ipv4(30, &parsed.key.source);
}

#[inline(always)]
fn write_v6(headers: &mut Headers, parsed: &Parsed, message: &Message) {
    let [a, b] = (message.length() as u16).to_be_bytes();
    headers.put(14, [0x60, 0, 0, 0, a, b, protocol::ICMPV6, HOPS]);
    headers.put_ipv6(22, &message.sender);
    headers.put_ipv6(38, &parsed.key.source);
}
