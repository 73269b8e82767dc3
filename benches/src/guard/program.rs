//! The program by itself: nanoseconds a frame by BPF_PROG_TEST_RUN.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, LpmTrie, lpm_trie::Key},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use datapath_common::abi::{Address, Guard, GuardDevice, Rate, Settings, guard_checks, map};
use lab::{
    Mac, Namespace,
    frame::{Ethernet, TcpSegment, tcp_flags},
};

use super::RUNS;

/// Frames of one run; the kernel tells the mean.
const FRAMES: u32 = 500_000;
/// Return values of XDP programs (linux/bpf.h).
const DROP: u32 = 1;
const PASS: u32 = 2;
/// `struct xdp_md`.
const CONTEXT: usize = 24;

/// One kind of frame, and the mean time it takes.
#[derive(Debug)]
pub struct Row {
    /// What is sent to which rules.
    pub kind: String,
    /// Dropped, or passed.
    pub dropped: bool,
    /// The fastest run's mean, in nanoseconds.
    pub time: f64,
}

/// The loaded program, in a namespace with one device.
struct Program {
    bpf: Ebpf,
    pins: PathBuf,
    ifindex: u32,
    mac: Mac,
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.pins) {
            eprintln!("{} cannot be removed: {error}", self.pins.display());
        }
    }
}

/// Measures on the program of this object.
pub fn measure(object: &Path) -> Result<Vec<Row>> {
    let object = fs::read(object).with_context(|| object.display().to_string())?;
    let namespace = Namespace::new("guard")?;
    namespace.ip("link add up0 type veth peer name far0\nlink set up0 up\nlink set far0 up")?;
    let (ifindex, mac) = (namespace.ifindex("up0")?, namespace.mac("up0")?);
    namespace.enter(|| Program::load(&object, ifindex, mac)?.rows())
}

impl Program {
    fn load(object: &[u8], ifindex: u32, mac: Mac) -> Result<Self> {
        let pins = PathBuf::from(format!("/sys/fs/bpf/datapath-guard-{}", std::process::id()));
        fs::create_dir(&pins).with_context(|| pins.display().to_string())?;
        let bpf = EbpfLoader::new()
            .default_map_pin_directory(&pins)
            .override_global(map::SETTINGS, &Settings::DEFAULT, true)
            .load(object)?;
        let mut program = Self { bpf, pins, ifindex, mac };
        let guard: &mut Xdp = program.bpf.program_mut("guard").context("the object has no guard")?.try_into()?;
        guard.load()?;
        let mut devices: Array<_, GuardDevice> = Array::try_from(program.map(map::GUARD_DEVICES)?)?;
        devices.set(GuardDevice::place(ifindex), GuardDevice::new(ifindex, mac.0), 0)?;
        Ok(program)
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.bpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }

    fn set_rules(&mut self, rules: Guard) -> Result<()> {
        Ok(Array::try_from(self.map(map::GUARD)?)?.set(0, rules, 0)?)
    }

    /// Denies prefixes until there are so many of each IP version; the last address of each run of tests is in none.
    fn deny(&mut self, from: u32, to: u32) -> Result<()> {
        let mut v4: LpmTrie<_, u32, u32> = LpmTrie::try_from(self.map(map::DENIED_V4)?)?;
        for number in from..to {
            v4.insert(&Key::new(24, denied_v4(number).to_bits().to_be()), 1, 0)?;
        }
        let mut v6: LpmTrie<_, Address, u32> = LpmTrie::try_from(self.map(map::DENIED_V6)?)?;
        for number in from..to {
            v6.insert(&Key::new(48, IpAddr::from(denied_v6(number)).into()), 1, 0)?;
        }
        Ok(())
    }

