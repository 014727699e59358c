//! The full check of a stored log: the whole tree recomputed from the bytes of the entries, and every tile of every
//! level, the head and the checkpoint compared with it.
//!
//! It holds the right edge of the tree and one run of entries at a time, whatever the size of the log. Beside
//! [`verifier`](super::verifier), which reads a log as an auditor gets it and needs nothing but the entries, this
//! check is of the database itself, and tells a changed entry from a changed hash.

use std::collections::{BTreeMap, BTreeSet};

pub use self::finding::Finding;
use super::checkpoint::Checkpoint;
use super::log::Head;
use super::merkle::{Hash, leaf_hash, perfect_root};
use super::note::VerifyingKey;
use super::tile::{TILE_WIDTH, TileId, TileSet, TileWriter};
use super::verifier::RemovedRange;
use super::verifier::removals::{Removals, Unexplained, may_tell};

mod finding;

/// Entries in a run: 8 tiles of leaf hashes. What it is copied through on its way from the database fits into a
/// processor's cache.
const RUN: u64 = 8 * TILE_WIDTH as u64;

/// The runs of a log of `size` entries in order, each as its first index and the one after its last.
pub fn runs(size: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..size.div_ceil(RUN)).map(move |run| (run * RUN, size.min((run + 1) * RUN)))
}

/// How many findings of a sort are listed; a log with every entry changed must not fill the memory.
const LISTED: usize = 100;

/// Entries side by side, packed into one piece of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed<'m> {
    /// The bytes of all entries, in order.
    pub bytes: &'m [u8],
    /// The length of each, in order; together that of the bytes. Zero where an entry was pruned.
    pub lengths: Vec<usize>,
    /// How many have bytes and not all their salts.
    pub without_salts: u64,
}

/// An entry, or what is there in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// Its hash.
    Hashed(Hash),
    /// Its row, without bytes.
    Pruned,
    /// Nothing.
    Missing,
}

impl Leaf {
    /// What stands for an entry with these bytes.
    pub fn of(entry: &[u8]) -> Self {
        if entry.is_empty() { Self::Pruned } else { Self::Hashed(leaf_hash(entry)) }
    }

    /// Whether it fits a recorded hash. That of a pruned entry is all there is of it.
    pub fn fits(&self, recorded: &Hash) -> bool {
        match self {
            Self::Hashed(hash) => hash == recorded,
            Self::Pruned => true,
            Self::Missing => false,
        }
    }
}

impl Packed<'_> {
    /// Each entry as a leaf.
    pub fn leaves(&self) -> Vec<Leaf> {
        self.entries().map(Leaf::of).collect()
    }

    /// Those that may tell of a removal, with their place. Few do.
    pub fn telling(&self) -> Vec<(u64, Vec<u8>)> {
        if !may_tell(self.bytes) {
            return Vec::new();
        }
        let telling = (0..).zip(self.entries()).filter(|(_, entry)| may_tell(entry));
        telling.map(|(place, entry)| (place, entry.to_vec())).collect()
    }

    fn entries(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes;
        self.lengths.iter().map(move |length| {
            let (entry, after) = rest.split_at_checked(*length).unwrap_or((rest, &[]));
            rest = after;
            entry
        })
    }
}

/// What a full check came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Entries that the head counts, or that were signed where it counts far more: so many were checked.
    pub size: u64,
    /// The root of the entries.
    pub root: Hash,
    /// Tiles compared, of all levels.
    pub tiles: u64,
    /// Checkpoints kept outside whose root the log had at their size.
    pub kept_checked: u64,
    /// What was pruned and erased, as the log's own entries tell.
    pub removed: Vec<RemovedRange>,
    /// What is wrong; the first entry concerned comes first.
    pub findings: Vec<Finding>,
    /// How many findings there were beyond those listed.
    pub findings_left_out: u64,
}

impl Report {
    /// Whether the stored log is in all its parts what was signed.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.findings_left_out == 0
    }
}

/// A full check under way.
pub struct Fsck {
    head: Head,
    /// What the head's checkpoint signs.
    signed: Option<Checkpoint>,
    /// Whether the stored tiles of the right edge give the signed root.
    edge_is_signed: bool,
    /// The tree over the entries, or over the recorded hashes where those are what was signed.
    tree: TileWriter,
    /// Sizes at which the root is wanted, and the root once reached.
    roots: BTreeMap<u64, Option<Hash>>,
    kept: Vec<Checkpoint>,
    /// The newest tile of each level above the leaves, until it is full.
    edge: BTreeMap<u8, Vec<Hash>>,
    missing: Vec<(u64, u64)>,
    changed: Vec<Changed>,
    /// What is gone, and what the log tells of it.
    removals: Removals,
    /// Whether neither an entry nor its hash was there, so that the root is not known.
    is_lost: bool,
    findings: Vec<Finding>,
    left_out: u64,
    tiles: u64,
}

