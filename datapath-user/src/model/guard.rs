//! The user's rules for what comes in by uplinks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use datapath_common::abi::{self, DENIED_CAPACITY, guard_checks};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Refusal;

/// Denied sources. A deny list can be long and a model is copied for each request: copies share it until one changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeSet<IpNet>", into = "BTreeSet<IpNet>")]
pub struct Denied(Arc<BTreeSet<IpNet>>);

impl From<BTreeSet<IpNet>> for Denied {
    fn from(prefixes: BTreeSet<IpNet>) -> Self {
        Self(Arc::new(prefixes))
    }
}

impl From<Denied> for BTreeSet<IpNet> {
    fn from(denied: Denied) -> Self {
        Arc::unwrap_or_clone(denied.0)
    }
}

impl Denied {
    /// The prefixes.
    #[must_use]
    pub fn prefixes(&self) -> &BTreeSet<IpNet> {
        &self.0
    }

    /// The prefixes, to be changed.
    pub fn prefixes_mut(&mut self) -> &mut BTreeSet<IpNet> {
        Arc::make_mut(&mut self.0)
    }

    fn count(&self, v4: bool) -> usize {
        self.0.iter().filter(|prefix| prefix.addr().is_ipv4() == v4).count()
    }
}

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Packets of each source.
    Packets,
    /// SYNs of each source to published ports.
    Syn,
    /// SYNs of all sources together to each published port.
    PortSyn,
}

/// How much is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// A second.
    pub rate: u32,
    /// At once.
    pub burst: u32,
}

/// Highest rate: above, the nanoseconds from one packet to the next would be rounded by more than one in a hundred.
const MAX_RATE: u32 = 10_000_000;
/// Most at once: as many as a thousand seconds bring at the highest rate fit the programs' arithmetic many times.
const MAX_BURST: u32 = 100_000_000;
/// The programs read a clock that moves a hundred times a second at least (CONFIG_HZ): a burst must cover one step of it.
const CLOCK: u32 = 100;

impl Limit {
    /// A limit; without a burst, that of a second.
    ///
    /// # Errors
    /// When it would stop everything, or cannot be kept.
    pub fn new(rate: u32, burst: Option<u32>) -> Result<Self, Refusal> {
        if !(1..=MAX_RATE).contains(&rate) {
            return Err(Refusal::invalid(
                format!("a rate of {rate} a second cannot be kept"),
                format!("choose between 1 and {MAX_RATE}, or `off`; to let nobody in, deny 0.0.0.0/0 and ::/0"),
            ));
        }
        let burst = burst.unwrap_or(rate);
        let least = rate.div_ceil(CLOCK);
        if !(least..=MAX_BURST).contains(&burst) {
            return Err(Refusal::invalid(
                format!("with a burst of {burst}, {rate} a second would not be reached, or not be a limit"),
                format!("choose between {least} and {MAX_BURST}: the clock of the programs has steps of up to 10 ms"),
            ));
        }
        Ok(Self { rate, burst })
    }

    fn to_map(self) -> abi::Rate {
        abi::Rate::new(self.rate, self.burst)
    }
}

/// All the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// Sources whose packets are dropped.
    pub denied: Denied,
    /// Limits.
    pub limits: BTreeMap<LimitKind, Limit>,
}

impl Guard {
    /// Denies prefixes, and returns those that were not denied before.
    ///
    /// # Errors
    /// When there is no room for so many.
    pub fn deny(&mut self, prefixes: &[IpNet]) -> Result<Vec<IpNet>, Refusal> {
        let new: BTreeSet<IpNet> =
            prefixes.iter().filter(|prefix| !self.denied.prefixes().contains(prefix)).copied().collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        for (v4, version) in [(true, "IPv4"), (false, "IPv6")] {
            let wanted = self.denied.count(v4) + new.iter().filter(|prefix| prefix.addr().is_ipv4() == v4).count();
            if wanted > DENIED_CAPACITY as usize {
                return Err(Refusal::conflict(
                    format!(
                        "the deny list has room for {DENIED_CAPACITY} prefixes of {version}, and would have {wanted}"
                    ),
                    "join neighbouring prefixes into wider ones, or `datapath guard undeny` some",
                ));
            }
        }
        self.denied.prefixes_mut().extend(&new);
        Ok(new.into_iter().collect())
    }

