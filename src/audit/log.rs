//! The writer of the log: a bounded queue, one batcher, one transaction a batch.
//!
//! Whoever appends waits until the entry is durable. What an entry stands for in the store (an exchange opened,
//! a delivery settled) travels with it as effects and becomes durable in the same transaction, so that there is
//! never one without the other.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::checkpoint::Checkpoint;
use super::entry::{Entry, Phase, Salt};
use super::merkle::{Hash, leaf_hash};
use super::note::{NoteError, SigningKey};
use super::tile::{TileId, TileSet, TileWriter, tiles_for_root};
use super::verifier::StoredEntry;
use crate::clock::Clock;
use crate::entropy;

/// Most entries in one transaction: past this, waiting longer gains nothing and delays the first in line.
const MAX_BATCH: usize = 512;

/// Where the log is kept. The store implements it; the log decides what is written.
pub trait Storage: Send + Sync + 'static {
    /// A change that becomes durable with an entry.
    type Effect: Send + Sync + 'static;
    /// Why a change cannot be made, and its entry cannot be written.
    type Rejection: Send + Sync + 'static;
    /// Why the storage did not answer.
    type Error: Error + Send + Sync + 'static;

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

    /// Writes a batch in one durable transaction. A non-empty answer names the leaves (by place in the batch)
    /// whose effects cannot be made; then nothing was written.
    fn commit(
        &self,
        batch: &Batch<Self::Effect>,
    ) -> impl Future<Output = Result<Vec<(usize, Self::Rejection)>, Self::Error>> + Send;

    /// What is to be undone when a REQUEST ends as interrupted.
    fn release(&self, orphan: &Orphan) -> Vec<Self::Effect>;
}

/// State of the log after a batch.
#[derive(Clone, Debug)]
pub struct Head {
    /// Number of entries.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
    /// No REQUEST below this index waits for its end.
    pub open_from: u64,
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
    /// A checkpoint known from elsewhere is ahead of the database.
    #[error(
        "the checkpoint kept outside the database covers {known} entries, the database has {stored}: it looks like a \
         restored backup; signing on would fork the log; restore the newer database, or follow the recovery procedure"
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
    let (state, orphans) = State::load(storage.as_ref(), &key, known).await?;
    let interrupted = orphans.len();
    let (queue, requests) = mpsc::channel(queue_capacity);
    let (head_sender, head) = watch::channel(state.signed_head(&key)?);
    let mut writer = Writer { storage, key, clock, state: Memory::Known(state), head: head_sender };
    let mut closing = Vec::new();
    let mut closed = Vec::new();
    for orphan in &orphans {
        let (done, outcome) = oneshot::channel();
        closing.push(writer.interruption(orphan, done));
        closed.push(outcome);
    }
    writer.write(closing).await;
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
        let request = Append { entry: Box::new(entry), salt, effects, done };
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
        let request = Append { entry: Box::new(entry), salt, effects, done };
        self.queue.send(request).await.map_err(|_| AppendError::Unavailable)?;
        outcome.await.unwrap_or(Err(AppendError::Unavailable))
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

/// What the writer keeps in memory of the log: the right edge of the tree and the open REQUESTs.
#[derive(Clone)]
struct State {
    tree: TileWriter,
    open: BTreeSet<u64>,
    checkpoint: Option<String>,
}

impl State {
    /// Reads and checks what is stored. Also returns the REQUESTs without an end.
    async fn load<S: Storage>(
        storage: &S,
        key: &SigningKey,
        known: Option<&str>,
    ) -> Result<(Self, Vec<Orphan>), OpenError> {
        let head = storage.head().await.map_err(unreadable)?;
        let size = head.as_ref().map_or(0, |head| head.size);
        let tiles = storage.tiles(&tiles_for_root(size)).await.map_err(unreadable)?;
        let tree = TileWriter::resume(size, |id| tiles.get(id).map(<[Hash]>::to_vec))
            .map_err(|error| OpenError::Mismatch(error.to_string()))?;
        if let Some(head) = &head {
            let signed = Checkpoint::open(&head.checkpoint, key.verifying_key())?;
            if signed.size != head.size || signed.root != tree.root() {
                return Err(OpenError::Mismatch(format!("the tiles of {size} entries give another root")));
            }
        }
        let full_tile_end = size - size % 256;
        let tail = storage.entries(full_tile_end, 257).await.map_err(unreadable)?;
        check_tail(&tiles, full_tile_end, size, &tail)?;
        if let Some(known) = known {
            let known = Checkpoint::open(known, key.verifying_key()).map_err(OpenError::KnownCheckpoint)?;
            check_known(storage, &known, size).await?;
        }
        let orphans = find_orphans(storage, head.as_ref().map_or(0, |head| head.open_from), size).await?;
        let open = orphans.iter().map(|orphan| orphan.index).collect();
        Ok((Self { tree, open, checkpoint: head.map(|head| head.checkpoint) }, orphans))
    }

