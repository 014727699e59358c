//! The log as a folder of static files (C2SP `tlog-tiles`): fetched from a gateway, and verified.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::DEADLINE;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::merkle::{Hash, leaf_hash};
use crate::audit::note::VerifyingKey;
use crate::audit::published::{Resource, decode_tile, encode_bundle, encode_tile};
use crate::audit::tile::{TILE_WIDTH, TileId, TileWriter};
use crate::audit::verifier::{Report, verify_published};
use crate::cli::output::explain;
use crate::client::AgencyClient;
use crate::grpc::proto;

/// Entries asked for at once.
const ENTRIES_AT_ONCE: u64 = 1024;

/// What publishing came to.
pub(super) struct Published {
    /// Entries under the checkpoint.
    pub(super) size: u64,
    /// Entries that the folder's checkpoint did not cover before.
    pub(super) new: u64,
    /// Entries that were read for it: all of a bundle that was not full.
    pub(super) fetched: u64,
    /// Those among them of which only the hash was left.
    pub(super) pruned: u64,
}

/// Brings a folder up to the gateway's newest checkpoint. What is there already is not fetched again; the checkpoint is
/// put in place last, so that a run which was cut off leaves the earlier one and can be repeated.
pub(super) async fn publish(
    client: &AgencyClient,
    purpose: &str,
    folder: &Path,
) -> anyhow::Result<Published> {
    let folder = Folder(folder.to_owned());
    folder.expect_published()?;
    let earlier = match folder.read(Resource::Checkpoint)? {
        None => None,
        Some(note) => Some(read_checkpoint(&note).context("the folder's checkpoint cannot be read")?),
    };
    let request = proto::GetCheckpointRequest { context: Some(client.context(purpose)) };
    let answer = client.audit().get_checkpoint(client.request(request, DEADLINE)).await;
    let note = answer.map_err(|status| explain(&status))?.into_inner().checkpoint;
    let checkpoint = read_checkpoint(note.as_bytes()).context("the gateway's checkpoint cannot be read")?;
    if let Some(earlier) = &earlier {
        succeeds(earlier, &checkpoint)?;
    }
    let Checkpoint { size, root, .. } = checkpoint;
    let bar = bar(size);
    let mut fetcher = Fetcher { client, purpose, size, fetched: 0, pruned: 0, waiting: VecDeque::new() };
    let mut tree = TileWriter::new();
    while tree.size() < size {
        let tile = TileId { level: 0, index: tree.size() / TILE_WIDTH as u64 };
        let width = tile.width_at(size);
        let bundle = Resource::Entries { index: tile.index, width };
        let kept = Resource::Kept { index: tile.index, width };
        let hashes = match folder.leaf_hashes(tile, width)? {
            Some(hashes) if folder.has(bundle) || folder.has(kept) => hashes,
            _ => {
                let entries = fetcher.take(tree.size(), width).await?;
                let is_pruned = entries.iter().any(|stored| stored.entry.is_empty());
                // Each entry of a bundle hashes to its leaf (C2SP); what was pruned cannot.
                let bundle = if is_pruned { kept } else { bundle };
                folder
                    .write(bundle, &encode_bundle(entries.iter().map(|stored| stored.entry.as_slice()))?)?;
                entries.iter().map(leaf).collect::<Result<_, _>>()?
            }
        };
        for hash in hashes {
            tree.append(hash);
            let rewritten = earlier
                .as_ref()
                .is_some_and(|earlier| earlier.size == tree.size() && earlier.root != tree.root());
            if rewritten {
                bail!(
                    "the gateway's entries do not lead to the checkpoint of {} entries that {} has: one of the two was \
                     changed; keep both, and run `audit verify` on the folder",
                    tree.size(),
                    folder.0.display()
                );
            }
        }
        folder.write_new(tree.take_filled())?;
        bar.set_position(tree.size());
    }
    bar.finish_and_clear();
    if tree.root() != root {
        bail!(
            "the entries do not give the root that the gateway's checkpoint names, so the checkpoint was not put in \
             place; begin with a new folder, and if it is the same there, the gateway's log is not what it signs"
        );
    }
    folder.write_new(tree.take_dirty())?;
    folder.write(Resource::Checkpoint, note.as_bytes())?;
    let had = earlier.map_or(0, |earlier| earlier.size);
    Ok(Published { size, new: size - had, fetched: fetcher.fetched, pruned: fetcher.pruned })
}

/// The leaf hash of an entry. Of a pruned one it is the recorded hash, which the checkpoint's root shows to be right.
fn leaf(stored: &proto::AuditEntry) -> anyhow::Result<Hash> {
    if stored.entry.is_empty() {
        return Ok(Hash::from_slice(&stored.leaf_hash)?);
    }
    Ok(leaf_hash(&stored.entry))
}

