//! The newest entries of the log as they were written, for who follows it: they need not be read back.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::audit::log::Batch;
use crate::audit::verifier::StoredEntry;

/// Bytes of entries that are held; of more the oldest are let go.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Entries that this gateway has written and nobody has taken yet, without a gap.
#[derive(Default)]
pub(super) struct Recent(Mutex<Run>);

#[derive(Default)]
struct Run {
    first: u64,
    entries: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Recent {
    /// Keeps the entries of a batch that is durable.
    pub(super) fn keep<E>(&self, batch: &Batch<E>) {
        let mut run = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if run.first + run.entries.len() as u64 != batch.first_index {
            *run = Run { first: batch.first_index, ..Run::default() };
        }
        for leaf in &batch.leaves {
            run.bytes += leaf.entry.len();
            run.entries.push_back(leaf.entry.clone());
        }
        while run.bytes > MOST_BYTES && run.let_go().is_some() {}
    }

    /// Takes entries from the beginning of a range on, as far as they are here, and lets those before it go. `None` where the first
    /// is not here.
    pub(super) fn take(&self, range: &Range<u64>) -> Option<Vec<StoredEntry>> {
        let mut run = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if range.start < run.first {
            return None;
        }
        while run.first < range.start && run.let_go().is_some() {}
        let mut taken = Vec::new();
        while run.first < range.end {
            let index = run.first;
            let Some(entry) = run.let_go() else { break };
            taken.push(StoredEntry { index, entry, leaf_hash: None });
        }
        (!taken.is_empty()).then_some(taken)
    }
}

impl Run {
    fn let_go(&mut self) -> Option<Vec<u8>> {
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.bytes -= entry.len();
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::Salt;
    use crate::audit::log::{Head, Leaf};
    use crate::audit::merkle::empty_root;

    fn batch(first_index: u64, entries: &[Vec<u8>]) -> Batch<()> {
        let leaf = |entry: &Vec<u8>| Leaf { entry: entry.clone(), salt: Salt([0; 64]), effects: Vec::new() };
        let size = first_index + entries.len() as u64;
        let (root, checkpoint) = (empty_root(), String::new());
        let head = Head { size, root, open_from: size, written_to: size, recorded: None, checkpoint };
        Batch { first_index, leaves: entries.iter().map(leaf).collect(), tiles: Vec::new(), head }
    }

    fn taken(recent: &Recent, range: Range<u64>) -> Option<Vec<(u64, Vec<u8>)>> {
        let taken = recent.take(&range)?;
        Some(taken.into_iter().map(|stored| (stored.index, stored.entry)).collect())
    }

    #[test]
    fn what_follows_on_is_taken_once_and_in_order() {
        let recent = Recent::default();
        recent.keep(&batch(7, &[vec![7], vec![8]]));
        recent.keep(&batch(9, &[vec![9]]));
        assert_eq!(taken(&recent, 6..9), None, "the sixth was written by another");
        assert_eq!(taken(&recent, 7..8), Some(vec![(7, vec![7])]));
        assert_eq!(taken(&recent, 9..20), Some(vec![(9, vec![9])]), "the eighth was let go");
        assert_eq!(taken(&recent, 8..20), None);
        assert_eq!(taken(&recent, 10..20), None);
    }

    #[test]
    fn behind_a_gap_it_begins_anew() {
        let recent = Recent::default();
        recent.keep(&batch(0, &[vec![0], vec![1]]));
        recent.keep(&batch(5, &[vec![5]]));
        assert_eq!(taken(&recent, 0..6), None);
        assert_eq!(taken(&recent, 5..6), Some(vec![(5, vec![5])]));
    }

    #[test]
    fn so_much_is_held_although_nobody_takes_it() {
        let recent = Recent::default();
        let entry = vec![0; MOST_BYTES / 4];
        recent.keep(&batch(0, &[entry.clone(), entry.clone(), entry.clone(), entry.clone(), entry]));
        assert_eq!(taken(&recent, 0..9), None);
        assert_eq!(taken(&recent, 1..9).unwrap().len(), 4);
    }
}