/// An entry that differs from its recorded hash.
struct Changed {
    index: u64,
    leaf: Hash,
    recorded: Hash,
}

/// What is right where an entry and its recorded hash differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Recorded,
    Entries,
    Unknown,
}

impl Fsck {
    /// Begins a check of the log with this head, given the tiles that
    /// [`tiles_for_root`](super::tile::tiles_for_root) names for its size. Without a key nobody knows who signed.
    ///
    /// `kept` are checkpoints that were kept outside, already verified.
    pub fn begin(mut head: Head, edge: &TileSet, key: Option<&VerifyingKey>, kept: Vec<Checkpoint>) -> Self {
        let mut findings = Vec::new();
        let opened = match key {
            Some(key) => Checkpoint::open(&head.checkpoint, key),
            None => Checkpoint::read_unverified(&head.checkpoint),
        };
        let signed = opened.map_err(|error| findings.push(Finding::Checkpoint(error))).ok();
        if let Some(signed) = &signed
            && signed.size != head.size
        {
            findings.push(Finding::HeadNotSigned { size: head.size, signed: signed.size });
        }
        let edge_root = edge.root(head.size).ok();
        let edge_is_signed =
            signed.as_ref().is_some_and(|signed| signed.size == head.size && edge_root == Some(signed.root));
        // A head is a row that anybody with the file can write: one that counts far more than was signed is not followed.
        if let Some(signed) = signed.as_ref().filter(|signed| head.size > signed.size.saturating_add(RUN)) {
            (head.size, head.root) = (signed.size, signed.root);
        }
        let sizes = kept.iter().chain(&signed).map(|checkpoint| checkpoint.size);
        let mut check = Self {
            roots: sizes.map(|size| (size, None)).collect(),
            head,
            signed,
            edge_is_signed,
            tree: TileWriter::new(),
            kept,
            edge: BTreeMap::new(),
            missing: Vec::new(),
            changed: Vec::new(),
            removals: Removals::default(),
            is_lost: false,
            findings,
            left_out: 0,
            tiles: 0,
        };
        check.note_root();
        check
    }

    /// Entries that are checked.
    pub fn size(&self) -> u64 {
        self.head.size
    }

    /// Takes an entry that may tell of a removal; each of [`Packed::telling`] is to be told, in order.
    pub fn tell(&mut self, index: u64, entry: &[u8]) {
        self.removals.take(index, entry);
    }

    /// Takes note that an entry is there without all its salts; in order.
    pub fn note_missing_salt(&mut self, index: u64) {
        self.removals.without_salts.push(index);
    }

    /// Takes the next of the [`runs`]: what is there of each entry, and the stored tiles over them of level 0 and level 1. Gives the
    /// tiles of higher levels that are complete now, for [`Fsck::compare`].
    pub fn take(&mut self, leaves: &[Leaf], stored: &TileSet) -> Vec<(TileId, Vec<Hash>)> {
        let pruned = (self.tree.size()..).zip(leaves).filter(|(_, leaf)| **leaf == Leaf::Pruned);
        pruned.for_each(|(index, _)| self.removals.pruned.push(index));
        for leaves in leaves.chunks(TILE_WIDTH) {
            let tile = TileId { level: 0, index: self.tree.size() / TILE_WIDTH as u64 };
            self.tiles += 1;
            let recorded = self.check_width(tile, stored.get(tile));
            let are_equal = recorded.len() == leaves.len()
                && leaves.iter().zip(recorded).all(|(leaf, recorded)| leaf.fits(recorded));
            if are_equal {
                recorded.iter().for_each(|leaf| self.append(*leaf));
            } else {
                self.diagnose(tile, leaves, recorded, stored);
            }
        }
        let mut complete = Vec::new();
        for (tile, hashes) in self.tree.take_dirty() {
            if tile.level == 0 {
                continue;
            }
            if hashes.len() == TILE_WIDTH {
                self.edge.remove(&tile.level);
                complete.push((tile, hashes));
            } else {
                self.edge.insert(tile.level, hashes);
            }
        }
        complete
    }

    /// The tiles of higher levels that are not full at the end, for [`Fsck::compare`].
    pub fn edge(&self) -> Vec<(TileId, Vec<Hash>)> {
        let tile = |(level, hashes): (&u8, &Vec<Hash>)| {
            let before = self.size() >> (8 * u32::from(*level)) >> 8;
            (TileId { level: *level, index: before }, hashes.clone())
        };
        self.edge.iter().map(tile).collect()
    }