/// Verifies the log in a folder under the log's public key, and that it contains the earlier checkpoints.
pub(super) fn verify_folder(path: &Path, key: &VerifyingKey, earlier: &[String]) -> anyhow::Result<Report> {
    let folder = Folder(path.to_owned());
    folder.expect_published()?;
    let note = folder.read(Resource::Checkpoint)?;
    let note = note.ok_or_else(|| {
        anyhow!(
            "{} has no file `checkpoint`: it is no published log, or its export was cut off",
            path.display()
        )
    })?;
    let note = String::from_utf8(note).context("the checkpoint is not text")?;
    let bar = bar(Checkpoint::open(&note, key).map_or(0, |checkpoint| checkpoint.size));
    let report = verify_published(&note, key, earlier, |resource| {
        if let Resource::Entries { index, .. } = resource {
            bar.set_position(index * TILE_WIDTH as u64);
        }
        Ok(folder.read(resource)?)
    });
    bar.finish_and_clear();
    Ok(report?)
}

/// A checkpoint as the gateway gives it. Its signature is not looked at: who publishes a log may not have its key, and
/// who verifies the folder does.
fn read_checkpoint(note: &[u8]) -> anyhow::Result<Checkpoint> {
    Ok(Checkpoint::read_unverified(std::str::from_utf8(note)?)?)
}

/// Whether the later checkpoint can follow the earlier one.
fn succeeds(earlier: &Checkpoint, later: &Checkpoint) -> anyhow::Result<()> {
    if earlier.origin != later.origin {
        bail!(
            "the folder holds the log {}, the gateway's is {}; take another folder",
            earlier.origin,
            later.origin
        );
    }
    if earlier.size > later.size {
        bail!(
            "the folder holds {} entries, the gateway's log has {}: the gateway may run on a restored backup; keep the \
             folder as evidence and tell its operator",
            earlier.size,
            later.size
        );
    }
    Ok(())
}

/// Reads entries from the gateway in order.
struct Fetcher<'c> {
    client: &'c AgencyClient,
    purpose: &'c str,
    /// Entries under the checkpoint; those beyond are left to the next run.
    size: u64,
    fetched: u64,
    pruned: u64,
    /// Read and not yet taken.
    waiting: VecDeque<proto::AuditEntry>,
}

impl Fetcher<'_> {
    /// The `count` entries from index `first`, which is never less than in the call before.
    async fn take(&mut self, first: u64, count: usize) -> anyhow::Result<Vec<proto::AuditEntry>> {
        self.waiting.retain(|stored| stored.index >= first);
        while self.waiting.len() < count {
            let next = first + self.waiting.len() as u64;
            let most = ENTRIES_AT_ONCE.min(self.size - next);
            let request = proto::GetEntriesRequest {
                context: Some(self.client.context(self.purpose)),
                first: next,
                count: u32::try_from(most)?,
            };
            let answer = self.client.audit().get_entries(self.client.request(request, DEADLINE)).await;
            let entries = answer.map_err(|status| explain(&status))?.into_inner().entries;
            let in_order = (next..).zip(&entries).all(|(index, stored)| stored.index == index);
            if entries.is_empty() || entries.len() as u64 > most || !in_order {
                bail!("the gateway gave other entries than those from {next} on");
            }
            self.waiting.extend(entries);
        }
        self.fetched += count as u64;
        let taken: Vec<_> = self.waiting.drain(..count).collect();
        self.pruned += taken.iter().filter(|stored| stored.entry.is_empty()).count() as u64;
        Ok(taken)
    }
}

/// A folder of resources.
struct Folder(PathBuf);

impl Folder {
    fn path(&self, resource: Resource) -> PathBuf {
        self.0.join(resource.path())
    }

    fn has(&self, resource: Resource) -> bool {
        self.path(resource).is_file()
    }

    /// Refuses a folder of something else, such as the gateway's own, which has a file `checkpoint` too.
    fn expect_published(&self) -> anyhow::Result<()> {
        let is_empty = fs::read_dir(&self.0).map_or(true, |mut files| files.next().is_none());
        if is_empty || self.0.join("tile").is_dir() {
            return Ok(());
        }
        bail!(
            "{} has no folder `tile`, and other files: it is no published log; name a new folder, or one that \
             `audit export --tiles` made",
            self.0.display()
        )
    }

    fn read(&self, resource: Resource) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(resource)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The leaf hashes of a tile that is there and whole.
    fn leaf_hashes(&self, tile: TileId, width: usize) -> io::Result<Option<Vec<Hash>>> {
        let bytes = self.read(Resource::Tile { tile, width })?;
        Ok(bytes.and_then(|bytes| decode_tile(&bytes).ok()).filter(|hashes| hashes.len() == width))
    }

    fn write_new(&self, tiles: Vec<(TileId, Vec<Hash>)>) -> anyhow::Result<()> {
        for (tile, hashes) in tiles {
            let resource = Resource::Tile { tile, width: hashes.len() };
            if !self.has(resource) {
                self.write(resource, &encode_tile(&hashes))?;
            }
        }
        Ok(())
    }

    /// Writes a file; a crash leaves the old one or the new one, never half of one.
    fn write(&self, resource: Resource, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(resource);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&self.0))?;
            let fresh = self.0.join(".unfinished");
            let mut file = File::create(&fresh)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            fs::rename(fresh, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A bar on standard error; hidden where that is no terminal.
fn bar(entries: u64) -> ProgressBar {
    let bar = ProgressBar::new(entries);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} entries {eta}") {
        bar.set_style(style);
    }
    bar
}
