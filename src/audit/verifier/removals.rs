//! What a log tells of what was erased and pruned, held against what is missing.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

use super::Finding;
use crate::audit::entry::{Entry, Phase};
use crate::audit::removal::{IndexRanges, RemovalKind};

/// Entries that were erased or pruned, as one entry of the log tells of them. `Display` says it in plain English.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedRange {
    /// As what.
    pub kind: RemovalKind,
    /// Index of the entry that tells of it, or of the first of several.
    pub told_at: u64,
    /// The request that asked for it.
    pub request: Option<Uuid>,
    /// Which entries.
    pub entries: IndexRanges,
    /// When.
    pub at: Timestamp,
    /// The agency that asked for it.
    pub by: String,
}

impl fmt::Display for RemovedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, told_at, entries, at, by, .. } = self;
        let (done, why) = match kind {
            RemovalKind::Subject | RemovalKind::Period => ("erased", ""),
            RemovalKind::Retention => ("pruned", ", past retention"),
        };
        write!(f, "{} entries {done} on {at:.0} by {by}{why} (entry {told_at}): {entries}", entries.count())
    }
}

/// What is missing, and what the log tells of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Removals {
    /// Entries without bytes.
    pub(super) pruned: IndexRanges,
    /// Entries without their salts.
    pub(super) without_salts: IndexRanges,
    /// What the log tells.
    pub(super) told: Vec<RemovedRange>,
}

impl Removals {
    /// Takes an entry in; most tell nothing of a removal.
    pub(super) fn take(&mut self, index: u64, bytes: &[u8]) {
        const KEY: &[u8] = b"\"removal\"";
        if !bytes.windows(KEY.len()).any(|window| window == KEY) {
            return;
        }
        let Ok(entry) = Entry::from_json(bytes) else { return };
        if entry.phase != Phase::Event {
            return;
        }
        let Some(removal) = entry.removal else { return };
        // It cannot tell of what came after it.
        let entries =
            removal.ranges.filter(|told| told.ranges().last().is_some_and(|(_, last)| *last < index));
        if let Some(entries) = entries {
            let by = entry.caller.unwrap_or_default();
            let (kind, at) = (removal.kind, entry.recorded);
            // The steps of one removal are told together.
            if let Some(last) = self.told.last_mut()
                && (last.kind, &last.by, last.request) == (kind, &by, entry.request)
                && last.entries.append(&entries)
            {
                return;
            }
            let request = entry.request;
            self.told.push(RemovedRange { kind, told_at: index, request, entries, at, by });
        }
    }

    /// What is missing without a word.
    pub(super) fn unexplained(&self) -> Vec<Finding> {
        let (mut pruned, mut without_salts) = (self.pruned.clone(), self.without_salts.clone());
        for told in &self.told {
            match told.kind {
                RemovalKind::Retention => pruned = pruned.without(&told.entries),
                RemovalKind::Subject | RemovalKind::Period => {
                    without_salts = without_salts.without(&told.entries);
                }
            }
        }
        let pruned = pruned.ranges().iter().map(|&(first, last)| Finding::PrunedUntold { first, last });
        let erased =
            without_salts.ranges().iter().map(|&(first, last)| Finding::ErasedUntold { first, last });
        pruned.chain(erased).collect()
    }
}
