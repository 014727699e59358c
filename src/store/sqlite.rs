//! SQLite: one writer, some readers, one file.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row as _, SqlitePool};

use super::StoreError;
use super::database::Pool;

/// Oldest SQLite that is known not to lose committed WAL pages.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// Of a new file, in bytes. Each page is read and written by a call of its own, and entries of a kilobyte fill smaller ones badly.
const PAGE_SIZE: u32 = 8192;

/// Readers beside the one writer.
const READERS: u32 = 4;

/// Page cache of each reader, in SQLite's terms 512 KiB: an attachment that is read passes through it and is not read
/// again, and the system's own cache stands behind it.
const READER_CACHE: &str = "-512";

/// How long to wait for a lock that another process holds. A call may wait for two batches: the one in progress and
/// its own. The refusal must come within a usual deadline.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The writer and the readers of a file, which is made or upgraded where needed.
pub(super) async fn open(path: &Path) -> Result<(Pool, Pool), StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .page_size(PAGE_SIZE)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(false);
    let open_error = |source| StoreError::Open { path: path.to_owned(), source };
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        // What is deleted is overwritten, and not only unlinked.
        .connect_with(options.clone().pragma("secure_delete", "ON"))
        .await
        .map_err(open_error)?;
    refuse_old_sqlite(&writer).await?;
    migrations().run(&writer).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .test_before_acquire(false)
        .connect_with(options.read_only(true).pragma("cache_size", READER_CACHE))
        .await
        .map_err(open_error)?;
    Ok((Pool::Sqlite(writer), Pool::Sqlite(readers)))
}

/// Connections that read a file at once, where the machine has processors for them.
const SNAPSHOT_READERS: usize = 4;

/// How often connections are begun anew that did not all see one state.
const SNAPSHOT_TRIES: u32 = 10;

/// Connections that read a file as it is now, each in one read transaction, all of them of one state.
pub(super) async fn open_snapshot(path: &Path) -> Result<Pool, StoreError> {
    // A copy without its write-ahead log is complete in itself, and may lie on a medium that cannot be written.
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let is_complete = !Path::new(&log).exists();
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(is_complete);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let together = processors.min(SNAPSHOT_READERS);
    for _ in 0..SNAPSHOT_TRIES {
        let (pool, is_one_state) = begin_together(path, &options, together).await?;
        if is_one_state {
            return Ok(Pool::Sqlite(pool));
        }
        pool.close().await;
    }
    // Somebody writes all the time.
    Ok(Pool::Sqlite(begin_together(path, &options, 1).await?.0))
}

/// Begins a read transaction on each of so many connections, and tells whether all see one state of the log. Whatever changes the
/// log changes its head: a removal, too, is told by an entry in the same transaction.
async fn begin_together(
    path: &Path,
    options: &SqliteConnectOptions,
    connections: usize,
) -> Result<(SqlitePool, bool), StoreError> {
    let pool = SqlitePoolOptions::new()
        .max_connections(u32::try_from(connections).unwrap_or(1))
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options.clone())
        .await
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    let mut begun = Vec::new();
    let mut heads = Vec::new();
    for _ in 0..connections {
        let mut connection = pool.acquire().await?;
        sqlx::query("BEGIN").execute(&mut *connection).await?;
        // A transaction begins with what it reads first. A file without this table is reported by whoever wants it.
        let head = sqlx::query("SELECT checkpoint FROM audit_head").fetch_optional(&mut *connection).await;
        heads.push(head.ok().flatten().map(|row| row.try_get::<String, _>(0)).transpose()?);
        begun.push(connection);
    }
    drop(begun);
    let is_one_state = heads.windows(2).all(|pair| pair[0] == pair[1]);
    Ok((pool, is_one_state))
}

async fn refuse_old_sqlite(pool: &SqlitePool) -> Result<(), StoreError> {
    let found: String = sqlx::query("SELECT sqlite_version()").fetch_one(pool).await?.try_get(0)?;
    let mut parts = found.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < OLDEST_SQLITE { Err(StoreError::OldSqlite { found }) } else { Ok(()) }
}

fn migrations() -> Migrator {
    let step = |version, name: &'static str, text: &'static str| {
        let text = sqlx::SqlSafeStr::into_sql_str(text);
        Migration::new(version, name.into(), MigrationType::Simple, text, false)
    };
    Migrator::with_migrations(vec![
        step(1, "gateway", include_str!("../../migrations/sqlite/0001_gateway.sql")),
        step(2, "clocks", include_str!("../../migrations/sqlite/0002_clocks.sql")),
        step(3, "verifications", include_str!("../../migrations/sqlite/0003_verifications.sql")),
        step(4, "attachments", include_str!("../../migrations/sqlite/0004_attachments.sql")),
        step(5, "events", include_str!("../../migrations/sqlite/0005_events.sql")),
        step(7, "witnesses", include_str!("../../migrations/sqlite/0007_witnesses.sql")),
        step(8, "erasure", include_str!("../../migrations/sqlite/0008_erasure.sql")),
        step(10, "finding_marks", include_str!("../../migrations/sqlite/0010_finding_marks.sql")),
        step(11, "deliveries", include_str!("../../migrations/sqlite/0011_deliveries.sql")),
        step(12, "lease_nodes", include_str!("../../migrations/sqlite/0012_lease_nodes.sql")),
        step(14, "tiles", include_str!("../../migrations/sqlite/0014_tiles.sql")),
        step(15, "removals_told", include_str!("../../migrations/sqlite/0015_removals_told.sql")),
        step(16, "agreements", include_str!("../../migrations/sqlite/0016_agreements.sql")),
        step(18, "body_keys", include_str!("../../migrations/sqlite/0018_body_keys.sql")),
        step(19, "senders", include_str!("../../migrations/sqlite/0019_senders.sql")),
    ])
}
