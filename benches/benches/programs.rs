//! What each program costs for one packet, by the kernel's own count (`BPF_PROG_TEST_RUN`): `cargo xtask bench --programs`.
//!
//! Where a program writes into the packet, or begins a flow, each run is on a fresh frame, and the kernel's reading of its clock
//! (*clock*) is in the time; the others are run [`BATCH`] times on one.

use std::{hint::black_box, path::PathBuf, time::Duration};

use benches::programs::{CAPACITY, Programs, Shown};
use comparison::{shuffle::Random, table::Table};
use criterion::{BenchmarkId, Criterion, SamplingMode};
use lab::Family;

/// Runs of an unchanged frame in one call.
const BATCH: u32 = 1_000;
/// Numbers of flows among which one is looked up.
const FLOWS: [u32; 5] = [1, 1_000, 10_000, 100_000, 1_000_000];

fn main() {
    let daemon = std::env::var_os("DATAPATH").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/datapath")),
        PathBuf::from,
    );
    let programs = Programs::start(&daemon).unwrap_or_else(|error| panic!("{}: {error:#}", daemon.display()));
    programs.inside(|| {
        let mut criterion = Criterion::default()
            .sample_size(20)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(500))
            .configure_from_args();
        for family in Family::ALL {
            unchanged(&mut criterion, &programs, family);
            followed(&mut criterion, &programs, family);
            fragmented(&mut criterion, &programs, family);
            begun(&mut criterion, &programs, family);
        }
        among_many(&mut criterion, &programs);
        begun_among_many(&mut criterion, &programs);
        criterion.final_summary();
    });
    let mut table = Table::new(&["program", "verified instructions", "bytes of machine code"]);
    for (name, instructions, bytes) in programs.sizes() {
        table.row([(*name).to_owned(), instructions.to_string(), bytes.to_string()]);
    }
    println!("{}", table.markdown());
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn show(programs: &Programs, shown: &Shown, times: u32) -> Duration {
    programs.show(black_box(shown), times).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Packets that stay as they are.
fn unchanged(criterion: &mut Criterion, programs: &Programs, family: Family) {
    let mut group = criterion.benchmark_group(name(family));
    for (case, shown) in [
        ("from_container, switched", programs.switched(family)),
        ("from_container, switched on a network that learns", programs.learnt(family).expect("it learns")),
        ("from_container, forged: dropped", programs.forged(family)),
        ("from_uplink, for the host", programs.for_the_host(family)),
        ("from_host, to an endpoint", programs.of_the_host(family)),
        ("from_loopback, not published", programs.host_to_itself(family)),
        ("to_uplink, of the host", programs.host_out(family)),
        ("to_container, judged", programs.judged(family)),
    ] {
        group.bench_function(case, |bencher| {
            bencher.iter_custom(|runs| {
                let calls = runs.div_ceil(u64::from(BATCH));
                let sum: Duration = (0..calls).map(|_| show(programs, &shown, BATCH)).sum();
                sum.mul_f64(runs as f64 / calls as f64)
            });
        });
    }
    let shown = programs.judged(family);
    group.bench_function("clock: to_container, judged, one by one", |bencher| one_by_one(bencher, programs, &shown));
}

/// Packets of flows that are there.
fn followed(criterion: &mut Criterion, programs: &Programs, family: Family) {
    let mut group = criterion.benchmark_group(name(family));
    let masqueraded = programs.masqueraded(family).expect("they shake hands");
    let published = programs.published(family).expect("they shake hands");
    for (case, shown) in [
        ("from_container, masqueraded", &masqueraded.forth),
        ("from_uplink, to who masquerades", &masqueraded.back),
        ("from_uplink, an error about what was masqueraded", &programs.error_in(family)),
        ("from_uplink, published port", &published.forth),
        ("from_container, of a published port", &published.back),
        // Takes the mark off.
        ("to_host, judged", &programs.judged_for_host(family)),
    ] {
        group.bench_function(case, |bencher| one_by_one(bencher, programs, shown));
    }
}

fn one_by_one(bencher: &mut criterion::Bencher<'_>, programs: &Programs, shown: &Shown) {
    bencher.iter_custom(|runs| (0..runs).map(|_| show(programs, shown, 1)).sum());
}

/// A datagram in two fragments, both of which are timed. One that is repeated would be refused.
fn fragmented(criterion: &mut Criterion, programs: &Programs, family: Family) {
    let mut group = criterion.benchmark_group(name(family));
    group.sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_millis(100));
    let (mut fragments, mut number) = (programs.fragments_out(family), 0);
    group.bench_function("from_container, masqueraded in two fragments", |bencher| {
        bencher.iter_custom(|runs| {
            let mut next = |_| -> Duration {
                number += 1;
                fragments.iter_mut().for_each(|fragment| fragment.set_identification(number));
                fragments.iter().map(|fragment| show(programs, fragment, 1)).sum()
            };
            (0..runs).map(&mut next).sum()
        });
    });
}

