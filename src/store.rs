//! Where exchanges, deliveries, outcomes and the audit log are kept.
//!
//! All that is written goes through the audit log's batches (see [`Effect`]); this room adds the reading side.
//! The database is SQLite or PostgreSQL; nothing outside this room knows more of that than where it is.

mod agreements;
mod attachments;
mod clocks;
mod cosignatures;
mod database;
#[cfg(test)]
mod databases_in_tests;
mod deliveries;
mod detached;
mod effect;
mod events;
mod exchanges;
mod finding_marks;
mod keys;
mod lock;
mod log;
mod node;
mod outbox;
mod outcomes;
mod postgres;
mod quotas;
mod rebuild;
mod recent;
mod removals;
mod reseal;
mod rows;
mod scan;
mod seal;
mod search;
mod sqlite;
mod standby;
mod verifications;

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

pub use self::agreements::{
    ActedBy, AgreementAct, AgreementActRecord, AgreementChange, AgreementRecord, AgreementState,
    NewAgreementState,
};
pub use self::attachments::{AttachmentRecord, Begun, CHUNK_BYTES, NewAttachment, Room};
pub use self::clocks::{ClockRecord, DueClock, OverdueCount};
pub use self::cosignatures::CosignatureRecord;
pub use self::deliveries::{DeliveryRecord, Due, Parcel};
pub use self::effect::{
    DeemedWithdrawal, DeliveryOutcome, Effect, NewDelivery, NewExchange, NewMessage, Rejection,
};
pub use self::events::EventRecord;
pub use self::exchanges::{ExchangeFilter, ExchangeRecord, MessageRecord};
pub use self::finding_marks::{Mark, MarkRecord, NewMark};
pub use self::keys::{KeyAdoption, KeyUse};
pub use self::lock::DatabaseLock;
pub use self::node::{Duty, NodeLock, Orphanage, Share};
pub use self::outbox::{OutboxChange, OutboxFigures, OutboxFilter, OutboxRecord};
pub use self::outcomes::Claim;
pub use self::postgres::EntryPartition;
pub use self::quotas::{QuotaPeriod, QuotaUse, QuotaWindow};
pub use self::removals::{
    Detaching, NewRemoval, RemovableEntry, RemovalEnd, RemovalRecord, RemovalState, RemovalStep, Standing,
};
pub use self::reseal::Resealed;
pub use self::scan::Extent;
pub use self::seal::{Sealer, UnsealError};
pub use self::search::{Page, PageOf, SearchError, SearchIndex};
pub use self::standby::Standby;
pub use self::verifications::{NewVerification, VerificationRecord, VerificationStep};

use self::database::{Acquired, Pool, Statement, sql};
use self::events::Followers;
use self::node::Node;
use self::recent::Recent;
use crate::audit::log::Log;
use crate::config::Database;
use crate::domain::clocks::Clocks;
use crate::telemetry::LogWrites;

