//! One gateway for one database, or for one name on it.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::node::NodeLock;
use super::{Store, StoreError};
use crate::config::Database;

/// Held by a gateway that works on a database. Two on one SQLite file would each sign the log, and the second would take what
/// the first has in progress for interrupted; so would two of one name on PostgreSQL. It is free again when its holder ends,
/// however that ends.
pub enum DatabaseLock {
    /// Of an SQLite file.
    File(#[allow(dead_code, reason = "held, not used")] File),
    /// Of a node's name on a PostgreSQL database.
    Node(NodeLock),
}

impl DatabaseLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// When another gateway holds it, or it cannot be had.
    pub async fn take(database: &Database, node: &str) -> Result<Self, StoreError> {
        match database {
            Database::File(path) => lock_beside(path).map(Self::File),
            Database::Postgres(server) => NodeLock::take(server, node).await.map(Self::Node),
        }
    }

    /// Looks after the lock. Returns when it is lost for good: the gateway writes nothing any more and should end.
    pub async fn lost(&mut self, store: &Store) -> StoreError {
        match self {
            Self::File(_) => std::future::pending().await,
            Self::Node(lock) => lock.keep(store).await,
        }
    }
}

/// The lock lies beside the database: closing a file of SQLite's own would drop SQLite's locks.
fn lock_beside(database: &Path) -> Result<File, StoreError> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let unusable = |source| StoreError::Lock { path: path.clone().into(), source };
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: database.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}
