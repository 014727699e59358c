//! The audit log's tables.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};

use super::database::{Acquired, Connection, Pool, Row, per_database, sql};
use super::effect::{self, Effect, Rejection};
use super::rows::Rows;
use super::{Store, StoreError, postgres, signed, unsigned};
use crate::audit::entry::Entry;
use crate::audit::log::{self, Batch, Head, Orphan, Storage};
use crate::audit::merkle::{Hash, leaf_hash};
use crate::audit::tile::{TileId, TileSet};
use crate::audit::verifier::StoredEntry;
use crate::domain::agency::CreditCode;
use crate::domain::clocks::Clocks;
use crate::domain::exchange::RequestId;
use crate::fault;

/// How often a gateway looks for what others have written.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Storage for Store {
    type Effect = Effect;
    type Rejection = Rejection;
    type Error = StoreError;
    type Turn = Turn;

    async fn head(&self) -> Result<Option<Head>, StoreError> {
        match &self.readers {
            Pool::Postgres(_) => {
                let head = postgres::head(&self.readers, self.node.as_deref()).await;
                // Found out before the next call is: a server that does not answer does not take entries either.
                head.inspect_err(|_| self.writes.set_failing(true))
            }
            Pool::Sqlite(_) => {
                let row = sql("SELECT size, root, open_from, checkpoint FROM audit_head WHERE id = 1");
                row.fetch_optional(&self.readers).await?.as_ref().map(head).transpose()
            }
        }
    }

    async fn tiles(&self, ids: &[TileId]) -> Result<TileSet, StoreError> {
        // One statement for all of them: each costs a crossing to SQLite's own thread, or a way to PostgreSQL.
        let among = per_database! {
            sqlite: "SELECT t.level, t.idx, t.hashes FROM json_each($1) wanted CROSS JOIN audit_tiles t \
                     ON t.level = wanted.value ->> 0 AND t.idx = wanted.value ->> 1",
            postgres: "SELECT t.level, t.idx, t.hashes FROM json_array_elements($1::json) wanted \
                       JOIN audit_tiles t ON t.level = (wanted ->> 0)::bigint AND t.idx = (wanted ->> 1)::bigint",
        };
        let wanted: Vec<String> = ids.iter().map(|id| format!("[{},{}]", id.level, id.index)).collect();
        let rows = sql(among).bind(format!("[{}]", wanted.join(","))).fetch_all(&self.readers).await?;
        let mut tiles = TileSet::default();
        for row in rows {
            let (id, hashes) = tile(&row, 0)?;
            tiles.insert(id, hashes);
        }
        Ok(tiles)
    }

    async fn entries(&self, from: u64, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        self.entries_from(from, limit).await
    }

    async fn turn(&self, known: Option<u64>) -> Result<(Turn, log::Standing), StoreError> {
        match &self.writer {
            Pool::Sqlite(_) => Ok((Turn(None), log::Standing::AsLeft)),
            Pool::Postgres(_) if self.writes.is_away() => Err(StoreError::Away),
            Pool::Postgres(pool) => {
                let (turn, head) = postgres::Turn::take(pool, self.node()?, known)
                    .await
                    .inspect_err(|_| self.writes.failed())?;
                Ok((Turn(Some(turn)), log::Standing::Newest(head)))
            }
        }
    }

    async fn commit(&self, turn: Turn, batch: &Batch<Effect>) -> Result<Vec<(usize, Rejection)>, StoreError> {
        let begun = std::time::Instant::now();
        let outcome = match turn.0 {
            None => self.commit_on_sqlite(batch).await,
            Some(turn) => turn.commit(self.node()?, &self.clocks, batch).await,
        };
        match &outcome {
            Ok(rejections) if rejections.is_empty() => {
                self.writes.written(batch.leaves.len(), begun.elapsed());
                self.recent.keep(batch);
            }
            Ok(_) => {}
            Err(_) => self.writes.failed(),
        }
        if matches!(&outcome, Ok(rejections) if rejections.is_empty()) && !effect::is_rows_only(batch) {
            if !self.is_alone() {
                // By another task: the batch's callers need not wait for one more way to the server.
                self.followers.stir();
            } else if let Err(error) = self.wake_followers().await {
                // Durable already: who follows is woken by a later batch at the latest.
                tracing::warn!(%error, "watches cannot be woken");
            }
        }
        outcome
    }

    fn look_every(&self) -> Option<Duration> {
        (!self.is_alone()).then_some(LOOK_EVERY)
    }

    fn is_own(&self, entry: &Entry) -> bool {
        self.node.as_ref().is_none_or(|node| node.name == entry.node)
    }

    fn release(&self, orphan: &Orphan) -> Vec<Effect> {
        let caller = orphan.entry.caller.as_deref().and_then(|code| CreditCode::parse(code).ok());
        match (caller, orphan.entry.request) {
            (Some(caller), Some(request)) => {
                let request_id = RequestId::new(request);
                vec![Effect::Release { caller, request_id, request_index: orphan.index }]
            }
            _ => Vec::new(),
        }
    }
}

