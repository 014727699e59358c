//! The writer of the log: a bounded queue, one batcher, one transaction a batch.
//!
//! Whoever appends waits until the entry is durable. What an entry stands for in the store (an exchange opened,
//! a delivery settled) travels with it as effects and becomes durable in the same transaction, so that there is
//! never one without the other.

mod state;
mod writer;

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::state::State;
pub use self::state::orphans;
use self::writer::{Memory, Writer, interrupted};
use super::entry::{Entry, Salt};
use super::merkle::Hash;
use super::note::{NoteError, SigningKey};
use super::tile::{TileId, TileSet};
use super::verifier::StoredEntry;
use crate::clock::Clock;
use crate::{entropy, fault};

/// Longest wait of what was done while the log could not be written, until it is tried again to say how it ended.
pub const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Where the log is kept. The store implements it; the log decides what is written.
pub trait Storage: Send + Sync + 'static {
    /// A change that becomes durable with an entry.
    type Effect: Send + Sync + 'static;
    /// Why a change cannot be made, and its entry cannot be written.
    type Rejection: Send + Sync + 'static;
    /// Why the storage did not answer.
    type Error: Error + Send + Sync + 'static;
    /// The turn to write.
    type Turn: Send;

    /// The newest head, or `None` in a new log.
    fn head(&self) -> impl Future<Output = Result<Option<Head>, Self::Error>> + Send;

    /// The stored tiles among `ids`.
    fn tiles(&self, ids: &[TileId]) -> impl Future<Output = Result<TileSet, Self::Error>> + Send;

    /// At most `limit` entries from index `from`, in order.
    fn entries(
        &self,
        from: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<StoredEntry>, Self::Error>> + Send;

    /// Waits for the turn to write, as a writer that knows the log up to a size, if it does. Until the turn ends nobody else writes
    /// the log.
    fn turn(
        &self,
        known: Option<u64>,
    ) -> impl Future<Output = Result<(Self::Turn, Standing), Self::Error>> + Send;

    /// Writes a batch in one durable transaction, and ends the turn. A non-empty answer names the leaves (by place in the
    /// batch) whose effects cannot be made; then nothing was written.
    fn commit(
        &self,
        turn: Self::Turn,
        batch: &Batch<Self::Effect>,
    ) -> impl Future<Output = Result<Vec<(usize, Self::Rejection)>, Self::Error>> + Send;

    /// Whether an entry was written by this writer, or by an earlier one in its place.
    fn is_own(&self, entry: &Entry) -> bool;

    /// How often to look for what other writers have written; `None` where there are none.
    fn look_every(&self) -> Option<Duration>;

    /// What is to be undone when a REQUEST ends as interrupted.
    fn release(&self, orphan: &Orphan) -> Vec<Self::Effect>;
}

/// How the log stands when a writer gets its turn.
#[derive(Clone, Debug)]
pub enum Standing {
    /// As the writer left it: it is the only one.
    AsLeft,
    /// Others write too. The newest head; `None` in a new log. With it come tiles at the right edge of its tree where the log has
    /// grown beyond what the writer knows; none for a writer that knows nothing, which reads all of it.
    Newest(Option<(Head, TileSet)>),
}

/// State of the log after a batch.
#[derive(Clone, Debug)]
pub struct Head {
    /// Number of entries.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// No REQUEST of this writer below this index waits for its end.
    pub open_from: u64,
    /// No entry of this writer stands at or above this index.
    pub written_to: u64,
    /// When the newest entry was recorded, where the storage knows without reading it.
    pub recorded: Option<Timestamp>,
    /// Signed checkpoint of this size and root.
    pub checkpoint: String,
}

/// What one transaction writes.
pub struct Batch<E> {
    /// Index of the first leaf.
    pub first_index: u64,
    /// The leaves in order.
    pub leaves: Vec<Leaf<E>>,
    /// Tiles that changed, as they are after the batch.
    pub tiles: Vec<(TileId, Vec<Hash>)>,
    /// The head after the batch.
    pub head: Head,
}

