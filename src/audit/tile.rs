//! The tree cut into tiles as C2SP `tlog-tiles` lays it out, so that a root or a proof of a log of any length
//! is computed from a handful of small blobs.
//!
//! A tile is 256 hashes wide and 8 rows high; only its bottom row is kept. Tile `n` of level `l` holds the
//! roots of the perfect subtrees of height `8 * l` numbered `256 * n` to `256 * n + 255`: at level 0 the leaf
//! hashes, at level 1 one hash for each full tile of level 0, and so on. The last tile of a level is partial
//! while it fills.

use std::collections::{BTreeMap, BTreeSet};

use super::merkle::{Frontier, Hash, empty_root, join_leftwards, perfect_root};

/// Hashes in a full tile.
pub const TILE_WIDTH: usize = 1 << TILE_HEIGHT;

/// Rows of the tree that one tile spans.
const TILE_HEIGHT: u32 = 8;

/// Which tile: its level, counted from the leaves, and its place in that level, counted from the left; from
/// zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// 0 for the leaves, at most 7.
    pub level: u8,
    /// Position among the tiles of this level.
    pub index: u64,
}

/// Why something could not be computed from tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// A tile that is needed is not there.
    #[error("tile {index} of level {level} is missing", level = .tile.level, index = .tile.index)]
    Missing {
        /// The tile.
        tile: TileId,
    },
    /// A tile is there, and too few hashes are in it.
    #[error(
        "tile {index} of level {level} has {found} hashes where {needed} are needed",
        level = .tile.level, index = .tile.index
    )]
    TooShort {
        /// The tile.
        tile: TileId,
        /// Hashes the computation needs, from the left.
        needed: usize,
        /// Hashes in it.
        found: usize,
    },
    /// A tile has more than [`TILE_WIDTH`] hashes.
    #[error("tile {index} of level {level} has {found} hashes, more than 256", level = .tile.level, index = .tile.index)]
    TooWide {
        /// The tile.
        tile: TileId,
        /// Hashes in it.
        found: usize,
    },
    /// There is no such leaf.
    #[error("index {index} is outside a tree of {size} entries")]
    IndexOutsideTree {
        /// The index asked for, from zero.
        index: u64,
        /// Number of leaves.
        size: u64,
    },
    /// The tree that should be the earlier one is larger.
    #[error("the old size {old} is greater than the new size {new}")]
    SizesReversed {
        /// Leaves of the earlier tree.
        old: u64,
        /// Leaves of the later tree.
        new: u64,
    },
}

impl TileId {
    /// How many hashes of this tile a tree of `size` leaves fills: 0 to [`TILE_WIDTH`].
    pub fn width_at(self, size: u64) -> usize {
        let in_level = row_width(size, u32::from(self.level) * TILE_HEIGHT);
        let before = u128::from(self.index) << TILE_HEIGHT;
        let width = u128::from(in_level).saturating_sub(before).min(TILE_WIDTH as u128);
        usize::try_from(width).unwrap_or(TILE_WIDTH)
    }
}

/// The growing edge of the tree: the last tile of every level, and what has changed since it was last stored.
///
/// It keeps at most 255 hashes a level, plus the full tiles that [`TileWriter::take_dirty`] has not handed
/// out yet.
#[derive(Clone, Debug, Default)]
pub struct TileWriter {
    /// The same tree as its perfect subtrees, so that the root after a batch costs a few hashes and not the edge.
    frontier: Frontier,
    edge: Vec<Edge>,
    filled: BTreeMap<TileId, Vec<Hash>>,
}

/// The last tile of one level: never full, since a full one leaves the edge.
#[derive(Clone, Debug, Default)]
struct Edge {
    hashes: Vec<Hash>,
    dirty: bool,
}

impl TileWriter {
    /// The writer of an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The writer of a tree of `size` leaves, from the stored tiles on its right edge: those that
    /// [`tiles_for_root`] names. A tile may hold more hashes than it did at `size`; the rest is left aside.
    ///
    /// # Errors
    /// [`TileError`] if a tile is missing, too short or too wide.
    pub fn resume(size: u64, mut tiles: impl FnMut(TileId) -> Option<Vec<Hash>>) -> Result<Self, TileError> {
        let mut edge = Vec::new();
        for level in 0..levels(size) {
            let mut hashes = Vec::new();
            let tile = edge_tile(level, size);
            let width = tile.width_at(size);
            if width > 0 {
                hashes = tiles(tile).ok_or(TileError::Missing { tile })?;
                check_width(tile, width, &hashes)?;
                hashes.truncate(width);
            }
            edge.push(Edge { hashes, dirty: false });
        }
        let mut subtrees: Vec<Hash> = edge.iter().flat_map(subtrees_leftwards).collect();
        subtrees.reverse();
        Ok(Self { frontier: Frontier::of_subtrees(size, subtrees), edge, filled: BTreeMap::new() })
    }

