//! What the writer remembers of the log, read back from the storage and checked against what was signed.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ops::Range;

use jiff::Timestamp;

use super::{Head, OpenError, Orphan, SignedHead, Storage};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::entry::{Entry, Phase};
use crate::audit::merkle::{Hash, leaf_hash};
use crate::audit::note::{NoteError, SigningKey};
use crate::audit::tile::{TileId, TileSet, TileWriter, tiles_for_root};
use crate::audit::verifier::StoredEntry;

/// What the writer keeps in memory of the log: the right edge of the tree and the open REQUESTs.
#[derive(Clone)]
pub(super) struct State {
    pub(super) tree: TileWriter,
    pub(super) open: BTreeSet<u64>,
    pub(super) checkpoint: Option<String>,
    /// No entry of this writer stands at or above this index.
    pub(super) written_to: u64,
    /// When the newest entry was recorded.
    pub(super) recorded: Timestamp,
}

impl State {
    /// Reads and checks what is stored. Also returns the REQUESTs without an end.
    pub(super) async fn load<S: Storage>(
        storage: &S,
        key: &SigningKey,
        known: Option<&str>,
    ) -> Result<(Self, Vec<Orphan>), OpenError> {
        let head = storage.head().await.map_err(unreadable)?;
        let size = head.as_ref().map_or(0, |head| head.size);
        let tiles = storage.tiles(&tiles_for_root(size)).await.map_err(unreadable)?;
        let tree = right_edge(&tiles, size)?;
        if let Some(head) = &head {
            check_signed(head, &tree, key)?;
        }
        let full_tile_end = size - size % 256;
        let tail = storage.entries(full_tile_end, 257).await.map_err(unreadable)?;
        check_tail(&tiles, full_tile_end, size, &tail)?;
        if let Some(known) = known {
            let known = Checkpoint::open(known, key.verifying_key()).map_err(OpenError::KnownCheckpoint)?;
            check_known(storage, &known, size).await?;
        }
        let (open_from, written_to) = head.as_ref().map_or((0, 0), |head| (head.open_from, head.written_to));
        let own = |entry: &Entry| storage.is_own(entry);
        let orphans = orphans(storage, open_from..written_to.min(size), own).await?;
        let open = orphans.iter().map(|orphan| orphan.index).collect();
        let last = tail.last().and_then(|last| Entry::from_json(&last.entry).ok());
        let recorded = head.as_ref().and_then(|head| head.recorded).or(last.map(|entry| entry.recorded));
        let recorded = recorded.unwrap_or(Timestamp::MIN);
        let checkpoint = head.map(|head| head.checkpoint);
        Ok((Self { tree, open, checkpoint, written_to, recorded }, orphans))
    }

    /// What the writer knows after others have written up to `head`: of the tree its new right edge, of the REQUESTs what it
    /// knew before. Tiles that are not among those `at_hand` are read.
    pub(super) async fn follow<S: Storage>(
        &self,
        storage: &S,
        key: &SigningKey,
        head: &Head,
        at_hand: TileSet,
    ) -> Result<Self, OpenError> {
        let own = self.tree.size();
        if head.size <= own {
            return Err(OpenError::Mismatch(format!("{own} entries were written, {} are left", head.size)));
        }
        let needed = tiles_for_root(head.size);
        let tiles = match needed.iter().all(|id| at_hand.get(*id).is_some()) {
            true => at_hand,
            false => storage.tiles(&needed).await.map_err(unreadable)?,
        };
        let tree = right_edge(&tiles, head.size)?;
        check_signed(head, &tree, key)?;
        Ok(Self {
            tree,
            open: self.open.clone(),
            checkpoint: Some(head.checkpoint.clone()),
            written_to: self.written_to,
            recorded: head.recorded.map_or(self.recorded, |recorded| recorded.max(self.recorded)),
        })
    }

    pub(super) fn signed_head(&self, key: &SigningKey) -> Result<SignedHead, NoteError> {
        let (size, root) = (self.tree.size(), self.tree.root());
        let checkpoint = match &self.checkpoint {
            Some(checkpoint) => checkpoint.clone(),
            None => sign(key, size, root)?,
        };
        Ok(SignedHead { size, root, checkpoint: checkpoint.into() })
    }
}

fn right_edge(tiles: &TileSet, size: u64) -> Result<TileWriter, OpenError> {
    TileWriter::resume(size, |id| tiles.get(id).map(<[Hash]>::to_vec))
        .map_err(|error| OpenError::Mismatch(error.to_string()))
}

fn check_signed(head: &Head, tree: &TileWriter, key: &SigningKey) -> Result<(), OpenError> {
    let signed = Checkpoint::open(&head.checkpoint, key.verifying_key())?;
    if signed.size != head.size || signed.root != tree.root() {
        return Err(OpenError::Mismatch(format!("the tiles of {} entries give another root", head.size)));
    }
    Ok(())
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

/// The REQUESTs without an end among the entries of a range, of those that are of one writer.
///
/// # Errors
/// When the storage does not answer, or an entry is missing or cannot be read.
pub async fn orphans<S: Storage>(
    storage: &S,
    range: Range<u64>,
    is_of: impl Fn(&Entry) -> bool,
) -> Result<Vec<Orphan>, OpenError> {
    const PAGE: u32 = 1024;
    let mut open = BTreeMap::new();
    let mut next = range.start;
    while next < range.end {
        let mut page = storage.entries(next, PAGE).await.map_err(unreadable)?;
        page.retain(|stored| stored.index < range.end);
        if page.is_empty() {
            return Err(OpenError::Mismatch(format!("entry {next} is missing")));
        }
        for stored in page {
            next = stored.index + 1;
            let index = stored.index;
            let entry = Entry::from_json(&stored.entry)
                .map_err(|_| OpenError::Mismatch(format!("entry {index} cannot be read")))?;
            if !is_of(&entry) {
                continue;
            }
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

pub(super) fn sign(key: &SigningKey, size: u64, root: Hash) -> Result<String, NoteError> {
    Checkpoint { origin: key.name().to_owned(), size, root, extensions: Vec::new() }.sign(key)
}