/// The turn to write. SQLite has one gateway, whose turn it always is.
pub struct Turn(Option<postgres::Turn>);

impl Store {
    async fn commit_on_sqlite(&self, batch: &Batch<Effect>) -> Result<Vec<(usize, Rejection)>, StoreError> {
        let mut connection = self.writer.acquire().await?;
        let outcome = match &mut connection {
            Acquired::Sqlite(connection) => commit_on_sqlite(connection, &self.clocks, batch).await,
            Acquired::Postgres(_) => Err(sqlx::Error::WorkerCrashed.into()),
        };
        Self::discard_after_error(&mut connection, &outcome);
        outcome
    }
}

async fn commit_on_sqlite(
    connection: &mut SqliteConnection,
    clocks: &Clocks,
    batch: &Batch<Effect>,
) -> Result<Vec<(usize, Rejection)>, StoreError> {
    failed_at("commit.begin")?;
    let rows = Rows::of(batch);
    let written = if effect::is_rows_only(batch) {
        rows.write_and_commit(connection).await
    } else {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE; SAVEPOINT untouched").await?;
        let rejections = effect::apply(&mut Connection::Sqlite(&mut transaction), clocks, batch).await?;
        failed_at("commit.effects")?;
        if !rejections.is_empty() {
            transaction.rollback().await?;
            return Ok(rejections);
        }
        match rows.write(&mut transaction).await.and_then(|()| failed_at("commit.rows")) {
            Ok(()) => transaction.commit().await,
            Err(error) => {
                transaction.rollback().await?;
                Err(error)
            }
        }
    };
    match written.and_then(|()| failed_at("commit.done")) {
        Ok(()) => Ok(Vec::new()),
        // Somebody has a request id already. Rare, so it costs the batch a second try, and not every batch a search.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            let taken = taken_claims(&mut Connection::Sqlite(connection), batch).await?;
            if taken.is_empty() { Err(sqlx::Error::Database(error).into()) } else { Ok(taken) }
        }
        Err(error) => Err(error.into()),
    }
}

/// An error that a test has planned.
pub(super) fn failed_at(point: &str) -> Result<(), sqlx::Error> {
    fault::point(point).map_err(sqlx::Error::Io)
}

/// The leaves whose request id is taken, by place.
pub(super) async fn taken_claims(
    connection: &mut Connection<'_>,
    batch: &Batch<Effect>,
) -> Result<Vec<(usize, Rejection)>, StoreError> {
    let mut taken = Vec::new();
    let mut in_batch = HashSet::new();
    for (place, leaf) in batch.leaves.iter().enumerate() {
        for effect in &leaf.effects {
            let Effect::Claim { caller, request_id, .. } = effect else { continue };
            let found = sql("SELECT 1 FROM claims WHERE caller = $1 AND request_id = $2")
                .bind(caller.as_str())
                .bind(request_id.as_bytes().as_slice())
                .fetch_optional(&mut *connection)
                .await?;
            if !in_batch.insert((caller, request_id)) || found.is_some() {
                taken.push((place, Rejection::Claimed));
            }
        }
    }
    Ok(taken)
}

