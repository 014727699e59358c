//! One seam over two databases: SQLite, one writer and some readers in one process, and PostgreSQL.
//!
//! A statement is one text for both wherever that is possible (see [`sql`]); where it is not, the two texts stand beside each
//! other (see [`per_database`]). Integers are 64 bits wide, times microseconds, and there is no boolean column.

mod row;
mod statement;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool};

pub(super) use self::row::Row;
pub(super) use self::statement::{Statement, Text, per_database, sql};

/// Connections to the database.
#[derive(Clone)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    pub(super) async fn acquire(&self) -> Result<Acquired, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Acquired::Sqlite(pool.acquire().await?),
            Self::Postgres(pool) => Acquired::Postgres(pool.acquire().await?),
        })
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// A connection out of a pool.
pub(super) enum Acquired {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Acquired {
    pub(super) fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(connection) => Connection::Sqlite(connection),
            Self::Postgres(connection) => Connection::Postgres(connection),
        }
    }

    /// Begins a transaction on it, see [`Connection::begin`].
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_>, sqlx::Error> {
        use sqlx::Connection as _;
        Ok(match self {
            Self::Sqlite(connection) => Transaction::Sqlite(connection.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(connection) => Transaction::Postgres(connection.begin().await?),
        })
    }

    /// Has it closed when it is given back.
    pub(super) fn close_on_drop(&mut self) {
        match self {
            Self::Sqlite(connection) => connection.close_on_drop(),
            Self::Postgres(connection) => connection.close_on_drop(),
        }
    }
}

/// A connection, or the transaction that is open on it.
pub(super) enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Connection<'_> {
    /// Begins a transaction that will write: on SQLite the only one; on PostgreSQL one that sees what others commit, so
    /// that what must hold between two statements is to be locked or checked by the statement that writes.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_>, sqlx::Error> {
        use sqlx::Connection as _;
        Ok(match self {
            Self::Sqlite(connection) => Transaction::Sqlite(connection.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(connection) => Transaction::Postgres(connection.begin().await?),
        })
    }
}

/// An open transaction; rolled back unless it is committed.
pub(super) enum Transaction<'c> {
    Sqlite(sqlx::Transaction<'c, Sqlite>),
    Postgres(sqlx::Transaction<'c, Postgres>),
}

impl Transaction<'_> {
    pub(super) fn connection(&mut self) -> Connection<'_> {
        match self {
            Self::Sqlite(transaction) => Connection::Sqlite(transaction),
            Self::Postgres(transaction) => Connection::Postgres(transaction),
        }
    }

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }

    pub(super) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await,
            Self::Postgres(transaction) => transaction.rollback().await,
        }
    }
}
