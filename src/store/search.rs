//! The search index of the audit log: derived from it, kept behind it, and never in its way.
//!
//! Entries are followed as they are signed. The newest are looked for in memory; every 65,536 go into a file beside the
//! database (see [`file`]). A search waits until all that was signed when it began has been followed, which takes as
//! long as a page of entries takes to read.

mod file;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use self::file::IndexFile;
use super::standby::Standby;
use super::{Store, StoreError};
use crate::audit::entry::Entry;
use crate::audit::log::{SignedHead, Storage as _};
use crate::audit::merkle::Hash;
use crate::audit::search::{CHUNK, Chunk, Key, MalformedList, Query, Span, keys_of};
use crate::audit::tile::TileId;
use crate::audit::verifier::StoredEntry;

/// How long after an entry it is followed, if nobody searches sooner: one reading for many entries.
const BEHIND: Duration = Duration::from_millis(200);

/// Entries read at once.
const READ_AT_ONCE: u64 = 1_024;

/// Chunks that wait in memory for the file; past it, following waits.
const MOST_WAITING: usize = 2;

/// How long a search waits for entries to be followed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Wait after a failure of the index, at first and at most.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Entries looked at for one page. A page may hold fewer than asked although more follow, so that it costs a bounded
/// time even where the index has named entries that were pruned since.
const LOOKED_AT: usize = 20_000;

/// Why a search found nothing out.
#[derive(Debug, Error)]
pub enum SearchError {
    /// Entries are being indexed that a search would have to know.
    #[error("{indexed} of {entries} entries are indexed")]
    Behind {
        /// Entries followed.
        indexed: u64,
        /// Entries of the log.
        entries: u64,
    },
    /// The index is not this log's, or not whole. It is made anew.
    #[error("the search index is not sound: {0}")]
    Unsound(&'static str),
    /// The log, or the index's file, cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be removed.
    #[error("the search index cannot be removed: {0}")]
    Remove(#[source] std::io::Error),
}

impl From<MalformedList> for SearchError {
    fn from(_: MalformedList) -> Self {
        Self::Unsound("a list is malformed")
    }
}

impl From<sqlx::Error> for SearchError {
    fn from(error: sqlx::Error) -> Self {
        /// SQLite's primary codes for a file that is no database, or no whole one.
        const CORRUPT: i32 = 11;
        const NOT_A_DATABASE: i32 = 26;
        /// Read behind the file's end: it was cut.
        const SHORT_READ: i32 = 522;
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
        match (code, &error) {
            (Some(code), _) if code == SHORT_READ || [CORRUPT, NOT_A_DATABASE].contains(&(code & 0xff)) => {
                Self::Unsound("its file is damaged")
            }
            // It was closed under the search, to be made anew.
            (_, sqlx::Error::PoolClosed) => Self::Behind { indexed: 0, entries: 0 },
            (_, sqlx::Error::ColumnDecode { .. } | sqlx::Error::RowNotFound) => {
                Self::Unsound("a row is not what was written")
            }
            _ => Self::Store(error.into()),
        }
    }
}

/// Entries found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order asked for.
    pub entries: Vec<StoredEntry>,
    /// Where the next page begins: what is left of the range that was searched.
    pub rest: Option<Range<u64>>,
}

/// What a page is to be.
#[derive(Clone, Debug)]
pub struct PageOf {
    /// Indices to look among; all of them under a signed head.
    pub within: Range<u64>,
    /// Whether the newest come first.
    pub newest_first: bool,
    /// At most so many entries.
    pub entries: usize,
    /// About so many bytes of entries at most.
    pub bytes: usize,
}

/// How fast the file is written: while the log is written to, half of the time is left to it.
struct Pace {
    head: watch::Receiver<SignedHead>,
    /// The log's size at the last pause.
    seen: AtomicU64,
}

impl Pace {
    /// Waits as long as was worked if the log has grown meanwhile.
    async fn pause(&self, worked: Duration) {
        let size = self.head.borrow().size;
        if self.seen.swap(size, Ordering::Relaxed) == size {
            tokio::task::yield_now().await;
        } else {
            sleep(worked).await;
        }
    }
}

/// The index of one log. Cheap to clone.
#[derive(Clone)]
pub struct SearchIndex(Arc<Inner>);

struct Inner {
    store: Store,
    /// Entries that were found are read from here where it has them.
    standby: Option<Standby>,
    path: PathBuf,
    /// What searches look into; `None` until the file is open and is this log's.
    live: RwLock<Option<Live>>,
    /// Entries followed so far.
    followed: watch::Sender<u64>,
    /// A search waits.
    wanted: Notify,
    /// A chunk waits for the file, or has gone there.
    moved: Notify,
    /// What a search found wrong.
    unsound: Mutex<Option<&'static str>>,
    found_unsound: Notify,
}

struct Live {
    file: Arc<IndexFile>,
    /// Full chunks that are not in the file yet, oldest first.
    waiting: VecDeque<Arc<Chunk>>,
    /// The chunk that fills.
    growing: Chunk,
}

impl Live {
    /// Index of the first entry that is not looked for in the file.
    fn start(&self) -> u64 {
        self.waiting.front().map_or(self.growing.start(), |chunk| chunk.start())
    }

