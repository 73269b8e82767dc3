//! Connections played segment by segment, those of the kernel's conntrack tests among them
//! (tools/testing/selftests/net/netfilter/packetdrill).

use proptest::prelude::*;

use super::{Direction::*, *};

const SYN: u8 = flag::SYN;
const ACK: u8 = flag::ACK;
const SYN_ACK: u8 = flag::SYN | flag::ACK;
const FIN_ACK: u8 = flag::FIN | flag::ACK;
const RST: u8 = flag::RST;
const RST_ACK: u8 = flag::RST | flag::ACK;

/// A connection whose initiator begins at 0 and whose responder at `RESPONDER`.
#[derive(Default)]
struct Connection {
    state: u32,
    sequences: Sequences,
}

const RESPONDER: u32 = 4_000_000_000;

impl Connection {
    fn new() -> Self {
        let mut new = Self::default();
        new.plays(&[(Original, SYN, 0, 0, 0)]);
        new
    }

    fn established() -> Self {
        let mut connection = Self::new();
        connection.plays(&[(Reply, SYN_ACK, RESPONDER, 0, 1), (Original, ACK, 1, 0, RESPONDER + 1)]);
        assert!(is_established(connection.state));
        connection
    }

    /// A segment: direction, flags, sequence number, bytes of data, acknowledgement number.
    fn play(&mut self, (direction, flags, sequence, data, acknowledgement): (Direction, u8, u32, u32, u32)) -> Effect {
        let counted = u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
        let end = sequence.wrapping_add(data + counted);
        let effect = judge(self.state, self.sequences, direction, Segment { flags, sequence, end, acknowledgement });
        match effect {
            Effect::Advance(bits, sequences) => {
                self.state |= bits;
                self.sequences = sequences;
            }
            Effect::Restart(bits, sequences) => (self.state, self.sequences) = (bits, sequences),
            Effect::Nothing | Effect::Refuse => {}
        }
        effect
    }

    /// Segments that all belong to the connection.
    #[track_caller]
    fn plays(&mut self, segments: &[(Direction, u8, u32, u32, u32)]) {
        for segment in segments {
            let effect = self.play(*segment);
            assert!(matches!(effect, Effect::Advance(..)), "{segment:?}: {effect:?}");
        }
    }
}

#[test]
fn three_way_handshake() {
    let mut connection = Connection::new();
    assert!(!is_established(connection.state));
    connection.plays(&[(Reply, SYN_ACK, RESPONDER, 0, 1)]);
    assert!(!is_established(connection.state));
    connection.plays(&[(Original, ACK, 1, 0, RESPONDER + 1)]);
    assert!(is_established(connection.state));
}

#[test]
fn simultaneous_open() {
    let mut connection = Connection::new();
    connection.plays(&[(Reply, SYN, RESPONDER, 0, 0), (Original, SYN_ACK, 0, 0, RESPONDER + 1)]);
    assert!(is_established(connection.state));
    assert_eq!(connection.play((Reply, SYN_ACK, RESPONDER, 0, 1)), Effect::Nothing);
}

#[test]
fn fast_open_with_its_data_acknowledged_or_not() {
    for acknowledged in [1, 501] {
        let mut connection = Connection::default();
        connection.plays(&[(Original, SYN, 0, 500, 0), (Reply, SYN_ACK, RESPONDER, 0, acknowledged)]);
        connection.plays(&[(Original, ACK, acknowledged, 501 - acknowledged, RESPONDER + 1)]);
        assert!(is_established(connection.state));
    }
}

#[test]
fn half_close_is_not_over() {
    let mut connection = Connection::established();
    connection.plays(&[(Original, FIN_ACK, 1, 0, RESPONDER + 1)]);
    assert!(!is_closing(connection.state) && !is_established(connection.state));
    connection.plays(&[(Reply, FIN_ACK, RESPONDER + 1, 0, 2)]);
    assert!(is_closing(connection.state));
}

#[test]
fn only_a_bare_syn_begins() {
    for flags in [SYN_ACK, ACK, RST, FIN_ACK, SYN | flag::FIN, SYN | RST, 0] {
        assert!(!begins(flags), "{flags:#x}");
    }
    assert!(begins(SYN));
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    for flags in [0, flag::FIN, SYN | flag::FIN, SYN | RST, flag::FIN | RST, SYN_ACK | flag::FIN, RST_ACK | flag::FIN] {
        assert_eq!(
            Connection::established().play((Original, flags, 1, 0, RESPONDER + 1)),
            Effect::Refuse,
            "{flags:#x}"
        );
    }
}

