//! The probes of the fault tests on the paths of a container, and what they may lose on a machine that is busy with
//! dockerd: nothing that the kernel has not counted as arrived.

use std::net::SocketAddr;

use lab::docker::DockerContainer;
use lab::probe::Probes;
use lab::{Lan, Namespace};

use super::{LOOPBACK, both};
use crate::scene::Scene;

/// Probes on the paths of a container that is published on port 8080 and has a sibling.
pub struct Watch {
    probes: Vec<(&'static str, Probes)>,
    before: Arrived,
}

impl Watch {
    /// Starts them.
    pub fn start(scene: &Scene, web: &DockerContainer, sibling: &DockerContainer) -> Self {
        let paths: [(_, &Namespace, _, _); 5] = [
            ("published", &scene.lan.machine, both(Lan::HOST)[0], 8080),
            ("published, IPv6", &scene.lan.machine, both(Lan::HOST)[1], 8080),
            ("published over loopback", scene.namespace(), both(LOOPBACK)[0], 8080),
            ("switched", &sibling.namespace, web.addresses("bridge")[0], 80),
            ("masqueraded", &sibling.namespace, both(Lan::INTERNET)[0], 80),
        ];
        let start = |(name, from, target, port): (&'static str, &Namespace, _, u16)| {
            let probes = Probes::start(from, SocketAddr::new(target, port));
            (name, probes.unwrap_or_else(|error| panic!("{name}: {error:#}")))
        };
        Self { before: Arrived::count(scene), probes: paths.into_iter().map(start).collect() }
    }

    /// Stops them; the network has lost nothing.
    #[track_caller]
    pub fn assert_zero_loss(self, scene: &Scene) {
        let findings: Vec<_> = self.probes.into_iter().map(|(name, probes)| (name, probes.stop())).collect();
        let mut excused = Arrived::count(scene).since(self.before);
        let lost = findings.into_iter().filter_map(|(name, findings)| {
            let mut findings = findings.unwrap_or_else(|error| panic!("{name}: {error:#}"));
            take(&mut findings.datagrams_lost, &mut excused.overflown);
            take(&mut findings.retransmissions, &mut excused.duplicates);
            findings.check_zero_loss().err().map(|error| format!("{name}: {error:#}"))
        });
        let lost: Vec<_> = lost.collect();
        assert!(lost.is_empty(), "{}\n{}", lost.join("\n"), crate::checks::picture(scene));
    }
}

/// Takes from both what they have in common.
fn take<N: Copy + Into<u64> + TryFrom<u64>>(lost: &mut N, excused: &mut u64) {
    let before: u64 = (*lost).into();
    let common = before.min(*excused);
    *excused -= common;
    if let Ok(left) = N::try_from(before - common) {
        *lost = left;
    }
}

/// What has arrived and looks lost, in the namespaces that the probes go through.
#[derive(Clone, Copy)]
struct Arrived {
    /// Datagrams for a socket whose buffer was full, as its process did not get the processor in time.
    overflown: u64,
    /// Segments that were sent again though they had arrived (RFC 2883), as their acknowledgement took its time.
    duplicates: u64,
}

impl Arrived {
    fn count(scene: &Scene) -> Self {
        let running = scene.docker.running().unwrap_or_else(|error| panic!("{error:#}"));
        let mut folders: Vec<_> =
            running.iter().map(|container| Self::read(&format!("/proc/{}/net", container.pid))).collect();
        for place in [&scene.lan.machine, &scene.lan.internet, scene.namespace()] {
            folders.push(place.enter(|| Self::read("/proc/thread-self/net")));
        }
        let sum = |field: fn(&Self) -> u64| folders.iter().map(field).sum();
        Self { overflown: sum(|each| each.overflown), duplicates: sum(|each| each.duplicates) }
    }

    fn read(folder: &str) -> Self {
        let text = |name| std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
        let (snmp, snmp6, netstat) = (text("snmp"), text("snmp6"), text("netstat"));
        let v6 = snmp6.lines().find_map(|line| line.strip_prefix("Udp6RcvbufErrors")?.trim().parse::<u64>().ok());
        Self {
            overflown: column(&snmp, "Udp:", "RcvbufErrors") + v6.unwrap_or(0),
            duplicates: column(&netstat, "TcpExt:", "TCPDSACKRecv"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            overflown: self.overflown.saturating_sub(before.overflown),
            duplicates: self.duplicates.saturating_sub(before.duplicates),
        }
    }
}

/// A value of /proc/net: a line of names, then one of values, with the same first word.
fn column(text: &str, line: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|candidate| candidate.starts_with(line));
    let column = lines.next().and_then(|names| names.split(' ').position(|candidate| candidate == name));
    let value = column.and_then(|column| lines.next()?.split(' ').nth(column)?.parse().ok());
    value.unwrap_or_else(|| panic!("{line} {name} is missing in {text:?}"))
}
