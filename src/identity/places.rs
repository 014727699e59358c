//! A bounded number of places, in all and for each holder.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what is in use. Cheap to clone; clones share the count.
#[derive(Debug)]
pub(super) struct Places<K> {
    shared: Arc<Shared<K>>,
}

#[derive(Debug)]
struct Shared<K> {
    in_all: usize,
    for_each: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    in_all: usize,
    by_holder: HashMap<K, usize>,
}

impl<K: Eq + Hash + Copy> Places<K> {
    pub(super) fn new(in_all: usize, for_each: usize) -> Self {
        let taken = Mutex::new(Taken { in_all: 0, by_holder: HashMap::new() });
        Self { shared: Arc::new(Shared { in_all, for_each, taken }) }
    }

    /// A place for `holder` until the returned value is dropped; `None` when there is none left.
    pub(super) fn take(&self, holder: K) -> Option<Place<K>> {
        let mut taken = self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let held = taken.by_holder.get(&holder).copied().unwrap_or(0);
        if taken.in_all >= self.shared.in_all || held >= self.shared.for_each {
            return None;
        }
        taken.in_all += 1;
        taken.by_holder.insert(holder, held + 1);
        Some(Place { shared: Arc::clone(&self.shared), holder })
    }
}

impl<K> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// One place, given back on drop.
#[derive(Debug)]
pub(super) struct Place<K: Eq + Hash> {
    shared: Arc<Shared<K>>,
    holder: K,
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all = taken.in_all.saturating_sub(1);
        // Holders without a place are forgotten, so that the map does not grow with every address ever seen.
        if let Some(held) = taken.by_holder.get_mut(&self.holder) {
            *held -= 1;
            if *held == 0 {
                taken.by_holder.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_and_come_back() {
        let places = Places::new(3, 2);
        let first = places.take('a').expect("first");
        let _second = places.take('a').expect("second");
        assert!(places.take('a').is_none(), "a holds its two");
        let _third = places.take('b').expect("third");
        assert!(places.take('c').is_none(), "all three are taken");
        drop(first);
        assert!(places.take('c').is_some());
        assert_eq!(places.shared.taken.lock().expect("lock").by_holder.len(), 2, "c is forgotten");
    }
}
