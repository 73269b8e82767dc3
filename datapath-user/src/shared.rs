//! Values by index whose copies share what does not differ, in chunks: a copy takes a pointer for each chunk, and what differs
//! between two is found without a look at what they share.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::Arc;

/// Indices of a chunk, which is what copies share.
const CHUNK: u32 = 64;

/// Values by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared<V>(BTreeMap<u32, Arc<BTreeMap<u32, V>>>);

impl<V> Default for Shared<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> Shared<V> {
    /// The value at an index.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&V> {
        self.0.get(&(index / CHUNK))?.get(&index)
    }

    /// Whether there is one.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        self.get(index).is_some()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(|chunk| chunk.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, lowest index first.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        self.0.values().flat_map(|chunk| chunk.iter()).map(|(index, value)| (*index, value))
    }

    /// The values, lowest index first.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values().flat_map(|chunk| chunk.values())
    }
}

impl<V: Clone> Shared<V> {
    /// The value at an index, to be changed.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut V> {
        Arc::make_mut(self.0.get_mut(&(index / CHUNK))?).get_mut(&index)
    }

    /// The value at an index, which is the default one if there was none.
    pub fn get_or_default(&mut self, index: u32) -> &mut V
    where
        V: Default,
    {
        Arc::make_mut(self.0.entry(index / CHUNK).or_default()).entry(index).or_default()
    }

    /// Puts a value in the place of what was at that index.
    pub fn insert(&mut self, index: u32, value: V) -> Option<V> {
        Arc::make_mut(self.0.entry(index / CHUNK).or_default()).insert(index, value)
    }

    /// Takes the value at an index away.
    pub fn remove(&mut self, index: u32) -> Option<V> {
        let chunk = Arc::make_mut(self.0.get_mut(&(index / CHUNK))?);
        let value = chunk.remove(&index);
        if chunk.is_empty() {
            self.0.remove(&(index / CHUNK));
        }
        value
    }
}

impl<V: Eq> Shared<V> {
    /// Where another one differs: the index, the value here, and the value there.
    #[must_use]
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<(u32, Option<&'a V>, Option<&'a V>)> {
        let values = |chunk: Option<&'a Arc<BTreeMap<u32, V>>>| chunk.map(AsRef::as_ref).into_iter().flatten();
        differences(&self.0, &other.0)
            .into_iter()
            .flat_map(|(_, here, there)| differences(values(here), values(there)))
            .map(|(index, here, there)| (*index, here, there))
            .collect()
    }
}

/// The keys whose values differ, each with both, in one walk over two maps, whose keys come in order. What lies in an [`Arc`]
/// that both have is not looked into.
#[must_use]
pub fn differences<'a, K: Ord, V: Eq>(
    one: impl IntoIterator<Item = (&'a K, &'a V)>,
    other: impl IntoIterator<Item = (&'a K, &'a V)>,
) -> Vec<(&'a K, Option<&'a V>, Option<&'a V>)> {
    let (mut ones, mut others) = (one.into_iter().peekable(), other.into_iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (ones.peek(), others.peek()) {
            (None, None) => return found,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let one = if order.is_le() { ones.next() } else { None };
        let other = if order.is_ge() { others.next() } else { None };
        let (here, there) = (one.map(|(_, value)| value), other.map(|(_, value)| value));
        if here != there {
            found.extend(one.or(other).map(|(key, _)| (key, here, there)));
        }
    }
}

impl<V> Index<u32> for Shared<V> {
    type Output = V;

    /// # Panics
    /// When there is none.
    fn index(&self, index: u32) -> &V {
        self.get(index).unwrap_or_else(|| panic!("there is nothing at {index}"))
    }
}

impl<V: Clone> FromIterator<(u32, V)> for Shared<V> {
    fn from_iter<I: IntoIterator<Item = (u32, V)>>(values: I) -> Self {
        let mut shared = Self::default();
        values.into_iter().for_each(|(index, value)| drop(shared.insert(index, value)));
        shared
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Around the edges of chunks, so that some hold several values and some become empty.
    fn some() -> impl Strategy<Value = BTreeMap<u32, u8>> {
        prop::collection::btree_map(prop_oneof![0u32..4, 62u32..66, 126u32..130], 0u8..3, 0..9)
    }

    fn shared(plain: &BTreeMap<u32, u8>) -> Shared<u8> {
        plain.iter().map(|(index, value)| (*index, *value)).collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(from in some(), to in some()) {
            let (mut changed, before) = (shared(&from), shared(&from));
            for index in 0..130 {
                match to.get(&index) {
                    Some(value) => prop_assert_eq!(changed.insert(index, *value), from.get(&index).copied()),
                    None => prop_assert_eq!(changed.remove(index), from.get(&index).copied()),
                }
            }
            prop_assert_eq!(&changed, &shared(&to));
            prop_assert_eq!(before, shared(&from));
            prop_assert_eq!(changed.iter().map(|(index, value)| (index, *value)).collect::<BTreeMap<_, _>>(), to.clone());
            prop_assert_eq!((changed.len(), changed.is_empty()), (to.len(), to.is_empty()));
        }

        #[test]
        fn differences_lead_there(from in some(), to in some()) {
            let (one, other) = (shared(&from), shared(&to));
            let mut reached = one.clone();
            for (index, before, after) in one.differences(&other) {
                prop_assert_eq!(before, from.get(&index));
                prop_assert_ne!(before, after);
                match after {
                    Some(value) => reached.insert(index, *value),
                    None => reached.remove(index),
                };
            }
            prop_assert_eq!(reached, other);
        }
    }

    #[test]
    fn copies_share_what_does_not_differ() {
        let one: Shared<u8> = (0..1_000).map(|index| (index, 0)).collect();
        let mut other = one.clone();
        other.insert(500, 1);
        let shares = |at: u32| Arc::ptr_eq(&one.0[&(at / CHUNK)], &other.0[&(at / CHUNK)]);
        assert!(shares(0) && shares(999) && !shares(500));
    }
}
