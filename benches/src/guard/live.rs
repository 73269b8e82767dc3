//! The guard at work: frames a second of a denied source that one core drops, with XDP and without.
//!
//! The generator is no limit: one CPU sends frames without sockets and socket buffers ([`lab::xdp::Flood`]), and the other one
//! receives them, for which the device's NAPI is a thread that is kept there.

use std::{fs, path::Path, thread, time::Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{
    DaemonOptions, Host, Lan, Mac, World,
    frame::{Ethernet, TcpSegment, tcp_flags},
    lan::address,
    xdp::Flood,
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::RUNS;

/// Frames of one run.
const FRAMES: u32 = 4_000_000;
/// Where the generator is, and where the guard.
const CPUS: [usize; 2] = [0, 1];
const FLOODER: &str = "198.51.100.7";

/// What one core has dropped.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// By XDP, or by `from_uplink` alone.
    pub xdp: bool,
    /// Millions of frames a second that were sent.
    pub sent: f64,
    /// And that were dropped; the rest did not fit the device's ring.
    pub dropped: f64,
    /// Nanoseconds of the core for a dropped frame, with all that the device does.
    pub each: f64,
}

/// Measures with XDP and without.
pub fn measure(daemon: &Path) -> Result<Vec<Row>> {
    [true, false].into_iter().map(|xdp| bench(daemon, xdp)).collect()
}

fn bench(daemon: &Path, xdp: bool) -> Result<Row> {
    let options = if xdp {
        DaemonOptions::with_arguments(["--xdp", "native", "--xdp-on-veth"])
    } else {
        DaemonOptions::default()
    };
    let world = World::start(daemon, options)?;
    world.host.datapath(["guard", "deny", FLOODER])?;
    let receiver = keep_receiver(&world)?;
    let (from, to) = (world.lan.machine.mac(Lan::TO_HOST)?, world.host.namespace.mac(Host::UPLINK)?);
    let flood = Flood::new(&world.lan.machine, Lan::TO_HOST, frame(from, to))?;
    let mut rows = (0..RUNS).map(|_| run(&world, &flood, receiver, xdp)).collect::<Result<Vec<_>>>()?;
    rows.sort_by(|a, b| a.dropped.total_cmp(&b.dropped));
    Ok(rows[RUNS / 2])
}

fn frame(from: Mac, to: Mac) -> Vec<u8> {
    let syn = TcpSegment { source: 40_000, destination: 80, flags: tcp_flags::SYN, ..TcpSegment::default() };
    let mut frame = Ethernet::new(from, to).ip(address(FLOODER), address(Lan::HOST[0])).tcp(syn, b"");
    // Ethernet's least.
    frame.resize(60, 0);
    frame
}

/// Makes the uplink's NAPI a thread, and keeps that on its CPU.
fn keep_receiver(world: &World) -> Result<Pid> {
    let namespace = &world.host.namespace;
    // Without XDP, a veth has NAPI where GRO is on.
    namespace.run("ethtool", ["-K", Host::UPLINK, "gro", "on"])?;
    let threaded = format!("echo 1 > /sys/class/net/{}/threaded", Host::UPLINK);
    lab::run("ip", ["netns", "exec", namespace.name(), "sh", "-c", &threaded])?;
    let name = format!("napi/{}-", Host::UPLINK);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        // Processes end while they are looked at.
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with(&name) {
            found.extend(entry.file_name().to_string_lossy().parse::<i32>().ok());
        }
    }
    let [thread] = found[..] else { anyhow::bail!("{} threads are named {name}…", found.len()) };
    let thread = Pid::from_raw(thread);
    keep_on(thread, CPUS[1])?;
    Ok(thread)
}

fn keep_on(thread: Pid, cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(thread, &cpus).with_context(|| format!("thread {thread} cannot be kept on CPU {cpu}"))
}

fn run(world: &World, flood: &Flood, receiver: Pid, xdp: bool) -> Result<Row> {
    let dropped = || world.host.dropped("denied");
    let (before, time_before) = (dropped()?, time_of(receiver)?);
    let took = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            keep_on(Pid::from_raw(0), CPUS[0])?;
            let begun = Instant::now();
            world.lan.machine.enter(|| flood.send(FRAMES))?;
            anyhow::Ok(begun.elapsed())
        });
        sender.join().map_err(|_| anyhow::anyhow!("the generator panicked"))?
    })?;
    let (count, time) = (dropped()? - before, time_of(receiver)? - time_before);
    ensure!(count > 0, "nothing of the flood arrived");
    let millions = |count: u64| count as f64 / took.as_secs_f64() / 1e6;
    Ok(Row { xdp, sent: millions(FRAMES.into()), dropped: millions(count), each: time as f64 / count as f64 })
}

/// Nanoseconds that a thread has run.
fn time_of(thread: Pid) -> Result<u64> {
    let path = format!("/proc/{thread}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    text.split_whitespace().next().and_then(|time| time.parse().ok()).with_context(|| format!("{path} says {text:?}"))
}
