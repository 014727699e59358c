//! What a full check can find, in words, and what to do about it.

use std::fmt;

use crate::audit::merkle::Hash;
use crate::audit::note::NoteError;
use crate::audit::tile::TileId;

/// One thing that is wrong with a stored log. `Display` says it in plain English, with the index where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The bytes of an entry are not those that were hashed when it was written.
    EntryChanged {
        /// Index of the entry.
        index: u64,
    },
    /// Two entries stand in each other's place.
    EntriesSwapped {
        /// Index of the first.
        index: u64,
        /// Index of the other.
        other: u64,
    },
    /// An entry was put in, and those after it were moved back by one.
    EntryInserted {
        /// Index of the entry that was put in.
        index: u64,
    },
    /// An entry was taken out, and those after it were moved up by one.
    EntryRemoved {
        /// Index that the entry had.
        index: u64,
    },
    /// Entries are not there.
    EntriesMissing {
        /// Index of the first.
        first: u64,
        /// Index of the last.
        last: u64,
    },
    /// The bytes of entries are gone, and the log does not tell that they were pruned.
    PrunedUntold {
        /// Index of the first.
        first: u64,
        /// Index of the last.
        last: u64,
    },
    /// Salts of entries are gone, and the log does not tell that they were erased.
    ErasedUntold {
        /// Index of the first.
        first: u64,
        /// Index of the last.
        last: u64,
    },
    /// The entries end before the head does.
    TailCut {
        /// Index of the first entry that is not there.
        first: u64,
        /// Entries that the head counts.
        size: u64,
    },
    /// There are entries that the head does not count.
    EntriesBeyondHead {
        /// The lowest index among them; below zero only where somebody wrote it so.
        first: i64,
        /// How many they are.
        count: u64,
    },
    /// An entry and its hash differ, and nothing that is signed tells which of the two was changed.
    EntryOrHashChanged {
        /// Index of the entry.
        index: u64,
    },
    /// A hash in a tile is not that of what is below it.
    HashChanged {
        /// The tile.
        tile: TileId,
        /// Place in the tile, from zero.
        place: usize,
    },
    /// A tile is not there.
    TileMissing {
        /// The tile.
        tile: TileId,
    },
    /// A tile has more or fewer hashes than the log's size calls for.
    TileWidth {
        /// The tile.
        tile: TileId,
        /// Hashes in it.
        found: usize,
        /// Hashes that belong in it.
        expected: usize,
    },
    /// There are more tiles than the log's size calls for.
    TilesBeyondHead {
        /// Their level.
        level: i64,
        /// Tiles stored.
        found: u64,
        /// Tiles that belong there.
        expected: u64,
    },
    /// The root in the head is not that of the entries.
    HeadRootDiffers {
        /// The root in the head.
        head: Hash,
        /// The root of the entries.
        recomputed: Hash,
    },
    /// The head and its checkpoint do not speak of the same size.
    HeadNotSigned {
        /// Entries that the head counts.
        size: u64,
        /// Entries that its checkpoint signs.
        signed: u64,
    },
    /// The checkpoint in the head cannot be accepted.
    Checkpoint(NoteError),
    /// Entries and tiles agree with each other, and are not what the checkpoint signs.
    Rewritten {
        /// Entries that the checkpoint signs.
        size: u64,
        /// The root that it signs.
        signed: Hash,
        /// The root of as many entries as they are now.
        recomputed: Hash,
    },
    /// A checkpoint that was kept outside is of another log, or of this one before it was rewritten.
    KeptDiffers {
        /// Entries that it signs.
        size: u64,
        /// The root that it signs.
        signed: Hash,
        /// The root of as many entries as they are now.
        recomputed: Hash,
    },
    /// A checkpoint that was kept outside signs more entries than there are.
    KeptIsLonger {
        /// Entries that it signs.
        kept: u64,
        /// Entries that the head counts.
        size: u64,
    },
}

