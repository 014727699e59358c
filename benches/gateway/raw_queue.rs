//! A queue on PostgreSQL and nothing else: what a team writes first that needs one, and what the courier is measured against.
//!
//! A table with an index of what waits; workers that each, in one transaction, `SELECT … FOR UPDATE SKIP LOCKED` the oldest rows
//! with their messages, mark them as done and commit. A message is in the worker's hand and is given to nobody: no TLS, no
//! recipient, no receipt, no audit log, no encryption.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

/// Drains a raw queue for a while, or until it is empty.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RawQueue {
    /// The database.
    #[arg(long)]
    database: String,
    /// Workers, each with a connection of its own.
    #[arg(long)]
    workers: usize,
    /// Rows a transaction.
    #[arg(long)]
    batch: i64,
    /// For so long.
    #[arg(long)]
    seconds: f64,
}

/// What was drained.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Drained {
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
}

impl Drained {
    pub(crate) fn per_second(self) -> f64 {
        self.messages as f64 / self.seconds
    }
}

/// Makes the queue, with so many messages of this size in it.
pub(crate) async fn fill(database: &str, messages: usize, bytes: usize) -> Result<()> {
    let mut connection = PgConnection::connect(database).await?;
    sqlx::raw_sql(
        "DROP TABLE IF EXISTS queue; \
         CREATE TABLE queue (id BIGINT PRIMARY KEY, recipient TEXT NOT NULL, state TEXT NOT NULL, \
         due_us BIGINT NOT NULL, settled_us BIGINT, message BYTEA NOT NULL); \
         CREATE INDEX queue_waiting ON queue (due_us, id) WHERE state = 'PENDING'",
    )
    .execute(&mut connection)
    .await?;
    sqlx::query(
        "INSERT INTO queue (id, recipient, state, due_us, message) \
         SELECT n, '1133100200264500AK', 'PENDING', n, substr(decode(repeat(md5(n::text), $2), 'hex'), 1, $3) \
         FROM generate_series(1, $1) n",
    )
    .bind(i64::try_from(messages)?)
    .bind(i32::try_from(bytes.div_ceil(16))?)
    .bind(i32::try_from(bytes)?)
    .execute(&mut connection)
    .await?;
    sqlx::raw_sql("VACUUM ANALYZE queue").execute(&mut connection).await?;
    sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// The workers.
pub(crate) async fn run(role: &RawQueue) -> Result<Drained> {
    let mut connections = Vec::with_capacity(role.workers);
    for _ in 0..role.workers {
        connections.push(PgConnection::connect(&role.database).await?);
    }
    let drained = Arc::new(AtomicU64::new(0));
    let (begun, time) = (Instant::now(), Duration::from_secs_f64(role.seconds));
    let mut workers = JoinSet::new();
    for connection in connections {
        workers.spawn(work(connection, role.batch, begun + time, Arc::clone(&drained)));
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(Drained { messages: drained.load(Ordering::Relaxed), seconds: begun.elapsed().as_secs_f64() })
}

async fn work(
    mut connection: PgConnection,
    batch: i64,
    until: Instant,
    drained: Arc<AtomicU64>,
) -> Result<()> {
    while Instant::now() < until {
        let mut transaction = connection.begin().await?;
        let taken: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "SELECT id, message FROM queue WHERE state = 'PENDING' AND due_us <= $2 ORDER BY due_us, id LIMIT $1 \
             FOR UPDATE SKIP LOCKED",
        )
        .bind(batch)
        .bind(i64::MAX)
        .fetch_all(&mut *transaction)
        .await?;
        if taken.is_empty() {
            break;
        }
        ensure!(taken.iter().all(|(_, message)| !message.is_empty()), "a message is missing");
        let ids: Vec<i64> = taken.iter().map(|(id, _)| *id).collect();
        let done = sqlx::query("UPDATE queue SET state = 'DELIVERED', settled_us = $2 WHERE id = ANY($1)");
        let done = done.bind(&ids).bind(crate::inbox::micros()).execute(&mut *transaction).await?;
        transaction.commit().await?;
        drained.fetch_add(done.rows_affected(), Ordering::Relaxed);
    }
    connection.close().await?;
    Ok(())
}