    fn rows(mut self) -> Result<Vec<Row>> {
        let mut rows = vec![Row { kind: "an empty program".to_owned(), dropped: true, time: empty_program()? }];
        let (allowed_v4, allowed_v6) = (Ipv4Addr::new(10, 99, 0, 10), Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 10));
        self.add(&mut rows, "no rules, IPv4", allowed_v4.into(), PASS)?;
        let long = self.frame(allowed_v4.into(), 1_400);
        self.add_frame(&mut rows, "no rules, IPv4, 1,454 bytes", &long, PASS)?;
        self.add(&mut rows, "no rules, IPv6", allowed_v6.into(), PASS)?;
        let mut entries = 0;
        for wanted in [1, 1_000, 100_000] {
            self.deny(entries, wanted)?;
            entries = wanted;
            self.set_rules(Guard { checks: guard_checks::DENY_V4 | guard_checks::DENY_V6, ..Guard::default() })?;
            for (version, denied, allowed) in [
                ("IPv4", IpAddr::from(denied_v4(wanted / 2)), IpAddr::from(allowed_v4)),
                ("IPv6", denied_v6(wanted / 2).into(), allowed_v6.into()),
            ] {
                self.add(&mut rows, &format!("deny list of {wanted}, {version}, in it"), denied, DROP)?;
                self.add(&mut rows, &format!("deny list of {wanted}, {version}, not in it"), allowed, PASS)?;
            }
        }
        let limits = guard_checks::PACKETS | guard_checks::SYNS | guard_checks::PORT_SYNS;
        let most = Rate::new(1_000_000_000, 1_000_000);
        self.set_rules(Guard { checks: limits, packets: most, syns: most, port_syns: most, ..Guard::default() })?;
        self.add(&mut rows, "limits, IPv4, within them", allowed_v4.into(), PASS)?;
        let least = Rate::new(1, 1);
        self.set_rules(Guard { checks: guard_checks::PACKETS, packets: least, ..Guard::default() })?;
        self.run(&self.frame(allowed_v4.into(), 0), 1)?;
        self.add(&mut rows, "limits, IPv4, above them", allowed_v4.into(), DROP)?;
        Ok(rows)
    }

    fn add(&self, rows: &mut Vec<Row>, kind: &str, source: IpAddr, expected: u32) -> Result<()> {
        self.add_frame(rows, kind, &self.frame(source, 0), expected)
    }

    fn add_frame(&self, rows: &mut Vec<Row>, kind: &str, frame: &[u8], expected: u32) -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let (verdict, time) = self.run(frame, FRAMES)?;
            ensure!(verdict == expected, "{kind}: the verdict is {verdict}, and not {expected}");
            times.push(time);
        }
        let time = times.into_iter().min().unwrap_or_default();
        rows.push(Row { kind: kind.to_owned(), dropped: expected == DROP, time: time.as_nanos() as f64 });
        Ok(())
    }

    /// A SYN, as floods have them.
    fn frame(&self, source: IpAddr, data: usize) -> Vec<u8> {
        let segment =
            TcpSegment { source: 40_000, destination: 80, sequence: 1, acknowledgement: 0, flags: tcp_flags::SYN };
        let host = if source.is_ipv4() { "192.0.2.1" } else { "2001:db8:2::1" };
        let mut frame = Ethernet::new(Mac([2, 0, 0, 0, 0, 9]), self.mac)
            .ip(source, lab::lan::address(host))
            .tcp(segment, &vec![0; data]);
        // Ethernet's least.
        frame.resize(frame.len().max(60), 0);
        frame
    }

    fn run(&self, frame: &[u8], repeat: u32) -> Result<(u32, Duration)> {
        let mut context = [0_u8; CONTEXT];
        context[4..8].copy_from_slice(&u32::try_from(frame.len())?.to_ne_bytes());
        context[12..16].copy_from_slice(&self.ifindex.to_ne_bytes());
        let guard: &Xdp = self.bpf.program("guard").context("the object has no guard")?.try_into()?;
        let options = TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), repeat, ..TestRunOptions::new() };
        let result = guard.test_run(options)?;
        Ok((result.return_value, result.duration))
    }
}

/// What the kernel takes to run a program that does nothing but drop.
fn empty_program() -> Result<f64> {
    let frame = [0; 60];
    let program = lab::xdp::Dropper::load()?;
    let times = (0..RUNS).map(|_| program.time(&frame, FRAMES)).collect::<std::io::Result<Vec<_>>>()?;
    Ok(times.into_iter().min().unwrap_or_default().into())
}

fn denied_v4(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x2000_0000 + (number << 8) + 9)
}

fn denied_v6(number: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits((0x2a00_u128 << 112) + (u128::from(number) << 80) + 9)
}
