//! `datapath bench`: what it reports, and that nothing of it is left, however it ends.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use support::{BINARY, Scene};

/// All that bears the name of a process's laboratory: namespaces, pins, folders, and processes that were started in them.
fn traces(pid: u32) -> Vec<String> {
    let prefix = format!("dp-{pid}-");
    let mut found = Vec::new();
    for folder in [Path::new("/run/netns"), Path::new("/sys/fs/bpf"), &std::env::temp_dir()] {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        found
            .extend(names.filter(|name| name.starts_with(&prefix)).map(|name| folder.join(name).display().to_string()));
    }
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let Ok(arguments) = fs::read(process.path().join("cmdline")) else { continue };
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if arguments.contains(&prefix) {
            found.push(arguments);
        }
    }
    found
}

/// All of a namespace that a measurement has no business with.
fn state(scene: &Scene) -> Vec<String> {
    let run = |program: &str, arguments: &[&str]| scene.namespace.run(program, arguments).expect("runs");
    let settings = ["net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.bridge.bridge-nf-call-iptables"];
    vec![
        run("ip", &["-o", "address"]),
        run("ip", &["route", "show", "table", "all"]),
        run("nft", &["list", "ruleset"]),
        run("sysctl", &settings),
        scene.json(["status"]).expect("the daemon answers")["uplinks"].to_string(),
    ]
}

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("bench").args(arguments).stdin(Stdio::null());
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every row has figures that are some, of the rounds there were.
fn check_rows(report: &Value, rounds: u64, has_iptables: bool) {
    let rows = report["comparisons"][0]["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 12, "three ways, four measures: {report:#}");
    for row in rows {
        let rate = |who: &str| row[who]["rate"]["median"].as_f64();
        let [bare, ours] = [rate("no_rules"), rate("datapath")].map(|rate| rate.expect("measured"));
        assert_eq!(rate("iptables").is_some(), has_iptables, "{row:#}");
        let ratio = row["ratio"]["median"].as_f64().expect("a ratio");
        assert!(bare > 0.0 && ours > 0.0 && (0.02..50.0).contains(&ratio), "{row:#}");
        assert_eq!(row["rounds"].as_u64(), Some(rounds));
        assert_eq!(row["change"], "too_few_rounds", "{row:#}");
        let times = ["p50_microseconds", "p99_microseconds"].map(|name| row["datapath"][name].as_f64());
        match row["measure"].as_str() {
            Some("request/response") => assert!(times[0] > Some(1.0) && times[0] <= times[1], "{row:#}"),
            _ => assert_eq!(times, [None, None]),
        }
    }
}

/// On a host that is served already: that one is left alone.
#[test]
fn a_host_with_a_daemon_is_measured_and_stays_as_it_is() {
    let scene = Scene::start();
    scene.namespace.sysctl("bridge/bridge-nf-call-iptables", "1").expect("set");
    let before = state(&scene);
    let mut command = scene.namespace.command(BINARY, ["bench", "--rounds", "1", "--json"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", told(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    check_rows(&report, 1, true);
    assert_eq!(report["left_out"].as_array().map(Vec::len), Some(0), "{report:#}");
    assert_eq!(report["interrupted"], false);
    assert!(report["took_seconds"].as_f64() < Some(60.0), "{report:#}");
    assert_eq!(traces(pid), [""; 0]);
    assert_eq!(state(&scene), before);
}

/// A PATH with these programs and no others.
fn path_with(programs: &[&str]) -> TempDir {
    let path = tempfile::tempdir().expect("a folder");
    for program in programs {
        let folders = std::env::var_os("PATH").expect("a PATH");
        let found = std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|file| file.is_file());
        symlink(found.expect("installed"), path.path().join(program)).expect("a link");
    }
    path
}

/// A measurement of many rounds, in a process group of its own; killed when this is dropped.
struct UnderWay(Child);

impl UnderWay {
    /// One that is in its first round.
    fn start() -> Self {
        // The test itself may have been started to ignore signals, as by nohup.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT,TERM", BINARY, "bench", "--rounds", "1000"]).process_group(0);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut measurement = Self(child);
        let mut lines = BufReader::new(measurement.0.stderr.as_mut().expect("piped"));
        let mut said = String::new();
        while !said.contains("round 1 of 1000") {
            assert!(lines.read_line(&mut said).expect("readable") > 0, "it ended: {said}");
        }
        let traces = traces(measurement.0.id());
        for part in ["/run/netns/", "/sys/fs/bpf/", "daemon --config"] {
            assert!(traces.iter().any(|trace| trace.contains(part)), "{part}: {traces:?}");
        }
        measurement
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    /// How it ended, in time.
    fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < lab::PATIENCE {
            if let Some(status) = self.0.try_wait().expect("waited for") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it has not ended");
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // It has ended where the test came to its end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ctrl-C, which reaches all that was started too, and SIGTERM, which does not.
#[test]
fn interrupted_it_ends_at_once_and_leaves_nothing() {
    for (signal, send) in [(Signal::SIGINT, killpg as fn(Pid, Signal) -> nix::Result<()>), (Signal::SIGTERM, kill_one)]
    {
        let mut measurement = UnderWay::start();
        send(measurement.pid(), signal).expect("sent");
        let status = measurement.ended();
        let mut said = String::new();
        measurement.0.stderr.take().expect("piped").read_to_string(&mut said).expect("readable");
        assert_eq!(status.code(), Some(1), "{signal}: {said}");
        assert!(said.contains("error: interrupted"), "{signal}: {said}");
        assert_eq!(traces(measurement.0.id()), [""; 0], "{signal}");
    }
}

fn kill_one(pid: Pid, signal: Signal) -> nix::Result<()> {
    kill(pid, signal)
}

/// What a killed one could not remove, the next one does; and that one has no iptables to compare with.
#[test]
fn without_iptables_and_beside_leftovers_it_is_measured_all_the_same() {
    let mut killed = UnderWay::start();
    killed.0.kill().expect("sent");
    killed.ended();
    let path = path_with(&["ip", "nsenter"]);
    let output = bench(&["--rounds", "1", "--json", "--ipv6"]).env("PATH", path.path()).output().expect("runs");
    assert!(output.status.success(), "{}", told(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    check_rows(&report, 1, false);
    assert_eq!(report["family"], "IPv6");
    let left_out = report["left_out"].as_array().expect("a list");
    assert!(left_out.len() == 1 && left_out[0].as_str().is_some_and(|text| text.starts_with("iptables is left out")));
    assert_eq!(traces(killed.0.id()), [""; 0]);
}

/// As where the kernel has no nf_tables: the rest is measured, and what iptables said is told.
#[test]
fn rules_that_cannot_be_loaded_are_left_out() {
    let path = path_with(&["ip", "nsenter", "ip6tables-nft-restore"]);
    let program = path.path().join("iptables-nft-restore");
    fs::write(&program, "#!/bin/sh\necho Could not fetch rule set generation id >&2\nexit 4\n").expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    let output =
        bench(&["--rounds", "1", "--json", "--iptables", "nft"]).env("PATH", path.path()).output().expect("runs");
    assert!(output.status.success(), "{}", told(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    check_rows(&report, 1, false);
    let left_out = report["left_out"].as_array().and_then(|list| list.last()?.as_str()).expect("something is left out");
    assert!(left_out.starts_with("iptables-nft is left out") && left_out.contains("generation id"), "{left_out}");
}

/// One sentence each of what is missing, and of what to do.
#[test]
fn what_is_missing_is_told() {
    let refused = |command: &mut Command, expected: &str| {
        let output = command.output().expect("runs");
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(told(&output).starts_with("error: ") && told(&output).contains(expected), "{}", told(&output));
        assert!(output.stdout.is_empty());
    };
    let wrapped = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).args([BINARY, "bench", "--rounds", "1"]).stdin(Stdio::null());
        command
    };
    refused(&mut wrapped("unshare", &["--user", "--map-user=1000"]), "run it with sudo");
    refused(&mut wrapped("unshare", &["--user", "--map-root-user"]), "rootless container");
    refused(
        &mut wrapped("setpriv", &["--bounding-set=-net_admin,-sys_admin"]),
        "lacks CAP_NET_ADMIN and CAP_SYS_ADMIN",
    );
    refused(bench(&[]).env("PATH", "/nowhere"), "install the package iproute2");
}

/// The daemon says why it does not start.
#[test]
fn a_daemon_that_fails_is_heard() {
    let output = bench(&[]).env("DATAPATH_MUTANT", "NoSuchFault").output().expect("runs");
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("NoSuchFault"), "{}", told(&output));
}