/// Packets that begin a flow.
fn begun(criterion: &mut Criterion, programs: &Programs, family: Family) {
    let mut group = criterion.benchmark_group(name(family));
    group.sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_millis(100));
    for (case, mut shown) in [
        ("from_container, new flow", programs.datagram_out(family)),
        ("from_uplink, new flow", programs.datagram_in(family)),
    ] {
        group.bench_function(case, |bencher| {
            bencher.iter_custom(|runs| {
                programs.forget_flows().expect("forgotten");
                let mut begin = |number| {
                    let (source, _) = ports(u32::try_from(number).expect("few"));
                    shown.set_source_port(source);
                    show(programs, &shown, 1)
                };
                (0..runs).map(&mut begin).sum()
            });
        });
    }
}

/// Ports of the flow with this number. Those of 60,000 in a row have different source ports.
fn ports(number: u32) -> (u16, u16) {
    let [source, destination] = [2_000 + number % 60_000, 2_000 + number / 60_000];
    (source.try_into().expect("below 65,536"), destination.try_into().expect("below 65,536"))
}

/// One of many flows, the same each time (warm) or any of them (cold).
fn among_many(criterion: &mut Criterion, programs: &Programs) {
    let mut group = criterion.benchmark_group("IPv4, from_container, masqueraded among flows");
    let mut random = Random::seeded();
    let mut shown = programs.datagram_out(Family::V4);
    let mut present = 0;
    for flows in FLOWS {
        assert!(flows <= CAPACITY);
        group.bench_function(BenchmarkId::new("warm", flows), |bencher| {
            fill(programs, &mut shown, &mut present, flows);
            one_by_one(bencher, programs, &shown);
        });
        group.bench_function(BenchmarkId::new("cold", flows), |bencher| {
            fill(programs, &mut shown, &mut present, flows);
            bencher.iter_custom(|runs| {
                let mut any = || {
                    let (source, destination) = ports(random.below(flows));
                    shown.set_ports(source, destination);
                    show(programs, &shown, 1)
                };
                (0..runs).map(|_| any()).sum()
            });
        });
    }
}

/// Packets that begin one more flow.
fn begun_among_many(criterion: &mut Criterion, programs: &Programs) {
    for flows in FLOWS {
        let mut present = 0;
        for (case, mut shown) in [
            ("IPv4, from_container, begins one more flow", programs.datagram_out(Family::V4)),
            ("IPv6, from_container, begins one more flow", programs.datagram_out(Family::V6)),
            ("IPv4, from_uplink, begins one more flow", programs.datagram_in(Family::V4)),
        ] {
            // Few, for a full table has no room for more.
            let mut group = criterion.benchmark_group(case);
            group.sampling_mode(SamplingMode::Flat).sample_size(10);
            group.warm_up_time(Duration::from_millis(5)).measurement_time(Duration::from_millis(30));
            let mut source = 2_000;
            group.bench_function(BenchmarkId::from_parameter(flows), |bencher| {
                fill(programs, &mut programs.datagram_out(Family::V4), &mut present, flows);
                bencher.iter_custom(|runs| {
                    let mut begin = |_| {
                        source += 1;
                        shown.set_source_port(source);
                        show(programs, &shown, 1)
                    };
                    (0..runs).map(&mut begin).sum()
                });
            });
        }
    }
}

/// Begins as many flows as are missing; those of other benchmarks are forgotten first.
fn fill(programs: &Programs, shown: &mut Shown, present: &mut u32, wanted: u32) {
    if *present == 0 {
        programs.forget_flows().expect("forgotten");
    }
    for number in *present..wanted {
        let (source, destination) = ports(number);
        shown.set_ports(source, destination);
        show(programs, shown, 1);
    }
    *present = wanted;
}