    fn signed_head(&self, key: &SigningKey) -> Result<SignedHead, NoteError> {
        let (size, root) = (self.tree.size(), self.tree.root());
        let checkpoint = match &self.checkpoint {
            Some(checkpoint) => checkpoint.clone(),
            None => sign(key, size, root)?,
        };
        Ok(SignedHead { size, root, checkpoint: checkpoint.into() })
    }
}

fn check_tail(tiles: &TileSet, from: u64, size: u64, tail: &[StoredEntry]) -> Result<(), OpenError> {
    let recorded = tiles.get(TileId { level: 0, index: from / 256 }).unwrap_or(&[]);
    for (place, stored) in tail.iter().enumerate() {
        let index = from + place as u64;
        if stored.index != index {
            return Err(OpenError::Mismatch(format!("entry {index} is missing")));
        }
        if index >= size {
            return Err(OpenError::Mismatch(format!("entry {index} lies beyond the signed size {size}")));
        }
        if recorded.get(place) != Some(&leaf_hash(&stored.entry)) {
            return Err(OpenError::Mismatch(format!("entry {index} is not the one that was signed")));
        }
    }
    let stored_end = from + tail.len() as u64;
    if stored_end < size {
        return Err(OpenError::Mismatch(format!("entry {stored_end} is missing")));
    }
    Ok(())
}

async fn check_known<S: Storage>(storage: &S, known: &Checkpoint, size: u64) -> Result<(), OpenError> {
    if known.size > size {
        return Err(OpenError::RolledBack { known: known.size, stored: size });
    }
    let tiles = storage.tiles(&tiles_for_root(known.size)).await.map_err(unreadable)?;
    let root = tiles.root(known.size).map_err(|error| OpenError::Mismatch(error.to_string()))?;
    if root != known.root {
        let size = known.size;
        return Err(OpenError::Mismatch(format!(
            "at {size} entries it differs from the checkpoint kept outside"
        )));
    }
    Ok(())
}

async fn find_orphans<S: Storage>(storage: &S, from: u64, size: u64) -> Result<Vec<Orphan>, OpenError> {
    const PAGE: u32 = 1024;
    let mut open = BTreeMap::new();
    let mut next = from;
    while next < size {
        let page = storage.entries(next, PAGE).await.map_err(unreadable)?;
        if page.is_empty() {
            return Err(OpenError::Mismatch(format!("entry {next} is missing")));
        }
        for stored in page {
            next = stored.index + 1;
            let index = stored.index;
            let entry = Entry::from_json(&stored.entry)
                .map_err(|_| OpenError::Mismatch(format!("entry {index} cannot be read")))?;
            if entry.phase == Phase::Request {
                open.insert(index, entry);
            } else if let Some(request) = entry.request_index {
                open.remove(&request);
            }
        }
    }
    Ok(open.into_iter().map(|(index, entry)| Orphan { index, entry }).collect())
}

fn unreadable(error: impl Error + Send + Sync + 'static) -> OpenError {
    OpenError::Storage(Box::new(error))
}

fn sign(key: &SigningKey, size: u64, root: Hash) -> Result<String, NoteError> {
    Checkpoint { origin: key.name().to_owned(), size, root, extensions: Vec::new() }.sign(key)
}

struct Writer<S: Storage> {
    storage: Arc<S>,
    key: SigningKey,
    clock: Clock,
    state: Memory,
    head: watch::Sender<SignedHead>,
}

/// What the writer remembers of the log.
enum Memory {
    /// What the storage holds.
    Known(State),
    /// A commit failed: whether the storage holds its batch is unknown until it is read again. The REQUESTs that
    /// were open before it are still somebody's; those of the batch are nobody's.
    Unknown {
        /// Open before the batch.
        owned: BTreeSet<u64>,
    },
}

impl<S: Storage> Writer<S> {
    async fn run(mut self, mut requests: mpsc::Receiver<Append<S::Effect, S::Rejection>>) {
        let mut waiting = Vec::with_capacity(MAX_BATCH);
        while requests.recv_many(&mut waiting, MAX_BATCH).await > 0 {
            self.write(std::mem::take(&mut waiting)).await;
        }
    }

