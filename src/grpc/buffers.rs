//! How many bytes of messages the gateway holds for its peers at once: one budget over all, and one for each agency.
//!
//! A message counts from when its length is known, before there is memory for it, until its call is done; an answer, or
//! one message of it, counts until the peer has read it. A bound on each message alone would let many of them, half
//! sent or half read, take any amount.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::agency::CreditCode;

/// The budget of all. Clones share it.
#[derive(Clone)]
pub(super) struct Buffers {
    all: Arc<Budget>,
    per_agency: usize,
    agencies: Arc<Mutex<HashMap<CreditCode, Arc<Budget>>>>,
}

struct Budget {
    most: usize,
    taken: AtomicUsize,
}

impl Budget {
    fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.most);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Buffers {
    pub(super) fn new(all: usize, per_agency: usize) -> Self {
        Self { all: Arc::new(Budget::new(all)), per_agency, agencies: Arc::default() }
    }

    /// An account of an agency, on which nothing is taken yet.
    pub(super) fn account(&self, agency: CreditCode) -> Account {
        let of_agency = {
            let mut agencies = self.agencies.lock().unwrap_or_else(PoisonError::into_inner);
            // Bounded by the enrolled agencies: others do not get past the handshake.
            let budget = agencies.entry(agency).or_insert_with(|| Arc::new(Budget::new(self.per_agency)));
            Arc::clone(budget)
        };
        Account { budgets: Some((Arc::clone(&self.all), of_agency)), taken: AtomicUsize::new(0) }
    }
}

/// What one call, or one side of it, has taken; given back when this goes.
pub(crate) struct Account {
    /// Agency's and everybody's; none for a part of another call, which counts there.
    budgets: Option<(Arc<Budget>, Arc<Budget>)>,
    taken: AtomicUsize,
}

impl Account {
    /// Takes nothing from anywhere.
    pub(crate) fn of_another() -> Self {
        Self { budgets: None, taken: AtomicUsize::new(0) }
    }

    /// Another account with the same budgets.
    pub(crate) fn beside(&self) -> Self {
        Self { budgets: self.budgets.clone(), taken: AtomicUsize::new(0) }
    }

    /// Takes `bytes` more; `false`, and nothing, where they are not there.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let Some((all, of_agency)) = &self.budgets else { return true };
        if !of_agency.take(bytes) {
            return false;
        }
        if !all.take(bytes) {
            of_agency.give_back(bytes);
            return false;
        }
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// Takes `bytes` more, whether they are there or not.
    pub(crate) fn overdraw(&self, bytes: usize) {
        if let Some((all, of_agency)) = &self.budgets {
            of_agency.taken.fetch_add(bytes, Ordering::Relaxed);
            all.taken.fetch_add(bytes, Ordering::Relaxed);
            self.taken.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Gives everything back.
    pub(crate) fn settle(&self) {
        let bytes = self.taken.swap(0, Ordering::Relaxed);
        if let (Some((all, of_agency)), 1..) = (&self.budgets, bytes) {
            of_agency.give_back(bytes);
            all.give_back(bytes);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agency(text: &str) -> CreditCode {
        CreditCode::parse(text).unwrap()
    }

    #[test]
    fn an_agency_takes_no_more_than_its_own_and_all_no_more_than_all() {
        let buffers = Buffers::new(100, 60);
        let (first, second) = (agency("91110000600037341L"), agency("11320000MB151840XJ"));
        let one = buffers.account(first);
        assert!(one.take(40) && !one.take(21) && one.take(20));
        assert!(!buffers.account(first).take(1), "the agency has its share");
        let other = buffers.account(second);
        assert!(!other.take(41) && other.take(40) && !other.take(1), "all is taken");
        drop(one);
        assert!(other.take(20) && !other.take(1), "what was refused took nothing");
        other.settle();
        assert!(buffers.account(second).take(60));
        let overdrawn = buffers.account(first);
        overdrawn.overdraw(200);
        assert!(!buffers.account(second).take(1));
        drop(overdrawn);
        assert!(buffers.account(second).take(60));
    }
}
