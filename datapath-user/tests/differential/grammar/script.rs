//! What the two sides of a flow say, in turn.

use std::collections::VecDeque;

use fastrand::Rng;
use lab::frame::tcp_flags::{ACK, FIN, PSH, RST, SYN};

use super::flow::{Move, Side};

const I: Side = Side::Initiator;
const R: Side = Side::Responder;

fn tcp(from: Side, flags: u8) -> Move {
    Move::Tcp { from, flags, payload: false }
}

fn data(from: Side) -> Move {
    Move::Tcp { from, flags: PSH | ACK, payload: true }
}

/// Draws the script of a flow.
pub fn draw(random: &mut Rng, v4: bool, echoes: bool) -> VecDeque<Move> {
    let mut script = match random.u32(..if echoes { 10 } else { 8 }) {
        0..=4 => connection(random),
        5..=7 => datagrams(random),
        _ => queries(random),
    };
    if random.u32(..10) == 0 {
        let at = random.usize(..=script.len());
        script.insert(at, error(random, v4));
    }
    if random.u32(..20) == 0 {
        let at = random.usize(..=script.len());
        script.insert(at, Move::Stranger);
    }
    script.into()
}

/// A TCP connection, as it should be or cut off by something else.
fn connection(random: &mut Rng) -> Vec<Move> {
    let mut script = match random.u32(..16) {
        // Refused.
        0 => return vec![tcp(I, SYN), tcp(R, RST | ACK), tcp(I, SYN), tcp(R, SYN | ACK), tcp(I, ACK)],
        // Repeated, and answered late.
        1 => vec![tcp(I, SYN), tcp(I, SYN), tcp(R, SYN | ACK), tcp(R, SYN | ACK), tcp(I, ACK)],
        // Simultaneous open (RFC 9293 section 3.5).
        2 => vec![tcp(I, SYN), tcp(R, SYN), tcp(I, SYN | ACK), tcp(R, SYN | ACK), tcp(I, ACK), tcp(R, ACK)],
        // What belongs to no connection.
        3 => {
            let strays = [ACK, FIN | ACK, RST, SYN | ACK, PSH | ACK, 0, SYN | FIN, SYN | RST, FIN, RST | ACK];
            let flags = strays[random.usize(..strays.len())];
            return vec![tcp(I, flags), tcp(R, ACK), tcp(I, ACK)];
        }
        _ => vec![tcp(I, SYN), tcp(R, SYN | ACK), tcp(I, ACK)],
    };
    for _ in 0..random.usize(..4) {
        let from = if random.bool() { I } else { R };
        let to = if from == I { R } else { I };
        script.push(data(from));
        if random.bool() {
            script.push(tcp(to, ACK));
        }
    }
    let (first, second) = if random.bool() { (I, R) } else { (R, I) };
    match random.u32(..6) {
        0 => script.push(tcp(first, RST)),
        1 => script.extend([tcp(first, RST | ACK), tcp(first, RST | ACK)]),
        // Half-closed, and the other side goes on.
        2 => script.extend([tcp(first, FIN | ACK), tcp(second, ACK), data(second), tcp(first, ACK)]),
        3 => {
            let close = [tcp(first, FIN | ACK), tcp(second, FIN | ACK), tcp(first, ACK)];
            script.extend(close);
            // Another connection on the same ports.
            script.extend([tcp(I, SYN), tcp(R, SYN | ACK), tcp(I, ACK), data(I)]);
        }
        4 => script.extend([tcp(first, FIN | ACK), tcp(second, ACK), tcp(second, FIN | ACK), tcp(first, ACK)]),
        _ => {}
    }
    script
}

fn datagrams(random: &mut Rng) -> Vec<Move> {
    let mut script = vec![Move::Udp { from: I }];
    for _ in 0..random.usize(..6) {
        script.push(Move::Udp { from: if random.bool() { I } else { R } });
    }
    script
}

fn queries(random: &mut Rng) -> Vec<Move> {
    let mut script = Vec::new();
    for sequence in 0..random.u16(1..4) {
        script.extend([Move::Echo { from: I, sequence }, Move::Echo { from: R, sequence }]);
    }
    script
}

/// An ICMP error of either side: unreachable, too big, time exceeded, parameter problem (RFC 792, RFC 4443).
fn error(random: &mut Rng, v4: bool) -> Move {
    let (kind, code) = if v4 {
        [(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (12, 0)][random.usize(..7)]
    } else {
        [(1, 0), (1, 4), (2, 0), (3, 0), (4, 1)][random.usize(..5)]
    };
    let from = if random.u32(..4) == 0 { I } else { R };
    // Eight bytes of the transport header, twenty, all, or too few.
    let length = [8, 20, 1000, 4][random.usize(..4)];
    Move::Quote { from, kind, code, length, router: random.u32(..3) == 0 }
}
