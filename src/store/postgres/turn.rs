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
use crate::domain::clocks::Clocks;
use crate::store::database::{Connection, On, Pool, Row, sql};
use crate::store::effect::{self, Effect, Rejection};
use crate::store::log::{failed_at, hash, taken_claims};
use crate::store::node::Node;
use crate::store::rows::postgres as rows;
use crate::store::{StoreError, unsigned};

/// Longest that a turn waits for an answer of the server. Its own timeouts end what it can end; this one is for a server that
/// is gone without a word.
const SILENCE: Duration = Duration::from_secs(20);

/// With a savepoint for [`effect::apply`]. The server plans a statement once, when its tables may be small still: it is not to think
/// of going through all of one.
const BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock(1818296321, 0); SAVEPOINT untouched; \
    SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

/// The turn: an open transaction that holds the lock. Dropped, it is rolled back by the end of its connection.
pub(in crate::store) struct Turn(Option<PoolConnection<Postgres>>);

impl Turn {
    /// Waits for the turn of `node`. Returns it with the head as it is now.
    pub(in crate::store) async fn take(
        pool: &PgPool,
        node: &Node,
    ) -> Result<(Self, Option<Head>), StoreError> {
        answered(async {
            let mut turn = Self(Some(pool.acquire().await?));
            let connection = turn.connection()?;
            sqlx::raw_sql(BEGIN).execute(&mut *connection).await?;
            let head = head_on(&mut Connection::Postgres(connection), node).await?;
            Ok((turn, head))
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

async fn answered<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(SILENCE, asked).await.unwrap_or_else(|_| Err(silent().into()))
}

/// The newest head, as one node sees it, or as an onlooker does.
pub(in crate::store) async fn head(readers: &Pool, node: Option<&Node>) -> Result<Option<Head>, StoreError> {
    match node {
        Some(node) => head_on(readers, node).await,
        None => {
            let row =
                sql("SELECT size, root, checkpoint, recorded_us, size, size FROM audit_head WHERE id = 1");
            row.fetch_optional(readers).await?.as_ref().map(read).transpose()
        }
    }
}

async fn head_on<'c>(on: impl Into<On<'c>>, node: &Node) -> Result<Option<Head>, StoreError> {
    let row = sql("SELECT h.size, h.root, h.checkpoint, h.recorded_us, n.open_from, n.written_to \
         FROM audit_nodes n LEFT JOIN audit_head h ON h.id = 1 WHERE n.node = $1 AND n.epoch = $2");
    let row = row.bind(node.name.as_str()).bind(node.epoch).fetch_optional(on).await?;
    let row = row.ok_or_else(|| StoreError::LostNode { node: node.name.clone() })?;
    if row.try_get::<Option<i64>>(0)?.is_none() { Ok(None) } else { read(&row).map(Some) }
}

fn read(row: &Row) -> Result<Head, StoreError> {
    let count = |place: usize, column| unsigned(row.try_get(place)?, "audit_head", column);
    let inconsistent = |_| StoreError::Inconsistent { table: "audit_head", column: "recorded_us" };
    Ok(Head {
        size: count(0, "size")?,
        root: hash(row.try_get(1)?, "audit_head", "root")?,
        checkpoint: row.try_get(2)?,
        recorded: Some(jiff::Timestamp::from_microsecond(row.try_get(3)?).map_err(inconsistent)?),
        open_from: count(4, "open_from")?,
        written_to: count(5, "written_to")?,
    })
}
