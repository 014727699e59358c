//! How fast the log appends: beside a raw insert of the same bytes, and at a large size beside a small one.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use legal_aid_gateway::clock::Clock;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

use crate::generator::{Kept, append};
use crate::report::{Line, median};
use crate::world::{Call, World};

/// Calls in a round; most have two entries.
const CALLS: u64 = 24_000;

/// Calls in progress: enough for full batches while the last one is written.
const IN_FLIGHT: usize = 1_024;

/// Entries in a batch of the log that is full.
const BATCH: usize = 512;

const ROUNDS: u64 = 5;

/// Measures in alternation, so that a slow minute of the machine meets all.
pub(crate) async fn measure(small: &Kept, large: &Kept, folder: &Path) -> Result<Vec<Line>> {
    let (mut at_small, mut at_large, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (rate, rows) = append_to(small, round).await?;
        at_small.push(rate);
        raw.push(insert_raw(&folder.join(format!("raw-{round}.db")), &rows).await?);
        at_large.push(append_to(large, round).await?.0);
    }
    let ratios = |over: &[f64], under: &[f64]| median(over.iter().zip(under).map(|(a, b)| a / b).collect());
    let rate = |rates: &[f64]| format!("{:.0} entries/s", median(rates.to_vec()));
    Ok(vec![
        Line::figure("raw insert of the same bytes", rate(&raw)),
        Line::figure(&format!("append at {}", small.entries), rate(&at_small)),
        Line::figure(&format!("append at {}", large.entries), rate(&at_large)),
        Line::ratio("append_over_raw_insert", ratios(&at_small, &raw), "at least 0.75"),
        Line::ratio("append_at_large_over_small", ratios(&at_large, &at_small), "at least 0.9"),
    ])
}

type Row = (i64, Vec<u8>, Vec<u8>);

/// Appends calls, and takes them out again. Gives entries a second, and the rows.
async fn append_to(kept: &Kept, seed: u64) -> Result<(f64, Vec<Row>)> {
    let mut world = World::new(CALLS, seed)?;
    let calls: Vec<Call> = (0..CALLS).map(|number| world.call(number as f64 / CALLS as f64)).collect();
    let salts: Vec<_> = (0..2 * CALLS).map(|_| world.salt()).collect();
    let (store, opened) = kept.open(Clock::system()).await?;
    let work =
        Arc::new(Mutex::new(calls.into_iter().zip(salts.chunks(2).map(<[_]>::to_vec).collect::<Vec<_>>())));
    let started = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (log, work) = (opened.log.clone(), Arc::clone(&work));
        callers.spawn(async move {
            loop {
                let next = work.lock().ok().and_then(|mut work| work.next());
                let Some((Call { opening, end }, mut salts)) = next else { return Ok(()) };
                let index = append(&log, opening, salts.pop().context("a salt")?).await?;
                if let Some(mut end) = end {
                    end.request_index = Some(index);
                    append(&log, end, salts.pop().context("a salt")?).await?;
                }
            }
        });
    }
    while let Some(outcome) = callers.join_next().await {
        let outcome: Result<()> = outcome?;
        outcome?;
    }
    let elapsed = started.elapsed();
    drop(opened.log);
    opened.writer.await?;
    store.close().await;
    let rows = read_rows(kept).await?;
    kept.cut_back().await?;
    Ok((rate(rows.len(), elapsed), rows))
}

async fn read_rows(kept: &Kept) -> Result<Vec<Row>> {
    let mut database = connect(&kept.database()).await?;
    let rows = sqlx::query("SELECT idx, entry, salt FROM audit_entries WHERE idx >= $1 ORDER BY idx")
        .bind(i64::try_from(kept.entries)?)
        .fetch_all(&mut database)
        .await?;
    database.close().await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// The same rows into the same kind of table, batch by batch, each a transaction in one statement text.
async fn insert_raw(path: &Path, rows: &[Row]) -> Result<f64> {
    let mut database = connect(path).await?;
    database
        .execute(
            "CREATE TABLE audit_entries (idx INTEGER PRIMARY KEY, entry BLOB NOT NULL, salt BLOB) STRICT",
        )
        .await?;
    let started = Instant::now();
    for batch in rows.chunks(BATCH) {
        let places: Vec<String> = (0..batch.len())
            .map(|row| format!("(${}, ${}, ${})", 3 * row + 1, 3 * row + 2, 3 * row + 3))
            .collect();
        let text = format!("BEGIN IMMEDIATE; INSERT INTO audit_entries VALUES {}; COMMIT", places.join(","));
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (index, entry, salt) in batch {
            query = query.bind(index).bind(entry.as_slice()).bind(salt.as_slice());
        }
        query.execute(&mut database).await?;
    }
    let elapsed = started.elapsed();
    database.close().await?;
    std::fs::remove_file(path)?;
    Ok(rate(rows.len(), elapsed))
}

pub(crate) async fn connect(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    Ok(SqliteConnection::connect_with(&options).await?)
}

fn rate(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}
