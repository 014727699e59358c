//! One gateway for one database.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::StoreError;

/// Held by the gateway that works on a database. Two would each sign the log, and the second would take what the
/// first has in progress for interrupted. It is free again when its holder ends, however that ends.
#[derive(Debug)]
pub struct DatabaseLock(#[allow(dead_code, reason = "held, not used")] File);

impl DatabaseLock {
    /// Takes the lock, which lies beside the database: closing a file of SQLite's own would drop SQLite's locks.
    ///
    /// # Errors
    /// When another process holds it, or its file cannot be made.
    pub fn take(database: &Path) -> Result<Self, StoreError> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let unusable = |source| StoreError::Lock { path: path.clone().into(), source };
        let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: database.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }
}
