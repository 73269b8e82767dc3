//! Fragments are compared as the datagram that they are of: how a host cuts it and numbers the pieces is its own affair, and
//! whether it leaves a fragment header on what is whole (RFC 6946).

use std::collections::BTreeMap;

use lab::frame::{ethertype, internet_checksum};

use crate::locate::{ETHERNET, locate, put, word};
use crate::twins::Arrival;

const IPV6: usize = ETHERNET + 40;
/// IPv6's fragment header (RFC 8200 section 4.5), and its length.
pub const FRAGMENT: u8 = 44;
pub const FRAGMENT_HEADER: usize = 8;

/// A fragment: where its payload is in the frame, and in the datagram.
struct Piece {
    /// Where the payload begins in the frame.
    payload: usize,
    end: usize,
    offset: usize,
    more: bool,
}

/// The arrivals, with datagrams in place of fragments wherever they are all there. What is incomplete, or overlaps, stays;
/// what is repeated counts once.
pub fn reassembled(arrivals: &[Arrival]) -> Vec<Arrival> {
    let mut whole = Vec::new();
    let mut datagrams = BTreeMap::<_, Vec<(Piece, &Arrival)>>::new();
    for arrival in arrivals {
        match piece(&arrival.frame) {
            // One alone has nothing to do with others of its identification.
            Some((_, piece)) if piece.offset == 0 && !piece.more => {
                whole.extend(joined(&[(piece, arrival)]));
            }
            Some((identity, piece)) => {
                datagrams.entry((arrival.port, identity)).or_default().push((piece, arrival));
            }
            None => whole.push(arrival.clone()),
        }
    }
    for mut pieces in datagrams.into_values() {
        pieces.sort_by_key(|(piece, _)| (piece.offset, piece.more));
        pieces.dedup_by(|(_, this), (_, that)| this.frame == that.frame);
        match joined(&pieces) {
            Some(datagram) => whole.push(datagram),
            None => whole.extend(pieces.into_iter().map(|(_, arrival)| arrival.clone())),
        }
    }
    whole
}

/// What fragments of one datagram have in common (RFC 791, RFC 8200 section 4.5), and the piece; `None` for what is none.
fn piece(frame: &[u8]) -> Option<(Vec<u8>, Piece)> {
    let located = locate(frame).filter(|located| located.fragment || located.fragment_header)?;
    if located.v4 {
        // A wrong header is none of this; it is compared as it is.
        if internet_checksum(frame.get(ETHERNET..located.transport)?) != 0 {
            return None;
        }
        let field = word(frame, 20)?;
        let identity = [&frame[26..34], &frame[18..20], &frame[23..24]].concat();
        let (offset, more) = (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0);
        return Some((identity, Piece { payload: located.transport, end: located.end, offset, more }));
    }
    // Only where the fragment header comes first, as the test makes them and Linux too.
    if frame[20] != FRAGMENT {
        return None;
    }
    let field = word(frame, IPV6 + 2)?;
    let identity = [&frame[22..54], frame.get(IPV6 + 4..IPV6 + 8)?].concat();
    let (offset, more) = (usize::from(field & 0xfff8), field & 1 != 0);
    Some((identity, Piece { payload: IPV6 + FRAGMENT_HEADER, end: located.end, offset, more }))
}

/// The datagram of these pieces, in order, without an identification; `None` where there is a hole or an overlap.
fn joined(pieces: &[(Piece, &Arrival)]) -> Option<Arrival> {
    let (first, arrival) = pieces.first()?;
    let (last, _) = pieces.last()?;
    let mut payload = Vec::<u8>::new();
    for (piece, arrival) in pieces {
        if piece.offset != payload.len() {
            return None;
        }
        payload.extend(arrival.frame.get(piece.payload..piece.end)?);
    }
    if last.more {
        return None;
    }
    let v4 = word(&arrival.frame, 12) == Some(ethertype::IPV4);
    let mut frame = arrival.frame[..if v4 { first.payload } else { IPV6 }].to_vec();
    if v4 {
        put(&mut frame, 20, 0);
        put(&mut frame, 16, u16::try_from(first.payload - ETHERNET + payload.len()).ok()?);
        put(&mut frame, 18, 0);
        put(&mut frame, 24, 0);
        let sum = internet_checksum(&frame[ETHERNET..]);
        put(&mut frame, 24, sum);
    } else {
        frame[20] = arrival.frame[IPV6];
        put(&mut frame, 18, u16::try_from(payload.len()).ok()?);
    }
    frame.extend(payload);
    Some(Arrival { frame, ..(*arrival).clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::Mac;
    use lab::frame::{Ethernet, fragments};

    fn arrivals(frames: Vec<Vec<u8>>) -> Vec<Arrival> {
        frames.into_iter().map(|frame| Arrival { port: 0, vlan: None, frame }).collect()
    }

    #[test]
    fn datagrams_come_back_whatever_the_order() {
        for ends in [["10.0.0.1", "10.0.0.2"], ["fd00::1", "fd00::2"]] {
            let [source, destination] = ends.map(lab::lan::address);
            let ip = Ethernet::new(Mac([2; 6]), Mac([4; 6])).ip(source, destination);
            let whole = ip.identification(0).udp(1, 2, &[9; 50]);
            let mut parts = arrivals(fragments(&whole, 16, 7));
            parts.reverse();
            assert_eq!(reassembled(&parts)[0].frame, whole);
            parts.push(parts[0].clone());
            assert_eq!(reassembled(&parts).len(), 1, "a repeated one makes no difference");
            parts.pop();
            parts.remove(1);
            assert_eq!(reassembled(&parts).len(), parts.len(), "with a hole they stay");
        }
    }
}
