//! What the writer remembers of the log, read back from the storage and checked against what was signed.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use super::{OpenError, Orphan, SignedHead, Storage};
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

    pub(super) fn signed_head(&self, key: &SigningKey) -> Result<SignedHead, NoteError> {
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

pub(super) fn sign(key: &SigningKey, size: u64, root: Hash) -> Result<String, NoteError> {
    Checkpoint { origin: key.name().to_owned(), size, root, extensions: Vec::new() }.sign(key)
}
