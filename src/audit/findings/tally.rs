//! Counts by key in bounded memory.
//!
//! As long as no more keys than places come in one window, counts are exact. Beyond, the tally works as Misra and Gries
//! described (Finding repeated elements, 1982): a key that finds no place takes one off every count, and keys that come
//! to nothing make room. A count is then too low by at most entries / (places + 1), never too high, so that a million
//! made-up operators neither fill the memory nor accuse anybody; the window says by how much it may be too low.

use std::collections::HashMap;

use super::LISTED_ENTRIES;

/// Keys that a rule counts at once.
pub(super) const PLACES: usize = 10_000;

/// What is kept of a key.
#[derive(Debug, Default)]
pub(super) struct Counted<V> {
    pub(super) count: u64,
    /// The first entries.
    pub(super) entries: Vec<u64>,
    /// How many entries there were since the key has its place.
    pub(super) entry_count: u64,
    /// What else a rule keeps of it.
    pub(super) kept: V,
}

/// Counts by key.
pub(super) struct Tally<K, V = ()> {
    places: usize,
    counted: HashMap<K, Counted<V>>,
    undercount: u64,
}

impl<K: Eq + std::hash::Hash, V: Default> Tally<K, V> {
    pub(super) fn new(places: usize) -> Self {
        Self { places, counted: HashMap::new(), undercount: 0 }
    }

    /// Counts an entry for a key. Gives what is kept of it, unless there was no place.
    pub(super) fn count(&mut self, key: K, index: u64) -> Option<&mut Counted<V>> {
        if self.counted.len() >= self.places && !self.counted.contains_key(&key) {
            self.undercount += 1;
            self.counted.retain(|_, counted| {
                counted.count -= 1;
                counted.count > 0
            });
            return None;
        }
        let counted = self.counted.entry(key).or_default();
        counted.count += 1;
        counted.entry_count += 1;
        if counted.entries.len() < LISTED_ENTRIES {
            counted.entries.push(index);
        }
        Some(counted)
    }

    /// By how much counts may be too low.
    pub(super) fn undercount(&self) -> u64 {
        self.undercount
    }

    /// All that was counted; the tally begins anew.
    pub(super) fn take(&mut self) -> HashMap<K, Counted<V>> {
        self.undercount = 0;
        std::mem::take(&mut self.counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_million_keys_leave_memory_bounded_and_the_busy_one_counted() {
        let mut tally: Tally<u64> = Tally::new(100);
        let mut largest = 0;
        for index in 0..1_000_000 {
            // Every tenth entry is of one key; all others are of keys that never come again.
            tally.count(if index % 10 == 0 { u64::MAX } else { index }, index);
            largest = largest.max(tally.counted.len());
        }
        assert_eq!(largest, 100);
        assert!(tally.undercount() <= 1_000_000 / 101, "{}", tally.undercount());
        let counted = tally.take();
        let busy = counted[&u64::MAX].count;
        assert!((100_000 - 1_000_000 / 101..=100_000).contains(&busy), "{busy}");
        assert_eq!(counted[&u64::MAX].entries.len(), LISTED_ENTRIES);
    }

    proptest! {
        #[test]
        fn a_count_is_never_too_high_and_too_low_by_no_more_than_is_said(
            keys in prop::collection::vec(0u8..12, 0..200), places in 1usize..8,
        ) {
            let mut tally: Tally<u8> = Tally::new(places);
            for (index, key) in (0..).zip(&keys) {
                tally.count(*key, index);
            }
            let undercount = tally.undercount();
            prop_assert!(undercount as usize <= keys.len() / (places + 1));
            let counted = tally.take();
            for key in 0..12 {
                let exact = keys.iter().filter(|found| **found == key).count() as u64;
                let found = counted.get(&key).map_or(0, |counted| counted.count);
                prop_assert!(found <= exact && exact <= found + undercount);
            }
        }
    }
}
