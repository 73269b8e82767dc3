//! Where a fragment lies in its datagram (RFC 791 section 3.2, RFC 8200 section 4.5).

use super::{
    headers::{ETHERNET, Headers, ethertype},
    parse::{Parsed, TRANSPORT_V6, protocol},
};
use crate::{
    abi::{Address, DropReason, FRAGMENT_PIECES, FragmentKey, Piece},
    path::Packet,
};

/// What a fragment says of itself.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fragmented {
    /// Of which datagram it is a part.
    pub key: FragmentKey,
    /// Which part.
    pub piece: Piece,
    /// Whether it is the last part.
    pub last: bool,
    /// Bytes of the packet, from its IP header on.
    pub size: u32,
}

impl Fragmented {
    /// Nothing known.
    pub const EMPTY: Self = Self {
        key: FragmentKey {
            source: Address::NONE,
            destination: Address::NONE,
            identification: 0,
            scope: 0,
            protocol: 0,
            padding: 0,
        },
        piece: Piece { start: 0, end: 0 },
        last: false,
        size: 0,
    };
}

/// Reads which part of which datagram a fragment is.
///
/// # Errors
/// [`DropReason::Malformed`] when it has no payload, ends between multiples of 8 bytes without being the last, or ends
/// beyond the largest datagram.
#[inline(always)]
pub fn read_fragment<P: Packet>(
    packet: &P,
    headers: &Headers,
    parsed: &Parsed,
    fragmented: &mut Fragmented,
) -> Result<(), DropReason> {
    let key = &mut fragmented.key;
    key.source = parsed.key.source;
    key.destination = parsed.key.destination;
    key.scope = parsed.key.scope;
    key.padding = 0;
    let (start, length, more) = if parsed.ethertype == ethertype::IPV4 {
        let header_length = (headers.bytes[14] & 0xf) as u32 * 4;
        let offset = headers.number16(20);
        key.identification = headers.wire16(18) as u32;
        key.protocol = parsed.key.protocol;
        ((offset & 0x1fff) as u32 * 8, (headers.number16(16) as u32).wrapping_sub(header_length), offset & 0x2000 != 0)
    } else {
        let at = parsed.fragment_header as u32;
        let [_, _, high, low, a, b, c, d] = packet.load(at).ok_or(DropReason::Malformed)?;
        let offset = u16::from_be_bytes([high, low]);
        key.identification = u32::from_ne_bytes([a, b, c, d]);
        key.protocol = protocol::FRAGMENT;
        let end = TRANSPORT_V6 as u32 + headers.number16(18) as u32;
        ((offset & 0xfff8) as u32, end.wrapping_sub(at + 8), offset & 1 != 0)
    };
    // Below zero is above the largest.
    let beyond = length > u16::MAX as u32 || start + length > u16::MAX as u32;
    if length == 0 || beyond || more && length & 7 != 0 {
        return Err(DropReason::Malformed);
    }
    fragmented.piece = Piece { start: start as u16, end: (start + length) as u16 };
    fragmented.last = !more;
    fragmented.size = headers.packet_length - ETHERNET;
    Ok(())
}

/// No piece.
const NONE: u32 = u32::MAX;

/// What is found out about a new piece of a datagram by looking at each piece that has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placing {
    new: Piece,
    /// The piece that ends where the new one starts.
    left: u32,
    /// The piece that starts where the new one ends.
    right: u32,
    /// Where the last piece ends.
    end: u16,
    overlaps: bool,
    repeats: bool,
}

/// How a new piece of a datagram fits those that have passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placed {
    /// It is new.
    New,
    /// All of it has passed before.
    Repeated,
    /// It overlaps another one, the datagram's end is not where it was, or there are too many gaps.
    Wrong,
}

impl Placing {
    /// Begins to look for a place.
    #[inline(always)]
    #[must_use]
    pub const fn new(new: Piece) -> Self {
        Self { new, left: NONE, right: NONE, end: 0, overlaps: false, repeats: false }
    }

    /// Looks at the piece at `position`.
    #[inline(always)]
    pub const fn look(&mut self, position: u32, piece: Piece) {
        if piece.end > self.end {
            self.end = piece.end;
        }
        if piece.end == self.new.start {
            self.left = position;
        } else if piece.start == self.new.end {
            self.right = position;
        } else if self.new.start >= piece.start && self.new.end <= piece.end {
            self.repeats = true;
        } else if self.new.start < piece.end && self.new.end > piece.start {
            self.overlaps = true;
        }
    }