    /// Denies prefixes no more.
    ///
    /// # Errors
    /// When one of them is not denied: as it is, for a wider one may be.
    pub fn undeny(&mut self, prefixes: &[IpNet]) -> Result<Vec<IpNet>, Refusal> {
        if let Some(missing) = prefixes.iter().find(|prefix| !self.denied.prefixes().contains(prefix)) {
            let wider = self.denied.prefixes().iter().find(|denied| denied.contains(missing));
            return Err(match wider {
                Some(wider) => Refusal::not_found(
                    format!("{missing} is denied as a part of {wider} only"),
                    format!("undeny {wider}, and deny what else is in it"),
                ),
                None => Refusal::not_found(
                    format!("{missing} is not denied"),
                    "`datapath guard ls` shows what is, as it must be written",
                ),
            });
        }
        let gone: BTreeSet<IpNet> = prefixes.iter().copied().collect();
        self.denied.prefixes_mut().retain(|prefix| !gone.contains(prefix));
        Ok(gone.into_iter().collect())
    }

    /// Denies nobody any more.
    pub fn undeny_all(&mut self) -> Vec<IpNet> {
        std::mem::take(self.denied.prefixes_mut()).into_iter().collect()
    }

    /// Sets a limit, or takes it away.
    pub fn limit(&mut self, kind: LimitKind, limit: Option<Limit>) {
        match limit {
            Some(limit) => drop(self.limits.insert(kind, limit)),
            None => drop(self.limits.remove(&kind)),
        }
    }

    /// The rules as the programs have them, but for the deny list itself.
    #[must_use]
    pub fn to_map(&self) -> abi::Guard {
        let rate = |kind| self.limits.get(&kind).map(|limit| limit.to_map());
        let (packets, syns, port_syns) = (rate(LimitKind::Packets), rate(LimitKind::Syn), rate(LimitKind::PortSyn));
        let any = |v4| self.denied.prefixes().iter().any(|prefix| prefix.addr().is_ipv4() == v4);
        let checks = [
            (any(true), guard_checks::DENY_V4),
            (any(false), guard_checks::DENY_V6),
            (packets.is_some(), guard_checks::PACKETS),
            (syns.is_some(), guard_checks::SYNS),
            (port_syns.is_some(), guard_checks::PORT_SYNS),
        ];
        abi::Guard {
            checks: checks.into_iter().filter(|(wanted, _)| *wanted).map(|(_, check)| check).sum(),
            padding: 0,
            packets: packets.unwrap_or_default(),
            syns: syns.unwrap_or_default(),
            port_syns: port_syns.unwrap_or_default(),
        }
    }
}

