//! TCP connection tracking (RFC 9293, RFC 5382, RFC 7857): what was seen of a connection, and which segments may change it.
//!
//! The state is a set of bits that grows, but for a connection that begins once more and a RST that is taken back, so both
//! directions may be advanced on different CPUs at once without a lock. A segment changes it only when its sequence and
//! acknowledgement numbers are near those of the connection; who does not see it needs millions of guesses to end it, or to
//! shorten its time. Data outside the window passes: its receiver judges
//! it better (RFC 5961), and to drop it would break connections whose window was misjudged.

use crate::abi::{Sequences, tcp};

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

/// How far ahead of what was seen a segment may be, and how far behind an acknowledgement: as much as Linux has under way
/// unless it is told otherwise (net.ipv4.tcp_wmem). Both numbers right, of which each is one in 1,024 that a blind attacker
/// may guess, are one in a million.
pub const AHEAD: u32 = 1 << 22;
/// Bytes of data that a SYN may carry, for its answer may acknowledge them or not (RFC 7413).
const FAST_OPEN: u32 = 1 << 14;

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the initiator.
    Original,
    /// From the responder.
    Reply,
}

/// A segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// [`flag`]s.
    pub flags: u8,
    /// Number of its first byte, or of SYN.
    pub sequence: u32,
    /// The number behind its last byte, SYN and FIN counted as one each.
    pub end: u32,
    /// The next number its sender expects; means something with ACK only.
    pub acknowledgement: u32,
}

/// What a segment does to its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It is a part of it: these [`tcp`] bits are added, and the numbers are these from now on.
    Advance(u32, Sequences),
    /// It begins it once more, for both ends know of the other's SYN: nothing but these bits and numbers is left of it.
    Restart(u32, Sequences),
    /// It passes and leaves no trace: it is late, or forged, which its receiver will find out.
    Nothing,
    /// No receiver would take it.
    Refuse,
}

/// Whether a segment with these flags begins a connection.
#[inline(always)]
#[must_use]
pub const fn begins(flags: u8) -> bool {
    flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN
}

/// Whether number `a` comes before `b` (RFC 9293 section 3.4).
#[inline(always)]
const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

const BOTH: u32 = tcp::SYN | tcp::REPLY_SYN;

/// Whether flags can be together in a segment (RFC 9293 section 3.10; the same list as tcp_valid_flags of nf_conntrack).
#[inline(always)]
#[must_use]
pub const fn is_valid(flags: u8) -> bool {
    use flag::{ACK, FIN, RST, SYN};
    matches!(flags & (SYN | ACK | RST | FIN), SYN | ACK | RST) || {
        let others = flags & (SYN | RST | FIN);
        flags & ACK != 0 && (others == SYN || others == RST || others == FIN)
    }
}

/// What a segment does to a connection in this state.
#[inline(always)]
#[must_use]
pub const fn judge(state: u32, sequences: Sequences, direction: Direction, segment: Segment) -> Effect {
    let flags = segment.flags;
    if !is_valid(flags) {
        Effect::Refuse
    } else if flags & flag::RST != 0 {
        reset(state, sequences, direction, segment)
    } else if flags & flag::SYN != 0 {
        open(state, sequences, direction, segment)
    } else if state & BOTH == BOTH {
        advance(sequences, direction, segment)
    } else {
        // An answer of an earlier connection, which the initiator resets.
        Effect::Nothing
    }
}

/// Places of the sender's and of the receiver's numbers.
#[inline(always)]
const fn sides(direction: Direction) -> (usize, usize) {
    match direction {
        Direction::Original => (0, 1),
        Direction::Reply => (1, 0),
    }
}

/// Whether `acknowledgement` answers a SYN that ended at `end`, with its data or without.
#[inline(always)]
const fn answers(acknowledgement: u32, end: u32) -> bool {
    end.wrapping_sub(acknowledgement) < FAST_OPEN
}

/// The handshake.
#[inline(always)]
const fn open(state: u32, mut sequences: Sequences, direction: Direction, segment: Segment) -> Effect {
    let Segment { flags, sequence, end, acknowledgement } = segment;
    let (from, to) = sides(direction);
    let acknowledges = flags & flag::ACK != 0;
    if state & tcp::ACKED != 0 || state & BOTH == BOTH && !acknowledges {
        return reopen(state, sequences, direction, segment);
    }
    if acknowledges && !answers(acknowledgement, sequences.next[to]) {
        return reopen(state, sequences, direction, segment);
    }
    sequences.next[from] = end;
    sequences.acknowledged[to] = sequence.wrapping_add(1);
    let mut bits = match direction {
        Direction::Original => {
            sequences.reopened = end;
            tcp::SYN
        }
        Direction::Reply => tcp::REPLY_SYN,
    };
    if acknowledges {
        sequences.acknowledged[from] = acknowledgement;
        if matches!(direction, Direction::Original) {
            // The third step of a simultaneous open (RFC 9293 section 3.5).
            bits |= tcp::ACKED;
        }
    }
    Effect::Advance(bits, sequences)
}

