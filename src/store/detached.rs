//! Entries that went with their partition: read as pruned ones, without bytes and under the hash that the log recorded.
//!
//! Pruning empties an entry in its row, or, on PostgreSQL, takes whole partitions away with their rows. Who reads the log need
//! not tell the two apart: what has no row, in a range that was detached, is answered as if its row were there and empty. It is the
//! log's own entries that say whether it may be gone; an entry that is missing anywhere else is missing.

use std::ops::Range;

use super::database::{Pool, per_database, sql};
use super::{Store, StoreError, signed, unsigned};
use crate::audit::tile::TileId;
use crate::audit::verifier::StoredEntry;

impl Store {
    /// At most `most` entries from index `from`, without their leaf hashes.
    pub(super) async fn entries_from(&self, from: u64, most: u32) -> Result<Vec<StoredEntry>, StoreError> {
        let most = most as usize;
        let (mut found, mut next) = (Vec::new(), from);
        loop {
            let wanted = most - found.len();
            let mut rows = self.rows_from(next, wanted).await?;
            let is_dense = rows.len() == wanted
                && rows.last().is_none_or(|row| row.index == next + (wanted as u64).saturating_sub(1));
            let gone = if is_dense { Vec::new() } else { self.detached(next..u64::MAX).await? };
            let Some(first) = gone.first() else {
                found.append(&mut rows);
                return Ok(found);
            };
            // Within what was detached no rows were asked for beyond its end.
            let end = if first.start <= next { first.end } else { u64::MAX };
            rows.retain(|row| row.index < end);
            found.append(&mut filled(rows, next..end, &gone, false, wanted));
            if found.len() == most || end == u64::MAX {
                return Ok(found);
            }
            next = end;
        }
    }

    /// Rows from `from` on; where that is in a range that was detached, to the end of the range at most: few rows stand there, if
    /// any, and those behind would be read for nothing.
    async fn rows_from(&self, from: u64, most: usize) -> Result<Vec<StoredEntry>, StoreError> {
        let rows = sql(per_database! {
            sqlite: "SELECT idx, entry FROM audit_entries WHERE idx >= $1 ORDER BY idx LIMIT $2",
            postgres: "SELECT idx, entry FROM audit_entries WHERE idx >= $1 AND idx < COALESCE((SELECT max(last_idx) + 1 \
                       FROM detached_partitions WHERE first_idx <= $1 AND last_idx >= $1), 9223372036854775807) \
                       ORDER BY idx LIMIT $2",
        })
        .bind(signed(from))
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await?;
        let entry = |row: super::database::Row| {
            let index = unsigned(row.try_get(0)?, "audit_entries", "idx")?;
            Ok(StoredEntry { index, entry: row.try_get(1)?, leaf_hash: None })
        };
        rows.into_iter().map(entry).collect()
    }

    /// What of `within` was detached, in order, and within what the head counts. To be asked after the rows were: those that are
    /// detached in between are then in the rows, or here, or both.
    pub(super) async fn detached(&self, within: Range<u64>) -> Result<Vec<Range<u64>>, StoreError> {
        if !matches!(self.readers, Pool::Postgres(_)) {
            return Ok(Vec::new());
        }
        let rows = sql("SELECT DISTINCT greatest(d.first_idx, $1), least(d.last_idx + 1, h.size, $2) \
             FROM detached_partitions d JOIN audit_head h ON h.id = 1 \
             WHERE d.last_idx >= $1 AND least(d.last_idx + 1, h.size, $2) > greatest(d.first_idx, $1) ORDER BY 1")
        .bind(signed(within.start))
        .bind(signed(within.end))
        .fetch_all(&self.readers)
        .await?;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for row in rows {
            let bound = |place| unsigned(row.try_get(place)?, "detached_partitions", "first_idx");
            let (start, end) = (bound(0)?, bound(1)?);
            match ranges.last_mut() {
                // (Of one partition that was detached twice. Neighbours stay apart: rows are asked for to the end of one.)
                Some(last) if start < last.end => last.end = last.end.max(end),
                _ => ranges.push(start..end),
            }
        }
        Ok(ranges)
    }

    /// Puts those that were detached among `rows`, which are the first rows of `within`, at most `most`, in their order.
    pub(super) async fn with_detached(
        &self,
        rows: Vec<StoredEntry>,
        within: Range<u64>,
        newest_first: bool,
        most: usize,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        let span = match (rows.first(), rows.last()) {
            (Some(one), Some(other)) => one.index.abs_diff(other.index) + 1,
            _ => 0,
        };
        let begin = if newest_first { within.end.saturating_sub(1) } else { within.start };
        let is_dense = rows.len() as u64 == span
            && rows.first().is_some_and(|row| row.index == begin)
            && (rows.len() == most || span == within.end - within.start);
        let gone = if is_dense { Vec::new() } else { self.detached(within.clone()).await? };
        if gone.is_empty() {
            return Ok(rows);
        }
        let mut entries = filled(rows, within, &gone, newest_first, most);
        self.add_leaf_hashes(&mut entries).await?;
        Ok(entries)
    }

