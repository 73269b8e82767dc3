//! The same ports by iptables, as Docker publishes them: for each a DNAT rule and one that accepts, by IPv4 and IPv6.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use comparison::{Place, Site, Stand};
use lab::reference::Backend;
use lab::{Family, Namespace};

use super::{Figure, PORTS, timed};

/// So many are present in the references that stand.
const PRESENT: [u32; 3] = [1, 1_000, 10_000];
const SINGLES: u16 = 12;
const ONE_BY_ONE: u16 = 100;
/// Where no reference has ports.
const FREE: u16 = 30_000;
const CONTAINER: [&str; 2] = ["10.50.0.3", "fd00:50::3"];

pub(super) fn sites() -> impl Iterator<Item = Site> {
    let of = |backend| PRESENT.map(|present| Site::BridgePublished(backend, present));
    [Backend::Nft, Backend::Legacy].into_iter().flat_map(of)
}

pub(super) fn figures(stand: &Stand) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for backend in [Backend::Nft, Backend::Legacy] {
        for present in PRESENT {
            let Some(reference) = stand.place(Site::BridgePublished(backend, present)).and_then(Place::reference)
            else {
                continue;
            };
            let host = reference.host.as_ref().context("a bridge has a host")?;
            let detail = format!("{}, {present} of each IP version present", tool(backend, Family::V4));
            let times = (0..SINGLES).map(|_| one(host, backend, FREE)).collect::<Result<_>>()?;
            figures.extend(Figure::times("publish one port", &detail, times));
            if present == PRESENT[0] {
                let time: f64 = (FREE..FREE + ONE_BY_ONE).map(|port| one(host, backend, port)).sum::<Result<_>>()?;
                let row = format!("publish {ONE_BY_ONE} ports one by one");
                figures.push(Figure::new(&row, &detail, format!("{time:.0} ms")));
                let time = many(host, backend)?;
                let row = format!("publish {PORTS} ports by {}-restore", tool(backend, Family::V4));
                figures.push(Figure::new(&row, &detail, format!("{time:.0} ms")));
            }
        }
    }
    Ok(figures)
}

fn tool(backend: Backend, family: Family) -> &'static str {
    match (backend, family) {
        (Backend::Nft, Family::V4) => "iptables-nft",
        (Backend::Nft, Family::V6) => "ip6tables-nft",
        (Backend::Legacy, Family::V4) => "iptables-legacy",
        (Backend::Legacy, Family::V6) => "ip6tables-legacy",
    }
}

/// The two rules of a port: table, and the rule behind `-A` or `-D`.
fn rules(family: Family, port: u16) -> [(&'static str, String); 2] {
    let container = family.of(CONTAINER);
    let target = if family == Family::V4 { container.to_string() } else { format!("[{container}]") };
    [
        ("nat", format!("DOCKER ! -i docker0 -p tcp -m tcp --dport {port} -j DNAT --to-destination {target}:{port}")),
        ("filter", format!("DOCKER -d {container} ! -i docker0 -o docker0 -p tcp -m tcp --dport {port} -j ACCEPT")),
    ]
}

/// Milliseconds for one port of both IP versions. It is taken back.
fn one(host: &Namespace, backend: Backend, port: u16) -> Result<f64> {
    let run = |how: &str| -> Result<()> {
        for family in Family::ALL {
            for (table, rule) in rules(family, port) {
                let arguments = ["-w", "-t", table, how].into_iter().chain(rule.split(' '));
                host.run(tool(backend, family), arguments)?;
            }
        }
        Ok(())
    };
    let time = timed(|| run("-A"))?;
    run("-D")?;
    Ok(time)
}

/// Milliseconds for [`PORTS`] of both IP versions at once.
fn many(host: &Namespace, backend: Backend) -> Result<f64> {
    let text = |family, how: &str| {
        let all: Vec<_> = (0..PORTS as u16).map(|offset| rules(family, FREE + offset)).collect();
        let mut text = String::new();
        for (place, table) in ["nat", "filter"].into_iter().enumerate() {
            let _ = writeln!(text, "*{table}");
            for rules in &all {
                let _ = writeln!(text, "{how} {}", rules[place].1);
            }
            text += "COMMIT\n";
        }
        text
    };
    let run = |how: &str| -> Result<()> {
        for family in Family::ALL {
            host.run_with_input(
                &format!("{}-restore", tool(backend, family)),
                ["-w", "--noflush"],
                &text(family, how),
            )?;
        }
        Ok(())
    };
    timed(|| run("-A"))
}
