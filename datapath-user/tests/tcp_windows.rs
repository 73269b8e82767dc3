//! Behaviour N3: only segments whose numbers are the connection's change its state. The connections are those of the
//! kernel's conntrack tests (tools/testing/selftests/net/netfilter/packetdrill), between two ends that say nothing more.

mod support;

use std::time::{Duration, Instant};

use lab::Family;
use lab::frame::tcp_flags;
use support::Scene;
use support::wire::{End, End::Inside, End::Outside, Segment, Wire};

const SECOND: Duration = Duration::from_secs(1);
/// What is refused is waited for this long, and not longer.
const REFUSAL: Duration = Duration::from_millis(60);

const SYN: u8 = tcp_flags::SYN;
const ACK: u8 = tcp_flags::ACK;
const SYN_ACK: u8 = tcp_flags::SYN | tcp_flags::ACK;
const FIN_ACK: u8 = tcp_flags::FIN | tcp_flags::ACK;
const RST: u8 = tcp_flags::RST;
const RST_ACK: u8 = tcp_flags::RST | tcp_flags::ACK;

/// The numbers of the SYNs: both wrap soon, one of them as signed numbers do.
const CLIENT: u32 = 0x7fff_fff0;
const SERVER: u32 = 0xffff_ff00;

/// Numbers so far behind the SYN.
const fn client(offset: u32) -> u32 {
    CLIENT.wrapping_add(offset)
}

const fn server(offset: u32) -> u32 {
    SERVER.wrapping_add(offset)
}

/// A step of a script.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A segment passes: sender, flags, sequence number, acknowledgement number, bytes of data.
    Passes(End, u8, u32, u32, u16),
    /// A segment does not.
    Refused(End, u8, u32, u32, u16),
    /// `flow ls` shows the connection in this state.
    State(&'static str),
}
use Step::{Passes, Refused, State};

const OPEN: [Step; 4] = [
    Passes(Inside, SYN, client(0), 0, 0),
    Passes(Outside, SYN_ACK, server(0), client(1), 0),
    Passes(Inside, ACK, client(1), server(1), 0),
    State("established"),
];

/// Plays a script in both families, each on a port of its own.
fn play(wire: &Wire, port: u16, script: &[Step]) {
    for family in Family::ALL {
        for (at, step) in script.iter().enumerate() {
            let place = || format!("{family:?} port {port}, step {at}: {step:?}");
            match *step {
                Passes(end, flags, sequence, acknowledgement, data) => {
                    let sent = wire.send(family, Segment { end, port, flags, sequence, acknowledgement, data });
                    assert!(wire.arrives(sent, SECOND), "{} does not arrive", place());
                }
                Refused(end, flags, sequence, acknowledgement, data) => {
                    let segment = Segment { end, port, flags, sequence, acknowledgement, data };
                    let sent = wire.scene.expect_drops("tcp_invalid", || {
                        let sent = wire.send(family, segment);
                        assert!(!wire.arrives(sent, REFUSAL), "{} arrives", place());
                        sent
                    });
                    assert!(!wire.arrives(sent, Duration::ZERO), "{} arrives", place());
                }
                State(wanted) => {
                    let end = Instant::now() + SECOND;
                    let mut state = state_of(wire, family, port);
                    while state != wanted && Instant::now() < end {
                        std::thread::sleep(Duration::from_millis(20));
                        state = state_of(wire, family, port);
                    }
                    assert_eq!(state, wanted, "{}", place());
                }
            }
        }
    }
}

/// The state of the one connection of this port.
fn state_of(wire: &Wire, family: Family, port: u16) -> String {
    let listed = wire.scene.json(["flow", "ls"]).expect("JSON");
    let flows: Vec<_> = listed
        .as_array()
        .expect("a list")
        .iter()
        .filter(|flow| {
            flow["source_port"] == port && flow["source"].to_string().contains('.') == (family == Family::V4)
        })
        .collect();
    assert_eq!(flows.len(), 1, "{listed}");
    flows[0]["state"].as_str().expect("a state").to_owned()
}

/// `conntrack_rst_invalid`.
#[test]
fn n3_resets_outside_the_window_are_refused() {
    let wire = Wire::start(Scene::start());
    let script = [
        Passes(Outside, ACK, server(1), client(1), 1_000),
        Passes(Inside, ACK, client(1), server(1_001), 0),
        Passes(Inside, ACK, client(1), server(1_001), 1_000),
        Refused(Outside, RST, 0, 0, 0),
        Refused(Outside, RST, server(0), 0, 0),
        Refused(Outside, RST_ACK, server(1_000), client(1_001), 0),
        Refused(Outside, RST, server(0x2000_0000), 0, 0),
        Refused(Inside, RST, client(0), 0, 0),
        State("established"),
        // Inside the window, but not what is expected: the receiver asks for the right one (RFC 5961 section 3.2).
        Passes(Outside, RST, server(1_500), 0, 0),
        State("established"),
        Passes(Inside, ACK, client(1_001), server(1_001), 0),
        Passes(Outside, RST, server(1_001), 0, 0),
        State("reset"),
    ];
    play(&wire, 6001, &[&OPEN[..], &script].concat());
}