/// A source as it is written: an address, or a prefix without host bits.
///
/// # Errors
/// When it is none, or one that nobody outside can have.
pub fn parse_source(text: &str) -> Result<IpNet, Refusal> {
    let prefix = match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
        (Ok(address), _) => IpNet::from(address),
        (_, Ok(prefix)) => prefix,
        _ => {
            return Err(Refusal::invalid(
                format!("{text:?} is neither an address nor a prefix"),
                "write one such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
            ));
        }
    };
    if prefix != prefix.trunc() {
        return Err(Refusal::invalid(format!("{prefix} has host bits set"), format!("use {}", prefix.trunc())));
    }
    if let IpNet::V6(v6) = prefix
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        let length = v6.prefix_len() - 96;
        return Err(Refusal::invalid(
            format!("{prefix} is IPv4 in the form of IPv6, which is on no wire"),
            format!("use {v4}/{length}"),
        ));
    }
    let nobodys = ["127.0.0.0/8", "224.0.0.0/4", "ff00::/8"].map(|text| text.parse::<IpNet>());
    if nobodys.into_iter().flatten().any(|net| net.contains(&prefix))
        || prefix.addr() == IpAddr::V6(Ipv6Addr::LOCALHOST)
    {
        return Err(Refusal::invalid(
            format!("{prefix} is no source of packets from outside"),
            "deny the address that they come from; `datapath monitor --drops` shows those that are dropped",
        ));
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| parse_source(text).expect("a source")).collect()
    }

    #[test]
    fn sources_as_they_are_written() {
        for (text, prefix) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse_source(text).expect(text).to_string(), prefix);
        }
        for (text, part) in [
            ("192.0.2.7/24", "host bits set; use 192.0.2.0/24"),
            ("2001:db8::1/64", "host bits set; use 2001:db8::/64"),
            ("::ffff:192.0.2.0/120", "use 192.0.2.0/24"),
            ("127.0.0.1", "no source"),
            ("224.0.0.0/4", "no source"),
            ("ff02::1", "no source"),
            ("::1", "no source"),
            ("example.org", "neither an address nor a prefix"),
            ("192.0.2.0/33", "neither an address nor a prefix"),
            ("", "neither an address nor a prefix"),
        ] {
            let refusal = parse_source(text).expect_err(text).to_string();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }

    #[test]
    fn denied_once_and_undenied_as_denied() {
        let mut guard = Guard::default();
        let [a, b] = sources(&["192.0.2.0/24", "2001:db8::/32"])[..] else { unreachable!() };
        assert_eq!(guard.deny(&[a, b, a]).expect("room"), [a, b]);
        assert_eq!(guard.deny(&[b]).expect("room"), []);
        assert_eq!(guard.to_map().checks, guard_checks::DENY_V4 | guard_checks::DENY_V6);
        let inner = sources(&["192.0.2.7"]);
        assert!(guard.undeny(&inner).expect_err("as a whole").to_string().contains("part of 192.0.2.0/24 only"));
        let other = sources(&["198.51.100.0/24"]);
        let before = guard.clone();
        assert!(guard.undeny(&[a, other[0]]).expect_err("not denied").to_string().contains("is not denied"));
        assert_eq!(guard, before, "nothing of a refused request is done");
        guard.undeny(&[a]).expect("denied");
        assert_eq!(guard.to_map().checks, guard_checks::DENY_V6);
        assert_eq!(guard.undeny_all(), [b]);
        assert_eq!(guard.to_map(), abi::Guard::default());
    }

    #[test]
    fn the_list_is_bounded() {
        let mut guard = Guard::default();
        let address = |number: u32| IpNet::from(IpAddr::from(number.to_be_bytes()));
        let all: Vec<_> = (0..DENIED_CAPACITY).map(|number| address(0x0a00_0000 + number)).collect();
        guard.deny(&all).expect("room for so many");
        let refusal = guard.deny(&sources(&["192.0.2.0/24"])).expect_err("no room").to_string();
        assert!(refusal.contains("262144 prefixes of IPv4"), "{refusal}");
        guard.deny(&sources(&["2001:db8::/32"])).expect("IPv6 has its own");
    }

    #[test]
    fn limits_are_checked() {
        assert_eq!(Limit::new(1_000, None).expect("valid"), Limit { rate: 1_000, burst: 1_000 });
        for (rate, burst, part) in [
            (0, None, "between 1 and"),
            (MAX_RATE + 1, None, "between 1 and"),
            (10_000, Some(99), "between 100 and"),
            (10, Some(0), "between 1 and"),
        ] {
            let refusal = Limit::new(rate, burst).expect_err("refused").to_string();
            assert!(refusal.contains(part), "{refusal}");
        }
        let mut guard = Guard::default();
        guard.limit(LimitKind::Syn, Some(Limit::new(100, Some(5)).expect("valid")));
        let map = guard.to_map();
        assert_eq!((map.checks, map.syns), (guard_checks::SYNS, abi::Rate::new(100, 5)));
        guard.limit(LimitKind::Syn, None);
        assert_eq!(guard, Guard::default());
    }
}
