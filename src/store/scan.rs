//! Reading the whole audit log quickly: many entries in one row.

use std::collections::BTreeMap;

use super::database::{per_database, sql};
use super::log::hashes;
use super::{Store, StoreError, signed, unsigned};
use crate::audit::fsck::Packed;
use crate::audit::tile::{TileId, TileSet};

/// What is stored beside what the head counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The lowest index that the head does not count, and how many entries have such an index.
    pub beyond: Option<(i64, u64)>,
    /// Stored tiles by level.
    pub tiles: BTreeMap<i64, u64>,
}

impl Store {
    /// Looks at the entries `from..until`, read as one row; row by row, sqlx takes several times as long. `None` unless all
    /// are there. Their order is that in which the database came across them: whoever finds that they do not fit
    /// reads them again by [`Storage::entries`](crate::audit::log::Storage::entries).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn packed_entries<T>(
        &self,
        from: u64,
        until: u64,
        look: impl FnOnce(Packed<'_>) -> T,
    ) -> Result<Option<T>, StoreError> {
        let row = sql(per_database! {
            sqlite: "SELECT count(*), group_concat(length(entry)), CAST(group_concat(CAST(entry AS TEXT), '') AS BLOB), \
                     count(CASE WHEN length(entry) > 0 AND (salt IS NULL OR length(salt) < 32) THEN 1 END) \
                     FROM audit_entries WHERE idx >= $1 AND idx < $2",
            postgres: "SELECT count(*), COALESCE(string_agg(length(entry)::text, ',' ORDER BY idx), ''), \
                       COALESCE(string_agg(entry, '' ORDER BY idx), ''), \
                       count(CASE WHEN length(entry) > 0 AND (salt IS NULL OR length(salt) < 32) THEN 1 END) \
                       FROM audit_entries WHERE idx >= $1 AND idx < $2",
        })
        .bind(signed(from))
        .bind(signed(until))
        .fetch_one(&self.readers)
        .await?;
        // Whoever waits for the connection has been woken on this thread, and no other would take it up before the look is over.
        tokio::task::yield_now().await;
        let count = unsigned(row.try_get(0)?, "audit_entries", "idx")?;
        if count == 0 && self.detached(from..until).await?.first() == Some(&(from..until)) {
            let lengths = (from..until).map(|_| 0).collect();
            return Ok(Some(look(Packed { lengths, bytes: &[], without_salts: 0 })));
        }
        if count != until - from {
            return Ok(None);
        }
        let lengths: Option<Vec<usize>> =
            row.try_get::<&str>(1)?.split(',').map(|length| length.parse().ok()).collect();
        let without_salts = unsigned(row.try_get(3)?, "audit_entries", "salt")?;
        // Looked at where they lie: they are as large as all that the processor remembers.
        let packed = Packed { lengths: lengths.unwrap_or_default(), bytes: row.try_get(2)?, without_salts };
        Ok((packed.lengths.iter().sum::<usize>() == packed.bytes.len()).then(|| look(packed)))
    }

    /// The stored tiles `from..until` of a level.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tiles_between(&self, level: u8, from: u64, until: u64) -> Result<TileSet, StoreError> {
        let rows = sql(
            "SELECT idx, hashes FROM audit_tiles WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx",
        )
        .bind(i64::from(level))
        .bind(signed(from))
        .bind(signed(until))
        .fetch_all(&self.readers)
        .await?;
        let mut tiles = TileSet::new();
        for row in rows {
            let index = unsigned(row.try_get(0)?, "audit_tiles", "idx")?;
            tiles.insert(TileId { level, index }, hashes(row.try_get(1)?)?);
        }
        Ok(tiles)
    }

    /// What is stored beside the `size` entries that the head counts.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn extent_beyond(&self, size: u64) -> Result<Extent, StoreError> {
        let row = sql("SELECT min(idx), count(*) FROM audit_entries WHERE idx >= $1 OR idx < 0")
            .bind(signed(size))
            .fetch_one(&self.readers)
            .await?;
        let first: Option<i64> = row.try_get(0)?;
        let count = unsigned(row.try_get(1)?, "audit_entries", "idx")?;
        let rows = sql("SELECT level, count(*) FROM audit_tiles GROUP BY level");
        let tiles = rows
            .fetch_all(&self.readers)
            .await?
            .into_iter()
            .map(|row| Ok((row.try_get(0)?, unsigned(row.try_get(1)?, "audit_tiles", "idx")?)));
        Ok(Extent {
            beyond: first.map(|first| (first, count)),
            tiles: tiles.collect::<Result<_, StoreError>>()?,
        })
    }
}
