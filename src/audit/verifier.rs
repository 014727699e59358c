//! Offline verification of a whole log: every entry hashed again, the root compared with what was signed, and
//! whatever does not fit named by its index.

use std::collections::BTreeMap;
use std::error::Error;

use serde_json::Value;

pub use self::finding::Finding;
pub use self::published::verify_published;
pub use self::removals::RemovedRange;
use self::removals::{Removals, Unexplained};
use super::checkpoint::Checkpoint;
use super::merkle::{Frontier, Hash, leaf_hash};
use super::note::{NoteError, VerifyingKey};

mod finding;
mod published;
pub(in crate::audit) mod removals;

/// How many findings a report lists, and how many gaps are followed: a log with every entry changed must not
/// fill the auditor's memory.
const FINDINGS_LISTED: usize = 1_000;

/// One entry as the log has stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place in the log, from zero.
    pub index: u64,
    /// The exact bytes: RFC 8785 canonical JSON, an object. Empty when they were pruned.
    pub entry: Vec<u8>,
    /// What the log has recorded as its leaf hash, in its tiles of level 0; `None` if that is not at hand.
    /// Without it a changed entry still shows, but not which one.
    pub leaf_hash: Option<Hash>,
}

impl StoredEntry {
    /// Whether its bytes were pruned: an object in JSON is never empty.
    pub fn is_pruned(&self) -> bool {
        self.entry.is_empty()
    }
}

/// Why a log could not be verified at all, as opposed to what was found wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The checkpoint to verify against is not one that the key has signed.
    #[error("the checkpoint cannot be used: {0}")]
    Checkpoint(#[source] NoteError),
    /// An earlier checkpoint is not one that the key has signed.
    #[error("earlier checkpoint number {number} cannot be used: {reason}")]
    EarlierCheckpoint {
        /// Which one, from 1, in the order given.
        number: usize,
        /// What is wrong with it.
        #[source]
        reason: NoteError,
    },
    /// The entries could not be read to their end.
    #[error("the log could not be read beyond entry {next}: {reason}")]
    Unreadable {
        /// The index that was expected next.
        next: u64,
        /// What the source of the entries said.
        #[source]
        reason: Box<dyn Error + Send + Sync>,
    },
}

/// What verification came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The number of entries that the checkpoint signs.
    pub size: u64,
    /// The root that the checkpoint signs.
    pub root: Hash,
    /// Entries in their place that are canonical JSON and agree with their recorded leaf hash, if there is
    /// one.
    pub verified_entries: u64,
    /// Earlier checkpoints whose root this log had at their size.
    pub earlier_checked: u64,
    /// What is wrong with the log, as far as it is listed.
    pub findings: Vec<Finding>,
    /// How many findings there were beyond those listed.
    pub findings_left_out: u64,
    /// What was erased or pruned, and what the log says of it.
    pub removed: Vec<RemovedRange>,
}

impl Report {
    /// Whether the log is exactly what was signed, and what every earlier checkpoint signed.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.findings_left_out == 0
    }
}

/// Verifies a log, given all its entries in order, against a signed checkpoint and any earlier ones that the
/// auditor has kept. It holds one entry at a time.
///
/// # Errors
/// [`VerifyError`] if a checkpoint is not signed by `key` or `entries` gives an error. A log that does not
/// hold what was signed is no error: see [`Report::findings`].
pub fn verify_log<E: Into<Box<dyn Error + Send + Sync>>>(
    entries: impl Iterator<Item = Result<StoredEntry, E>>,
    checkpoint_note: &str,
    key: &VerifyingKey,
    earlier: &[String],
) -> Result<Report, VerifyError> {
    let mut verifier = Verifier::start(checkpoint_note, key, earlier)?;
    for entry in entries {
        let next = verifier.next;
        let entry = entry.map_err(|reason| VerifyError::Unreadable { next, reason: reason.into() })?;
        verifier.feed(&entry);
    }
    Ok(verifier.finish())
}

