//! The agreements by which this gateway decides, as the database has them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::access::{Agreement, Agreements, Directory};
use crate::store::{Store, StoreError};

/// Keeps the directory's agreements as the database has them. Cheap to clone.
#[derive(Clone)]
pub struct AgreementBook {
    store: Store,
    directory: Arc<ArcSwap<Directory>>,
    /// Whether what one operator puts in waits for another.
    pub(crate) two_person: bool,
    /// How often the agreements had changed when they were last read.
    read_at: Arc<Mutex<Option<u64>>>,
}

impl AgreementBook {
    /// Of a database, for a directory; nothing is read yet.
    pub fn new(store: Store, directory: Arc<ArcSwap<Directory>>, two_person: bool) -> Self {
        Self { store, directory, two_person, read_at: Arc::default() }
    }

    /// Reads the agreements where they have changed since they were last read. Returns whether they had.
    ///
    /// # Errors
    /// When the database does not answer; then the agreements stay as they were.
    pub async fn read_again(&self) -> Result<bool, StoreError> {
        let mut read_at = self.read_at.lock().await;
        // Asked first: what changes meanwhile is read the next time.
        let changes = self.store.agreement_changes().await?;
        if *read_at == Some(changes) {
            return Ok(false);
        }
        let terms = self.store.effective_agreements().await?;
        let agreements = terms.iter().map(|terms| stored(terms)).collect::<Result<Vec<_>, _>>()?;
        let agreements = Agreements::new(agreements);
        self.directory.rcu(|directory| directory.with_agreements(agreements.clone()));
        *read_at = Some(changes);
        Ok(true)
    }

    /// The same, for who goes on either way.
    pub async fn follow(&self) {
        match self.read_again().await {
            Ok(true) => tracing::info!("agreements read again"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "agreements cannot be read again; the old ones stay in force");
            }
        }
    }
}

/// An agreement as it is stored.
pub(super) fn stored(terms: &str) -> Result<Agreement, StoreError> {
    serde_json::from_str(terms).map_err(|_| StoreError::Inconsistent { table: "agreements", column: "terms" })
}
