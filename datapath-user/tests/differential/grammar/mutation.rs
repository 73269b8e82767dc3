//! Damage: bit flips, truncation, padding and length fields that lie.

use fastrand::Rng;

use crate::locate::{ETHERNET, TCP, UDP, locate, put, word};

/// Damages a frame, and says how. It stays long enough to be sent.
pub fn damage(random: &mut Rng, frame: &mut Vec<u8>) -> &'static str {
    let located = locate(frame);
    match (random.u32(..8), located) {
        (0, _) => {
            frame.truncate(random.usize(ETHERNET..frame.len()));
            "truncated"
        }
        (1, _) => {
            frame.extend((0..random.usize(1..40)).map(|_| random.u8(..)));
            "padded"
        }
        (2, Some(ip)) => {
            let at = if ip.v4 { 16 } else { 18 };
            lie(random, frame, at);
            "lying IP length"
        }
        (3, Some(ip)) if ip.v4 => {
            frame[ETHERNET] = random.u8(..);
            "lying IP header length"
        }
        (3, Some(_)) => {
            frame[20] = random.u8(..);
            "lying next header"
        }
        (4, Some(ip)) if ip.protocol == UDP && ip.transport + 6 <= frame.len() => {
            lie(random, frame, ip.transport + 4);
            "lying UDP length"
        }
        (4, Some(ip)) if ip.protocol == TCP && ip.transport + 13 <= frame.len() => {
            frame[ip.transport + 12] = random.u8(..);
            "lying TCP header length"
        }
        _ => {
            let bit = random.usize(..frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            flipped(bit / 8, located.map(|ip| ip.transport))
        }
    }
}

fn lie(random: &mut Rng, frame: &mut [u8], at: usize) {
    let truth = word(frame, at).unwrap_or(0);
    let lie = match random.u32(..4) {
        0 => truth.wrapping_add(random.u16(1..20)),
        1 => truth.wrapping_sub(random.u16(1..20)),
        2 => 0,
        _ => random.u16(..),
    };
    put(frame, at, lie);
}

fn flipped(at: usize, transport: Option<usize>) -> &'static str {
    match at {
        0..ETHERNET => "bit in Ethernet",
        _ if transport.is_some_and(|transport| at < transport) => "bit in IP",
        _ => "bit behind IP",
    }
}
