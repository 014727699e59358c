//! PostgreSQL: several gateways on one database.

mod connecting;
mod partitions;
mod turn;

use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::timeout;

use self::connecting::{options, unreachable};
pub use self::partitions::EntryPartition;
pub(super) use self::partitions::{detach, drop_detached, entry_partitions, is_detachable, make_ahead, tell};
pub(super) use self::turn::{Turn, head};
use super::StoreError;
use super::database::Pool;
use crate::config::Postgres;

/// Oldest server that is known to do.
const OLDEST_SERVER: i32 = 150_000;

/// Connections for batches of the log, uploads and housekeeping.
const WRITERS: u32 = 8;

/// Connections for reading.
const READERS: u32 = 8;

/// How long to wait for a connection, or for the server to take one: the refusal must come within a usual deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection may rest until it is tried before it is used.
const UNTRIED: Duration = Duration::from_secs(1);

/// Longest statement that writes. Longer is a fault, and whoever waits for the log waits for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest statement that reads.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// For locks that gateways take on the database, beside the one on the turn to write the log: this one on making partitions.
const PARTITIONS: i32 = 0x6c61_0003;

/// This one, with a number made of its name, on what one gateway at a time does.
pub(super) const DUTY: i32 = 0x6c61_0004;

/// And this one, with a number made of its name, on a node's place.
pub(super) const NODE: i32 = 0x6c61_0002;

/// Writers and readers of a database, which is made or upgraded where needed.
pub(super) async fn open(server: &Postgres) -> Result<(Pool, Pool), StoreError> {
    let durability = check_server(server).await?;
    let of_writers = options(server)?.options([
        // As it was when it was checked, whatever somebody sets meanwhile.
        ("synchronous_commit", durability),
        ("statement_timeout", millis(WRITE_TIMEOUT)),
        // Whoever stalls with the log in hand loses it, and those behind must still be there then.
        ("idle_in_transaction_session_timeout", millis(server.stall())),
        ("lock_timeout", millis(server.stall() + Duration::from_secs(1))),
    ]);
    migrate(server, &migrations()).await?;
    let writer = pool(WRITERS).after_connect(|connection, _| {
        Box::pin(async move { sqlx::raw_sql(turn::PREPARE).execute(connection).await.map(|_| ()) })
    });
    let writer = writer.connect_with(of_writers).await.map_err(|source| unreachable(server, source))?;
    make_ahead(&mut *writer.acquire().await?).await?;
    let readers = pool(READERS).connect_with(of_readers(server)?);
    let readers = readers.await.map_err(|source| unreachable(server, source))?;
    Ok((Pool::Postgres(writer), Pool::Postgres(readers)))
}

/// Makes or upgrades the tables, as long as that takes where there is much in them: no timeout of the server cuts it short.
async fn migrate(server: &Postgres, migrations: &Migrator) -> Result<(), StoreError> {
    let mut connection = connect(server).await?;
    sqlx::raw_sql(
        "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0",
    )
    .execute(&mut connection)
    .await?;
    migrations.run(&mut connection).await?;
    // In a pool what fails here would show as a connection that does not come.
    sqlx::raw_sql(turn::PREPARE).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// Connections that read a standby, opened when they are wanted.
pub(super) fn readers_of_standby(server: &Postgres) -> Result<Pool, StoreError> {
    Ok(Pool::Postgres(pool(READERS).connect_lazy_with(of_readers(server)?)))
}

/// One connection that reads a database as it is now.
pub(super) async fn open_snapshot(server: &Postgres) -> Result<Pool, StoreError> {
    let readers = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_TIMEOUT)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options(server)?)
        .await
        .map_err(|source| unreachable(server, source))?;
    // One connection, one read transaction. No partition is detached while it lasts: the rows would be gone from it, and what says so
    // would not be in it.
    sqlx::raw_sql(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE ONLY audit_entries IN ACCESS SHARE MODE",
    )
    .execute(&readers)
    .await?;
    Ok(Pool::Postgres(readers))
}

/// A connection outside of any pool.
pub(super) async fn connect(server: &Postgres) -> Result<PgConnection, StoreError> {
    let options = options(server)?;
    let connected = timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&options)).await;
    connected.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut)).map_err(|source| unreachable(server, source))
}

/// A connection outside of any pool that stays open, and that the server gives up soon after this host is gone.
pub(super) async fn connect_to_stay(server: &Postgres) -> Result<PgConnection, StoreError> {
    let mut connection = connect(server).await?;
    sqlx::raw_sql(
        "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3",
    )
    .execute(&mut connection)
    .await?;
    Ok(connection)
}

