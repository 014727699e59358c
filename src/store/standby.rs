//! A hot standby of the database, which takes the reading that searches cause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::database::sql;
use super::{Store, StoreError, postgres, signed};
use crate::config::Postgres;

/// How long a search waits for the standby to have what the log had when the search began. Then it asks the primary.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// Between two looks at the standby.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A standby. It may be away, or behind; nothing is answered that it does not have yet. Cheap to clone.
#[derive(Clone)]
pub struct Standby {
    store: Store,
    /// Whether the last search found it away or behind: told once, and not for each search.
    is_late: Arc<AtomicBool>,
}

impl Standby {
    /// The standby at `server`, which is asked for the first time by the first search.
    ///
    /// # Errors
    /// When its URL cannot be read.
    pub fn at(server: &Postgres) -> Result<Self, StoreError> {
        let store = Store::reading(postgres::readers_of_standby(server)?);
        Ok(Self { store, is_late: Arc::default() })
    }

    /// The standby's tables, once they hold the first `size` entries of the log and all that was done with them: whatever
    /// changes an entry later, an erasure or a pruning, has an entry of its own. `None` when that takes too long.
    pub(super) async fn with(&self, size: u64) -> Option<&Store> {
        // One that was late is not waited for again by every search.
        let patience = if self.is_late.load(Ordering::Relaxed) { LOOK_EVERY * 3 } else { CATCHING_UP };
        let outcome = timeout(patience, self.catches_up(size)).await;
        let is_late = !matches!(outcome, Ok(Ok(())));
        if self.is_late.swap(is_late, Ordering::Relaxed) != is_late {
            match outcome {
                Ok(Ok(())) => tracing::info!("searches read from the standby again"),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "searches read from the primary: the standby is away");
                }
                Err(_) => tracing::warn!("searches read from the primary: the standby is behind or away"),
            }
        }
        (!is_late).then_some(&self.store)
    }

    async fn catches_up(&self, size: u64) -> Result<(), StoreError> {
        loop {
            let row = sql("SELECT 1 FROM audit_head WHERE size >= $1").bind(signed(size));
            if row.fetch_optional(&self.store.readers).await?.is_some() {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn close(&self) {
        self.store.close().await;
    }
}
