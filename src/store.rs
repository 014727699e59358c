//! Where exchanges, deliveries, outcomes and the audit log are kept.
//!
//! All that is written goes through the audit log's batches (see [`Effect`]); this room adds the reading side.
//! Today the database is SQLite; nothing outside this room knows that.

mod attachments;
mod clocks;
mod cosignatures;
mod deliveries;
mod effect;
mod events;
mod exchanges;
mod finding_marks;
mod lock;
mod log;
mod outbox;
mod outcomes;
mod rebuild;
mod removals;
mod rows;
mod scan;
mod seal;
mod search;
mod verifications;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, Sqlite, SqlitePool};
use thiserror::Error;

pub use self::attachments::{AttachmentRecord, Begun, CHUNK_BYTES, NewAttachment, Room};
pub use self::clocks::{ClockRecord, DueClock, OverdueCount};
pub use self::cosignatures::CosignatureRecord;
pub use self::deliveries::DeliveryRecord;
pub use self::effect::{
    DeemedWithdrawal, DeliveryOutcome, Effect, NewDelivery, NewExchange, NewMessage, Rejection,
};
pub use self::events::EventRecord;
pub use self::exchanges::{ExchangeFilter, ExchangeRecord, MessageRecord};
pub use self::finding_marks::{Mark, MarkRecord, NewMark};
pub use self::lock::DatabaseLock;
pub use self::outbox::{OutboxChange, OutboxFigures, OutboxFilter, OutboxRecord};
pub use self::outcomes::Claim;
pub use self::removals::{
    NewRemoval, RemovableEntry, RemovalEnd, RemovalRecord, RemovalState, RemovalStep, Standing,
};
pub use self::scan::Extent;
pub use self::seal::{Sealer, UnsealError};
pub use self::search::{Page, PageOf, SearchError, SearchIndex};
pub use self::verifications::{NewVerification, VerificationRecord, VerificationStep};

use self::events::Followers;
use crate::audit::log::Log;
use crate::domain::clocks::Clocks;
use crate::telemetry::LogWrites;

/// Oldest SQLite that is known not to lose committed WAL pages.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// Readers beside the one writer.
const READERS: u32 = 4;

/// Page cache of each reader, in SQLite's terms 512 KiB: an attachment that is read passes through it and is not read
/// again, and the system's own cache stands behind it.
const READER_CACHE: &str = "-512";

/// How long to wait for a lock that another process holds. A call may wait for two batches: the one in progress and
/// its own. The refusal must come within a usual deadline.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The audit log, with what becomes durable beside its entries.
pub type AuditLog = Log<Effect, Rejection>;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    sealer: Sealer,
    followers: Arc<Followers>,
    clocks: Arc<Clocks>,
    writes: Arc<LogWrites>,
}

/// Why the store did not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database did not answer or refused.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("database schema: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The SQLite library is too old.
    #[error("sqlite {found} can lose committed pages; 3.51.3 or newer is needed")]
    OldSqlite {
        /// The version found.
        found: String,
    },
    /// A sealed body cannot be opened.
    #[error("{0}")]
    Unseal(#[from] UnsealError),
    /// A stored value is not what this version writes.
    #[error("inconsistent row in {table}, column {column}")]
    Inconsistent {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
    },
    /// Another gateway works on the database.
    #[error("another gateway works on {path}: stop it first, two would sign one log")]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The lock beside the database cannot be taken.
    #[error("cannot lock {path}: {source}; the gateway must be able to write in the database's folder")]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database's folder or file cannot be used.
    #[error(
        "cannot open the database {path}: {source}; is it there, may it be written, and has the disk room?"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
}

impl Store {
    /// Opens the database, creating or upgrading it where needed.
    ///
    /// # Errors
    /// When the file cannot be opened or written, or the SQLite library is too old.
    pub async fn open(path: &Path, sealer: Sealer) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
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
        let followers = Arc::new(Followers::load(&readers).await?);
        Ok(Self { writer, readers, sealer, followers, clocks: Arc::default(), writes: Arc::default() })
    }

    /// The same, with the clocks that exchanges start from now on; without, none runs.
    #[must_use]
    pub fn with_clocks(self, clocks: Arc<Clocks>) -> Self {
        Self { clocks, ..self }
    }

    /// Opens an existing database to read its audit log, such as a copy that an auditor was given. Bodies stay
    /// sealed.
    ///
    /// # Errors
    /// When the file is not there or is not such a database.
    pub async fn open_audit_log(path: &Path) -> Result<Self, StoreError> {
        // A copy without its write-ahead log is complete in itself, and may lie on a medium that cannot be written.
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let is_complete = !Path::new(&log).exists();
        let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(is_complete);
        let readers = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        // One connection, one read transaction: what a gateway writes meanwhile is not seen half.
        sqlx::query("BEGIN").execute(&readers).await?;
        let sealer = Sealer::new(&crate::entropy::bytes());
        Ok(Self {
            writer: readers.clone(),
            readers,
            sealer,
            followers: Arc::default(),
            clocks: Arc::default(),
            writes: Arc::default(),
        })
    }

    /// Whether the database can be written now.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        transaction.rollback().await?;
        Ok(())
    }

    /// Writes and makes durable what changes nothing, and so finds out whether the log can be written again.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn try_write(&self) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        let written = sqlx::query("UPDATE audit_head SET size = size").execute(&mut *connection).await;
        let written = written.map(|_| ()).map_err(StoreError::from);
        Self::discard_after_error(&mut connection, &written);
        self.writes.set_failing(written.is_err());
        written
    }

    /// How the audit log was written so far.
    pub fn log_writes(&self) -> &LogWrites {
        &self.writes
    }

    /// Gives up the writer's connection after an error; the next write opens a new one. On a write error SQLite
    /// rolls back by itself, which sqlx does not notice: it would refuse every further transaction on that
    /// connection, and the gateway would not come back once there is room on the disk.
    fn discard_after_error<T>(connection: &mut PoolConnection<Sqlite>, outcome: &Result<T, StoreError>) {
        if outcome.is_err() {
            connection.close_on_drop();
        }
    }

    /// Closes the connections after the work in progress.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
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
        step(1, "gateway", include_str!("../migrations/sqlite/0001_gateway.sql")),
        step(2, "clocks", include_str!("../migrations/sqlite/0002_clocks.sql")),
        step(3, "verifications", include_str!("../migrations/sqlite/0003_verifications.sql")),
        step(4, "attachments", include_str!("../migrations/sqlite/0004_attachments.sql")),
        step(5, "events", include_str!("../migrations/sqlite/0005_events.sql")),
        step(7, "witnesses", include_str!("../migrations/sqlite/0007_witnesses.sql")),
        step(8, "erasure", include_str!("../migrations/sqlite/0008_erasure.sql")),
        step(10, "finding_marks", include_str!("../migrations/sqlite/0010_finding_marks.sql")),
        step(11, "deliveries", include_str!("../migrations/sqlite/0011_deliveries.sql")),
        step(14, "tiles", include_str!("../migrations/sqlite/0014_tiles.sql")),
        step(15, "removals_told", include_str!("../migrations/sqlite/0015_removals_told.sql")),
    ])
}

/// A count or microseconds from a column that is never negative.
fn unsigned(value: i64, table: &'static str, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Inconsistent { table, column })
}

/// SQLite's integers are signed; nothing here comes near the limit.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