/// One entry of a batch.
pub struct Leaf<E> {
    /// The canonical bytes.
    pub entry: Vec<u8>,
    /// Secret of its commitments.
    pub salt: Salt,
    /// What becomes durable with it.
    pub effects: Vec<E>,
}

/// The newest signed state, as readers see it.
#[derive(Clone, Debug)]
pub struct SignedHead {
    /// Number of entries.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// Signed note.
    pub checkpoint: Arc<str>,
}

/// Why an entry was not written.
#[derive(Debug, Error)]
pub enum AppendError<R> {
    /// An effect cannot be made; the entry was not written.
    #[error("an effect was rejected")]
    Rejected(R),
    /// More entries wait than the queue holds; try again shortly.
    #[error("the audit log's queue is full")]
    Overloaded,
    /// The storage does not take entries now; nothing was written.
    #[error("the audit log cannot be written")]
    Unavailable,
    /// The REQUEST that the entry would end has ended already; a REQUEST ends once.
    #[error("the request has ended already")]
    AlreadyEnded,
}

/// Why a log cannot be opened. Each says what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The storage did not answer.
    #[error("the audit log cannot be read: {0}")]
    Storage(#[source] Box<dyn Error + Send + Sync>),
    /// The stored checkpoint does not verify under the log's key.
    #[error(
        "the stored checkpoint does not verify under the log key: {0}; check that keys and database belong together"
    )]
    Checkpoint(#[from] NoteError),
    /// Stored entries or tiles do not give the signed root.
    #[error(
        "the stored log does not match its signed checkpoint: {0}; run `audit verify` on the database and do not sign on"
    )]
    Mismatch(String),
    /// Interrupted requests cannot be closed.
    #[error("the audit log cannot be written: is the disk full, or the database read-only?")]
    Unwritable,
    /// The checkpoint kept outside the database does not verify.
    #[error(
        "the checkpoint kept outside the database does not verify under the log key: {0}; see audit.checkpoint"
    )]
    KnownCheckpoint(#[source] NoteError),
    /// A checkpoint known from elsewhere is ahead of the log.
    #[error(
        "a checkpoint known beside the log (audit.checkpoint, or one that witnesses have cosigned) covers {known} entries, \
         the database has {stored}: it looks like a restored backup; signing on would fork the log; restore the newer \
         database, or follow \"After a rollback\" in docs/witnesses.md"
    )]
    RolledBack {
        /// Entries covered by the known checkpoint.
        known: u64,
        /// Entries in the database.
        stored: u64,
    },
}

/// Handle to a running log. Cheap to clone; the writer stops when the last handle is gone.
pub struct Log<E, R> {
    queue: mpsc::Sender<Append<E, R>>,
    head: watch::Receiver<SignedHead>,
}

impl<E, R> Clone for Log<E, R> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), head: self.head.clone() }
    }
}

/// A REQUEST without an end, found when the log was opened.
#[derive(Clone, Debug)]
pub struct Orphan {
    /// Index of the REQUEST.
    pub index: u64,
    /// The REQUEST itself.
    pub entry: Entry,
}

/// What opening a log gives.
pub struct Opened<E, R> {
    /// The handle.
    pub log: Log<E, R>,
    /// REQUESTs that a sudden end had left open; they are closed as interrupted now.
    pub interrupted: usize,
    /// The writer's task; it ends after the last handle is dropped and the queue is written.
    pub writer: JoinHandle<()>,
}

struct Append<E, R> {
    entry: Box<Entry>,
    /// Whether it ends a REQUEST of another writer, which this one does not know to be open.
    of_another: bool,
    salt: Salt,
    effects: Vec<E>,
    done: oneshot::Sender<Result<u64, AppendError<R>>>,
}