/// `conntrack_rst_invalid`: a RST outside the window is refused, and only the exact number ends the connection.
#[test]
fn resets_outside_the_window_are_refused() {
    let mut connection = Connection::established();
    let at = |offset: u32| RESPONDER.wrapping_add(offset);
    connection.plays(&[
        (Reply, ACK, at(1), 3_000, 1),
        (Original, ACK, 1, 0, at(3_001)),
        (Original, ACK, 1, 1_000, at(3_001)),
    ]);
    for sequence in [0, at(0), at(42), at(3_000), at(3_001 + AHEAD + 1)] {
        assert_eq!(connection.play((Reply, RST, sequence, 0, 0)), Effect::Refuse, "{sequence}");
        assert!(is_established(connection.state));
    }
    assert_eq!(connection.play((Reply, RST, at(4_000), 0, 0)), Effect::Nothing, "to be challenged by its receiver");
    connection.plays(&[(Reply, RST_ACK, at(3_001), 0, 1_001)]);
    assert!(is_closing(connection.state));
}

/// Behind data that its receiver has not acknowledged yet.
#[test]
fn a_reset_behind_data_is_exact() {
    let mut connection = Connection::established();
    connection.plays(&[(Original, ACK, 1, 19, RESPONDER + 1), (Original, RST, 20, 0, 0)]);
    assert!(is_closing(connection.state));
}

/// `conntrack_inexact_rst`: once one side has closed, a RST inside the window ends the connection, and late ones pass.
#[test]
fn resets_of_a_closing_connection_need_not_be_exact() {
    let mut connection = Connection::established();
    let at = |offset: u32| RESPONDER.wrapping_add(offset);
    connection.plays(&[
        (Reply, ACK, at(1), 3_000, 1),
        (Original, ACK, 1, 1_000, at(3_001)),
        (Reply, FIN_ACK, at(3_001), 0, 1_001),
        (Original, ACK, 1_001, 0, at(3_002)),
        (Original, RST_ACK, 1_500, 0, at(3_002)),
    ]);
    assert!(is_closing(connection.state));
    assert!(matches!(connection.play((Reply, RST, at(2_001), 0, 0)), Effect::Advance(..)));
}

/// `conntrack_syn_challenge_ack`: the peer still has an earlier connection, and is told to forget it.
#[test]
fn an_acknowledgement_of_an_earlier_connection_passes() {
    let mut connection = Connection::new();
    assert_eq!(connection.play((Reply, ACK, 145_824_453, 0, 643_160_523)), Effect::Nothing);
    assert_eq!(connection.play((Original, RST, 643_160_523, 0, 0)), Effect::Nothing);
    assert!(!is_closing(connection.state));
    connection.plays(&[
        (Original, SYN, 0, 0, 0),
        (Reply, SYN_ACK, RESPONDER, 0, 1),
        (Original, ACK, 1, 0, RESPONDER + 1),
    ]);
    assert!(is_established(connection.state));
}

/// `conntrack_synack_old`: the answer to an earlier SYN passes and does not spoil the right one.
#[test]
fn an_answer_to_an_earlier_syn_changes_nothing() {
    let mut connection = Connection::new();
    assert_eq!(connection.play((Reply, SYN_ACK, 145_824_453, 0, 643_160_523)), Effect::Nothing);
    connection.plays(&[
        (Original, SYN, 0, 0, 0),
        (Reply, SYN_ACK, 145_758_918, 0, 1),
        (Original, ACK, 1, 0, 145_758_919),
    ]);
    assert!(is_established(connection.state));
}

/// `conntrack_synack_reuse`: a SYN in an open connection is answered by a challenge, and that by the RST that ends it.
#[test]
fn a_syn_in_an_open_connection_is_challenged() {
    let mut connection = Connection::established();
    connection.plays(&[
        (Original, ACK, 1, 100, RESPONDER + 1),
        (Reply, ACK, RESPONDER + 1, 0, 101),
        (Original, SYN, 2_000, 0, 0),
    ]);
    assert!(is_established(connection.state), "a SYN alone changes nothing");
    connection.plays(&[(Reply, ACK, RESPONDER + 1, 0, 101), (Original, RST_ACK, 101, 0, 1)]);
    assert!(is_closing(connection.state), "the next SYN begins another connection");
}

