//! Partitions of the tables that grow for ever: made before they are needed, and detached when all in them is past its time.

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Row as _};

use crate::store::removals::{Detaching, RemovalStep};
use crate::store::{StoreError, signed, unsigned};

/// How long the log waits for those who read the table: as long, whoever wants to read waits behind it.
const READERS_END: &str = "100ms";

/// What the server says when somebody else holds a lock for longer.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// And when there is no such table.
const UNDEFINED_TABLE: &str = "42P01";

/// A partition of the log's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPartition {
    name: String,
    /// Index of the first entry that has its place in it.
    pub first: u64,
    /// The index after the last.
    pub end: u64,
}

/// The tables, the column that says in which partition a row stands, and how many of its values one partition holds. Gibibytes,
/// not tebibytes: the rows of old partitions are rewritten when they are pruned.
const TABLES: [(&str, &str, i64); 3] = [
    ("audit_entries", "idx", 1 << 22),
    ("outcomes", "request_index", 1 << 22),
    ("exchange_events", "seq", 1 << 22),
];

/// Makes the partition that is written to now and the one after it, where they are missing.
///
/// A partition is made as a table of its own and then attached: that does not wait for, nor keep waiting, who writes to the
/// others.
pub(in crate::store) async fn make_ahead(connection: &mut PgConnection) -> Result<(), StoreError> {
    for (table, column, size) in TABLES {
        let newest = format!("SELECT COALESCE(max({column}), 0) FROM {table}");
        let newest = sqlx::query(sqlx::AssertSqlSafe(newest)).fetch_one(&mut *connection).await?;
        let current = newest.try_get::<i64, _>(0)? / size;
        for number in [current, current + 1] {
            make(connection, table, size, number).await?;
        }
    }
    Ok(())
}

async fn make(connection: &mut PgConnection, table: &str, size: i64, number: i64) -> Result<(), StoreError> {
    let name = format!("{table}_{number}");
    if is_there(connection, &name).await? {
        return Ok(());
    }
    let (from, to) = (number * size, (number + 1) * size);
    let mut transaction = connection.begin().await?;
    // Another gateway may be about to make it too.
    sqlx::query("SELECT pg_advisory_xact_lock($1, 0)")
        .bind(super::PARTITIONS)
        .execute(&mut *transaction)
        .await?;
    if !is_there(&mut transaction, &name).await? {
        let text = format!(
            "CREATE TABLE {name} (LIKE {table} INCLUDING ALL); \
             ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn is_there(connection: &mut PgConnection, name: &str) -> Result<bool, StoreError> {
    // (`to_regclass` may answer from before another gateway made it: it takes no lock that would show what is new.)
    let row =
        sqlx::query("SELECT 1 FROM pg_catalog.pg_class WHERE relname = $1 AND pg_table_is_visible(oid)");
    Ok(row.bind(name).fetch_optional(connection).await?.is_some())
}

/// The partitions of the log's entries, in order.
pub(in crate::store) async fn entry_partitions(readers: &PgPool) -> Result<Vec<EntryPartition>, StoreError> {
    let rows = sqlx::query(
        r"SELECT c.relname::text, (regexp_match(b.bounds, 'FROM \(''(\d+)''\)'))[1]::bigint,
          (regexp_match(b.bounds, 'TO \(''(\d+)''\)'))[1]::bigint
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
          CROSS JOIN LATERAL pg_get_expr(c.relpartbound, c.oid) b (bounds)
          WHERE i.inhparent = 'audit_entries'::regclass AND b.bounds ~ '^FOR VALUES FROM \(''\d+''\) TO \(''\d+''\)$'
          ORDER BY 2",
    );
    let partition = |row: &PgRow| {
        let bound = |place| unsigned(row.try_get(place)?, "pg_class", "relpartbound");
        Ok(EntryPartition { name: row.try_get(0)?, first: bound(1)?, end: bound(2)? })
    };
    rows.fetch_all(readers).await?.iter().map(partition).collect()
}

/// Whether nothing else is in the way of detaching a partition, and whether there is something to gain: entries that lose
/// their bytes with it, or rows that have lost theirs before.
pub(in crate::store) async fn is_detachable(
    readers: &PgPool,
    partition: &EntryPartition,
    takes_bytes: bool,
) -> Result<bool, StoreError> {
    let kept = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM outcomes WHERE request_index >= $1 AND request_index < $2)",
    );
    let (first, end) = (signed(partition.first), signed(partition.end));
    if kept.bind(first).bind(end).fetch_one(readers).await?.try_get(0)? {
        return Ok(false);
    }
    let emptied =
        format!("SELECT EXISTS (SELECT 1 FROM {} WHERE length(entry) = 0)", quoted(&partition.name));
    Ok(takes_bytes || sqlx::query(AssertSqlSafe(emptied)).fetch_one(readers).await?.try_get(0)?)
}