/// A SYN in a connection that is open. Its receiver answers it by an acknowledgement, which the sender, if it sent the SYN,
/// answers by a RST (RFC 5961 section 4); or the receiver has lost the connection, and answers it like any SYN.
#[inline(always)]
const fn reopen(state: u32, mut sequences: Sequences, direction: Direction, segment: Segment) -> Effect {
    let Segment { flags, sequence, end, acknowledgement } = segment;
    if flags & flag::ACK == 0 && matches!(direction, Direction::Original) && end != sequences.reopened {
        sequences.reopened = end;
        return Effect::Advance(tcp::REOPENED, sequences);
    }
    if may_answer_another(state, direction, segment) && answers(acknowledgement, sequences.reopened) {
        let next = [sequences.reopened, end];
        let acknowledged = [sequence.wrapping_add(1), acknowledgement];
        return Effect::Restart(BOTH, Sequences { next, acknowledged, ..sequences });
    }
    Effect::Nothing
}

/// Whether the responder may be answering [`tcp::REOPENED`]. What both ends have closed is over for good: it is charged to
/// nobody any more.
#[inline(always)]
const fn may_answer_another(state: u32, direction: Direction, segment: Segment) -> bool {
    state & tcp::REOPENED != 0
        && !is_closed(state)
        && matches!(direction, Direction::Reply)
        && segment.flags & flag::ACK != 0
}

/// Data, acknowledgements and FIN.
#[inline(always)]
const fn advance(mut sequences: Sequences, direction: Direction, segment: Segment) -> Effect {
    let Segment { flags, sequence, end, acknowledgement } = segment;
    let (from, to) = sides(direction);
    let ahead = before(sequences.next[from].wrapping_add(AHEAD), sequence);
    // A keep-alive has the number before the one that is expected (RFC 9293 section 3.8.4).
    let late = before(end.wrapping_add(1), sequences.acknowledged[to]);
    // What was never sent cannot be acknowledged, and what was sent passed here.
    let unsent = before(sequences.next[to], acknowledgement);
    // RFC 5961 section 5.2.
    let stale = before(acknowledgement, sequences.acknowledged[from].wrapping_sub(AHEAD));
    if ahead || late || unsent || stale {
        return Effect::Nothing;
    }
    if before(sequences.next[from], end) {
        sequences.next[from] = end;
    }
    let mut bits = 0;
    if !before(acknowledgement, sequences.acknowledged[from]) {
        sequences.acknowledged[from] = acknowledgement;
        if matches!(direction, Direction::Original) {
            bits |= tcp::ACKED;
        }
    }
    if flags & flag::FIN != 0 {
        bits |= match direction {
            Direction::Original => tcp::FIN,
            Direction::Reply => tcp::REPLY_FIN,
        };
    }
    Effect::Advance(bits, sequences)
}

/// RST. One with exactly the number that its receiver expects ends the connection; to another one inside the window the
/// receiver answers by an acknowledgement, so that the sender may send the right one (RFC 5961 section 3.2).
#[inline(always)]
const fn reset(state: u32, sequences: Sequences, direction: Direction, segment: Segment) -> Effect {
    let Segment { flags, sequence, acknowledgement, .. } = segment;
    let (from, to) = sides(direction);
    let over = Effect::Advance(tcp::RST, sequences);
    if is_closing(state) {
        return over;
    }
    let acknowledges = flags & flag::ACK != 0;
    if state & BOTH != BOTH {
        let refused = acknowledges && acknowledgement == sequences.next[to];
        return match direction {
            Direction::Original if sequence == sequences.next[from] => over,
            Direction::Reply if refused => over,
            _ => Effect::Nothing,
        };
    }
    if may_answer_another(state, direction, segment) && acknowledgement == sequences.reopened {
        // The responder has lost the connection, and refuses another one.
        return over;
    }
    let expected = sequences.acknowledged[to];
    if before(sequence, expected) || before(sequences.next[from].wrapping_add(AHEAD), sequence) {
        return Effect::Refuse;
    }
    // What has come since it was sent, the receiver may not have acknowledged yet.
    if sequence == expected || sequence == sequences.next[from] || state & (tcp::FIN | tcp::REPLY_FIN) != 0 {
        return over;
    }
    Effect::Nothing
}

/// Whether the connection is over or on its way there, so that a new SYN begins another one on the same ports
/// (RFC 9293 section 3.6.1, RFC 6191).
#[inline(always)]
#[must_use]
pub const fn is_closing(state: u32) -> bool {
    state & tcp::RST != 0 || is_closed(state)
}

/// Whether both ends have closed the connection. A RST does not count: the next segment of the connection takes it back.
#[inline(always)]
#[must_use]
pub const fn is_closed(state: u32) -> bool {
    state & (tcp::FIN | tcp::REPLY_FIN) == tcp::FIN | tcp::REPLY_FIN
}

/// Whether the handshake is complete.
#[inline(always)]
#[must_use]
pub const fn is_open(state: u32) -> bool {
    state & tcp::ACKED != 0
}

/// Whether data may flow both ways: the long timeout holds.
#[inline(always)]
#[must_use]
pub const fn is_established(state: u32) -> bool {
    state & (tcp::ACKED | tcp::FIN | tcp::REPLY_FIN | tcp::RST) == tcp::ACKED
}

#[cfg(test)]
#[path = "tcp_state_tests.rs"]
mod tests;
