//! The turn to write the log.
//!
//! Whoever wants to write waits in the queue of one lock, which the server hands on in the order in which it was asked for: a
//! gateway that has just written stands at the end of it. (Rows' locks are no queue: who comes by while a row is free takes it
//! before those who are still being woken.) With the lock comes the newest head, and nobody else moves it until the turn ends.
//! The batch compares it once more as it is written.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};

use crate::audit::log::{Batch, Head};
use crate::audit::tile::TileSet;
use crate::domain::clocks::Clocks;
use crate::store::database::{Connection, Pool, Row, sql};
use crate::store::effect::{self, Effect, Rejection};
use crate::store::log::{failed_at, hash, taken_claims, tile};
use crate::store::node::Node;
use crate::store::rows::postgres as rows;
use crate::store::{StoreError, signed, unsigned};

/// Longest that a turn waits for an answer of the server. Its own timeouts end what it can end; this one is for a server that
/// is gone without a word.
const SILENCE: Duration = Duration::from_secs(20);

/// Begins a turn, and reads with the lock in hand what [`PREPARE`] says of a node: others wait for each way to the server and back.
/// Each statement sees what was committed when it begins: the last one sees what the one before in the queue has written. With a
/// savepoint for [`effect::apply`]. The server plans a statement once, when its tables may be small still: it is not to think of
/// going through all of one.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(1818296321, 0); SAVEPOINT untouched; \
    SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; EXECUTE turn";

/// To be said once on a connection that takes turns. The settings, whatever the database's are, are those by which the server reads
/// a turn's text and sqlx its answer. The newest head as node `$1` with epoch `$2` sees it; where the log has grown beyond size `$3`,
/// once for each tile at the right edge of its tree (of a trillion entries not for the highest level).
pub(super) const PREPARE: &str = "SET standard_conforming_strings = on; SET bytea_output = hex; \
    PREPARE turn (text, bigint, bigint) AS \
    SELECT h.size, h.root, h.checkpoint, h.recorded_us, n.open_from, n.written_to, edge.level, edge.idx, edge.hashes \
    FROM audit_nodes n LEFT JOIN audit_head h ON h.id = 1 \
    LEFT JOIN LATERAL (SELECT t.level, t.idx, t.hashes FROM generate_series(0, 4) AS at \
        JOIN audit_tiles t ON t.level = at AND t.idx = h.size >> (8 * (at + 1)) WHERE h.size > $3) AS edge ON true \
    WHERE n.node = $1 AND n.epoch = $2";

/// The turn: an open transaction that holds the lock. Dropped, it is rolled back by the end of its connection.
pub(in crate::store) struct Turn(Option<PoolConnection<Postgres>>);

impl Turn {
    /// Waits for the turn of `node`, which knows the log up to a size, if it does. Returns it with the head as it is now, and the
    /// tiles at the right edge of its tree where that has grown.
    pub(in crate::store) async fn take(
        pool: &PgPool,
        node: &Node,
        known: Option<u64>,
    ) -> Result<(Self, Option<(Head, TileSet)>), StoreError> {
        answered(async {
            let mut turn = Self(Some(pool.acquire().await?));
            let begin = format!(
                "{BEGIN} ({}, {}, {})",
                quoted(&node.name),
                node.epoch,
                known.map_or(i64::MAX, signed)
            );
            let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).fetch_all(turn.connection()?).await?;
            // The first is the lock's.
            let rows: Vec<_> = rows.into_iter().skip(1).map(Row::Postgres).collect();
            let row = rows.first().ok_or_else(|| StoreError::LostNode { node: node.name.clone() })?;
            if row.try_get::<Option<i64>>(0)?.is_none() {
                return Ok((turn, None));
            }
            let mut edge = TileSet::new();
            for row in &rows {
                if row.try_get::<Option<i64>>(6)?.is_some() {
                    let (id, hashes) = tile(row, 6)?;
                    edge.insert(id, hashes);
                }
            }
            Ok((turn, Some((read(row)?, edge))))
        })
        .await
    }

    /// Writes a batch and ends the turn, see [`crate::audit::log::Storage::commit`].
    pub(in crate::store) async fn commit(
        mut self,
        node: &Node,
        clocks: &Clocks,
        batch: &Batch<Effect>,
    ) -> Result<Vec<(usize, Rejection)>, StoreError> {
        answered(async {
            failed_at("commit.begin")?;
            let connection = self.connection()?;
            let rejections =
                effect::apply(&mut Connection::Postgres(&mut *connection), clocks, batch).await?;
            failed_at("commit.effects")?;
            if !rejections.is_empty() {
                self.end("ROLLBACK").await?;
                return Ok(rejections);
            }
            match rows::write(&mut *connection, node, batch).await {
                // Somebody has a request id already. Rare, so it costs the batch a second try, and not every batch a search.
                Err(StoreError::Database(sqlx::Error::Database(error))) if error.is_unique_violation() => {
                    sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await?;
                    let taken = taken_claims(&mut Connection::Postgres(&mut *connection), batch).await?;
                    if taken.is_empty() {
                        return Err(sqlx::Error::Database(error).into());
                    }
                    self.0.take();
                    return Ok(taken);
                }
                written => written?,
            }
            failed_at("commit.rows")?;
            self.end("COMMIT").await?;
            failed_at("commit.done")?;
            Ok(Vec::new())
        })
        .await
    }

    fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.0.as_deref_mut().ok_or(StoreError::Database(sqlx::Error::WorkerCrashed))
    }

    /// Ends the transaction; only then is the connection given back for others.
    async fn end(&mut self, how: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(how).execute(self.connection()?).await?;
        self.0.take();
        Ok(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.close_on_drop();
        }
    }
}

/// A text for a statement that takes no values beside it: the name of a node may be any. As [`PREPARE`] sets it, a backslash is one.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

async fn answered<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(SILENCE, asked).await.unwrap_or_else(|_| Err(silent().into()))
}

/// The newest head, as one node sees it, or as an onlooker does.
pub(in crate::store) async fn head(readers: &Pool, node: Option<&Node>) -> Result<Option<Head>, StoreError> {
    match node {
        Some(node) => {
            let row = sql("SELECT h.size, h.root, h.checkpoint, h.recorded_us, n.open_from, n.written_to \
                 FROM audit_nodes n LEFT JOIN audit_head h ON h.id = 1 WHERE n.node = $1 AND n.epoch = $2");
            let row = row.bind(node.name.as_str()).bind(node.epoch).fetch_optional(readers).await?;
            let row = row.ok_or_else(|| StoreError::LostNode { node: node.name.clone() })?;
            if row.try_get::<Option<i64>>(0)?.is_none() { Ok(None) } else { read(&row).map(Some) }
        }
        None => {
            let row =
                sql("SELECT size, root, checkpoint, recorded_us, size, size FROM audit_head WHERE id = 1");
            row.fetch_optional(readers).await?.as_ref().map(read).transpose()
        }
    }
}

fn read(row: &Row) -> Result<Head, StoreError> {
    let count = |place: usize, column| unsigned(row.try_get(place)?, "audit_head", column);
    let inconsistent = |_| StoreError::Inconsistent { table: "audit_head", column: "recorded_us" };
    Ok(Head {
        size: count(0, "size")?,
        root: hash(&row.try_get::<Vec<u8>>(1)?, "audit_head", "root")?,
        checkpoint: row.try_get(2)?,
        recorded: Some(jiff::Timestamp::from_microsecond(row.try_get(3)?).map_err(inconsistent)?),
        open_from: count(4, "open_from")?,
        written_to: count(5, "written_to")?,
    })
}