/// `conntrack_inexact_rst`.
#[test]
fn n3_resets_of_a_closing_connection_need_not_be_exact() {
    let wire = Wire::start(Scene::start());
    let script = [
        Passes(Outside, ACK, server(1), client(1), 1_000),
        Passes(Inside, ACK, client(1), server(1_001), 1_000),
        Passes(Outside, FIN_ACK, server(1_001), client(1_001), 0),
        State("closing"),
        Passes(Inside, ACK, client(1_001), server(1_002), 0),
        Passes(Inside, RST_ACK, client(1_500), server(1_002), 0),
        State("reset"),
    ];
    play(&wire, 6002, &[&OPEN[..], &script, &another()].concat());
}

/// `conntrack_syn_challenge_ack`: the server still has an earlier connection, and is told to forget it.
#[test]
fn n3_an_answer_about_an_earlier_connection_passes() {
    let wire = Wire::start(Scene::start());
    let begin = [
        Passes(Inside, SYN, client(0), 0, 0),
        Passes(Outside, ACK, 145_824_453, 643_160_523, 0),
        State("syn_sent"),
        Passes(Inside, RST, 643_160_523, 0, 0),
        State("syn_sent"),
    ];
    play(&wire, 6003, &[&begin[..], &OPEN].concat());
}

/// `conntrack_synack_old`: the answer to an earlier SYN does not spoil the right one.
#[test]
fn n3_an_answer_to_an_earlier_syn_passes() {
    let wire = Wire::start(Scene::start());
    let begin = [
        Passes(Inside, SYN, client(0), 0, 0),
        Passes(Outside, SYN_ACK, 145_824_453, 643_160_523, 0),
        State("syn_sent"),
    ];
    play(&wire, 6004, &[&begin[..], &OPEN].concat());
}

/// `conntrack_synack_reuse`: a SYN in an open connection changes nothing; the answer to it may.
#[test]
fn n3_a_syn_in_an_open_connection_is_judged_by_the_server() {
    let wire = Wire::start(Scene::start());
    let has_it_still = [
        Passes(Inside, SYN, client(70_000), 0, 0),
        State("established"),
        Passes(Outside, ACK, server(1), client(1), 0),
        Passes(Inside, RST, client(1), 0, 0),
        State("reset"),
    ];
    play(&wire, 6005, &[&OPEN[..], &has_it_still, &another()].concat());
    let has_lost_it = [
        Passes(Inside, SYN, client(70_000), 0, 0),
        Passes(Outside, SYN_ACK, 99, client(70_001), 0),
        State("syn_received"),
        Passes(Inside, ACK, client(70_001), 100, 10),
        State("established"),
        Refused(Outside, RST, server(1), 0, 0),
        Passes(Outside, RST, 100, 0, 0),
        State("reset"),
    ];
    play(&wire, 6006, &[&OPEN[..], &has_lost_it].concat());
}

/// `conntrack_ack_loss_stall`: what was acknowledged already may come once more.
#[test]
fn n3_data_that_was_acknowledged_passes_once_more() {
    let wire = Wire::start(Scene::start());
    let mut script = OPEN.to_vec();
    script.extend((0..46).map(|at| Passes(Inside, ACK, client(1 + at * 1_400), server(1), 1_400)));
    script.extend([
        Passes(Outside, ACK, server(1), client(1 + 46 * 1_400), 0),
        Passes(Inside, ACK, client(1), server(1), 1_400),
        Passes(Outside, ACK, server(1), client(1 + 46 * 1_400), 0),
        Passes(Inside, ACK, client(1 + 46 * 1_400), server(1), 1_400),
        State("established"),
    ]);
    play(&wire, 6007, &script);
}

/// Both ends reset nothing by chance, and nobody who guesses ends what he does not see.
#[test]
fn n3_nobody_ends_a_connection_blindly() {
    let wire = Wire::start(Scene::start());
    let mut script = OPEN.to_vec();
    for guess in (0..=u32::MAX).step_by(1 << 28).filter(|guess| guess.wrapping_sub(server(0)) > 1 << 23) {
        script.push(Refused(Outside, RST, guess, 0, 0));
        script.push(Passes(Outside, FIN_ACK, guess, client(1), 0));
        script.push(Passes(Outside, SYN_ACK, guess, guess, 0));
    }
    script.extend([
        State("established"),
        Passes(Inside, ACK, client(1), server(1), 10),
        Passes(Outside, ACK, server(1), client(11), 10),
        State("established"),
    ]);
    play(&wire, 6008, &script);
}

/// Flags that no stack sends together (RFC 9293 section 3.10).
#[test]
fn n3_segments_that_contradict_themselves_are_refused() {
    let wire = Wire::start(Scene::start());
    let mut script = OPEN.to_vec();
    for flags in [0, tcp_flags::FIN, SYN | tcp_flags::FIN, SYN | RST, SYN_ACK | tcp_flags::FIN, RST | FIN_ACK] {
        script.push(Refused(Inside, flags, client(1), server(1), 0));
        script.push(Refused(Outside, flags, server(1), client(1), 0));
    }
    script.push(State("established"));
    play(&wire, 6009, &script);
}

/// Another connection on the same ports, in a flow of its own.
fn another() -> [Step; 4] {
    [
        Passes(Inside, SYN, client(100_000), 0, 0),
        Passes(Outside, SYN_ACK, server(200_000), client(100_001), 0),
        Passes(Inside, ACK, client(100_001), server(200_001), 0),
        State("established"),
    ]
}
