//! The batcher: one transaction for all that waits, then the waiters are woken.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::state::{State, sign};
use super::{Append, AppendError, Batch, Head, Leaf, OpenError, Orphan, SignedHead, Standing, Storage};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::entry::{Entry, Phase, Salt};
use crate::audit::merkle::leaf_hash;
use crate::audit::note::SigningKey;
use crate::clock::Clock;
use crate::{entropy, fault};

/// Most entries in one transaction: past this, waiting longer gains nothing and delays the first in line.
const MAX_BATCH: usize = 512;

/// How often others get a turn before a batch is closed. Measured with 64 calls in flight: four turns took the CPU
/// for a call from 195 to 180 microseconds by larger batches, sixteen gained nothing more.
const GATHER_ROUNDS: usize = 4;

/// Writes the log.
pub(super) struct Writer<S: Storage> {
    pub(super) storage: Arc<S>,
    pub(super) key: SigningKey,
    pub(super) clock: Clock,
    pub(super) state: Memory,
    pub(super) head: watch::Sender<SignedHead>,
    /// Whether the last look for what others have written saw nothing.
    pub(super) is_blind: bool,
}

/// What the writer remembers of the log.
pub(super) enum Memory {
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
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Append<S::Effect, S::Rejection>>) {
        let mut waiting = Vec::with_capacity(MAX_BATCH);
        loop {
            tokio::select! {
                biased;
                received = requests.recv_many(&mut waiting, MAX_BATCH) => if received == 0 { return },
                () = pause(self.storage.look_every()) => {
                    self.look().await;
                    continue;
                }
            }
            // Where others write too, more comes in while this one waits for its turn.
            let turn = self.turn().await;
            // Those woken by the last batch are about to append again: let them, and they share this one's fsync.
            for _ in 0..GATHER_ROUNDS {
                tokio::task::yield_now().await;
                while waiting.len() < MAX_BATCH
                    && let Ok(request) = requests.try_recv()
                {
                    waiting.push(request);
                }
            }
            self.write(turn, std::mem::take(&mut waiting)).await;
        }
    }

    /// Writes one batch, without those whose effects are rejected.
    pub(super) async fn write(
        &mut self,
        turn: Option<(S::Turn, Vec<Orphan>)>,
        mut requests: Vec<Append<S::Effect, S::Rejection>>,
    ) {
        let mut taken = turn;
        while !requests.is_empty() {
            let (turn, state) = match (taken, &self.state) {
                (Some((turn, unowned)), Memory::Known(state)) => {
                    for orphan in &unowned {
                        // Nobody waits for these ends: the callers were told that nothing was written.
                        requests.push(self.interruption(orphan, oneshot::channel().0));
                    }
                    (turn, state.clone())
                }
                _ => return refuse_all(requests),
            };
            let Prepared { mut batch, waiters, mut next } = self.prepare(&state, requests);
            if batch.leaves.is_empty() {
                return;
            }
            match self.commit(turn, &mut batch).await {
                Ok(rejections) if rejections.is_empty() => {
                    next.checkpoint = Some(batch.head.checkpoint.clone());
                    self.publish(next, &batch.head);
                    // It is too late for an error.
                    let _ = fault::point("batch.published");
                    for (index, waiter) in (batch.first_index..).zip(waiters) {
                        let _ = waiter.done.send(Ok(index));
                    }
                    return;
                }
                Ok(rejections) => {
                    requests = without_rejected(batch, waiters, rejections);
                    taken = if requests.is_empty() { None } else { self.turn().await };
                }
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

    /// Signs a batch and makes it durable, or gives the places of those whose effects are rejected.
    async fn commit(
        &self,
        turn: S::Turn,
        batch: &mut Batch<S::Effect>,
    ) -> Result<Vec<(usize, S::Rejection)>, Box<dyn Error + Send + Sync>> {
        fault::point("batch.prepared")?;
        batch.head.checkpoint = sign(&self.key, batch.head.size, batch.head.root)?;
        fault::point("batch.signed")?;
        let rejections = self.storage.commit(turn, batch).await?;
        fault::point("batch.committed")?;
        Ok(rejections)
    }

    /// The turn to write, with what is known to be stored now; and REQUESTs that turned out to be written although their
    /// callers were told otherwise. `None` when the storage does not answer.
    pub(super) async fn turn(&mut self) -> Option<(S::Turn, Vec<Orphan>)> {
        let known = match &self.state {
            Memory::Known(state) => Some(state.tree.size()),
            Memory::Unknown { .. } => None,
        };
        let (turn, standing) = match self.storage.turn(known).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::error!(%error, "no turn to write the audit log; work is refused until there is one");
                return None;
            }
        };
        match self.catch_up(standing).await {
            Ok(unowned) => Some((turn, unowned)),
            Err(error) => {
                tracing::error!(%error, "audit log cannot be read back");
                None
            }
        }
    }

    /// Tells who follows the head what others have written.
    async fn look(&mut self) {
        let looked = self.storage.head().await;
        let was_blind = std::mem::replace(&mut self.is_blind, looked.is_err());
        let head = match looked {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => {
                // Once, and not four times a second until the storage is back.
                if !was_blind {
                    tracing::warn!(%error, "what others write to the audit log cannot be read");
                }
                return;
            }
        };
        if head.size <= self.head.borrow().size {
            return;
        }
        match Checkpoint::open(&head.checkpoint, self.key.verifying_key()) {
            Ok(signed) if signed.size == head.size && signed.root == head.root => self.tell(&head),
            _ => tracing::error!(size = head.size, "the stored checkpoint does not verify under the log key"),
        }
    }

    fn tell(&self, head: &Head) {
        let checkpoint = head.checkpoint.as_str().into();
        self.head.send_replace(SignedHead { size: head.size, root: head.root, checkpoint });
    }

    async fn catch_up(&mut self, standing: Standing) -> Result<Vec<Orphan>, OpenError> {
        if let Memory::Known(state) = &self.state {
            let (head, edge) = match standing {
                Standing::AsLeft => return Ok(Vec::new()),
                Standing::Newest(None) if state.checkpoint.is_none() => return Ok(Vec::new()),
                Standing::Newest(None) => return Err(OpenError::Mismatch("the log is gone".to_owned())),
                Standing::Newest(Some(newest)) => newest,
            };
            if state.checkpoint.as_ref() == Some(&head.checkpoint) {
                return Ok(Vec::new());
            }
            if state.written_to == head.written_to {
                let next = state.follow(self.storage.as_ref(), &self.key, &head, edge).await?;
                self.publish(next, &head);
                return Ok(Vec::new());
            }
            // A batch of this writer's own of which it does not know.
            self.state = Memory::Unknown { owned: state.open.clone() };
        }
        let Memory::Unknown { owned } = &self.state else { return Ok(Vec::new()) };
        let (state, mut orphans) = State::load(self.storage.as_ref(), &self.key, None).await?;
        orphans.retain(|orphan| !owned.contains(&orphan.index));
        self.state = Memory::Known(state);
        Ok(orphans)
    }

    /// The append that ends an orphaned REQUEST.
    pub(super) fn interruption(
        &self,
        orphan: &Orphan,
        done: oneshot::Sender<Result<u64, AppendError<S::Rejection>>>,
    ) -> Append<S::Effect, S::Rejection> {
        let entry = Box::new(interrupted(orphan, self.clock.now()));
        tracing::warn!(request_index = orphan.index, "a request was interrupted");
        let effects = self.storage.release(orphan);
        Append { entry, of_another: false, salt: Salt(entropy::bytes()), effects, done }
    }

    fn publish(&mut self, next: State, head: &Head) {
        self.tell(head);
        self.state = Memory::Known(next);
    }

    fn prepare(
        &self,
        state: &State,
        requests: Vec<Append<S::Effect, S::Rejection>>,
    ) -> Prepared<S::Effect, S::Rejection> {
        let mut next = state.clone();
        let first_index = next.tree.size();
        // Gateways' clocks differ, and clocks are set back: the log's order is that of its times all the same.
        let recorded = self.clock.now().max(state.recorded);
        next.recorded = recorded;
        let mut leaves = Vec::with_capacity(requests.len());
        let mut waiters = Vec::with_capacity(requests.len());
        let mut scratch = Vec::with_capacity(2048);
        for Append { mut entry, of_another, salt, effects, done } in requests {
            if !of_another && entry.request_index.is_some_and(|request| !next.open.contains(&request)) {
                let _ = done.send(Err(AppendError::AlreadyEnded));
                continue;
            }
            entry.recorded = recorded;
            let bytes = match entry.to_canonical_json_by(&mut scratch) {
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
            waiters.push(Waiter { entry, of_another, done });
        }
        let (size, root) = (next.tree.size(), next.tree.root());
        next.written_to = size;
        let head = Head {
            size,
            root,
            open_from: next.open.first().copied().unwrap_or(size),
            written_to: size,
            recorded: Some(recorded),
            checkpoint: String::new(),
        };
        let batch = Batch { first_index, leaves, tiles: next.tree.take_dirty(), head };
        Prepared { batch, waiters, next }
    }
}

async fn pause(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
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
    of_another: bool,
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
    for (place, (leaf, Waiter { entry, of_another, done })) in
        batch.leaves.into_iter().zip(waiters).enumerate()
    {
        match rejections.remove(&place) {
            Some(rejection) => {
                let _ = done.send(Err(AppendError::Rejected(rejection)));
            }
            None => left.push(Append { entry, of_another, salt: leaf.salt, effects: leaf.effects, done }),
        }
    }
    left
}

/// The entry that ends an orphaned REQUEST: it says whose it was, and that its end is not known.
pub(super) fn interrupted(orphan: &Orphan, now: Timestamp) -> Entry {
    Entry {
        id: entropy::uuid_v7(now),
        phase: Phase::Interrupted,
        occurred: now,
        recorded: now,
        request_index: Some(orphan.index),
        request_commitment: None,
        response_commitment: None,
        operator_name: None,
        subject_commitment: None,
        duration_us: None,
        items: None,
        traces: Vec::new(),
        code: None,
        reason: Some("INTERRUPTED".into()),
        ..orphan.entry.clone()
    }
}
