//! What a log tells of what was erased and pruned, held against what is missing.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

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
pub(in crate::audit) struct Removals {
    /// Entries without bytes.
    pub(in crate::audit) pruned: IndexRanges,
    /// Entries without their salts.
    pub(in crate::audit) without_salts: IndexRanges,
    /// What the log tells.
    pub(in crate::audit) told: Vec<RemovedRange>,
}

impl Removals {
    /// Takes an entry in; most tell nothing of a removal.
    pub(in crate::audit) fn take(&mut self, index: u64, bytes: &[u8]) {
        if !may_tell(bytes) {
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
    pub(in crate::audit) fn unexplained(&self) -> Unexplained {
        let (mut pruned, mut without_salts) = (self.pruned.clone(), self.without_salts.clone());
        for told in &self.told {
            match told.kind {
                RemovalKind::Retention => pruned = pruned.without(&told.entries),
                RemovalKind::Subject | RemovalKind::Period => {
                    without_salts = without_salts.without(&told.entries);
                }
            }
        }
        Unexplained { pruned, without_salts }
    }
}

/// Whether bytes may hold an entry that tells of a removal. Quick, since all entries of a log are asked: the search for
/// a short text in a text is vectorised, that in plain bytes is not.
pub(in crate::audit) fn may_tell(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.contains("\"removal\""))
}

/// What is missing, and no entry tells of.
pub(in crate::audit) struct Unexplained {
    /// Entries without bytes.
    pub(in crate::audit) pruned: IndexRanges,
    /// Entries without their salts.
    pub(in crate::audit) without_salts: IndexRanges,
}