    /// Those of `wanted` that were detached and are not among `rows`.
    pub(super) async fn detached_at(
        &self,
        wanted: &[u64],
        rows: &[StoredEntry],
    ) -> Result<Vec<StoredEntry>, StoreError> {
        let (Some(first), Some(last)) = (wanted.iter().min(), wanted.iter().max()) else {
            return Ok(Vec::new());
        };
        if rows.len() == wanted.len() {
            return Ok(Vec::new());
        }
        let gone = self.detached(*first..last + 1).await?;
        let is_gone = |index: &&u64| {
            gone.iter().any(|range| range.contains(index)) && !rows.iter().any(|row| row.index == **index)
        };
        let mut entries: Vec<StoredEntry> =
            wanted.iter().filter(is_gone).map(|index| pruned(*index)).collect();
        self.add_leaf_hashes(&mut entries).await?;
        Ok(entries)
    }

    /// Adds the leaf hashes that the log recorded, where they are not at hand.
    pub(super) async fn add_leaf_hashes(&self, entries: &mut [StoredEntry]) -> Result<(), StoreError> {
        use crate::audit::log::Storage as _;
        let without = entries.iter().filter(|stored| stored.leaf_hash.is_none());
        let mut ids: Vec<TileId> =
            without.map(|stored| TileId { level: 0, index: stored.index / 256 }).collect();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        let tiles = self.tiles(&ids).await?;
        for stored in entries.iter_mut().filter(|stored| stored.leaf_hash.is_none()) {
            let place = usize::try_from(stored.index % 256).unwrap_or(usize::MAX);
            stored.leaf_hash = tiles
                .get(TileId { level: 0, index: stored.index / 256 })
                .and_then(|hashes| hashes.get(place))
                .copied();
        }
        Ok(())
    }
}

fn pruned(index: u64) -> StoredEntry {
    StoredEntry { index, entry: Vec::new(), leaf_hash: None }
}

/// The first `most` entries of `within`, of which `rows` are those that have a row, in order, and `gone` what was detached.
fn filled(
    rows: Vec<StoredEntry>,
    within: Range<u64>,
    gone: &[Range<u64>],
    newest_first: bool,
    most: usize,
) -> Vec<StoredEntry> {
    let gone_between = |from: u64, to: u64| {
        gone.iter().flat_map(move |range| range.start.max(from)..range.end.min(to).max(range.start.max(from)))
    };
    let mut found: Vec<StoredEntry> = Vec::new();
    let mut left = within;
    let add_gone = |found: &mut Vec<StoredEntry>, from: u64, to: u64| {
        let room = most.saturating_sub(found.len());
        if newest_first {
            found.extend(gone_between(from, to).rev().take(room).map(pruned));
        } else {
            found.extend(gone_between(from, to).take(room).map(pruned));
        }
    };
    for row in rows {
        if newest_first {
            add_gone(&mut found, row.index + 1, left.end);
            left.end = row.index;
        } else {
            add_gone(&mut found, left.start, row.index);
            left.start = row.index + 1;
        }
        if found.len() >= most {
            return found;
        }
        found.push(row);
    }
    add_gone(&mut found, left.start, left.end);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_detached_stands_in_its_place(
            rows in prop::collection::btree_set(0u64..80, 0..40),
            cuts in prop::collection::btree_set(0u64..80, 0..8),
            (from, length, most) in (0u64..80, 0u64..80, 1usize..30),
            newest_first: bool,
        ) {
            let cuts: Vec<u64> = cuts.into_iter().collect();
            let gone: Vec<Range<u64>> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
            let within = from..from + length;
            let is_gone = |index: &u64| gone.iter().any(|range| range.contains(index));
            let in_order = |mut indices: Vec<u64>| {
                if newest_first {
                    indices.reverse();
                }
                indices.truncate(most);
                indices
            };
            let row = |index: u64| StoredEntry { index, entry: vec![1], leaf_hash: None };
            let read = in_order(rows.iter().copied().filter(|index| within.contains(index)).collect());
            let found = filled(read.into_iter().map(row).collect(), within.clone(), &gone, newest_first, most);
            let expected = in_order(within.filter(|index| rows.contains(index) || is_gone(index)).collect());
            prop_assert_eq!(found.iter().map(|stored| stored.index).collect::<Vec<_>>(), expected);
            prop_assert!(found.iter().all(|stored| stored.is_pruned() != rows.contains(&stored.index)));
        }
    }
}
