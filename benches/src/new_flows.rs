//! How long the programs take to begin a flow, in a table and with ports that are nearly all in use. It is the kernel's own
//! count of the time they run (`BPF_ENABLE_STATS`, Linux 5.8).

use std::{collections::BTreeSet, os::fd::OwnedFd, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use comparison::flows;
use lab::{
    Container, DaemonOptions, Lan, Mac, World,
    capture::send_frames,
    frame::{Ethernet, TcpSegment, tcp_flags},
    lan::address,
};

/// Slots, and as many flows for one endpoint.
const CAPACITY: u32 = 65_536;
/// Ports that masquerade has: 1,024 to 65,535.
const PORTS: u32 = 64_512;
const FIRST_PORT: u16 = 1_024;
/// New flows that are timed at each occupancy, and packets of one flow to compare them with.
const TIMED: u32 = 100;
const ADDRESSES: [&str; 2] = ["10.20.1.10", "10.20.1.11"];

/// One row: how much is in use, and the mean time of the program for a packet.
#[derive(Debug)]
pub struct Row {
    /// In parts of a thousand.
    pub in_use: u32,
    /// Of a packet that begins a flow.
    pub new: Duration,
    /// Of a packet of a flow that is there.
    pub followed: Duration,
}

/// What was measured.
#[derive(Debug)]
pub struct Results {
    /// With so many slots of the flow table in use.
    pub slots: Vec<Row>,
    /// With so many ports in use towards one target.
    pub ports: Vec<Row>,
}

/// Measures on a host of its own.
pub fn measure(daemon: &Path) -> Result<Results> {
    let bench = Bench::start(daemon)?;
    let slots = bench.slots()?;
    flows::flush(bench.world.host.pins())?;
    Ok(Results { slots, ports: bench.ports()? })
}

struct Bench {
    world: World,
    containers: [Container; 2],
    macs: [Mac; 2],
    gateway: Mac,
    /// Identifiers of the program that judges what containers send.
    programs: BTreeSet<u32>,
    _stats: OwnedFd,
}

impl Bench {
    fn start(daemon: &Path) -> Result<Self> {
        let before = from_container()?;
        let config = format!("flow_capacity = {CAPACITY}\nflow_quota = {CAPACITY}\n");
        let world = World::start(daemon, DaemonOptions::with_config(&config))?;
        let host = &world.host;
        host.datapath("network create app --subnet 10.20.1.0/24".split(' '))?;
        let containers = [host.container("a", "app", &[ADDRESSES[0]])?, host.container("b", "app", &[ADDRESSES[1]])?];
        let macs = [containers[0].namespace.mac("eth0")?, containers[1].namespace.mac("eth0")?];
        let silence = "add table inet quiet; add chain inet quiet in { type filter hook input priority 0; }; \
                       add rule inet quiet in meta l4proto { tcp, udp } drop";
        world.lan.internet.run("nft", [silence])?;
        let network = host.json(["network", "ls"])?;
        let device = network[0]["device"].as_str().context("the network has a device")?;
        let gateway = host.namespace.mac(device)?;
        let programs: BTreeSet<_> = from_container()?.difference(&before).copied().collect();
        ensure!(!programs.is_empty(), "the daemon has loaded no program");
        let stats = enable_stats(Stats::RunTime)?;
        Ok(Self { world, containers, macs, gateway, programs, _stats: stats })
    }

    fn slots(&self) -> Result<Vec<Row>> {
        let datagram = |number: u32| {
            let (source, target) = (20_000 + (number / 4_096) as u16, FIRST_PORT + (number % 4_096) as u16);
            self.frame(0, |builder| builder.udp(source, target, b"new"))
        };
        let mut used = 0;
        [10, 500, 900, 990, 998].into_iter().map(|in_use| self.row(in_use, CAPACITY, &mut used, datagram)).collect()
    }

    fn ports(&self) -> Result<Vec<Row>> {
        let syn = |container: usize, number: u32| {
            let source = FIRST_PORT + number as u16;
            let flags = tcp_flags::SYN;
            let segment = TcpSegment { source, destination: 80, sequence: 1, acknowledgement: 0, flags };
            self.frame(container, |builder| builder.tcp(segment, b""))
        };
        let mut rows = Vec::new();
        let (mut first, mut second) = (0, 0);
        for in_use in [10, 500, 900, 990] {
            let wanted = PORTS * in_use / 1_000 - second;
            self.send(0, (first..wanted).map(|number| syn(0, number)))?;
            first = wanted;
            // The first container has the ports that the second one asks for.
            let new = self.timed(1, || (second..second + TIMED).map(|number| syn(1, number)))?;
            let followed = self.timed(1, || (second..second + TIMED).map(|number| syn(1, number)))?;
            second += TIMED;
            rows.push(Row { in_use, new, followed });
        }
        Ok(rows)
    }

    /// Fills up to so many thousandths of `all`, and times the next ones, each followed by a second packet.
    fn row(&self, in_use: u32, all: u32, used: &mut u32, frame: impl Fn(u32) -> Vec<u8>) -> Result<Row> {
        let wanted = all / 1_000 * in_use;
        self.send(0, (*used..wanted).map(&frame))?;
        let next = wanted..wanted + TIMED;
        let new = self.timed(0, || next.clone().map(&frame))?;
        let followed = self.timed(0, || next.clone().map(&frame))?;
        *used = next.end;
        Ok(Row { in_use, new, followed })
    }

    fn frame(&self, container: usize, rest: impl FnOnce(lab::frame::IpBuilder) -> Vec<u8>) -> Vec<u8> {
        rest(
            Ethernet::new(self.macs[container], self.gateway)
                .ip(address(ADDRESSES[container]), address(Lan::INTERNET[0])),
        )
    }

    fn send(&self, container: usize, frames: impl Iterator<Item = Vec<u8>>) -> Result<()> {
        send_frames(&self.containers[container].namespace, "eth0", &frames.collect::<Vec<_>>())
    }

    /// Sends frames, and says how long the program took for each in the mean.
    fn timed<I: Iterator<Item = Vec<u8>>>(&self, container: usize, frames: impl Fn() -> I) -> Result<Duration> {
        let (time_before, runs_before) = self.run_time()?;
        self.send(container, frames())?;
        let (time, runs) = self.run_time()?;
        let runs = u32::try_from(runs - runs_before)?;
        ensure!(runs >= TIMED, "the program ran {runs} times for {TIMED} packets");
        Ok((time - time_before) / runs)
    }

    fn run_time(&self) -> Result<(Duration, u64)> {
        let mut sum = (Duration::ZERO, 0);
        for program in loaded_programs() {
            let program = program?;
            if self.programs.contains(&program.id()) {
                sum = (sum.0 + program.run_time(), sum.1 + program.run_count());
            }
        }
        Ok(sum)
    }
}

/// Every loaded program of this name, of whichever daemon.
fn from_container() -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for program in loaded_programs() {
        let program = program?;
        if program.name_as_str() == Some("from_container") {
            found.insert(program.id());
        }
    }
    Ok(found)
}