impl Finding {
    /// The index of the entry that it names, or of the first one.
    pub fn index(&self) -> Option<u64> {
        match *self {
            Self::EntryChanged { index }
            | Self::EntriesSwapped { index, .. }
            | Self::EntryInserted { index }
            | Self::EntryRemoved { index }
            | Self::EntryOrHashChanged { index }
            | Self::EntriesMissing { first: index, .. }
            | Self::PrunedUntold { first: index, .. }
            | Self::ErasedUntold { first: index, .. }
            | Self::TailCut { first: index, .. } => Some(index),
            Self::HashChanged { tile, place } => first_under(tile, place),
            Self::TileMissing { tile } | Self::TileWidth { tile, .. } => first_under(tile, 0),
            Self::EntriesBeyondHead { first, .. } => u64::try_from(first).ok(),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::EntryChanged { .. }
            | Self::EntriesSwapped { .. }
            | Self::EntryInserted { .. }
            | Self::EntryRemoved { .. }
            | Self::EntriesMissing { .. }
            | Self::EntryOrHashChanged { .. }
            | Self::EntriesBeyondHead { .. } => {
                "stop the gateway, keep this database as evidence, and compare the entry with an auditor's export or \
                 a backup"
            }
            Self::PrunedUntold { .. } | Self::ErasedUntold { .. } => {
                "somebody removed this past the gateway: keep this database as evidence, and take the entries from an \
                 auditor's export or a backup; salts are only in a backup"
            }
            Self::TailCut { .. } | Self::KeptIsLonger { .. } => {
                "this is an older or a shortened database: do not let the gateway sign on; put the newer one back"
            }
            Self::HashChanged { .. }
            | Self::TileMissing { .. }
            | Self::TileWidth { .. }
            | Self::TilesBeyondHead { .. } => {
                "the entries are not concerned, but proofs and the start are: keep this database as evidence and put \
                 a sound copy in its place"
            }
            Self::HeadRootDiffers { .. } | Self::HeadNotSigned { .. } => {
                "the head was changed apart from its checkpoint: keep this database as evidence and put a sound copy \
                 in its place"
            }
            Self::Checkpoint(_) => "check that key and database belong to the same log",
            Self::Rewritten { .. } | Self::KeptDiffers { .. } => {
                "somebody rewrote the log after it was signed: keep this database as evidence; an earlier checkpoint \
                 (--checkpoint) or an auditor's export shows from where on"
            }
        }
    }
}

/// The first leaf below a hash.
fn first_under(tile: TileId, place: usize) -> Option<u64> {
    let number = tile.index.checked_mul(256)?.checked_add(u64::try_from(place).ok()?)?;
    number.checked_mul(1u64.checked_shl(8 * u32::from(tile.level))?)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EntryChanged { index } => write!(f, "entry {index}: its bytes were changed"),
            Self::EntriesSwapped { index, other } => {
                write!(f, "entry {index}: it stands in the place of entry {other}, and that one in its place")
            }
            Self::EntryInserted { index } => {
                write!(f, "entry {index}: it was inserted, and those after it moved back by one")
            }
            Self::EntryRemoved { index } => {
                write!(f, "entry {index}: it was taken out, and those after it moved up by one")
            }
            Self::EntriesMissing { first, last } if first == last => {
                write!(f, "entry {first}: it is missing")
            }
            Self::EntriesMissing { first, last } => {
                write!(f, "entry {first}: it and those up to {last} are missing")
            }
            Self::PrunedUntold { first, last } => write!(
                f,
                "entry {first}: the bytes of it and those up to {last} are gone, and no entry of the log says that they \
                 were pruned"
            ),
            Self::ErasedUntold { first, last } => write!(
                f,
                "entry {first}: salts of it and those up to {last} are gone, and no entry of the log says that they were \
                 erased"
            ),
            Self::TailCut { first, size } => {
                write!(f, "entry {first}: the log is cut off here, and {size} entries were signed")
            }
            Self::EntriesBeyondHead { first, count } => {
                write!(
                    f,
                    "entry {first}: {count} entries from here on are beyond the head and signed by nobody"
                )
            }
            Self::EntryOrHashChanged { index } => {
                write!(f, "entry {index}: it differs from its recorded hash, and neither is what was signed")
            }
            Self::HashChanged { tile: TileId { level, index }, place } => write!(
                f,
                "tile {index} of level {level}: hash {place} was changed; it is not that of what is below it"
            ),
            Self::TileMissing { tile: TileId { level, index } } => {
                write!(f, "tile {index} of level {level}: it is missing")
            }
            Self::TileWidth { tile: TileId { level, index }, found, expected } => {
                write!(f, "tile {index} of level {level}: it has {found} hashes, and {expected} belong in it")
            }
            Self::TilesBeyondHead { level, found, expected } => {
                write!(
                    f,
                    "tiles of level {level}: {found} are stored, and {expected} belong to the signed log"
                )
            }
            Self::HeadRootDiffers { head, recomputed } => {
                write!(f, "head: its root is {head}, and that of the entries is {recomputed}")
            }
            Self::HeadNotSigned { size, signed } => {
                write!(f, "head: it counts {size} entries, and its checkpoint signs {signed}")
            }
            Self::Checkpoint(error) => write!(f, "checkpoint: {error}"),
            Self::Rewritten { size, signed, recomputed } => write!(
                f,
                "checkpoint: it signs the root {signed} for {size} entries, and theirs is {recomputed}: entries and \
                 tiles were rewritten together after they were signed"
            ),
            Self::KeptDiffers { size, signed, recomputed } => write!(
                f,
                "kept checkpoint of {size} entries: it signs the root {signed}, and theirs is {recomputed}; one of \
                 the first {size} entries was changed"
            ),
            Self::KeptIsLonger { kept, size } => {
                write!(f, "kept checkpoint of {kept} entries: the log has only {size}")
            }
        }
    }
}