impl Store {
    /// One entry with the leaf hash that the log recorded for it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn entry(&self, index: u64) -> Result<Option<StoredEntry>, StoreError> {
        let mut found = self.entries_with_hashes(index, 1).await?;
        found.retain(|stored| stored.index == index);
        Ok(found.pop())
    }

    /// At most `limit` entries from index `from`, each with the leaf hash that the log recorded for it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn entries_with_hashes(&self, from: u64, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        let mut entries = self.entries(from, limit).await?;
        self.add_leaf_hashes(&mut entries).await?;
        Ok(entries)
    }

    /// The entries at these indices, as far as they are there, each with the hash of its bytes, and of a pruned one the leaf hash
    /// that the log recorded for it: scattered as they are, the tile of each would cost more reading than the entry itself.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn entries_at(
        &self,
        indices: &[u64],
        newest_first: bool,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        let wanted: Vec<String> = indices.iter().map(u64::to_string).collect();
        let wanted = format!("[{}]", wanted.join(","));
        let mut entries = match self.packed_at(&wanted).await? {
            Some(entries) => entries,
            None => self.one_by_one_at(&wanted).await?,
        };
        for stored in entries.iter_mut().filter(|stored| !stored.is_pruned()) {
            stored.leaf_hash = Some(leaf_hash(&stored.entry));
        }
        entries.append(&mut self.detached_at(indices, &entries).await?);
        entries.sort_unstable_by_key(|stored| stored.index);
        if newest_first {
            entries.reverse();
        }
        Ok(entries)
    }

    /// Entries read as one row: with one row for each, most of the time went into waking and waiting for the connection's thread.
    /// `None` where one is pruned, or not text.
    async fn packed_at(&self, wanted: &str) -> Result<Option<Vec<StoredEntry>>, StoreError> {
        let packed = per_database! {
            sqlite: "SELECT COALESCE(group_concat(e.idx), ''), COALESCE(group_concat(length(e.entry)), ''), \
                     CAST(COALESCE(group_concat(CAST(e.entry AS TEXT), ''), '') AS BLOB) \
                     FROM json_each($1) wanted CROSS JOIN audit_entries e ON e.idx = wanted.value",
            postgres: "SELECT COALESCE(string_agg(e.idx::text, ',' ORDER BY e.idx), ''), \
                       COALESCE(string_agg(length(e.entry)::text, ',' ORDER BY e.idx), ''), \
                       COALESCE(string_agg(e.entry, '' ORDER BY e.idx), '') \
                       FROM json_array_elements_text($1::json) wanted JOIN audit_entries e ON e.idx = wanted::bigint",
        };
        let row = sql(packed).bind(wanted).fetch_one(&self.readers).await?;
        let (indices, lengths) = (row.try_get::<&str>(0)?, row.try_get::<&str>(1)?);
        let mut rest: &[u8] = row.try_get(2)?;
        let mut entries = Vec::new();
        for (index, length) in indices.split_terminator(',').zip(lengths.split_terminator(',')) {
            let (Ok(index), Ok(length)) = (index.parse(), length.parse()) else { return Ok(None) };
            let Some((entry, after)) = rest.split_at_checked(length) else { return Ok(None) };
            if entry.is_empty() {
                return Ok(None);
            }
            entries.push(StoredEntry { index, entry: entry.to_vec(), leaf_hash: None });
            rest = after;
        }
        Ok(rest.is_empty().then_some(entries))
    }

    async fn one_by_one_at(&self, wanted: &str) -> Result<Vec<StoredEntry>, StoreError> {
        let at = per_database! {
            sqlite: "SELECT e.idx, e.entry, CASE WHEN length(e.entry) = 0 THEN (SELECT substr(t.hashes, e.idx % 256 * 32 + 1, 32) \
                     FROM audit_tiles t WHERE t.level = 0 AND t.idx = e.idx / 256) END \
                     FROM json_each($1) wanted CROSS JOIN audit_entries e ON e.idx = wanted.value",
            postgres: "SELECT e.idx, e.entry, CASE WHEN length(e.entry) = 0 THEN \
                       (SELECT substr(t.hashes, (e.idx % 256)::int * 32 + 1, 32) FROM audit_tiles t \
                        WHERE t.level = 0 AND t.idx = e.idx / 256) END \
                       FROM json_array_elements_text($1::json) wanted JOIN audit_entries e ON e.idx = wanted::bigint",
        };
        let rows = sql(at).bind(wanted).fetch_all(&self.readers).await?;
        rows.iter().map(stored_with_hash).collect()
    }

    /// At most `limit` entries of a range, from its beginning on or from its end back, with their leaf hashes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn entries_in(
        &self,
        range: Range<u64>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        macro_rules! in_order {
            ($place:literal, $order:literal) => {
                concat!(
                    "SELECT e.idx, e.entry, substr(t.hashes, ",
                    $place,
                    ", 32) \
                     FROM audit_entries e LEFT JOIN audit_tiles t ON t.level = 0 AND t.idx = e.idx / 256 \
                     WHERE e.idx >= $1 AND e.idx < $2 ORDER BY e.idx ",
                    $order,
                    " LIMIT $3"
                )
            };
        }
        macro_rules! on_each {
            ($order:literal) => {
                per_database! {
                    sqlite: in_order!("e.idx % 256 * 32 + 1", $order),
                    postgres: in_order!("(e.idx % 256)::int * 32 + 1", $order),
                }
            };
        }
        let statement = if newest_first { on_each!("DESC") } else { on_each!("ASC") };
        let rows = sql(statement)
            .bind(signed(range.start))
            .bind(signed(range.end))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await?;
        let rows = rows.iter().map(stored_with_hash).collect::<Result<_, _>>()?;
        self.with_detached(rows, range, newest_first, limit).await
    }
}

