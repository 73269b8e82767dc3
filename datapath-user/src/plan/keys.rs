//! The keys that lead to a publication, as ranges of ports: ten thousand of them are compared and copied like one.

use std::fmt;

use datapath_common::abi::{Address, PublishedKey};

/// Ports of one address and protocol, host order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Range {
    address: Address,
    protocol: u8,
    first: u16,
    last: u16,
}

impl Range {
    fn meets(&self, other: &Self) -> bool {
        self.is_of(other) && self.first <= other.last && other.first <= self.last
    }

    fn is_of(&self, other: &Self) -> bool {
        (self.address, self.protocol) == (other.address, other.protocol)
    }
}

/// A set of keys. Equal sets are equal values: ranges are in order, and as long as they can be.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Range>);

impl Keys {
    /// Ports, host order, of one address and protocol.
    #[must_use]
    pub fn of(address: Address, protocol: u8, first: u16, last: u16) -> Self {
        Self(if first <= last { vec![Range { address, protocol, first, last }] } else { Vec::new() })
    }

    /// The keys of all of these.
    #[must_use]
    pub fn union<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::joined(all.into_iter().flat_map(|keys| keys.0.iter().copied()).collect())
    }

    fn joined(mut ranges: Vec<Range>) -> Self {
        ranges.sort_unstable();
        ranges.dedup_by(|next, range| {
            let joins = range.is_of(next) && u32::from(next.first) <= u32::from(range.last) + 1;
            if joins {
                range.last = range.last.max(next.last);
            }
            joins
        });
        Self(ranges)
    }

    /// Those that the other set has not.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::with_capacity(self.0.len());
        for range in &self.0 {
            let mut rest = Some(*range);
            let from = other.0.partition_point(|taken| taken < range && !taken.meets(range));
            for taken in other.0[from..].iter().take_while(|taken| taken.meets(range)) {
                let Some(now) = rest else { break };
                if now.first < taken.first {
                    left.push(Range { last: taken.first - 1, ..now });
                }
                rest = taken.last.checked_add(1).filter(|next| *next <= now.last).map(|first| Range { first, ..now });
            }
            left.extend(rest);
        }
        Self(left)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|range| usize::from(range.last - range.first) + 1).sum()
    }

    /// Every key, as the map has it.
    pub fn iter(&self) -> impl Iterator<Item = PublishedKey> + '_ {
        self.0.iter().flat_map(|range| {
            (range.first..=range.last).map(|port| PublishedKey::new(range.address, port.to_be(), range.protocol))
        })
    }
}

impl FromIterator<PublishedKey> for Keys {
    fn from_iter<I: IntoIterator<Item = PublishedKey>>(keys: I) -> Self {
        let range = |key: PublishedKey| {
            let port = u16::from_be(key.port);
            Range { address: key.address, protocol: key.protocol, first: port, last: port }
        };
        Self::joined(keys.into_iter().map(range).collect())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const ADDRESSES: [Address; 2] = [Address::ANY_V4, Address::NONE];

    type Plain = BTreeSet<(u8, u8, u16)>;

    fn keys(plain: &Plain) -> Keys {
        let key = |(address, protocol, port): &(u8, u8, u16)| {
            PublishedKey::new(ADDRESSES[usize::from(*address)], port.to_be(), *protocol)
        };
        plain.iter().map(key).collect()
    }

    fn some() -> impl Strategy<Value = Plain> {
        let edges = prop_oneof![0u16..12, 65_530u16..=65_535];
        prop::collection::btree_set((0u8..2, 6u8..8, edges), 0..24)
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(one in some(), other in some()) {
            prop_assert_eq!(keys(&one).count(), one.len());
            prop_assert_eq!(keys(&one).iter().collect::<Keys>(), keys(&one));
            prop_assert_eq!(keys(&one).is_empty(), one.is_empty());
            let both = one.union(&other).copied().collect();
            prop_assert_eq!(Keys::union([&keys(&one), &keys(&other)]), keys(&both));
            let difference = one.difference(&other).copied().collect();
            prop_assert_eq!(keys(&one).without(&keys(&other)), keys(&difference));
        }
    }

    #[test]
    fn ranges_are_as_long_as_they_can_be() {
        let range = |first, last| Keys::of(Address::ANY_V4, 6, first, last);
        assert_eq!(Keys::union([&range(10, 19), &range(30, 39), &range(20, 29)]), range(10, 39));
        assert_eq!(range(0, u16::MAX).without(&range(1, u16::MAX)), range(0, 0));
        assert_eq!((range(80, 79).count(), range(0, u16::MAX).count()), (0, 65_536));
    }
}