    /// Compares a tile with the one stored.
    pub fn compare(&mut self, tile: TileId, hashes: &[Hash], stored: Option<&[Hash]>) {
        self.tiles += 1;
        let stored = self.check_width(tile, stored);
        for (place, (hash, stored)) in hashes.iter().zip(stored).enumerate() {
            if hash != stored {
                self.find(Finding::HashChanged { tile, place });
            }
        }
    }

    /// The report, once all runs were taken and all tiles compared: given the entries that the head does not count
    /// (the first index, and how many), and how many tiles are stored at each level.
    pub fn finish(mut self, beyond: Option<(i64, u64)>, stored_tiles: &BTreeMap<i64, u64>) -> Report {
        let (size, root) = (self.size(), self.tree.root());
        self.name_untold();
        self.name_changed();
        self.name_missing();
        if let Some((first, count)) = beyond {
            self.find(Finding::EntriesBeyondHead { first, count });
        }
        let expected = tiles_by_level(size);
        let levels: BTreeSet<i64> = expected.keys().chain(stored_tiles.keys()).copied().collect();
        for level in levels {
            let of = |tiles: &BTreeMap<i64, u64>| tiles.get(&level).copied().unwrap_or(0);
            let (found, expected) = (of(stored_tiles), of(&expected));
            if found > expected {
                self.find(Finding::TilesBeyondHead { level, found, expected });
            }
        }
        if self.head.root != root && !self.is_lost {
            self.find(Finding::HeadRootDiffers { head: self.head.root, recomputed: root });
        }
        if let Some(signed) = self.signed.take()
            && let Some(Some(recomputed)) = self.roots.get(&signed.size).copied()
            && recomputed != signed.root
            && !self.is_lost
        {
            self.find(Finding::Rewritten { size: signed.size, signed: signed.root, recomputed });
        }
        let kept_checked = self.compare_with_kept();
        // Stable: what names no entry comes last, in the order found.
        self.findings.sort_by_key(|finding| finding.index().unwrap_or(u64::MAX));
        Report {
            size,
            root,
            tiles: self.tiles,
            kept_checked,
            removed: self.removals.told,
            findings: self.findings,
            findings_left_out: self.left_out,
        }
    }

    fn append(&mut self, leaf: Hash) {
        self.tree.append(leaf);
        self.note_root();
    }

    fn note_root(&mut self) {
        let size = self.tree.size();
        if let Some(root) = self.roots.get_mut(&size) {
            *root = Some(self.tree.root());
        }
    }