/// A verification under way, for entries that come one by one. [`verify_log`] is the same in one call.
#[derive(Clone, Debug)]
pub struct Verifier {
    checkpoint: Checkpoint,
    /// The roots of earlier checkpoints not yet reached, by size.
    earlier: BTreeMap<u64, Vec<Hash>>,
    /// The index expected next.
    next: u64,
    /// The tree over the entries as they are, as long as none is missing.
    tree: Option<Frontier>,
    /// The tree over the recorded leaf hashes, from the first that differs. It tells which of the two was
    /// changed.
    recorded_tree: Option<Frontier>,
    /// Missing ranges, first to last index.
    gaps: BTreeMap<u64, u64>,
    beyond: Option<(u64, u64)>,
    verified_entries: u64,
    earlier_checked: u64,
    findings: Vec<Finding>,
    findings_left_out: u64,
    removals: Removals,
}

impl Verifier {
    /// Begins a verification against a signed checkpoint and any earlier ones.
    ///
    /// # Errors
    /// [`VerifyError`] if one of them is not a checkpoint signed by `key`.
    pub fn start(
        checkpoint_note: &str,
        key: &VerifyingKey,
        earlier_notes: &[String],
    ) -> Result<Self, VerifyError> {
        let checkpoint = Checkpoint::open(checkpoint_note, key).map_err(VerifyError::Checkpoint)?;
        let mut earlier: BTreeMap<u64, Vec<Hash>> = BTreeMap::new();
        for (number, note) in (1..).zip(earlier_notes) {
            let opened = Checkpoint::open(note, key)
                .map_err(|reason| VerifyError::EarlierCheckpoint { number, reason })?;
            earlier.entry(opened.size).or_default().push(opened.root);
        }
        let mut verifier = Self {
            checkpoint,
            earlier,
            next: 0,
            tree: Some(Frontier::new()),
            recorded_tree: None,
            gaps: BTreeMap::new(),
            beyond: None,
            verified_entries: 0,
            earlier_checked: 0,
            findings: Vec::new(),
            findings_left_out: 0,
            removals: Removals::default(),
        };
        verifier.compare_with_earlier();
        Ok(verifier)
    }

    /// Takes the next entry of the log.
    pub fn feed(&mut self, stored: &StoredEntry) {
        let index = stored.index;
        if index >= self.checkpoint.size {
            let (first, count) = self.beyond.unwrap_or((index, 0));
            self.beyond = Some((first.min(index), count + 1));
            return;
        }
        if index < self.next {
            self.place_late_entry(index);
            return;
        }
        if index > self.next {
            self.open_gap(index);
        }
        self.next = index + 1;
        self.check_entry(stored);
        self.compare_with_earlier();
    }

    /// Takes note that an entry, of which the storage keeps the salts beside it, is there without them. An erasure that
    /// the log tells of explains it; otherwise it is a finding.
    pub fn note_missing_salt(&mut self, index: u64) {
        if index < self.checkpoint.size {
            self.removals.without_salts.push(index);
        }
    }

    /// The report, once all entries have been fed.
    pub fn finish(mut self) -> Report {
        let Unexplained { pruned, without_salts } = self.removals.unexplained();
        for &(first, last) in pruned.ranges() {
            self.find(Finding::PrunedUntold { first, last });
        }
        for &(first, last) in without_salts.ranges() {
            self.find(Finding::ErasedUntold { first, last });
        }
        for (first, last) in std::mem::take(&mut self.gaps) {
            self.find(Finding::Missing { first, last });
        }
        let Checkpoint { size, root, .. } = self.checkpoint;
        if self.next < size {
            self.find(Finding::CutTail { next: self.next, size });
        } else if let Some(recomputed) = self.tree.as_ref().map(Frontier::root)
            && recomputed != root
        {
            let recorded_agree = self.recorded_tree.as_ref().is_some_and(|tree| tree.root() == root);
            self.find(Finding::RootDiffers { size, signed: root, recomputed, recorded_agree });
        }
        if let Some((first, count)) = self.beyond {
            self.find(Finding::BeyondCheckpoint { first, count });
        }
        for earlier_size in std::mem::take(&mut self.earlier).into_keys() {
            self.find(if earlier_size > size {
                Finding::EarlierIsLonger { earlier_size, size }
            } else {
                Finding::EarlierNotComparable { earlier_size }
            });
        }
        Report {
            size,
            root,
            verified_entries: self.verified_entries,
            earlier_checked: self.earlier_checked,
            findings: self.findings,
            findings_left_out: self.findings_left_out,
            removed: self.removals.told,
        }
    }

