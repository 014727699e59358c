//! Partitions of the tables that grow for ever, made before they are needed.

use sqlx::{Connection as _, PgConnection, Row as _};

use crate::store::StoreError;

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
