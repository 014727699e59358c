//! The agreements by which this gateway decides, as the database has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// How many of them this version of the gateway cannot read.
    unread: Arc<AtomicU64>,
}

impl AgreementBook {
    /// Of a database, for a directory; nothing is read yet.
    pub fn new(store: Store, directory: Arc<ArcSwap<Directory>>, two_person: bool) -> Self {
        Self { store, directory, two_person, read_at: Arc::default(), unread: Arc::default() }
    }

    /// Effective agreements that this version of the gateway cannot read, and that allow nothing here.
    pub fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    /// Reads the agreements where they have changed since they were last read. Returns whether they had. One that cannot be
    /// read, as when a newer gateway on the database has put it in, allows nothing here; the others are followed.
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
        let (mut agreements, mut unread) = (Vec::new(), 0);
        for (id, terms) in self.store.effective_agreements().await? {
            match stored(&terms) {
                Some(agreement) => agreements.push(agreement),
                None => {
                    unread += 1;
                    tracing::error!(
                        agreement = id,
                        "cannot be read by this version of the gateway: it allows nothing here; is there a newer one on the \
                         database?"
                    );
                }
            }
        }
        self.unread.store(unread, Ordering::Relaxed);
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

/// An agreement as it is stored; `None` for one that this version cannot read.
pub(super) fn stored(terms: &str) -> Option<Agreement> {
    serde_json::from_str(terms).ok()
}
