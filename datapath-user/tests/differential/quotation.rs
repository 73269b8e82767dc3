//! What ICMP errors quote, without what may differ between two right hosts.

use crate::canonical::RIGHT;
use crate::locate::{ETHERNET, Located, locate, put, word};
use crate::reassembly::{FRAGMENT, FRAGMENT_HEADER};

/// IPv4's option that routers write into (RFC 791 section 3.1).
const RECORD_ROUTE: u8 = 7;

/// So much of what an IPv6 error quotes is compared: all that there is room for (RFC 4443 section 2.4 (c)), but for a
/// fragment header that one host has taken out.
const QUOTED: usize = 1_280 - 40 - 8 - FRAGMENT_HEADER;

/// Takes the fragment header out of the IPv6 packet that an error quotes at this place, where it is of no fragment: one host
/// has taken it out before it quotes, the other not.
fn without_fragment_header(frame: &mut Vec<u8>, at: usize) {
    let header = at + 40;
    let is_whole =
        frame.get(at + 6) == Some(&FRAGMENT) && word(frame, header + 2).is_some_and(|field| field & 0xfff9 == 0);
    if !is_whole || frame.len() < header + FRAGMENT_HEADER {
        return;
    }
    frame[at + 6] = frame[header];
    frame.drain(header..header + FRAGMENT_HEADER);
    for length in [18, at + 4] {
        let longer = word(frame, length).unwrap_or(0);
        put(frame, length, longer.wrapping_sub(FRAGMENT_HEADER as u16));
    }
}

/// Blanks the identification, TTL and header checksum of the packet that an error quotes, and a record route: they were
/// compared when the packet itself arrived, and the host's own packets have other identifications in each world.
pub fn blank_quoted(frame: &mut Vec<u8>, located: &Located) {
    let at = located.transport + 8;
    if !located.v4 {
        without_fragment_header(frame, at);
        if frame.len() > at + QUOTED {
            frame.truncate(at + QUOTED);
            put(frame, 18, (8 + QUOTED) as u16);
        }
    }
    let fields: &[(usize, usize)] = if located.v4 { &[(4, 2), (8, 1), (10, 2)] } else { &[(2, 2), (7, 1)] };
    for (offset, length) in fields {
        if let Some(field) = frame.get_mut(at + offset..at + offset + length) {
            field.fill(0);
        }
    }
    let header = frame.get(at).map_or(0, |first| usize::from(first & 0xf) * 4);
    if located.v4
        && frame.get(at + 20) == Some(&RECORD_ROUTE)
        && let Some(options) = frame.get_mut(at + 20..at + header)
    {
        options.fill(0);
    }
}

/// The checksum of a quoted packet is about the port that it had.
pub fn blank_quoted_checksum(frame: &mut [u8], located: &Located) {
    let at = located.transport + 8 - ETHERNET;
    let quoted = [&frame[..ETHERNET], frame.get(at + ETHERNET..).unwrap_or(&[])].concat();
    let Some(quoted) = locate(&quoted) else { return };
    match quoted.checksum() {
        Some(checksum) => put(frame, at + checksum, RIGHT),
        // Too little for one, but maybe its first byte.
        None => frame.iter_mut().skip(at + quoted.transport).for_each(|byte| *byte = 0),
    }
}