/// Checks the stored log and starts its writer.
///
/// `known` is a checkpoint that was kept outside the database, if there is one.
///
/// # Errors
/// When the stored log is not the one that was signed: see [`OpenError`].
pub async fn open<S: Storage>(
    storage: Arc<S>,
    key: SigningKey,
    clock: Clock,
    queue_capacity: usize,
    known: Option<&str>,
) -> Result<Opened<S::Effect, S::Rejection>, OpenError> {
    // In its turn: what is read is not written to meanwhile.
    let (turn, _) = storage.turn(None).await.map_err(|error| OpenError::Storage(Box::new(error)))?;
    let (state, orphans) = State::load(storage.as_ref(), &key, known).await?;
    drop(turn);
    fault::end_point("start.loaded");
    let interrupted = orphans.len();
    let (queue, requests) = mpsc::channel(queue_capacity);
    let (head_sender, head) = watch::channel(state.signed_head(&key)?);
    let mut writer =
        Writer { storage, key, clock, state: Memory::Known(state), head: head_sender, is_blind: false };
    let mut closing = Vec::new();
    let mut closed = Vec::new();
    for orphan in &orphans {
        let (done, outcome) = oneshot::channel();
        closing.push(writer.interruption(orphan, done));
        closed.push(outcome);
    }
    if !closing.is_empty() {
        let turn = writer.turn().await;
        writer.write(turn, closing).await;
    }
    for outcome in closed {
        if !matches!(outcome.await, Ok(Ok(_))) {
            return Err(OpenError::Unwritable);
        }
    }
    let writer = tokio::spawn(writer.run(requests));
    Ok(Opened { log: Log { queue, head }, interrupted, writer })
}

impl<E, R> Log<E, R> {
    /// Appends an entry that begins or refuses something, and returns its index once it, and its effects, are
    /// durable. When too many wait it is refused at once: nothing is begun that could not be ended.
    ///
    /// # Errors
    /// See [`AppendError`]; after any of them nothing was written.
    pub async fn append(&self, entry: Entry, salt: Salt, effects: Vec<E>) -> Result<u64, AppendError<R>> {
        let (done, outcome) = oneshot::channel();
        let request = Append { entry: Box::new(entry), of_another: false, salt, effects, done };
        self.queue.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AppendError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => AppendError::Unavailable,
        })?;
        outcome.await.unwrap_or(Err(AppendError::Unavailable))
    }

    /// Appends an entry that ends a REQUEST. It waits for its place in the queue: work that was done is not
    /// thrown away because others come in faster. How many wait is bounded by the REQUESTs that are open.
    ///
    /// # Errors
    /// See [`AppendError`], but never [`AppendError::Overloaded`]; after any of them nothing was written.
    pub async fn conclude(&self, entry: Entry, salt: Salt, effects: Vec<E>) -> Result<u64, AppendError<R>> {
        let (done, outcome) = oneshot::channel();
        let request = Append { entry: Box::new(entry), of_another: false, salt, effects, done };
        self.queue.send(request).await.map_err(|_| AppendError::Unavailable)?;
        outcome.await.unwrap_or(Err(AppendError::Unavailable))
    }

    /// Ends a REQUEST that another writer left open, who is gone and whose place was taken. It waits for its place in the queue.
    ///
    /// # Errors
    /// See [`AppendError`], but never [`AppendError::Overloaded`]; after any of them nothing was written.
    pub async fn interrupt(
        &self,
        orphan: &Orphan,
        now: Timestamp,
        effects: Vec<E>,
    ) -> Result<u64, AppendError<R>> {
        let (done, outcome) = oneshot::channel();
        let entry = Box::new(interrupted(orphan, now));
        let request = Append { entry, of_another: true, salt: Salt(entropy::bytes()), effects, done };
        self.queue.send(request).await.map_err(|_| AppendError::Unavailable)?;
        outcome.await.unwrap_or(Err(AppendError::Unavailable))
    }

    /// How many entries wait for the writer.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// The newest signed state.
    pub fn head(&self) -> SignedHead {
        self.head.borrow().clone()
    }

    /// Follows the signed state.
    pub fn watch_head(&self) -> watch::Receiver<SignedHead> {
        self.head.clone()
    }
}