    /// Appends a leaf, given its [`leaf_hash`](super::merkle::leaf_hash).
    pub fn append(&mut self, leaf: Hash) {
        let size = self.size();
        let Self { frontier, edge, filled } = self;
        frontier.append_and_tell(leaf, |height, root| {
            if height % TILE_HEIGHT != 0 {
                return;
            }
            // Below 8: a height is at most 63.
            let level = (height / TILE_HEIGHT) as u8;
            if edge.len() <= usize::from(level) {
                edge.push(Edge::default());
            }
            let edge = &mut edge[usize::from(level)];
            edge.hashes.push(root);
            edge.dirty = true;
            if edge.hashes.len() == TILE_WIDTH {
                filled.insert(edge_tile(level, size), std::mem::take(edge).hashes);
            }
        });
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The Merkle tree hash of all leaves so far (RFC 6962, section 2.1).
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The tiles that filled up since this was last asked, in order of level and index. Tiles on the edge are left
    /// to [`TileWriter::take_dirty`], so that who writes a long log out need not hold it.
    pub fn take_filled(&mut self) -> Vec<(TileId, Vec<Hash>)> {
        std::mem::take(&mut self.filled).into_iter().collect()
    }

    /// The tiles that changed since this was last asked (or since [`TileWriter::resume`]), in order of level
    /// and index, each with all its hashes. Storing them over what was there makes the stored tree complete.
    pub fn take_dirty(&mut self) -> Vec<(TileId, Vec<Hash>)> {
        let mut tiles = std::mem::take(&mut self.filled);
        for (level, edge) in (0..).zip(&mut self.edge) {
            if std::mem::take(&mut edge.dirty) {
                tiles.insert(edge_tile(level, self.frontier.size()), edge.hashes.clone());
            }
        }
        tiles.into_iter().collect()
    }
}

/// The roots of an edge's perfect subtrees, the smallest first.
fn subtrees_leftwards(edge: &Edge) -> impl Iterator<Item = Hash> {
    let mut end = edge.hashes.len();
    std::iter::from_fn(move || {
        let width = lowest_bit(end)?;
        end -= width;
        perfect_root(&edge.hashes[end..end + width])
    })
}

/// The tiles [`TileSet::root`] needs: those on the right edge, at most one a level.
pub fn tiles_for_root(size: u64) -> Vec<TileId> {
    tiles_over(&[Range { start: 0, end: size }])
}

/// The tiles [`TileSet::inclusion_proof`] needs: at most two a level. None if there is no such leaf.
pub fn tiles_for_inclusion(index: u64, size: u64) -> Vec<TileId> {
    inclusion_path(index, size).map(|path| tiles_over(&path)).unwrap_or_default()
}

/// The tiles [`TileSet::consistency_proof`] needs: at most two a level. None if the sizes are reversed.
pub fn tiles_for_consistency(old: u64, new: u64) -> Vec<TileId> {
    consistency_path(old, new).map(|path| tiles_over(&path)).unwrap_or_default()
}

/// Some of a tree's tiles, and what can be computed from them.
///
/// A tile may be a later, fuller version than the size in question calls for: what a tile holds never
/// changes, it is only added to.
#[derive(Clone, Debug, Default)]
pub struct TileSet(BTreeMap<TileId, Vec<Hash>>);

impl TileSet {
    /// A set without tiles.
    pub fn new() -> Self {
        Self::default()
    }

    /// The hashes of a tile, if the set has it.
    pub fn get(&self, tile: TileId) -> Option<&[Hash]> {
        self.0.get(&tile).map(Vec::as_slice)
    }

    /// Adds a tile, in place of an earlier version of it.
    pub fn insert(&mut self, tile: TileId, hashes: Vec<Hash>) {
        self.0.insert(tile, hashes);
    }

    /// The Merkle tree hash of the first `size` leaves (RFC 6962, section 2.1).
    ///
    /// # Errors
    /// [`TileError`] if a tile that [`tiles_for_root`] names is missing or too short.
    pub fn root(&self, size: u64) -> Result<Hash, TileError> {
        self.range_root(Range { start: 0, end: size })
    }

    /// The audit path of the leaf at `index` in the tree of the first `size` leaves, from the leaf up (RFC
    /// 6962, section 2.1.1).
    ///
    /// # Errors
    /// [`TileError`] if there is no such leaf, or a tile that [`tiles_for_inclusion`] names is missing or too
    /// short.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, TileError> {
        inclusion_path(index, size)?.into_iter().map(|range| self.range_root(range)).collect()
    }

    /// The proof that the first `old` leaves begin the tree of the first `new` leaves (RFC 6962, section
    /// 2.1.2). Empty when `old` is zero or equals `new`.
    ///
    /// # Errors
    /// [`TileError`] if `old` is greater, or a tile that [`tiles_for_consistency`] names is missing or too
    /// short.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, TileError> {
        consistency_path(old, new)?.into_iter().map(|range| self.range_root(range)).collect()
    }

    fn range_root(&self, range: Range) -> Result<Hash, TileError> {
        let subtrees: Vec<Hash> =
            range.subtrees().map(|subtree| self.subtree_root(subtree)).collect::<Result<_, _>>()?;
        Ok(join_leftwards(subtrees.into_iter()).unwrap_or_else(empty_root))
    }

    fn subtree_root(&self, subtree: Subtree) -> Result<Hash, TileError> {
        let (tile, start, end) = subtree.place();
        let hashes = self.0.get(&tile).ok_or(TileError::Missing { tile })?;
        check_width(tile, end, hashes)?;
        perfect_root(&hashes[start..end]).ok_or(TileError::Missing { tile })
    }
}

