//! Behaviour N3: how long the states of TCP connections last.

mod support;

use std::time::{Duration, Instant};

use lab::client::Client;
use lab::frame::{Transport, tcp_flags};
use lab::{Capture, Family, Lan, PATIENCE};
use support::wire::{End, Segment, Sent, Wire};
use support::{at, configured, serve};

const SECOND: Duration = Duration::from_secs(1);

/// Longest silence of an established connection, of one that opens or closes, and what is waited to be sure. Deadlines
/// are moved in steps of about a second, so a flow may end that much later.
const ESTABLISHED: Duration = Duration::from_secs(6);
const TRANSITORY: Duration = Duration::from_secs(3);
const SURE: Duration = Duration::from_millis(1_400);

/// One connection on the wire, with sequence numbers that are right.
struct Crafted<'a> {
    wire: &'a Wire,
    family: Family,
    port: u16,
    /// What each end sends next.
    next: [u32; 2],
}

impl<'a> Crafted<'a> {
    /// A connection that has begun by these segments.
    #[track_caller]
    fn after(wire: &'a Wire, family: Family, port: u16, segments: &[(End, u8)]) -> Self {
        let mut connection = Self { wire, family, port, next: [1_000, 500_000] };
        for (end, flags) in segments {
            connection.pass(*end, *flags);
        }
        connection
    }

    /// A segment of `end` that must arrive.
    #[track_caller]
    fn pass(&mut self, end: End, flags: u8) {
        let sent = self.send(end, flags);
        assert!(self.wire.arrives(sent, SECOND), "{sent:?} does not arrive");
    }

    /// The connection is over: late segments of neither end reach the other, and the inside's are counted.
    #[track_caller]
    fn assert_over(&mut self, flags: u8) {
        // The host takes it for its own, and says that there is no such connection.
        let late_in = self.send(End::Outside, flags);
        let refused = self.wire.at_outside.wait_for(PATIENCE, |frame| {
            let Transport::Tcp { destination: 80, source, flags } = frame.view.transport else { return false };
            !frame.outgoing && source == self.port && flags & tcp_flags::RST != 0
        });
        assert!(refused.is_some(), "{:?} port {}: the host does not refuse the late segment", self.family, self.port);
        let late_out = self.wire.scene.expect_drops("out_of_state", || {
            let sent = self.send(End::Inside, flags);
            std::thread::sleep(Duration::from_millis(30));
            sent
        });
        for late in [late_in, late_out] {
            assert!(!self.wire.arrives(late, Duration::ZERO), "{late:?} arrived late");
        }
    }

    /// Sends the next segment of this end.
    fn send(&mut self, end: End, flags: u8) -> Sent {
        let (from, to) = if end == End::Inside { (0, 1) } else { (1, 0) };
        let counted = flags & (tcp_flags::SYN | tcp_flags::FIN) != 0;
        let data = if flags & tcp_flags::PSH != 0 { 4 } else { 0 };
        let acknowledgement = if flags & tcp_flags::ACK != 0 { self.next[to] } else { 0 };
        let sequence = self.next[from];
        self.next[from] += u32::from(counted) + u32::from(data);
        let segment = Segment { end, port: self.port, flags, sequence, acknowledgement, data };
        self.wire.send(self.family, segment)
    }
}

#[test]
fn n3_connections_end_when_idle_and_live_while_used() {
    use End::{Inside, Outside};
    const ACK: u8 = tcp_flags::ACK;
    const DATA: u8 = tcp_flags::ACK | tcp_flags::PSH;
    const SYN: u8 = tcp_flags::SYN;
    const SYN_ACK: u8 = tcp_flags::SYN | tcp_flags::ACK;
    const FIN: u8 = tcp_flags::FIN | tcp_flags::ACK;
    let (established, transitory) = (ESTABLISHED.as_secs(), TRANSITORY.as_secs());
    let timeouts = format!("[timeouts]\ntcp_established = {established}\ntcp_transitory = {transitory}\n");
    let wire = Wire::start(configured(&timeouts));
    let begin = |port: u16, more: &[(End, u8)]| {
        let opening = [(Inside, SYN), (Outside, SYN_ACK), (Inside, ACK)];
        Family::ALL.map(|family| Crafted::after(&wire, family, port, &[&opening[..], more].concat()))
    };
    let mut idle = begin(6201, &[]);
    let (mut fed_by_inside, mut fed_by_outside) = (begin(6202, &[]), begin(6203, &[]));
    let mut closed = begin(6204, &[(Outside, FIN), (Inside, FIN), (Outside, ACK)]);
    let mut half_closed = begin(6205, &[(Inside, FIN), (Outside, ACK)]);
    let mut reset = begin(6206, &[(Outside, tcp_flags::RST | ACK)]);
    let mut half_open = Family::ALL.map(|family| Crafted::after(&wire, family, 6207, &[(Inside, SYN)]));
    let mut unanswered =
        Family::ALL.map(|family| Crafted::after(&wire, family, 6208, &[(Inside, SYN), (Outside, SYN_ACK)]));
    // In time, all goes on: the answer to a SYN, what the other direction still has to say, the last ACK again.
    for family in 0..2 {
        half_open[family].pass(Outside, SYN_ACK);
        half_closed[family].pass(Outside, DATA);
        closed[family].pass(Inside, ACK);
    }
    let mut feed_for = |time: Duration| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            fed_by_inside.iter_mut().for_each(|connection| connection.pass(Inside, DATA));
            fed_by_outside.iter_mut().for_each(|connection| connection.pass(Outside, DATA));
            std::thread::sleep(Duration::from_millis(500).min(end.saturating_duration_since(Instant::now())));
        }
    };
    feed_for(TRANSITORY + SURE);
    for family in 0..2 {
        half_open[family].assert_over(SYN_ACK);
        for connection in [&mut unanswered, &mut closed, &mut half_closed, &mut reset] {
            connection[family].assert_over(DATA);
        }
        // An established one has longer.
        idle[family].pass(Outside, DATA);
    }
    feed_for(ESTABLISHED + SURE);
    for family in 0..2 {
        idle[family].assert_over(DATA);
        // These have been used for longer than any timeout, and go on in both directions.
        for connection in [&mut fed_by_inside, &mut fed_by_outside] {
            connection[family].pass(Inside, DATA);
            connection[family].pass(Outside, DATA);
        }
    }
}

#[test]
fn n3_an_idle_published_connection_ends() {
    let scene = configured("[timeouts]\ntcp_established = 3\ntcp_transitory = 1\n");
    scene.network(1, "");
    let a = scene.join("a", 1, 10);
    let _server = serve(&a.namespace, "a", 80);
    scene.publish("8080:80", "a");
    for family in Family::ALL {
        let target = at(family.of(Lan::HOST), 8080);
        let mut connection = Client::new(&scene.lan().machine).connect(target).expect("connects");
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(800));
            connection.say(b"in time").expect("lives while it is used");
        }
        let on_a = Capture::start(&a.namespace, "eth0").expect("captures");
        std::thread::sleep(Duration::from_secs(3) + SURE);
        connection.say(b"too late").expect_err("the flow has ended");
        let got = on_a.stop();
        assert!(got.iter().all(|frame| frame.outgoing || frame.view.payload != b"too late"), "{got:?}");
        Client::new(&scene.lan().machine).connect(target).expect("a new one").say(b"hello").expect("echoes");
    }
}
