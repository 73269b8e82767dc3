//! Sets of ports, as large as they come: with ten thousand in them, they are joined and compared in microseconds.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use fixedbitset::FixedBitSet;
use serde::{Deserialize, Serialize};

const PORTS: usize = 1 << 16;

/// Ports, written as the kernel writes them: `80,8000-8010`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortSet(FixedBitSet);

impl Default for PortSet {
    fn default() -> Self {
        Self(FixedBitSet::with_capacity(PORTS))
    }
}

impl PortSet {
    /// Adds ports.
    pub fn insert(&mut self, ports: RangeInclusive<u16>) {
        self.0.insert_range(usize::from(*ports.start())..usize::from(*ports.end()) + 1);
    }

    /// Ports of either.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.0.union_with(&other.0);
        self
    }

    /// Ports of this one that the other has not.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        self.0.difference_with(&other.0);
        self
    }

    /// The ports, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.ones().map(|port| port as u16)
    }

    fn ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for port in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
                _ => ranges.push((port, port)),
            }
        }
        ranges
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        let mut set = Self::default();
        ports.into_iter().for_each(|port| set.0.insert(port.into()));
        set
    }
}

impl FromStr for PortSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut set = Self::default();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let port =
                |text: &str| text.trim().parse::<u16>().with_context(|| format!("`{part}` is no range of ports"));
            let (first, last) = (port(first)?, port(last)?);
            ensure!(first <= last, "`{part}` is no range of ports");
            set.insert(first..=last);
        }
        Ok(set)
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.ranges().into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

impl TryFrom<String> for PortSet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PortSet> for String {
    fn from(ports: PortSet) -> Self {
        ports.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        let ports = |text: &str| text.parse::<PortSet>().expect("a literal");
        assert_eq!(ports("80,8000-8003,443\n").to_string(), "80,443,8000-8003");
        assert_eq!(ports("").to_string(), "");
        assert_eq!(ports("0,65534-65535").to_string(), "0,65534-65535");
        assert_eq!(ports("1-9").without(&ports("3,5-7")).union(&ports("11")).to_string(), "1-2,4,8-9,11");
        for wrong in ["x", "9-1", "70000"] {
            assert!(wrong.parse::<PortSet>().is_err(), "{wrong}");
        }
    }
}