fn check_width(tile: TileId, needed: usize, hashes: &[Hash]) -> Result<(), TileError> {
    match hashes.len() {
        found if found > TILE_WIDTH => Err(TileError::TooWide { tile, found }),
        found if found < needed => Err(TileError::TooShort { tile, needed, found }),
        _ => Ok(()),
    }
}

/// Leaves `start..end`, whose Merkle tree hash is one node of some tree: `start` is a multiple of the least
/// power of two that is not less than the range's length.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    end: u64,
}

/// The perfect subtree of `1 << height` leaves that is number `index` in its row.
#[derive(Clone, Copy, Debug)]
struct Subtree {
    height: u32,
    index: u64,
}

impl Range {
    /// The perfect subtrees that cover the range, from the right (smallest) to the left (largest).
    fn subtrees(self) -> impl Iterator<Item = Subtree> {
        let mut end = self.end;
        std::iter::from_fn(move || {
            if end == self.start {
                return None;
            }
            let height = (end - self.start).trailing_zeros();
            end -= 1 << height;
            Some(Subtree { height, index: end >> height })
        })
    }

    /// Where RFC 6962, section 2.1 splits a range of at least two leaves: after the largest power of two of
    /// them that is less than the whole.
    fn split(self) -> u64 {
        self.start + (1 << (self.end - self.start - 1).ilog2())
    }
}

impl Subtree {
    /// The tile that has its bottom row closest above its leaves, and the hashes there that it spans.
    fn place(self) -> (TileId, usize, usize) {
        let rows_above = self.height % TILE_HEIGHT;
        let width = 1 << rows_above;
        let first = self.index << rows_above;
        // Both casts are of values below 256: a height is at most 63.
        let tile = TileId { level: (self.height / TILE_HEIGHT) as u8, index: first >> TILE_HEIGHT };
        let start = (first % TILE_WIDTH as u64) as usize;
        (tile, start, start + width)
    }
}

/// The siblings on the way from a leaf up to the root: `PATH` of RFC 6962, section 2.1.1.
fn inclusion_path(index: u64, size: u64) -> Result<Vec<Range>, TileError> {
    if index >= size {
        return Err(TileError::IndexOutsideTree { index, size });
    }
    let mut siblings = Vec::new();
    let mut range = Range { start: 0, end: size };
    while range.end - range.start > 1 {
        let split = range.split();
        if index < split {
            siblings.push(Range { start: split, ..range });
            range.end = split;
        } else {
            siblings.push(Range { end: split, ..range });
            range.start = split;
        }
    }
    siblings.reverse();
    Ok(siblings)
}

/// The nodes of a consistency proof, in its order: `PROOF` of RFC 6962, section 2.1.2.
fn consistency_path(old: u64, new: u64) -> Result<Vec<Range>, TileError> {
    if old > new {
        return Err(TileError::SizesReversed { old, new });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut nodes = Vec::new();
    let mut range = Range { start: 0, end: new };
    while range.end != old {
        let split = range.split();
        if old <= split {
            nodes.push(Range { start: split, ..range });
            range.end = split;
        } else {
            nodes.push(Range { end: split, ..range });
            range.start = split;
        }
    }
    // Where the old tree is itself a node of the new one, the verifier has its root already.
    if range.start != 0 {
        nodes.push(range);
    }
    nodes.reverse();
    Ok(nodes)
}

fn tiles_over(ranges: &[Range]) -> Vec<TileId> {
    let tiles: BTreeSet<TileId> =
        ranges.iter().flat_map(|range| range.subtrees()).map(|subtree| subtree.place().0).collect();
    tiles.into_iter().collect()
}

/// The tile of this level where the next hash goes.
fn edge_tile(level: u8, size: u64) -> TileId {
    TileId { level, index: row_width(size, (u32::from(level) + 1) * TILE_HEIGHT) }
}

/// Levels that have at least one hash.
fn levels(size: u64) -> u8 {
    // At most 8, since 64 rows are 8 levels.
    size.checked_ilog2().map_or(0, |top| (top / TILE_HEIGHT) as u8 + 1)
}

/// The perfect subtrees of this height in a tree of `size` leaves.
fn row_width(size: u64, height: u32) -> u64 {
    size.checked_shr(height).unwrap_or(0)
}

fn lowest_bit(number: usize) -> Option<usize> {
    (number != 0).then(|| 1 << number.trailing_zeros())
}

#[cfg(test)]
pub(super) mod tests;