/// The audit log, with what becomes durable beside its entries.
pub type AuditLog = Log<Effect, Rejection>;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    writer: Pool,
    readers: Pool,
    sealer: Sealer,
    followers: Arc<Followers>,
    clocks: Arc<Clocks>,
    writes: Arc<LogWrites>,
    recent: Arc<Recent>,
    /// In whose name the log is written, where several write it.
    node: Option<Arc<Node>>,
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
    /// The PostgreSQL server is too old.
    #[error("the PostgreSQL server is version {found}; 15 or newer is needed")]
    OldServer {
        /// The version found.
        found: String,
    },
    /// The PostgreSQL server may lose what it says it has kept.
    #[error(
        "the PostgreSQL server has {setting} = {value}: what it confirms could be lost, or cannot be stored; set it to \
         {} for this database and start again",
        safe_value(setting)
    )]
    UnsafeServer {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        value: String,
    },
    /// The PostgreSQL server does not take a connection.
    #[error(
        "cannot connect to {server}: {source}; is the server up, and are user, password and database right?"
    )]
    Connect {
        /// The server, without what is secret.
        server: String,
        /// Why.
        source: sqlx::Error,
    },
    /// TLS to the PostgreSQL server failed.
    #[error("cannot connect to {server} over TLS: {source}; {remedy}")]
    ConnectTls {
        /// The server, without what is secret.
        server: String,
        /// Why.
        source: sqlx::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// Nothing would prove who the PostgreSQL server is, on a way that leaves this machine.
    #[error(
        "{server} is on another machine, and sslmode={mode} does not prove who answers there: add \
         ?sslmode=verify-full&sslrootcert=FILE to the URL; where the network between is protected by other means (a tunnel of \
         its own), say store.trusted_network = true, or --trusted-network on a command that takes the URL"
    )]
    Unproven {
        /// The server, without what is secret.
        server: String,
        /// The mode that the URL asks for, or that it is by default.
        mode: &'static str,
    },
    /// A file that a URL names for TLS cannot be used.
    #[error("{parameter} of {server} names {path}: {source}")]
    ServerFile {
        /// The server, without what is secret.
        server: String,
        /// The URL's parameter.
        parameter: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The PostgreSQL server was away when it was last looked for.
    #[error("the PostgreSQL server is away")]
    Away,
    /// The PostgreSQL server is a standby.
    #[error("the PostgreSQL server takes no writes: it is a standby, or read-only by its settings")]
    ReadOnlyServer,
    /// Another gateway has the node's name.
    #[error(
        "another gateway works as node {node} on {server}: stop it, or give this one its own gateway.node"
    )]
    NodeInUse {
        /// The node.
        node: String,
        /// The server, without what is secret.
        server: String,
    },
    /// Another gateway has taken the node's place.
    #[error(
        "the place of node {node} was taken by another gateway; this one writes no more: give each its own gateway.node"
    )]
    LostNode {
        /// The node.
        node: String,
    },
    /// The log on PostgreSQL is written by nodes, and the store was opened by none.
    #[error("the log is written by a gateway only")]
    NoNode,
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
    /// When it cannot be opened or written, or SQLite or the PostgreSQL server is too old.
    pub async fn open(database: impl Into<Database>, sealer: Sealer) -> Result<Self, StoreError> {
        let (writer, readers) = match database.into() {
            Database::File(path) => sqlite::open(&path).await?,
            Database::Postgres(url) => postgres::open(&url).await?,
        };
        let followers = Arc::new(Followers::load(&readers).await?);
        Ok(Self {
            writer,
            readers,
            sealer,
            followers,
            clocks: Arc::default(),
            writes: Arc::default(),
            recent: Arc::default(),
            node: None,
        })
    }

    /// The same, with the clocks that exchanges start from now on; without, none runs.
    #[must_use]
    pub fn with_clocks(self, clocks: Arc<Clocks>) -> Self {
        Self { clocks, ..self }
    }

    /// Opens an existing database to read its audit log, such as a copy that an auditor was given. Bodies stay
    /// sealed, and nothing can be written. What a gateway writes meanwhile is not seen half.
    ///
    /// # Errors
    /// When it is not there or is not such a database.
    pub async fn open_audit_log(database: impl Into<Database>) -> Result<Self, StoreError> {
        let readers = match database.into() {
            Database::File(path) => sqlite::open_snapshot(&path).await?,
            Database::Postgres(url) => postgres::open_snapshot(&url).await?,
        };
        Ok(Self::reading(readers))
    }

    /// A store that reads the audit log, and can neither write nor unseal.
    fn reading(readers: Pool) -> Self {
        Self {
            writer: readers.clone(),
            readers,
            sealer: Sealer::new(&crate::entropy::bytes()),
            followers: Arc::default(),
            clocks: Arc::default(),
            writes: Arc::default(),
            recent: Arc::default(),
            node: None,
        }
    }

    /// Whether the database can be written now.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        match &mut connection {
            Acquired::Sqlite(_) => connection.begin().await?.rollback().await?,
            Acquired::Postgres(connection) => postgres::check_writable(connection).await?,
        }
        Ok(())
    }

    /// Writes and makes durable what changes nothing, and so finds out whether the log can be written again. A server that is
    /// away is not asked for anything else until this has found it: each would wait for it, and all behind.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn try_write(&self) -> Result<(), StoreError> {
        let written = self.write(sql("UPDATE audit_head SET size = size")).await.map(|_| ());
        self.writes.set_failing(written.is_err());
        self.writes.set_away(written.is_err() && !self.is_alone());
        written
    }

    /// How the audit log was written so far.
    pub fn log_writes(&self) -> &LogWrites {
        &self.writes
    }

    /// Gives up the writer's connection after an error; the next write opens a new one. On a write error SQLite
    /// rolls back by itself, which sqlx does not notice: it would refuse every further transaction on that
    /// connection, and the gateway would not come back once there is room on the disk.
    fn discard_after_error<T>(connection: &mut Acquired, outcome: &Result<T, StoreError>) {
        if outcome.is_err() {
            connection.close_on_drop();
        }
    }

    /// In whose name the log is written.
    fn node(&self) -> Result<&Node, StoreError> {
        self.node.as_deref().ok_or(StoreError::NoNode)
    }

    /// Writes by one statement.
    async fn write(&self, statement: Statement) -> Result<u64, StoreError> {
        let mut connection = self.writer.acquire().await?;
        let written = statement.execute(&mut connection).await.map_err(StoreError::from);
        Self::discard_after_error(&mut connection, &written);
        written
    }

    /// Wakes who follows what has changed since this was last called.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn wake_followers(&self) -> Result<(), StoreError> {
        // On SQLite by the connection that has just written.
        let pool = if self.is_alone() { &self.writer } else { &self.readers };
        let mut connection = pool.acquire().await?;
        self.followers.wake(&mut connection.connection()).await
    }

    /// Makes partitions of the tables that grow for ever, before they are needed, where the database has partitions.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn make_room_ahead(&self) -> Result<(), StoreError> {
        if self.is_alone() {
            return Ok(());
        }
        let mut connection = self.writer.acquire().await?;
        let made = match &mut connection {
            Acquired::Postgres(connection) => postgres::make_ahead(connection).await,
            Acquired::Sqlite(_) => Ok(()),
        };
        Self::discard_after_error(&mut connection, &made);
        made
    }

    /// Closes the connections after the work in progress.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn safe_value(setting: &str) -> &'static str {
    if setting == "server_encoding" { "UTF8" } else { "on" }
}

/// A count or microseconds from a column that is never negative.
fn unsigned(value: i64, table: &'static str, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Inconsistent { table, column })
}

/// SQLite's integers are signed; nothing here comes near the limit.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
