//! What can be wrong with a log, in words.

use std::fmt;

use crate::audit::merkle::Hash;

/// One thing that is wrong with a log. `Display` says it in plain English, with the index where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The entry, or the leaf hash recorded for it, was changed after it was written.
    LeafHashDiffers {
        /// Index of the entry.
        index: u64,
        /// The leaf hash in the log's tiles.
        recorded: Hash,
        /// The leaf hash of the entry as it is now.
        recomputed: Hash,
    },
    /// The entry is not a JSON object.
    NotAnObject {
        /// Index of the entry.
        index: u64,
    },
    /// The entry is a JSON object, and not written in RFC 8785 canonical form.
    NotCanonical {
        /// Index of the entry.
        index: u64,
    },
    /// Entries are missing from the midst of the log.
    Missing {
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
    /// The bytes of an entry are gone, and its hash with them.
    HashMissing {
        /// Index of the entry.
        index: u64,
    },
    /// An entry came after one with a higher index.
    OutOfOrder {
        /// Index of the entry.
        index: u64,
        /// The highest index before it.
        after: u64,
    },
    /// An index came more than once.
    Repeated {
        /// The index.
        index: u64,
    },
    /// The log ends before the checkpoint does.
    CutTail {
        /// Index of the first entry that is gone.
        next: u64,
        /// Entries that the checkpoint signs.
        size: u64,
    },
    /// There are entries that the checkpoint does not sign.
    BeyondCheckpoint {
        /// The lowest index among them.
        first: u64,
        /// How many they are.
        count: u64,
    },
    /// The entries are not those that the checkpoint signs.
    RootDiffers {
        /// Entries that the checkpoint signs.
        size: u64,
        /// The root that the checkpoint signs.
        signed: Hash,
        /// The root of the entries as they are now.
        recomputed: Hash,
        /// Whether some recorded leaf hashes differ from their entries, and the recorded ones give the signed
        /// root. Then it is the entries that were changed.
        recorded_agree: bool,
    },
    /// An earlier checkpoint signs other entries than the log now begins with.
    EarlierRootDiffers {
        /// Entries that the earlier checkpoint signs.
        earlier_size: u64,
        /// The root that the earlier checkpoint signs.
        signed: Hash,
        /// The root of as many entries as they are now.
        recomputed: Hash,
    },
    /// An earlier checkpoint signs more entries than the checkpoint: the log was cut and signed anew.
    EarlierIsLonger {
        /// Entries that the earlier checkpoint signs.
        earlier_size: u64,
        /// Entries that the checkpoint signs.
        size: u64,
    },
    /// An earlier checkpoint could not be compared, since entries before its end are missing.
    EarlierNotComparable {
        /// Entries that the earlier checkpoint signs.
        earlier_size: u64,
    },
    /// A file of a published log is not what it should be.
    File {
        /// Its path.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeafHashDiffers { index, recorded, recomputed } => write!(
                f,
                "entry {index} was changed, or its recorded hash was: recorded {recorded}, recomputed {recomputed}"
            ),
            Self::NotAnObject { index } => write!(f, "entry {index} is not a JSON object"),
            Self::NotCanonical { index } => write!(f, "entry {index} is not in canonical form (RFC 8785)"),
            Self::Missing { first, last } if first == last => write!(f, "entry {first} is missing"),
            Self::Missing { first, last } => write!(f, "entries {first} to {last} are missing"),
            Self::PrunedUntold { first, last } => write!(
                f,
                "the bytes of entries {first} to {last} are gone, and no entry of the log says that they were pruned"
            ),
            Self::ErasedUntold { first, last } => write!(
                f,
                "salts of entries {first} to {last} are gone, and no entry of the log says that they were erased"
            ),
            Self::HashMissing { index } => write!(f, "entry {index} was pruned, and its hash is gone too"),
            Self::OutOfOrder { index, after } => {
                write!(f, "entry {index} is out of order: it comes after entry {after}")
            }
            Self::Repeated { index } => write!(f, "entry {index} comes more than once"),
            Self::CutTail { next, size } => write!(
                f,
                "the log is cut off: entries from {next} on are gone, though the checkpoint signs {size} entries"
            ),
            Self::BeyondCheckpoint { first, count } => {
                write!(f, "{count} entries, from {first} on, are beyond the checkpoint and signed by nobody")
            }
            Self::RootDiffers { size, signed, recomputed, recorded_agree } => {
                write!(
                    f,
                    "the {size} entries are not those that the checkpoint signs: signed root {signed}, recomputed {recomputed}"
                )?;
                if *recorded_agree {
                    f.write_str(
                        "; the recorded hashes give the signed root, so entries were changed, not hashes",
                    )?;
                }
                Ok(())
            }
            Self::EarlierRootDiffers { earlier_size, signed, recomputed } => write!(
                f,
                "the first {earlier_size} entries are not those that an earlier checkpoint signs: signed root {signed}, recomputed {recomputed}"
            ),
            Self::EarlierIsLonger { earlier_size, size } => write!(
                f,
                "an earlier checkpoint signs {earlier_size} entries and this one only {size}: the log was cut and signed anew"
            ),
            Self::EarlierNotComparable { earlier_size } => write!(
                f,
                "the earlier checkpoint of {earlier_size} entries cannot be compared, since entries before its end are missing"
            ),
            Self::File { path, what } => write!(f, "{path} {what}"),
        }
    }
}