    /// Puts the piece to those it has looked at, of which there are `used`. `length` is that of the datagram, 0 while it is
    /// not known.
    #[inline(always)]
    pub fn place(&self, pieces: &mut [Piece; FRAGMENT_PIECES], used: &mut u32, length: &mut u16, last: bool) -> Placed {
        if self.repeats {
            return Placed::Repeated;
        }
        let ends = if last { self.new.end } else { *length };
        let beyond = ends != 0 && (self.new.end > ends || self.end > ends);
        if self.overlaps || beyond || last && *length != 0 {
            return Placed::Wrong;
        }
        *length = ends;
        let at = |position: u32| (position & (FRAGMENT_PIECES as u32 - 1)) as usize;
        match (self.left, self.right) {
            (NONE, NONE) => {
                if *used >= FRAGMENT_PIECES as u32 {
                    return Placed::Wrong;
                }
                pieces[at(*used)] = self.new;
                *used += 1;
            }
            (NONE, right) => pieces[at(right)].start = self.new.start,
            (left, NONE) => pieces[at(left)].end = self.new.end,
            (left, right) => {
                // The new one joins both, and the last piece takes the place that is free.
                pieces[at(left)].end = pieces[at(right)].end;
                *used = used.wrapping_sub(1);
                pieces[at(right)] = pieces[at(*used)];
            }
        }
        Placed::New
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Pieces {
        pieces: [Piece; FRAGMENT_PIECES],
        used: u32,
        length: u16,
    }

    impl Pieces {
        fn add(&mut self, start: u16, end: u16, last: bool) -> Placed {
            let mut placing = Placing::new(Piece { start, end });
            for position in 0..self.used {
                placing.look(position, self.pieces[position as usize]);
            }
            placing.place(&mut self.pieces, &mut self.used, &mut self.length, last)
        }
    }

    #[test]
    fn a_repeated_piece_changes_nothing_and_an_overlapping_one_is_wrong() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.add(0, 800, false), Placed::New);
        assert_eq!(pieces.add(0, 800, false), Placed::Repeated);
        assert_eq!(pieces.add(8, 16, false), Placed::Repeated);
        assert_eq!(pieces.add(792, 1_000, false), Placed::Wrong);
        assert_eq!(pieces.used, 1);
    }

    #[test]
    fn the_end_stays_where_it_is() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.add(800, 900, true), Placed::New);
        assert_eq!(pieces.add(904, 1_000, false), Placed::Wrong);
        assert_eq!(pieces.add(904, 1_000, true), Placed::Wrong);
        let mut pieces = Pieces::default();
        assert_eq!(pieces.add(1_600, 2_400, false), Placed::New);
        assert_eq!(pieces.add(800, 900, true), Placed::Wrong);
    }

    #[test]
    fn every_second_one_first_has_room_at_the_smallest_mtu_of_ipv6() {
        let mut pieces = Pieces::default();
        let count = 65_535u32.div_ceil(1_232);
        for position in (1..count).step_by(2).chain((0..count).step_by(2)) {
            let (start, end) = (position * 1_232, 65_535.min((position + 1) * 1_232));
            assert_eq!(pieces.add(start as u16, end as u16, position + 1 == count), Placed::New);
        }
        assert_eq!((pieces.used, pieces.pieces[0]), (1, Piece { start: 0, end: 65_535 }));
    }

    proptest! {
        #[test]
        fn any_order_becomes_one_piece(order in Just((0..30u16).collect::<Vec<_>>()).prop_shuffle()) {
            let mut pieces = Pieces::default();
            for position in order {
                prop_assert_eq!(pieces.add(position * 800, (position + 1) * 800, position == 29), Placed::New);
            }
            prop_assert_eq!((pieces.used, pieces.length, pieces.pieces[0]), (1, 24_000, Piece { start: 0, end: 24_000 }));
        }

        #[test]
        fn what_is_called_new_never_overlaps(adds in prop::collection::vec((0..60u16, 1..12u16, any::<bool>()), 1..60)) {
            let mut pieces = Pieces::default();
            let mut passed = [false; 80];
            for (start, length, last) in adds {
                let range = usize::from(start)..usize::from(start + length);
                let before = passed[range.clone()].iter().filter(|passed| **passed).count();
                match pieces.add(start * 8, (start + length) * 8, last) {
                    Placed::New => {
                        prop_assert_eq!(before, 0);
                        passed[range].fill(true);
                    }
                    Placed::Repeated => prop_assert_eq!(before, range.len()),
                    Placed::Wrong => break,
                }
            }
        }
    }
}