    fn check_entry(&mut self, stored: &StoredEntry) {
        if stored.is_pruned() {
            return self.take_pruned(stored);
        }
        let StoredEntry { index, ref entry, leaf_hash: recorded } = *stored;
        self.removals.take(index, entry);
        let recomputed = leaf_hash(entry);
        let recorded = recorded.unwrap_or(recomputed);
        if recorded != recomputed && self.recorded_tree.is_none() {
            self.recorded_tree.clone_from(&self.tree);
        }
        if let Some(tree) = &mut self.recorded_tree {
            tree.append(recorded);
        }
        if let Some(tree) = &mut self.tree {
            tree.append(recomputed);
        }
        let form = check_form(index, entry);
        if recorded == recomputed && form.is_none() {
            self.verified_entries += 1;
        }
        if recorded != recomputed {
            self.find(Finding::LeafHashDiffers { index, recorded, recomputed });
        }
        if let Some(finding) = form {
            self.find(finding);
        }
    }

    /// Of a pruned entry the recorded hash stands in the tree: the signed root proves it.
    fn take_pruned(&mut self, stored: &StoredEntry) {
        self.removals.pruned.push(stored.index);
        match stored.leaf_hash {
            Some(recorded) => {
                for tree in [&mut self.tree, &mut self.recorded_tree].into_iter().flatten() {
                    tree.append(recorded);
                }
            }
            None => {
                (self.tree, self.recorded_tree) = (None, None);
                self.find(Finding::HashMissing { index: stored.index });
            }
        }
    }

    /// Compares with the earlier checkpoints of the size reached.
    fn compare_with_earlier(&mut self) {
        // Without the missing entries the root at any later size is unknown.
        let Some(tree) = &self.tree else { return };
        let Some(roots) = self.earlier.remove(&self.next) else { return };
        let recomputed = tree.root();
        for signed in roots {
            if signed == recomputed {
                self.earlier_checked += 1;
            } else {
                self.find(Finding::EarlierRootDiffers { earlier_size: self.next, signed, recomputed });
            }
        }
    }

    fn open_gap(&mut self, index: u64) {
        self.tree = None;
        self.recorded_tree = None;
        if self.gaps.len() < FINDINGS_LISTED {
            self.gaps.insert(self.next, index - 1);
        } else {
            self.findings_left_out += 1;
        }
    }

    /// An entry that comes after one with a higher index: out of order if it was missed, otherwise a
    /// repetition.
    fn place_late_entry(&mut self, index: u64) {
        let gap = self.gaps.range(..=index).next_back().map(|(first, last)| (*first, *last));
        let Some((first, last)) = gap.filter(|(_, last)| index <= *last) else {
            self.find(Finding::Repeated { index });
            return;
        };
        self.gaps.remove(&first);
        if first < index {
            self.gaps.insert(first, index - 1);
        }
        if index < last {
            self.gaps.insert(index + 1, last);
        }
        self.find(Finding::OutOfOrder { index, after: self.next - 1 });
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_LISTED {
            self.findings.push(finding);
        } else {
            self.findings_left_out += 1;
        }
    }
}

/// What is wrong with the bytes of an entry, if they are not a JSON object in RFC 8785 canonical form.
fn check_form(index: u64, entry: &[u8]) -> Option<Finding> {
    match serde_json::from_slice::<Value>(entry) {
        Ok(object @ Value::Object(_)) => {
            let is_canonical =
                serde_json_canonicalizer::to_vec(&object).is_ok_and(|canonical| canonical == entry);
            (!is_canonical).then_some(Finding::NotCanonical { index })
        }
        _ => Some(Finding::NotAnObject { index }),
    }
}

#[cfg(test)]
mod tests;
