//! The remover: carries out erasures and prunings, a bounded step at a time, so that calls go on meanwhile.
//!
//! It looks through the log twice: first it counts, and an erasure that concerns what still runs ends there; then it
//! removes. Each step becomes durable with an EVENT that names the entries concerned. What a sudden end left undone
//! is taken up at the next start: what was removed is found removed.

mod partitions;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use self::partitions::Partitions;
use crate::audit::entry::{Entry, Salt};
use crate::audit::log::{AppendError, Storage as _};
use crate::audit::removal::{IndexRanges, Removal, RemovalKind};
use crate::audit::witnessed::Standing as Cosigned;
use crate::clock::Clock;
use crate::config::{Detached, RetentionSection};
use crate::domain::exchange::ExchangeId;
use crate::entropy;
use crate::store::{
    AuditLog, Detaching, Effect, RemovableEntry, RemovalEnd, RemovalRecord, RemovalState, RemovalStep,
    Standing, Store, StoreError,
};

/// How often it looks for a removal to carry out.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Wait before a step is tried again that the log did not take.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Entries read at once.
const PAGE: u32 = 1024;

/// Entries of one step: the log's writer is kept for some milliseconds.
const STEP_ENTRIES: u64 = 1000;

/// Ranges of one step: its entry has room for them.
const STEP_RANGES: usize = 250;

/// Exchanges of one step: each may have a hundred messages.
const STEP_THREADS: usize = 20;

/// What running exchanges a refusal names.
const OBSTACLES_NAMED: usize = 100;

/// How far the clocks that wrote the log may have gone back: the log is in the order of its writing.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_hours(24);

/// What the remover's entries name as the service.
const REMOVER: &str = "remover";

/// What the remover works with.
pub(super) struct Remover {
    pub(super) store: Store,
    pub(super) log: AuditLog,
    pub(super) clock: Clock,
    pub(super) node: String,
    pub(super) retention: RetentionSection,
    /// What the witnesses have cosigned.
    pub(super) standing: watch::Receiver<Cosigned>,
}

/// Why a removal does not go on now.
enum Pause {
    Store(StoreError),
    /// The log is closed, or its entry cannot be written.
    Log,
    /// What a step found was changed meanwhile, or somebody was in its way.
    Rejected,
}

impl From<StoreError> for Pause {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a pass over the log has found, since its last step and in all.
#[derive(Default)]
struct Pass {
    step_entries: IndexRanges,
    step_threads: Vec<ExchangeId>,
    threads_seen: HashSet<ExchangeId>,
    /// Those that run: nothing of them is taken away.
    running: HashSet<ExchangeId>,
    included: BTreeSet<u64>,
    entries: u64,
    threads: u64,
    obstacles: Vec<String>,
    partitions: Partitions,
}

impl Remover {
    /// Works until `stop` ends.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) {
        tokio::select! {
            // Each step is whole in itself: one that is cut off here is taken up at the next start.
            () = stop => {}
            () = self.work() => {}
        }
    }