    /// At most `limit` indices of entries in memory.
    fn search(
        &self,
        keys: &[Key],
        span: Span,
        within: &Range<u64>,
        newest_first: bool,
        limit: usize,
    ) -> Vec<u64> {
        let mut found = Vec::new();
        let mut look = |chunk: &Chunk| {
            let is_outside = within.end <= chunk.start() || within.start >= chunk.end();
            if !is_outside
                && found.len() < limit
                && let Some(bits) = chunk.select(keys, span)
            {
                found.extend(Chunk::indices(chunk.number(), bits, within, newest_first, limit - found.len()));
            }
        };
        let waiting = self.waiting.iter().map(Arc::as_ref);
        if newest_first {
            look(&self.growing);
            waiting.rev().for_each(look);
        } else {
            waiting.for_each(&mut look);
            look(&self.growing);
        }
        found
    }
}

impl SearchIndex {
    /// The index in the file `path`, in a folder that this process may write. It answers once it is [kept](Self::keep).
    pub fn at(path: PathBuf, store: Store) -> Self {
        Self::reading_from(path, store, None)
    }

    /// The same; the entries of a page are read from a standby of the store's where that has them all.
    pub fn reading_from(path: PathBuf, store: Store, standby: Option<Standby>) -> Self {
        Self(Arc::new(Inner {
            store,
            standby,
            path,
            live: RwLock::default(),
            followed: watch::Sender::new(0),
            wanted: Notify::new(),
            moved: Notify::new(),
            unsound: Mutex::default(),
            found_unsound: Notify::new(),
        }))
    }