/// Takes a partition out of the log's table, in the transaction of the entry `index`; what is kept of it stands in a small one in its
/// place. Returns whether it did: somebody who reads the table may be in the way, and the log does not wait for long.
pub(in crate::store) async fn detach(
    connection: &mut PgConnection,
    detaching: &Detaching,
    index: u64,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let EntryPartition { name, first, end } = &detaching.partition;
    let (partition, anew) = (quoted(name), quoted(&format!("{name}_anew")));
    let detached = format!("{name}_detached_{index}");
    // All at once, or in the order in which others would be met in a deadlock.
    let lock = format!(
        "SAVEPOINT detaching; SET LOCAL lock_timeout = '{READERS_END}'; \
         LOCK TABLE ONLY audit_entries, ONLY {partition} IN ACCESS EXCLUSIVE MODE; \
         SET LOCAL lock_timeout TO DEFAULT; RELEASE detaching"
    );
    match sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *connection).await {
        Ok(_) => {}
        Err(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| code == LOCK_NOT_AVAILABLE || code == UNDEFINED_TABLE) =>
        {
            sqlx::raw_sql("ROLLBACK TO detaching").execute(connection).await?;
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    }
    let take_out = format!(
        "ALTER TABLE audit_entries DETACH PARTITION {partition}; ALTER TABLE {partition} RENAME TO {}",
        quoted(&detached)
    );
    sqlx::raw_sql(AssertSqlSafe(take_out)).execute(&mut *connection).await?;
    if !detaching.kept.is_empty() {
        let make = format!("CREATE TABLE {anew} (LIKE audit_entries INCLUDING ALL)");
        sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut *connection).await?;
        let keep = format!(
            "INSERT INTO {anew} (idx, entry, salt) SELECT idx, entry, salt FROM {} WHERE idx = ANY($1)",
            quoted(&detached)
        );
        let kept: Vec<i64> = detaching.kept.iter().copied().map(signed).collect();
        let copied = sqlx::query(AssertSqlSafe(keep)).bind(kept).execute(&mut *connection).await?;
        if copied.rows_affected() != detaching.kept.len() as u64 {
            // Something is gone that was there when the partition was looked through. The transaction is given up.
            return Ok(false);
        }
        let put_in = format!(
            "ALTER TABLE {anew} RENAME TO {partition}; \
             ALTER TABLE audit_entries ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({end})"
        );
        sqlx::raw_sql(AssertSqlSafe(put_in)).execute(&mut *connection).await?;
    }
    sqlx::query(
        "INSERT INTO detached_partitions (name, first_idx, last_idx, told_idx, detached_us) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(detached)
    .bind(signed(*first))
    .bind(signed(*end) - 1)
    .bind(signed(index))
    .bind(at.as_microsecond())
    .execute(connection)
    .await?;
    Ok(true)
}

/// Notes which entries went with a step, for who asks.
pub(in crate::store) async fn tell(
    connection: &mut PgConnection,
    step: &RemovalStep,
    index: u64,
) -> Result<(), StoreError> {
    let (firsts, lasts): (Vec<i64>, Vec<i64>) =
        step.entries.ranges().iter().map(|(first, last)| (signed(*first), signed(*last))).unzip();
    sqlx::query(
        "INSERT INTO removed_entries (first_idx, last_idx, removed_us, kind, removed_by, told_idx) \
         SELECT first, last, $3, $4, $5, $6 FROM unnest($1::bigint[], $2::bigint[]) gone (first, last) \
         ON CONFLICT DO NOTHING",
    )
    .bind(firsts)
    .bind(lasts)
    .bind(step.at.as_microsecond())
    .bind(step.kind.as_str())
    .bind(step.by.as_str())
    .bind(signed(index))
    .execute(connection)
    .await?;
    Ok(())
}

/// Drops what was detached and is still there. Nobody reads or writes it any more.
pub(in crate::store) async fn drop_detached(
    connection: &mut PgConnection,
    at: Timestamp,
) -> Result<(), StoreError> {
    let left = sqlx::query("SELECT name FROM detached_partitions WHERE dropped_us IS NULL ORDER BY told_idx");
    for row in left.fetch_all(&mut *connection).await? {
        let name: String = row.try_get(0)?;
        let mut transaction = connection.begin().await?;
        let text = format!("DROP TABLE IF EXISTS {}", quoted(&name));
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *transaction).await?;
        sqlx::query("UPDATE detached_partitions SET dropped_us = $1 WHERE name = $2")
            .bind(at.as_microsecond())
            .bind(&name)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// A name from the catalogue, as a statement names it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