    async fn work(&self) {
        loop {
            let wait = match self.store.open_removal().await {
                Ok(Some(_)) => match self.carry_out_alone().await {
                    Ok(true) => Duration::ZERO,
                    Err(Pause::Store(error)) => {
                        tracing::warn!(%error, "a removal cannot go on");
                        LOOK_EVERY
                    }
                    // Another gateway is at it, or the log takes no entries.
                    Ok(false) | Err(Pause::Log | Pause::Rejected) => LOOK_EVERY,
                },
                Ok(None) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "removals cannot be read");
                    LOOK_EVERY
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Carries out the oldest removal, unless another gateway is at it.
    async fn carry_out_alone(&self) -> Result<bool, Pause> {
        let Some(_duty) = self.store.take_duty("removals").await? else { return Ok(false) };
        // Read again: another may have been at it, and done.
        let Some(removal) = self.store.open_removal().await? else { return Ok(true) };
        self.carry_out(&removal).await?;
        Ok(true)
    }

    async fn carry_out(&self, removal: &RemovalRecord) -> Result<(), Pause> {
        // One that had begun to remove before the gateway stopped was counted then.
        if removal.state == RemovalState::Counting {
            let found = self.pass(removal, false).await?;
            let is_refused = removal.kind != RemovalKind::Retention && !found.obstacles.is_empty();
            if removal.dry_run || is_refused {
                let state = if is_refused { RemovalState::Refused } else { RemovalState::Counted };
                return self.end(removal, state, Some((found.entries, found.threads)), found.obstacles).await;
            }
        }
        let found = self.pass(removal, true).await?;
        if self.retention.detached == Detached::Drop {
            self.store.drop_detached(self.clock.now()).await?;
        }
        if removal.kind != RemovalKind::Retention {
            self.store.rebuild_moving_tables().await?;
        }
        // What was removed still stands in the write-ahead log as it was before.
        while !self.store.empty_write_ahead_log().await? {
            tokio::time::sleep(TRY_AGAIN).await;
        }
        self.end(removal, RemovalState::Done, None, found.obstacles).await
    }

    /// Looks through the log, and removes what it finds if it is to.
    async fn pass(&self, removal: &RemovalRecord, removes: bool) -> Result<Pass, Pause> {
        let state = if removes { RemovalState::Removing } else { RemovalState::Counting };
        let now = self.clock.now();
        let mut pass = Pass::default();
        self.store.note_removal(&removal.removal_id, state, 0).await?;
        // Those of a person are found by their entries.
        let old = match removal.kind {
            RemovalKind::Subject => Vec::new(),
            _ => self.store.threads_before(self.latest(removal, now)).await?,
        };
        for (thread, kind, updated) in old {
            let is_past = updated < self.retention.end_of_kind(&kind, now);
            if removal.kind == RemovalKind::Period || is_past {
                self.take_thread(removal, &mut pass, thread, removes).await?;
            }
        }
        self.take_step(removal, &mut pass, removes).await?;
        let head = self.store.head().await?;
        let size = head.map_or(0, |head| head.size);
        let open_from = self.store.open_from().await?;
        let end = match removal.kind {
            // What the start of the gateway reads stays: the tail since the last full tile, and what is open; and what
            // no quorum of witnesses has cosigned, the first of which tells how far they lag behind.
            RemovalKind::Retention => {
                open_from.min(size - size % 256).min(self.standing.borrow().cosigned_end())
            }
            _ => size,
        };
        if removes && removal.kind == RemovalKind::Retention {
            pass.partitions = Partitions::below(end, self.store.entry_partitions().await?);
        }
        let (mut next, mut is_through) = (0, false);
        'log: while !is_through {
            let page = self.store.removable_entries(next, PAGE).await?;
            next = page.last().map_or(end, |last| last.index + 1);
            for stored in page {
                is_through = stored.index >= end;
                let entry = Entry::from_json(&stored.entry);
                let is_later = |entry: &Entry| entry.recorded > self.latest(removal, now) + CLOCK_SLACK;
                if is_through || entry.as_ref().is_ok_and(is_later) {
                    break 'log;
                }
                self.come_to(removal, &mut pass, stored.index).await?;
                let is_taken = match entry {
                    Ok(entry) => self.take_entry(removal, &mut pass, &stored, &entry, now, removes).await?,
                    Err(_) => false,
                };
                if !is_taken {
                    self.keep(removal, &mut pass, stored.index).await?;
                }
            }
            self.store.note_removal(&removal.removal_id, state, next.min(end)).await?;
            is_through = next >= end;
        }
        if is_through {
            self.come_to(removal, &mut pass, end).await?;
        }
        self.take_step(removal, &mut pass, removes).await?;
        Ok(pass)
    }

    /// Nothing recorded or changed after it is concerned.
    fn latest(&self, removal: &RemovalRecord, now: Timestamp) -> Timestamp {
        match removal.kind {
            RemovalKind::Subject => now,
            RemovalKind::Period => removal.before.unwrap_or(Timestamp::MIN),
            RemovalKind::Retention => self.retention.earliest_end(now),
        }
    }

    async fn take_entry(
        &self,
        removal: &RemovalRecord,
        pass: &mut Pass,
        stored: &RemovableEntry,
        entry: &Entry,
        now: Timestamp,
        removes: bool,
    ) -> Result<bool, Pause> {
        let thread = entry.exchange.map(ExchangeId::new);
        let wanted = match removal.kind {
            RemovalKind::Subject => {
                let named =
                    entry.subject.as_ref().is_some_and(|subject| removal.pseudonyms.contains(subject))
                        || entry.request_index.is_some_and(|request| pass.included.contains(&request));
                if named {
                    pass.included.insert(stored.index);
                    if let Some(thread) = thread {
                        self.take_thread(removal, pass, thread, removes).await?;
                    }
                }
                let of_thread = thread.is_some_and(|thread| pass.threads_seen.contains(&thread));
                let runs = thread.is_some_and(|thread| pass.running.contains(&thread));
                (named || of_thread) && !runs && stored.has_salts
            }
            RemovalKind::Period => {
                let runs = thread.is_some_and(|thread| pass.running.contains(&thread));
                entry.recorded < self.latest(removal, now) && !runs && stored.has_salts
            }
            // What tells of a removal is kept: without it nobody could say why something is gone.
            RemovalKind::Retention => {
                entry.removal.is_none()
                    && entry.recorded < self.retention.end_of_method(&entry.method, now)
                    && match thread {
                        Some(thread) => {
                            pass.threads_seen.contains(&thread) || !self.store.keeps_exchange(&thread).await?
                        }
                        None => true,
                    }
            }
        };
        if wanted {
            pass.entries += 1;
            pass.step_entries.push(stored.index);
            let is_full = if pass.partitions.may_detach() {
                pass.step_entries.ranges().len() > partitions::RANGES
            } else {
                pass.step_entries.count() >= STEP_ENTRIES || pass.step_entries.ranges().len() >= STEP_RANGES
            };
            if is_full {
                self.take_step(removal, pass, removes).await?;
            }
        }
        Ok(wanted)
    }

    async fn take_thread(
        &self,
        removal: &RemovalRecord,
        pass: &mut Pass,
        thread: ExchangeId,
        removes: bool,
    ) -> Result<(), Pause> {
        if pass.threads_seen.contains(&thread) {
            return Ok(());
        }
        match self.store.standing(&thread).await? {
            Standing::Running if removal.kind == RemovalKind::Retention => return Ok(()),
            Standing::Running => {
                pass.running.insert(thread);
                if pass.obstacles.len() < OBSTACLES_NAMED {
                    pass.obstacles.push(thread.to_string());
                }
            }
            Standing::Gone => {}
            Standing::Erased if removal.kind != RemovalKind::Retention => {}
            Standing::Erased | Standing::Ended => {
                pass.threads += 1;
                pass.step_threads.push(thread);
            }
        }
        pass.threads_seen.insert(thread);
        if pass.step_threads.len() >= STEP_THREADS {
            self.take_step(removal, pass, removes).await?;
        }
        Ok(())
    }

    /// Removes what was found since the last step, entry by entry in their rows, and tells of it.
    async fn take_step(&self, removal: &RemovalRecord, pass: &mut Pass, removes: bool) -> Result<(), Pause> {
        let (mut entries, mut threads) =
            (std::mem::take(&mut pass.step_entries), std::mem::take(&mut pass.step_threads));
        pass.partitions.go_by_rows();
        // What was put off in the hope of detaching a partition is more than a step.
        while removes && !(entries.is_empty() && threads.is_empty()) {
            let first = entries.take_first(STEP_ENTRIES, STEP_RANGES);
            self.append_step(removal, first, std::mem::take(&mut threads), None).await?;
        }
        Ok(())
    }

    /// Appends the entry of a step.
    async fn append_step(
        &self,
        removal: &RemovalRecord,
        entries: IndexRanges,
        threads: Vec<ExchangeId>,
        detaches: Option<Detaching>,
    ) -> Result<(), Pause> {
        let method = if removal.kind == RemovalKind::Retention { "Pruned" } else { "Erased" };
        self.append(removal, method, None, |said, at| {
            said.ranges = (!entries.is_empty()).then(|| entries.clone());
            said.exchanges = (!threads.is_empty()).then_some(threads.len() as u64);
            Effect::Remove(Box::new(RemovalStep {
                removal_id: removal.removal_id,
                kind: removal.kind,
                entries: entries.clone(),
                threads: threads.clone(),
                detaches: detaches.clone(),
                by: removal.caller,
                at,
            }))
        })
        .await
    }

    /// Ends a removal. What it came to is what a count found, or what its steps added up; `obstacles` are the exchanges
    /// that were left alone, since they run.
    async fn end(
        &self,
        removal: &RemovalRecord,
        state: RemovalState,
        counts: Option<(u64, u64)>,
        obstacles: Vec<String>,
    ) -> Result<(), Pause> {
        let added_up = self.store.removal(&removal.removal_id, &removal.caller).await?;
        let told = counts.or(added_up.map(|record| (record.entries, record.exchanges)));
        self.append(removal, "RemovalEnded", Some(state), |said, at| {
            (said.entries, said.exchanges) = told.unzip();
            Effect::EndRemoval(RemovalEnd {
                removal_id: removal.removal_id,
                state,
                counts,
                obstacles: obstacles.clone(),
                at,
            })
        })
        .await
    }

    /// Appends an EVENT of the removal, and waits while the log takes none.
    async fn append(
        &self,
        removal: &RemovalRecord,
        method: &'static str,
        state: Option<RemovalState>,
        effect: impl Fn(&mut Removal, Timestamp) -> Effect,
    ) -> Result<(), Pause> {
        loop {
            let now = self.clock.now();
            let mut entry = Entry::from_json(&removal.event).map_err(|_| Pause::Log)?;
            entry.id = entropy::uuid_v7(now);
            (entry.occurred, entry.recorded) = (now, now);
            entry.node.clone_from(&self.node);
            entry.service = REMOVER.into();
            entry.method = method.into();
            entry.reason = state.map(|state| state.as_str().into());
            let effect =
                effect(entry.removal.get_or_insert_with(|| Box::new(Removal::new(removal.kind))), now);
            match self.log.append(entry, Salt(entropy::bytes()), vec![effect]).await {
                Ok(_) => return Ok(()),
                Err(AppendError::Overloaded | AppendError::Unavailable) => {
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                Err(AppendError::Rejected(_)) => return Err(Pause::Rejected),
                Err(AppendError::AlreadyEnded) => return Err(Pause::Log),
            }
        }
    }
}