    /// A page of entries that a query is for. Everything in `of.within` is looked at, up to the newest.
    ///
    /// # Errors
    /// [`SearchError::Behind`] when entries in `of.within` are not indexed yet; otherwise when the log cannot be read.
    pub async fn page(&self, query: &Query, of: PageOf) -> Result<Page, SearchError> {
        let PageOf { mut within, newest_first, entries: most, bytes: most_bytes } = of;
        if within.is_empty() {
            return Ok(Page::default());
        }
        let alternatives = query.alternatives();
        if !query.is_everything() {
            self.reach(within.end).await?;
        }
        let (mut entries, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
        // One more than the page takes says whether there is another page.
        let mut wanted = most + 1;
        loop {
            let (found, is_last, rest) = if query.is_everything() {
                let found = self.entries_in(within.clone(), newest_first, wanted).await?;
                let rest = found.last().map(|last| after(last.index, &within, newest_first));
                let is_last = found.len() < wanted;
                (found, is_last, rest)
            } else {
                let candidates =
                    self.candidates(&alternatives, query.recorded, &within, newest_first, wanted).await?;
                let rest = candidates.last().map(|last| after(*last, &within, newest_first));
                looked_at += candidates.len();
                let found = self.entries_at(&candidates, newest_first).await?;
                (found, candidates.len() < wanted, rest)
            };
            for stored in found {
                if !is_for(query, &stored) {
                    continue;
                }
                if entries.len() == most || bytes > most_bytes {
                    return Ok(Page { entries, rest: Some(from(stored.index, &within, newest_first)) });
                }
                bytes += stored.entry.len();
                entries.push(stored);
            }
            match rest {
                Some(rest) if !is_last && !rest.is_empty() => within = rest,
                _ => return Ok(Page { entries, rest: None }),
            }
            if looked_at >= LOOKED_AT {
                return Ok(Page { entries, rest: Some(within) });
            }
            wanted = (wanted * 2).clamp(64, 4_096);
        }
    }

    async fn entries_in(
        &self,
        within: Range<u64>,
        newest_first: bool,
        wanted: usize,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        if let Some(standby) = self.standby_with(within.end).await
            && let Ok(found) = standby.entries_in(within.clone(), newest_first, wanted).await
        {
            return Ok(found);
        }
        self.0.store.entries_in(within, newest_first, wanted).await
    }

    async fn entries_at(&self, indices: &[u64], newest_first: bool) -> Result<Vec<StoredEntry>, StoreError> {
        let end = indices.iter().max().map_or(0, |last| last + 1);
        if let Some(standby) = self.standby_with(end).await
            && let Ok(found) = standby.entries_at(indices, newest_first).await
        {
            return Ok(found);
        }
        self.0.store.entries_at(indices, newest_first).await
    }

    /// The standby, where it has all entries below `end`, and no less of the log than was followed: what was erased is erased there.
    async fn standby_with(&self, end: u64) -> Option<&Store> {
        self.0.standby.as_ref()?.with(end.max(self.followed())).await
    }

    /// Entries followed so far.
    pub fn followed(&self) -> u64 {
        *self.0.followed.borrow()
    }

    /// Whether nothing is left to do: every full chunk is in the file, and no runs wait to be merged.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn is_settled(&self) -> Result<bool, SearchError> {
        let file = {
            let live = self.0.live.read().unwrap_or_else(PoisonError::into_inner);
            live.as_ref().filter(|live| live.waiting.is_empty()).map(|live| Arc::clone(&live.file))
        };
        let Some(file) = file else { return Ok(false) };
        match file.next_step().await {
            Ok(step) => Ok(step.is_none() && file.len() == self.followed() / CHUNK),
            Err(SearchError::Behind { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Follows the log until the log ends: opens the file, makes it anew where it is not this log's, and keeps it behind
    /// the entries that come. What fails is tried again; searches meanwhile are told that the index is behind.
    pub async fn keep(&self, head: watch::Receiver<SignedHead>) {
        let mut retry = FIRST_RETRY;
        loop {
            let Err(error) = self.keep_once(head.clone()).await else { return };
            let live = self.0.live.write().unwrap_or_else(PoisonError::into_inner).take();
            self.0.followed.send_replace(0);
            if let Some(live) = live {
                live.file.close().await;
            }
            let removed = match error {
                SearchError::Unsound(reason) => {
                    tracing::warn!(reason, path = %self.0.path.display(), "the search index is made anew");
                    IndexFile::remove(&self.0.path).map_err(SearchError::Remove)
                }
                other => Err(other),
            };
            match removed {
                Ok(()) => retry = FIRST_RETRY,
                Err(error) => {
                    let path = self.0.path.display();
                    tracing::warn!(%error, %path, "the search index cannot be kept; it is tried again");
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
            sleep(retry).await;
        }
    }

    /// Closes the file, once nobody keeps the index any more.
    pub async fn close(&self) {
        if let Some(standby) = &self.0.standby {
            standby.close().await;
        }
        let live = self.0.live.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(live) = live {
            live.file.close().await;
        }
    }

    async fn keep_once(&self, head: watch::Receiver<SignedHead>) -> Result<(), SearchError> {
        *self.0.unsound.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let file = Arc::new(IndexFile::open(&self.0.path).await?);
        let size = head.borrow().size;
        let checked = self.check(&file, size).await;
        if checked.is_err() {
            file.close().await;
        }
        checked?;
        let start = file.len();
        let live = Live { file: Arc::clone(&file), waiting: VecDeque::new(), growing: Chunk::new(start) };
        *self.0.live.write().unwrap_or_else(PoisonError::into_inner) = Some(live);
        self.0.followed.send_replace(start * CHUNK);
        tokio::select! {
            outcome = self.follow(head.clone()) => outcome,
            outcome = self.maintain(&file, head) => outcome,
            () = self.0.found_unsound.notified() => {
                let reason = self.0.unsound.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(SearchError::Unsound(reason.unwrap_or("a search failed")))
            }
        }
    }

    /// Whether the file is an index of this log, and of no more than there is of it.
    async fn check(&self, file: &IndexFile, size: u64) -> Result<(), SearchError> {
        let end = file.len() * CHUNK;
        if end > size {
            return Err(SearchError::Unsound("it is ahead of the log"));
        }
        if let Some(last) = file.last_leaf().await?
            && self.last_leaf(end).await?.as_bytes().as_slice() != last
        {
            return Err(SearchError::Unsound("it is of another log"));
        }
        Ok(())
    }

    /// The leaf hash of the last entry below `end`, which is the end of a chunk.
    async fn last_leaf(&self, end: u64) -> Result<Hash, SearchError> {
        let id = TileId { level: 0, index: (end / 256).saturating_sub(1) };
        let tiles = self.0.store.tiles(&[id]).await?;
        let missing = StoreError::Inconsistent { table: "audit_tiles", column: "hashes" };
        Ok(*tiles.get(id).and_then(|hashes| hashes.get(255)).ok_or(missing)?)
    }

    /// Reads entries as they are signed.
    async fn follow(&self, mut head: watch::Receiver<SignedHead>) -> Result<(), SearchError> {
        loop {
            let size = head.borrow_and_update().size;
            while self.followed() < size {
                self.follow_some(size).await?;
            }
            if head.changed().await.is_err() {
                return Ok(());
            }
            let _ = timeout(BEHIND, self.0.wanted.notified()).await;
        }
    }

    /// Follows some of the entries below `size`: as this gateway has written them, or else read back.
    async fn follow_some(&self, size: u64) -> Result<(), SearchError> {
        let (next, chunk_end) = loop {
            let moved = self.0.moved.notified();
            {
                let live = self.0.live.read().unwrap_or_else(PoisonError::into_inner);
                let Some(live) = live.as_ref() else { return Err(SearchError::Unsound("it was closed")) };
                if live.waiting.len() < MOST_WAITING {
                    break (live.growing.next(), live.growing.end());
                }
            }
            moved.await;
        };
        let stop = size.min(chunk_end);
        let limit = READ_AT_ONCE.min(stop - next);
        let (stored, end) = match self.0.store.recent.take(&(next..next + limit)) {
            Some(stored) => {
                let end = next + stored.len() as u64;
                (stored, end)
            }
            None => {
                let stored = self.0.store.entries(next, limit as u32).await?;
                // What is pruned leaves gaps.
                let is_last = (stored.len() as u64) < limit;
                let end = stored.last().filter(|_| !is_last).map_or(stop, |last| stop.min(last.index + 1));
                (stored, end)
            }
        };
        let mut read = Vec::with_capacity(stored.len());
        for stored in stored.iter().filter(|stored| stored.index < stop) {
            let Some((keys, recorded)) = keys_of(&stored.entry) else { continue };
            read.push((stored.index, keys, recorded));
        }
        let mut live = self.0.live.write().unwrap_or_else(PoisonError::into_inner);
        let Some(live) = live.as_mut() else { return Err(SearchError::Unsound("it was closed")) };
        for (index, keys, recorded) in read {
            live.growing.add(index, &keys, recorded);
        }
        live.growing.skip_to(end);
        if live.growing.is_full() {
            let fresh = Chunk::new(live.growing.number() + 1);
            live.waiting.push_back(Arc::new(std::mem::replace(&mut live.growing, fresh)));
            self.0.moved.notify_waiters();
        }
        self.0.followed.send_replace(end);
        Ok(())
    }

    /// Moves full chunks into the file, and merges there.
    async fn maintain(&self, file: &IndexFile, head: watch::Receiver<SignedHead>) -> Result<(), SearchError> {
        let seen = AtomicU64::new(head.borrow().size);
        let pace = Pace { head, seen };
        loop {
            let moved = self.0.moved.notified();
            let waiting = {
                let live = self.0.live.read().unwrap_or_else(PoisonError::into_inner);
                live.as_ref().and_then(|live| live.waiting.front().cloned())
            };
            if let Some(chunk) = waiting {
                let last_leaf = self.last_leaf(chunk.end()).await?;
                file.write(&chunk, &last_leaf, &pace).await?;
                let mut live = self.0.live.write().unwrap_or_else(PoisonError::into_inner);
                live.as_mut().and_then(|live| live.waiting.pop_front());
                self.0.moved.notify_waiters();
            } else if let Some(step) = file.next_step().await? {
                file.take(&step, &pace).await?;
            } else {
                moved.await;
            }
        }
    }

    /// Waits until all entries below `end` have been followed.
    async fn reach(&self, end: u64) -> Result<(), SearchError> {
        let mut followed = self.0.followed.subscribe();
        self.0.wanted.notify_one();
        let reached = timeout(PATIENCE, followed.wait_for(|followed| *followed >= end)).await.is_ok();
        if reached { Ok(()) } else { Err(SearchError::Behind { indexed: self.followed(), entries: end }) }
    }

    /// At most `limit` indices in `within`, in the order asked for: all that the query is for, and maybe others.
    async fn candidates(
        &self,
        alternatives: &[Vec<Key>],
        span: Span,
        within: &Range<u64>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<u64>, SearchError> {
        let mut found = Vec::new();
        for keys in alternatives {
            let (file, in_memory, start) = {
                let live = self.0.live.read().unwrap_or_else(PoisonError::into_inner);
                let behind = SearchError::Behind { indexed: 0, entries: within.end };
                let live = live.as_ref().ok_or(behind)?;
                let in_memory = live.search(keys, span, within, newest_first, limit);
                (Arc::clone(&live.file), in_memory, live.start())
            };
            let left = if newest_first { limit - in_memory.len() } else { limit };
            let in_file = within.start..within.end.min(start);
            let in_file = match file.search(keys, span, in_file, newest_first, left).await {
                Err(SearchError::Unsound(reason)) => {
                    *self.0.unsound.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                    self.0.found_unsound.notify_one();
                    return Err(SearchError::Behind { indexed: 0, entries: within.end });
                }
                Err(SearchError::Behind { .. }) => {
                    return Err(SearchError::Behind { indexed: 0, entries: within.end });
                }
                found => found?,
            };
            if newest_first {
                found.extend(in_memory.into_iter().chain(in_file));
            } else {
                found.extend(in_file.into_iter().chain(in_memory).take(limit));
            }
        }
        if alternatives.len() > 1 {
            found.sort_unstable();
            found.dedup();
            if newest_first {
                found.reverse();
            }
            found.truncate(limit);
        }
        Ok(found)
    }
}

fn is_for(query: &Query, stored: &StoredEntry) -> bool {
    query.is_everything() || Entry::from_json(&stored.entry).is_ok_and(|entry| query.matches(&entry))
}

/// What is left of a range behind an index.
fn after(index: u64, within: &Range<u64>, newest_first: bool) -> Range<u64> {
    if newest_first { within.start..index } else { index + 1..within.end }
}

/// What is left of a range from an index on.
fn from(index: u64, within: &Range<u64>, newest_first: bool) -> Range<u64> {
    if newest_first { within.start..index + 1 } else { index..within.end }
}

#[cfg(test)]
mod tests;