/// `conntrack_ack_loss_stall`: what was acknowledged already may come once more.
#[test]
fn data_that_was_acknowledged_passes_once_more() {
    let mut connection = Connection::established();
    for segment in 0..46 {
        connection.plays(&[(Original, ACK, 1 + segment * 1_460, 1_460, RESPONDER + 1)]);
        connection.plays(&[(Reply, ACK, RESPONDER + 1, 0, 1 + (segment + 1) * 1_460)]);
    }
    assert_eq!(connection.play((Original, ACK, 1, 1_460, RESPONDER + 1)), Effect::Nothing);
}

#[test]
fn a_responder_that_has_lost_the_connection_begins_or_refuses_another_one() {
    let mut connection = Connection::established();
    connection.plays(&[(Original, SYN, 7_000, 0, 0)]);
    assert!(matches!(connection.play((Reply, SYN_ACK, 99, 0, 7_001)), Effect::Restart(..)));
    connection.plays(&[(Original, ACK, 7_001, 10, 100), (Reply, ACK, 100, 10, 7_011)]);
    assert!(is_established(connection.state));
    let mut connection = Connection::established();
    connection.plays(&[(Original, SYN, 7_000, 0, 0), (Reply, RST_ACK, 0, 0, 7_001)]);
    assert!(is_closing(connection.state));
}

#[test]
fn what_both_ends_have_closed_does_not_begin_once_more() {
    let mut connection = Connection::established();
    connection.plays(&[
        (Original, SYN, 7_000, 0, 0),
        (Original, FIN_ACK, 1, 0, RESPONDER + 1),
        (Reply, FIN_ACK, RESPONDER + 1, 0, 2),
    ]);
    assert_eq!(connection.play((Reply, SYN_ACK, 99, 0, 7_001)), Effect::Nothing);
    assert!(is_closed(connection.state));
}

proptest! {
    /// Whoever does not see the connection guesses numbers.
    #[test]
    fn nobody_changes_a_connection_blindly(
        segments in prop::collection::vec((any::<bool>(), any::<u8>(), any::<u32>(), 0..2_000u32, any::<u32>()), 1..40),
    ) {
        let mut connection = Connection::established();
        connection.plays(&[(Original, ACK, 1, 1_000, RESPONDER + 1), (Reply, ACK, RESPONDER + 1, 500, 1_001)]);
        let (state, sequences) = (connection.state, connection.sequences);
        for (original, flags, sequence, data, acknowledgement) in segments {
            let near = |a: u32, b: u32| a.wrapping_sub(b).wrapping_add(2 * AHEAD) < 4 * AHEAD;
            let side = usize::from(!original);
            let guessed = near(sequence, sequences.next[side]) || near(acknowledgement, sequences.next[1 - side]);
            if !guessed {
                let direction = if original { Original } else { Reply };
                connection.play((direction, flags, sequence, data, acknowledgement));
            }
        }
        prop_assert_eq!(connection.state & !tcp::REOPENED, state);
        prop_assert_eq!(Sequences { reopened: 0, ..connection.sequences }, Sequences { reopened: 0, ..sequences });
    }

    /// Segments lost, repeated and in any order within a burst do not shut a right RST out.
    #[test]
    fn a_right_reset_ends_any_connection(
        bursts in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(1..3_000u32, 1..6).prop_shuffle(), any::<u64>()), 1..20),
        by_initiator in any::<bool>(),
    ) {
        let mut connection = Connection::established();
        let mut next = [1, RESPONDER + 1];
        for (original, lengths, choice) in bursts {
            let (from, to) = if original { (0, 1) } else { (1, 0) };
            let direction = if original { Original } else { Reply };
            let mut segments = Vec::new();
            for length in lengths {
                segments.push((direction, ACK, next[from], length, next[to]));
                next[from] = next[from].wrapping_add(length);
            }
            let turned = choice as usize % segments.len();
            segments.rotate_left(turned);
            for segment in &segments {
                connection.play(*segment);
            }
            connection.play(segments[choice as usize / 7 % segments.len()]);
            let answer = if original { Reply } else { Original };
            connection.play((answer, ACK, next[to], 0, next[from]));
        }
        let (from, direction) = if by_initiator { (0, Original) } else { (1, Reply) };
        connection.play((direction, RST, next[from], 0, 0));
        prop_assert!(is_closing(connection.state));
    }
}
