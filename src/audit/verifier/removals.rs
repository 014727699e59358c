//! What a log tells of what was erased and pruned, held against what is missing.

use std::fmt;
use std::sync::LazyLock;

use jiff::Timestamp;
use memchr::memmem::Finder;
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

impl RemovedRange {
    /// What an entry tells of; most tell of nothing.
    pub fn told_by(index: u64, bytes: &[u8]) -> Option<Self> {
        if !may_tell(bytes) {
            return None;
        }
        let entry = Entry::from_json(bytes).ok().filter(|entry| entry.phase == Phase::Event)?;
        let removal = entry.removal?;
        // It cannot tell of what came after it.
        let is_earlier = |told: &IndexRanges| told.ranges().last().is_some_and(|(_, last)| *last < index);
        let entries = removal.ranges.filter(is_earlier)?;
        Some(Self {
            kind: removal.kind,
            told_at: index,
            request: entry.request,
            entries,
            at: entry.recorded,
            by: entry.caller.unwrap_or_default(),
        })
    }
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
        let Some(told) = RemovedRange::told_by(index, bytes) else { return };
        // The steps of one removal are told together.
        if let Some(last) = self.told.last_mut()
            && (last.kind, &last.by, last.request) == (told.kind, &told.by, told.request)
            && last.entries.append(&told.entries)
        {
            return;
        }
        self.told.push(told);
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

/// Whether bytes may hold an entry that tells of a removal. Quick, since all entries of a log are asked.
pub(in crate::audit) fn may_tell(bytes: &[u8]) -> bool {
    static TELLING: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"removal\""));
    TELLING.find(bytes).is_some()
}

/// What is missing, and no entry tells of.
pub(in crate::audit) struct Unexplained {
    /// Entries without bytes.
    pub(in crate::audit) pruned: IndexRanges,
    /// Entries without their salts.
    pub(in crate::audit) without_salts: IndexRanges,
}