fn head(row: &Row) -> Result<Head, StoreError> {
    let size = unsigned(row.try_get(0)?, "audit_head", "size")?;
    Ok(Head {
        size,
        root: hash(row.try_get::<&[u8]>(1)?, "audit_head", "root")?,
        open_from: unsigned(row.try_get(2)?, "audit_head", "open_from")?,
        written_to: size,
        recorded: None,
        checkpoint: row.try_get(3)?,
    })
}

fn stored_with_hash(row: &Row) -> Result<StoredEntry, StoreError> {
    let recorded: Option<&[u8]> = row.try_get(2)?;
    // A place that the tile does not have gives no bytes.
    let recorded = recorded.filter(|bytes| !bytes.is_empty());
    Ok(StoredEntry {
        index: unsigned(row.try_get(0)?, "audit_entries", "idx")?,
        entry: row.try_get(1)?,
        leaf_hash: recorded.map(|bytes| hash(bytes, "audit_tiles", "hashes")).transpose()?,
    })
}

/// A stored tile: level, index and hashes, from a column on.
pub(super) fn tile(row: &Row, from: usize) -> Result<(TileId, Vec<Hash>), StoreError> {
    let inconsistent = |_| StoreError::Inconsistent { table: "audit_tiles", column: "level" };
    let level = row.try_get::<i64>(from)?.try_into().map_err(inconsistent)?;
    let index = unsigned(row.try_get(from + 1)?, "audit_tiles", "idx")?;
    Ok((TileId { level, index }, hashes(&row.try_get::<Vec<u8>>(from + 2)?)?))
}

/// The hashes of a stored tile.
pub(super) fn hashes(bytes: &[u8]) -> Result<Vec<Hash>, StoreError> {
    bytes.chunks(32).map(|bytes| hash(bytes, "audit_tiles", "hashes")).collect()
}

pub(super) fn hash(bytes: &[u8], table: &'static str, column: &'static str) -> Result<Hash, StoreError> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| StoreError::Inconsistent { table, column })?;
    Ok(Hash::from_bytes(bytes))
}
