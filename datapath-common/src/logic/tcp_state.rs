//! TCP connection tracking, as a set of things seen (RFC 9293, RFC 5382, RFC 7857).
//!
//! The state only grows, bit by bit, so both directions may be advanced on different CPUs at once without a lock.
//! Windows are not checked; what a segment may do is bounded by that.

use crate::abi::tcp;

/// Bits of the flags byte of a TCP header (RFC 9293 section 3.1).
pub mod flag {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;
}

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the initiator.
    Original,
    /// From the responder.
    Reply,
}

/// Whether a segment with these flags begins a connection.
#[inline(always)]
#[must_use]
pub const fn begins(flags: u8) -> bool {
    flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN
}

/// What is seen when a segment with these flags passes: bits to add.
#[inline(always)]
#[must_use]
pub const fn seen(state: u32, direction: Direction, flags: u8) -> u32 {
    let original = matches!(direction, Direction::Original);
    let mut bits = 0;
    if flags & flag::RST != 0 {
        return tcp::RST;
    }
    if flags & flag::SYN != 0 {
        bits |= if original { tcp::SYN } else { tcp::REPLY_SYN };
    }
    if flags & flag::FIN != 0 {
        bits |= if original { tcp::FIN } else { tcp::REPLY_FIN };
    }
    let both = tcp::SYN | tcp::REPLY_SYN;
    if flags & flag::ACK != 0 && (state | bits) & both == both && (original || state & both == both) {
        bits |= tcp::ACKED;
    }
    bits
}

/// Whether the connection is over or on its way there, so that a new SYN begins another one on the same ports
/// (RFC 9293 section 3.6.1, RFC 6191).
#[inline(always)]
#[must_use]
pub const fn is_closing(state: u32) -> bool {
    state & tcp::RST != 0 || is_closed(state)
}

/// Whether both ends have closed the connection. A RST does not count: it may be forged, and is taken back by the next
/// segment.
#[inline(always)]
#[must_use]
pub const fn is_closed(state: u32) -> bool {
    state & (tcp::FIN | tcp::REPLY_FIN) == tcp::FIN | tcp::REPLY_FIN
}

/// Whether data may flow both ways: the long timeout holds.
#[inline(always)]
#[must_use]
pub const fn is_established(state: u32) -> bool {
    state & (tcp::ACKED | tcp::FIN | tcp::REPLY_FIN | tcp::RST) == tcp::ACKED
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SYN_ACK: u8 = flag::SYN | flag::ACK;
    const FIN_ACK: u8 = flag::FIN | flag::ACK;

    fn after(segments: &[(Direction, u8)]) -> u32 {
        segments.iter().fold(0, |state, (direction, flags)| state | seen(state, *direction, *flags))
    }

    use Direction::{Original, Reply};

    #[test]
    fn three_way_handshake() {
        assert!(!is_established(after(&[(Original, flag::SYN)])));
        assert!(!is_established(after(&[(Original, flag::SYN), (Reply, SYN_ACK)])));
        assert!(is_established(after(&[(Original, flag::SYN), (Reply, SYN_ACK), (Original, flag::ACK)])));
    }

    #[test]
    fn simultaneous_open() {
        let crossed = [(Original, flag::SYN), (Reply, flag::SYN), (Original, SYN_ACK), (Reply, SYN_ACK)];
        assert!(is_established(after(&crossed)));
    }

    #[test]
    fn half_close_is_not_over() {
        let mut state = after(&[(Original, flag::SYN), (Reply, SYN_ACK), (Original, flag::ACK), (Original, FIN_ACK)]);
        assert!(!is_closing(state) && !is_established(state));
        state |= seen(state, Reply, FIN_ACK);
        assert!(is_closing(state));
    }

    #[test]
    fn only_a_bare_syn_begins() {
        for flags in [SYN_ACK, flag::ACK, flag::RST, FIN_ACK, flag::SYN | flag::FIN, flag::SYN | flag::RST, 0] {
            assert!(!begins(flags), "{flags:#x}");
        }
        assert!(begins(flag::SYN));
    }

    proptest! {
        #[test]
        fn established_needs_a_syn_from_both(segments in prop::collection::vec((any::<bool>(), any::<u8>()), 0..12)) {
            let segments: Vec<_> =
                segments.into_iter().map(|(original, flags)| (if original { Original } else { Reply }, flags)).collect();
            if is_established(after(&segments)) {
                for direction in [Original, Reply] {
                    let opens = |flags: u8| flags & flag::SYN != 0 && flags & flag::RST == 0;
                    let opened = segments.iter().any(|(from, flags)| *from == direction && opens(*flags));
                    prop_assert!(opened, "{direction:?}");
                }
            }
        }
    }
}