    /// The stored hashes of a tile, as far as they are within the log.
    fn check_width<'a>(&mut self, tile: TileId, stored: Option<&'a [Hash]>) -> &'a [Hash] {
        let Some(stored) = stored else {
            self.find(Finding::TileMissing { tile });
            return &[];
        };
        let expected = tile.width_at(self.size());
        if stored.len() != expected {
            self.find(Finding::TileWidth { tile, found: stored.len(), expected });
        }
        &stored[..stored.len().min(expected)]
    }

    /// Names what differs in a tile of leaf hashes, and goes on with what was signed.
    fn diagnose(&mut self, tile: TileId, leaves: &[Leaf], recorded: &[Hash], stored: &TileSet) {
        let believed = |(place, leaf): (usize, &Leaf)| match leaf {
            Leaf::Hashed(hash) => Some(*hash),
            // Without its hash a pruned entry is as good as missing.
            Leaf::Pruned => recorded.get(place).copied(),
            Leaf::Missing => None,
        };
        let leaves: Vec<Option<Hash>> = leaves.iter().enumerate().map(believed).collect();
        let leaves = leaves.as_slice();
        let first = self.tree.size();
        let right = self.right(tile, leaves, recorded, stored);
        for (place, (index, leaf)) in (first..).zip(leaves).enumerate() {
            let recorded = recorded.get(place).copied();
            match (*leaf, recorded) {
                (None, _) => self.miss(index),
                (Some(leaf), Some(recorded)) if leaf != recorded => match right {
                    Right::Entries => self.find(Finding::HashChanged { tile, place }),
                    Right::Unknown => self.find(Finding::EntryOrHashChanged { index }),
                    Right::Recorded if self.changed.len() < LISTED => {
                        self.changed.push(Changed { index, leaf, recorded });
                    }
                    Right::Recorded => self.left_out += 1,
                },
                _ => {}
            }
            let believed = if right == Right::Recorded { recorded.or(*leaf) } else { leaf.or(recorded) };
            self.is_lost |= believed.is_none();
            self.append(believed.unwrap_or_else(|| Hash::from_bytes([0; 32])));
        }
    }

    fn right(&self, tile: TileId, leaves: &[Option<Hash>], recorded: &[Hash], stored: &TileSet) -> Right {
        let entries: Option<Vec<Hash>> = leaves.iter().copied().collect();
        let is_full = leaves.len() == TILE_WIDTH;
        let place = usize::try_from(tile.index % TILE_WIDTH as u64).unwrap_or(0);
        let above = stored.get(TileId { level: 1, index: tile.index / TILE_WIDTH as u64 });
        let above = above.and_then(|hashes| hashes.get(place).copied());
        let gives_above =
            |hashes: &[Hash]| is_full && hashes.len() == TILE_WIDTH && perfect_root(hashes) == above;
        let gives_signed = |hashes: &[Hash]| {
            let mut tree = self.tree.clone();
            hashes.iter().for_each(|leaf| tree.append(*leaf));
            self.signed
                .as_ref()
                .is_some_and(|signed| signed.size == tree.size() && signed.root == tree.root())
        };
        let is_signed_edge = !is_full && self.edge_is_signed && recorded.len() == leaves.len();
        if gives_above(recorded) || is_signed_edge {
            Right::Recorded
        } else if entries.is_some_and(|entries| gives_above(&entries) || gives_signed(&entries)) {
            Right::Entries
        } else {
            Right::Unknown
        }
    }

    fn miss(&mut self, index: u64) {
        let listed = self.missing.len();
        match self.missing.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ if listed < LISTED => self.missing.push((index, index)),
            _ => self.left_out += 1,
        }
    }

    /// Names what is gone without a word of the log's.
    fn name_untold(&mut self) {
        let Unexplained { pruned, without_salts } = self.removals.unexplained();
        for &(first, last) in pruned.ranges() {
            self.find(Finding::PrunedUntold { first, last });
        }
        for &(first, last) in without_salts.ranges() {
            self.find(Finding::ErasedUntold { first, last });
        }
    }

    fn name_missing(&mut self) {
        let size = self.size();
        for (first, last) in std::mem::take(&mut self.missing) {
            self.find(if last + 1 == size {
                Finding::TailCut { first, size }
            } else {
                Finding::EntriesMissing { first, last }
            });
        }
    }

    /// Tells what happened to the entries that differ from what was signed.
    fn name_changed(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        let mut named = BTreeSet::new();
        for (at, entry) in changed.iter().enumerate() {
            if named.contains(&entry.index) {
                continue;
            }
            let rest = &changed[at + 1..];
            let other =
                rest.iter().find(|other| other.leaf == entry.recorded && other.recorded == entry.leaf);
            let moved = |shift: fn(&Changed, &Changed) -> bool| {
                let pairs = changed[at..].iter().zip(rest);
                pairs.take_while(|(one, next)| next.index == one.index + 1 && shift(one, next)).count()
            };
            let moved_back = moved(|one, next| next.leaf == one.recorded);
            let moved_up = moved(|one, next| one.leaf == next.recorded);
            let index = entry.index;
            if let Some(other) = other {
                named.insert(other.index);
                self.find(Finding::EntriesSwapped { index, other: other.index });
            } else if moved_back > 0 {
                named.extend(rest[..moved_back].iter().map(|entry| entry.index));
                self.find(Finding::EntryInserted { index });
            } else if moved_up > 0 {
                named.extend(rest[..moved_up].iter().map(|entry| entry.index));
                self.find(Finding::EntryRemoved { index });
            } else {
                self.find(Finding::EntryChanged { index });
            }
        }
    }

    fn compare_with_kept(&mut self) -> u64 {
        let mut contained = 0;
        for Checkpoint { size, root: signed, .. } in std::mem::take(&mut self.kept) {
            match self.roots.get(&size).copied().flatten() {
                Some(recomputed) if recomputed == signed => contained += 1,
                Some(recomputed) => self.find(Finding::KeptDiffers { size, signed, recomputed }),
                None => self.find(Finding::KeptIsLonger { kept: size, size: self.size() }),
            }
        }
        contained
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < 2 * LISTED {
            self.findings.push(finding);
        } else {
            self.left_out += 1;
        }
    }
}

/// How many tiles a log of `size` entries has at each level.
fn tiles_by_level(size: u64) -> BTreeMap<i64, u64> {
    (0..8)
        .map(|level| (i64::from(level), (size >> (8 * level)).div_ceil(TILE_WIDTH as u64)))
        .filter(|(_, tiles)| *tiles > 0)
        .collect()
}

#[cfg(test)]
mod tests;
