//! The pure packet logic, natively: what a change of it costs before a kernel is involved.

use std::{hint::black_box, net::IpAddr};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use datapath_common::{
    abi::FlowKey,
    logic::{checksum, headers::ETHERNET, parse::parse, rewrite::rewrite},
    native::Frame,
    path::{Readable as _, Scratch},
};
use lab::frame::{Ethernet, Mac, TcpSegment};

/// A TCP segment with 100 bytes of payload, in both families.
fn frames() -> [(&'static str, Frame); 2] {
    [("ipv4", ["10.0.0.1", "10.0.0.2"]), ("ipv6", ["fd00::1", "fd00::2"])].map(|(family, addresses)| {
        let [source, destination] = addresses.map(|text| text.parse::<IpAddr>().expect("a literal"));
        let segment = TcpSegment { source: 40_000, destination: 80, ..TcpSegment::default() };
        let bytes = Ethernet::new(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]))
            .ip(source, destination)
            .tcp(segment, &[7; 100]);
        (family, Frame::new(1, bytes))
    })
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

criterion_group!(benches, parsing, rewriting, summing);
criterion_main!(benches);