/// Clears away what was deleted and overwritten in tables that hold what an erasure erases. Others go on meanwhile.
pub(super) async fn vacuum(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::raw_sql("SET statement_timeout = 0").execute(&mut *connection).await?;
    for table in [
        "audit_entries",
        "claims",
        "outcomes",
        "messages",
        "verifications",
        "attachments",
        "attachment_chunks",
    ] {
        let text = format!("VACUUM {table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Whether the database takes writes now: a standby does not.
pub(super) async fn check_writable(connection: &mut PgConnection) -> Result<(), StoreError> {
    let row =
        sqlx::query("SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'");
    if row.fetch_one(connection).await?.try_get(0)? { Err(StoreError::ReadOnlyServer) } else { Ok(()) }
}

fn pool(most: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(CONNECT_TIMEOUT)
        // A connection that broke in use shows by an error, is closed, and is opened anew for the next. One that has rested is
        // tried first: after a restart of the server each of them would be one more refusal, long after it.
        .test_before_acquire(false)
        .before_acquire(|connection, rested| {
            Box::pin(async move {
                Ok(rested.idle_for < UNTRIED
                    || matches!(timeout(CONNECT_TIMEOUT / 2, connection.ping()).await, Ok(Ok(()))))
            })
        })
        .idle_timeout(None)
        .max_lifetime(None)
}

fn of_readers(server: &Postgres) -> Result<PgConnectOptions, StoreError> {
    Ok(options(server)?.options([
        ("default_transaction_read_only", "on".to_owned()),
        ("statement_timeout", millis(READ_TIMEOUT)),
        ("idle_in_transaction_session_timeout", millis(READ_TIMEOUT)),
    ]))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// Refuses a server that is too old or does not keep what it says it has kept. Returns how it commits.
async fn check_server(server: &Postgres) -> Result<String, StoreError> {
    let mut connection = connect(server).await?;
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
         current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'), \
         current_setting('server_encoding')",
    )
    .fetch_one(&mut connection)
    .await?;
    let setting = |place: usize| row.try_get::<String, _>(place);
    if row.try_get::<i32, _>(0)? < OLDEST_SERVER {
        return Err(StoreError::OldServer { found: setting(1)? });
    }
    let durability = setting(2)?;
    for (setting, value, is_safe) in [
        // `local` does not wait for the standby that takes over.
        ("synchronous_commit", &durability, !matches!(durability.as_str(), "off" | "local")),
        ("fsync", &setting(3)?, setting(3)? == "on"),
        ("full_page_writes", &setting(4)?, setting(4)? == "on"),
        ("server_encoding", &setting(5)?, setting(5)? == "UTF8"),
    ] {
        if !is_safe {
            return Err(StoreError::UnsafeServer { setting, value: value.clone() });
        }
    }
    connection.close().await?;
    Ok(durability)
}

fn migrations() -> Migrator {
    let step = |version, name: &'static str, text: &'static str| {
        let text = sqlx::SqlSafeStr::into_sql_str(text);
        Migration::new(version, name.into(), MigrationType::Simple, text, false)
    };
    Migrator::with_migrations(vec![
        step(15, "gateway", include_str!("../../migrations/postgres/0015_gateway.sql")),
        step(16, "agreements", include_str!("../../migrations/postgres/0016_agreements.sql")),
        step(17, "detached", include_str!("../../migrations/postgres/0017_detached.sql")),
        step(18, "body_keys", include_str!("../../migrations/postgres/0018_body_keys.sql")),
        step(19, "senders", include_str!("../../migrations/postgres/0019_senders.sql")),
        step(20, "many_senders", include_str!("../../migrations/postgres/0020_many_senders.sql")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Database;
    use crate::store::databases_in_tests::Place;

    /// Of the server's own time for a statement, where somebody has set one: an upgrade takes as long as it takes.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_with_rows_in_it_is_upgraded_however_long_that_takes() {
        let Some(place) = Place::postgres() else { return };
        let Database::Postgres(server) = place.database() else { unreachable!() };
        let before = migrations().migrations.iter().filter(|step| step.version < 19).cloned().collect();
        migrate(server, &Migrator::with_migrations(before)).await.unwrap();
        let mut connection = connect(server).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO exchanges (exchange_id, kind, state, sender, recipient, matter_id, region, messages, created_us, updated_us) \
             VALUES ('\\x01', 'FEE_WAIVER', 'RECEIVED', 'a centre', 'a court', 'M-1', '331004', 2, 1, 1); \
             INSERT INTO deliveries (delivery_id, exchange_id, sequence, recipient, state, attempts, due_us, created_us) VALUES \
             ('\\x11', '\\x01', 1, 'a court', 'DELIVERED', 1, 1, 1), ('\\x12', '\\x01', 2, 'a centre', 'PENDING', 0, 1, 1), \
             ('\\x13', '\\x02', 1, 'a centre', 'PENDING', 0, 1, 1); \
             CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END'; \
             CREATE TRIGGER waits BEFORE UPDATE ON deliveries FOR EACH ROW EXECUTE FUNCTION wait(); \
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 500', current_database()); END $$",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        let store = place.try_open().await.unwrap();
        let found = sqlx::query("SELECT string_agg(sender, ',' ORDER BY delivery_id) FROM deliveries");
        let found: String = found.fetch_one(&mut connection).await.unwrap().try_get(0).unwrap();
        assert_eq!(found, "a centre,a court,", "the last answers a verification of before");
        store.close().await;
    }
}