    /// Writes one batch, without those whose effects are rejected.
    async fn write(&mut self, mut requests: Vec<Append<S::Effect, S::Rejection>>) {
        let Some((state, unowned)) = self.state().await else {
            return refuse_all(requests);
        };
        for orphan in &unowned {
            // Nobody waits for these ends: the callers were told that nothing was written.
            requests.push(self.interruption(orphan, oneshot::channel().0));
        }
        while !requests.is_empty() {
            let Prepared { mut batch, waiters, mut next } = self.prepare(&state, requests);
            if batch.leaves.is_empty() {
                return;
            }
            let outcome = match sign(&self.key, batch.head.size, batch.head.root) {
                Ok(checkpoint) => {
                    next.checkpoint = Some(checkpoint.clone());
                    batch.head.checkpoint = checkpoint;
                    self.storage.commit(&batch).await.map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            match outcome {
                Ok(rejections) if rejections.is_empty() => {
                    self.publish(next, &batch.head);
                    for (index, waiter) in (batch.first_index..).zip(waiters) {
                        let _ = waiter.done.send(Ok(index));
                    }
                    return;
                }
                Ok(rejections) => requests = without_rejected(batch, waiters, rejections),
                Err(error) => {
                    let entries = batch.leaves.len();
                    tracing::error!(
                        error,
                        entries,
                        "audit batch failed; work is refused until it can be written"
                    );
                    self.state = Memory::Unknown { owned: state.open };
                    for waiter in waiters {
                        let _ = waiter.done.send(Err(AppendError::Unavailable));
                    }
                    return;
                }
            }
        }
    }

    /// The state to build on, and REQUESTs that turned out to be written although their callers were told
    /// otherwise.
    async fn state(&mut self) -> Option<(State, Vec<Orphan>)> {
        let owned = match &self.state {
            Memory::Known(state) => return Some((state.clone(), Vec::new())),
            Memory::Unknown { owned } => owned,
        };
        match State::load(self.storage.as_ref(), &self.key, None).await {
            Ok((state, mut orphans)) => {
                orphans.retain(|orphan| !owned.contains(&orphan.index));
                self.state = Memory::Known(state.clone());
                Some((state, orphans))
            }
            Err(error) => {
                tracing::error!(%error, "audit log cannot be read back");
                None
            }
        }
    }

    /// The append that ends an orphaned REQUEST.
    fn interruption(
        &self,
        orphan: &Orphan,
        done: oneshot::Sender<Result<u64, AppendError<S::Rejection>>>,
    ) -> Append<S::Effect, S::Rejection> {
        let entry = Box::new(interrupted(orphan, self.clock.now()));
        tracing::warn!(request_index = orphan.index, "a request was interrupted");
        Append { entry, salt: Salt(entropy::bytes()), effects: self.storage.release(orphan), done }
    }

    fn publish(&mut self, next: State, head: &Head) {
        let checkpoint = head.checkpoint.as_str().into();
        self.head.send_replace(SignedHead { size: head.size, root: head.root, checkpoint });
        self.state = Memory::Known(next);
    }

    fn prepare(
        &self,
        state: &State,
        requests: Vec<Append<S::Effect, S::Rejection>>,
    ) -> Prepared<S::Effect, S::Rejection> {
        let mut next = state.clone();
        let first_index = next.tree.size();
        let recorded = self.clock.now();
        let mut leaves = Vec::with_capacity(requests.len());
        let mut waiters = Vec::with_capacity(requests.len());
        for Append { mut entry, salt, effects, done } in requests {
            if entry.request_index.is_some_and(|request| !next.open.contains(&request)) {
                let _ = done.send(Err(AppendError::AlreadyEnded));
                continue;
            }
            entry.recorded = recorded;
            let bytes = match entry.to_canonical_json() {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::error!(%error, "an entry cannot be written");
                    let _ = done.send(Err(AppendError::Unavailable));
                    continue;
                }
            };
            let index = next.tree.size();
            next.tree.append(leaf_hash(&bytes));
            if entry.phase == Phase::Request {
                next.open.insert(index);
            } else if let Some(request) = entry.request_index {
                next.open.remove(&request);
            }
            leaves.push(Leaf { entry: bytes, salt, effects });
            waiters.push(Waiter { entry, done });
        }
        let (size, root) = (next.tree.size(), next.tree.root());
        let head = Head {
            size,
            root,
            open_from: next.open.first().copied().unwrap_or(size),
            checkpoint: String::new(),
        };
        let batch = Batch { first_index, leaves, tiles: next.tree.take_dirty(), head };
        Prepared { batch, waiters, next }
    }
}

/// A batch that is ready but for its signature, who waits for it, and the state after it.
struct Prepared<E, R> {
    batch: Batch<E>,
    waiters: Vec<Waiter<R>>,
    next: State,
}

struct Waiter<R> {
    entry: Box<Entry>,
    done: oneshot::Sender<Result<u64, AppendError<R>>>,
}

fn refuse_all<E, R>(requests: Vec<Append<E, R>>) {
    for request in requests {
        let _ = request.done.send(Err(AppendError::Unavailable));
    }
}

fn without_rejected<E, R>(
    batch: Batch<E>,
    waiters: Vec<Waiter<R>>,
    rejections: Vec<(usize, R)>,
) -> Vec<Append<E, R>> {
    let mut rejections = rejections.into_iter().collect::<BTreeMap<_, _>>();
    let mut left = Vec::with_capacity(batch.leaves.len());
    for (place, (leaf, Waiter { entry, done })) in batch.leaves.into_iter().zip(waiters).enumerate() {
        match rejections.remove(&place) {
            Some(rejection) => {
                let _ = done.send(Err(AppendError::Rejected(rejection)));
            }
            None => left.push(Append { entry, salt: leaf.salt, effects: leaf.effects, done }),
        }
    }
    left
}

/// The entry that ends an orphaned REQUEST: it says whose it was, and that its end is not known.
fn interrupted(orphan: &Orphan, now: Timestamp) -> Entry {
    Entry {
        id: entropy::uuid_v7(now),
        phase: Phase::Interrupted,
        occurred: now,
        recorded: now,
        request_index: Some(orphan.index),
        request_commitment: None,
        response_commitment: None,
        operator_name: None,
        duration_us: None,
        code: None,
        reason: Some("INTERRUPTED".to_owned()),
        ..orphan.entry.clone()
    }
}
