//! The pure packet logic, natively: what a change of it costs before a kernel is involved.

use std::{hint::black_box, net::IpAddr};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use datapath_common::{
    abi::{FlowKey, Sequences, tcp},
    logic::{
        checksum,
        fragment::read_fragment,
        headers::ETHERNET,
        parse::{
            Parsed, parse,
            protocol::{DESTINATION_OPTIONS, HOP_BY_HOP},
        },
        quoted::{parse_quoted, rewrite_quoted},
        rewrite::rewrite,
        tcp_state::{Direction, Segment, flag, judge},
    },
    native::Frame,
    path::{Readable as _, Scratch},
};
use lab::frame::{Ethernet, IpBuilder, Mac, TcpSegment, fragments};

/// A packet in both families.
fn packets(end: impl Fn(IpBuilder) -> Vec<u8>) -> [(&'static str, Frame); 2] {
    [("ipv4", ["10.0.0.1", "10.0.0.2"]), ("ipv6", ["fd00::1", "fd00::2"])].map(|(family, addresses)| {
        let [source, destination] = addresses.map(|text| text.parse::<IpAddr>().expect("a literal"));
        let ethernet = Ethernet::new(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        (family, Frame::new(1, end(ethernet.ip(source, destination))))
    })
}

/// A TCP segment with 100 bytes of payload.
fn segment(ip: IpBuilder) -> Vec<u8> {
    ip.tcp(TcpSegment { source: 40_000, destination: 80, ..TcpSegment::default() }, &[7; 100])
}

fn frames() -> [(&'static str, Frame); 2] {
    packets(segment)
}

fn read(frame: &mut Frame) -> Scratch {
    let mut scratch = Scratch::EMPTY;
    assert!(frame.read_headers(ETHERNET, &mut scratch.headers), "the frame has headers");
    parse(frame, &scratch.headers, &mut scratch.parsed).expect("the frame is correct");
    scratch
}

fn parsing(criterion: &mut Criterion) {
    for (family, mut frame) in frames() {
        criterion.bench_function(&format!("parse {family} TCP"), |bencher| {
            bencher.iter(|| read(black_box(&mut frame)).parsed);
        });
    }
}

/// IPv6 with three extension headers, of which IPv4 has none.
fn extensions(criterion: &mut Criterion) {
    let pad = [0, 1, 4, 0, 0, 0, 0];
    let [_, (_, mut frame)] = packets(|ip| {
        segment(
            ip.extension(HOP_BY_HOP, &pad).extension(DESTINATION_OPTIONS, &pad).extension(DESTINATION_OPTIONS, &pad),
        )
    });
    criterion.bench_function("parse ipv6 TCP behind three extension headers", |bencher| {
        bencher.iter(|| read(black_box(&mut frame)).parsed);
    });
}

/// A time exceeded about a TCP segment.
fn quoting(criterion: &mut Criterion) {
    let error = |ip: IpBuilder| {
        let kind = if ip.is_ipv4() { 11 } else { 3 };
        let [v4, v6] = frames();
        let quoted = if ip.is_ipv4() { v4 } else { v6 }.1;
        ip.icmp(kind, 0, &[&[0; 4], &quoted.bytes[14..]].concat())
    };
    for (family, mut frame) in packets(error) {
        let Scratch { headers, parsed, .. } = read(&mut frame);
        let mut quoted = Parsed::EMPTY;
        criterion.bench_function(&format!("parse what an {family} error quotes"), |bencher| {
            bencher.iter(|| parse_quoted(black_box(&frame), &headers, &parsed, &mut quoted).expect("a segment"));
        });
        let sent = FlowKey { source_port: 4_242, ..quoted.key };
        criterion.bench_function(&format!("rewrite what an {family} error quotes"), |bencher| {
            bencher.iter_batched_ref(
                || frame.clone(),
                |frame| rewrite_quoted(frame, &headers, &parsed, &quoted, black_box(&sent)).expect("there is room"),
                BatchSize::SmallInput,
            );
        });
    }
}

/// The second of two fragments.
fn fragmenting(criterion: &mut Criterion) {
    for (family, mut frame) in packets(|ip| fragments(&segment(ip), 64, 1).swap_remove(1)) {
        let Scratch { headers, parsed, mut fragmented, .. } = read(&mut frame);
        criterion.bench_function(&format!("place an {family} fragment"), |bencher| {
            bencher.iter(|| read_fragment(black_box(&frame), &headers, &parsed, &mut fragmented).expect("a fragment"));
        });
    }
}

/// Data of an open connection.
fn connections(criterion: &mut Criterion) {
    let state = tcp::SYN | tcp::REPLY_SYN | tcp::ACKED;
    let sequences = Sequences { next: [1_000, 2_000], acknowledged: [2_000, 1_000], reopened: 1 };
    let segment = Segment { flags: flag::ACK, sequence: 1_000, end: 1_100, acknowledgement: 2_000 };
    criterion.bench_function("judge a TCP segment", |bencher| {
        bencher.iter(|| judge(black_box(state), black_box(sequences), Direction::Original, black_box(segment)));
    });
}

fn rewriting(criterion: &mut Criterion) {
    for (family, mut frame) in frames() {
        let scratch = read(&mut frame);
        let parsed = scratch.parsed;
        let answers = FlowKey { source_port: parsed.key.destination_port, destination_port: 4_242, ..parsed.key };
        criterion.bench_function(&format!("rewrite {family} TCP"), |bencher| {
            bencher.iter_batched_ref(
                || (frame.clone(), scratch),
                |(frame, scratch)| rewrite(frame, &mut scratch.headers, &parsed, black_box(&answers), true),
                BatchSize::SmallInput,
            );
        });
    }
}

fn summing(criterion: &mut Criterion) {
    let bytes = [0x5a; 1_500];
    criterion.bench_function("checksum of 1,500 bytes", |bencher| {
        bencher.iter(|| checksum::of_bytes(black_box(&bytes)).folded());
    });
}

criterion_group!(benches, parsing, extensions, rewriting, quoting, fragmenting, connections, summing);
criterion_main!(benches);
