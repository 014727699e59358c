//! Verification of a published log: entry bundles against tiles against the checkpoint.

use super::{Finding, Report, StoredEntry, Verifier, VerifyError};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::merkle::{Hash, leaf_hash};
use crate::audit::note::VerifyingKey;
use crate::audit::published::{Resource, decode_bundle, decode_tile};
use crate::audit::tile::{TILE_WIDTH, TileId, TileWriter};

/// Why a resource is not read.
type ReadError = Box<dyn std::error::Error + Send + Sync>;

/// Verifies a published log against its own checkpoint and any earlier ones. `read` gives the bytes of a resource, or
/// `None` where there is none. It holds one bundle at a time.
///
/// # Errors
/// [`VerifyError`] if a checkpoint is not signed by `key`, or `read` fails. A log that does not hold what was signed is
/// no error: see [`Report::findings`].
pub fn verify_published(
    checkpoint_note: &str,
    key: &VerifyingKey,
    earlier: &[String],
    mut read: impl FnMut(Resource) -> Result<Option<Vec<u8>>, ReadError>,
) -> Result<Report, VerifyError> {
    let mut verifier = Verifier::start(checkpoint_note, key, earlier)?;
    let size = Checkpoint::open(checkpoint_note, key).map_err(VerifyError::Checkpoint)?.size;
    // Over the published leaf hashes: an entry that was changed is found by itself, and does not make the tiles above
    // it look changed as well.
    let mut tiles = Some(TileWriter::new());
    for index in 0..size.div_ceil(TILE_WIDTH as u64) {
        let tile = TileId { level: 0, index };
        let width = tile.width_at(size);
        let first = index * TILE_WIDTH as u64;
        let mut fetch = |resource| {
            let bytes = read_or_fuller(&mut read, resource);
            bytes.map_err(|reason| VerifyError::Unreadable { next: first, reason })
        };
        let bundle = match fetch(Resource::Entries { index, width })? {
            // Of a pruned bundle there is what was kept.
            None => fetch(Resource::Kept { index, width })?,
            found => found,
        };
        let hashes = fetch(Resource::Tile { tile, width })?;
        let hashes = verifier.opened(Resource::Tile { tile, width }, hashes, open_tile);
        let entries = verifier.opened(Resource::Entries { index, width }, bundle, |bytes| {
            let entries = decode_bundle(bytes).ok()?;
            Some(entries.into_iter().map(<[u8]>::to_vec).collect())
        });
        let entries = entries.unwrap_or_default();
        for (place, entry) in entries.into_iter().take(width).enumerate() {
            let recorded = hashes.as_ref().and_then(|hashes| hashes.get(place)).copied();
            if let Some(tiles) = &mut tiles {
                tiles.append(recorded.unwrap_or_else(|| leaf_hash(&entry)));
            }
            verifier.feed(&StoredEntry { index: first + place as u64, entry, leaf_hash: recorded });
        }
        // Without a leaf, what stands above it is unknown.
        tiles = tiles.filter(|tiles| tiles.size() == first + width as u64);
        let Some(tiles) = &mut tiles else { continue };
        let complete = if tiles.size() == size { tiles.take_dirty() } else { tiles.take_filled() };
        for (tile, wanted) in complete.into_iter().filter(|(tile, _)| tile.level > 0) {
            let resource = Resource::Tile { tile, width: wanted.len() };
            let found = read_or_fuller(&mut read, resource)
                .map_err(|reason| VerifyError::Unreadable { next: tiles.size(), reason })?;
            let found = verifier.opened(resource, found, open_tile);
            if found.is_some_and(|found| found.get(..wanted.len()) != Some(wanted.as_slice())) {
                verifier.find(Finding::File {
                    path: resource.path(),
                    what: "does not follow from the tiles below it",
                });
            }
        }
    }
    Ok(verifier.finish())
}

/// A partial resource may be gone once the full one is there.
fn read_or_fuller(
    read: &mut impl FnMut(Resource) -> Result<Option<Vec<u8>>, ReadError>,
    resource: Resource,
) -> Result<Option<Vec<u8>>, ReadError> {
    let full = match resource {
        Resource::Tile { tile, .. } => Resource::Tile { tile, width: TILE_WIDTH },
        Resource::Entries { index, .. } => Resource::Entries { index, width: TILE_WIDTH },
        Resource::Kept { index, .. } => Resource::Kept { index, width: TILE_WIDTH },
        Resource::Checkpoint => resource,
    };
    match read(resource)? {
        None if full != resource => read(full),
        found => Ok(found),
    }
}

fn open_tile(bytes: &[u8]) -> Option<Vec<Hash>> {
    decode_tile(bytes).ok()
}

impl Verifier {
    /// The hashes or entries in a resource, or a finding that it is missing or has another number of them: as many as its
    /// path says, or all of the full one that was read in its place.
    fn opened<T>(
        &mut self,
        resource: Resource,
        bytes: Option<Vec<u8>>,
        open: impl FnOnce(&[u8]) -> Option<Vec<T>>,
    ) -> Option<Vec<T>> {
        let width = match resource {
            Resource::Tile { width, .. } | Resource::Entries { width, .. } | Resource::Kept { width, .. } => {
                width
            }
            Resource::Checkpoint => return None,
        };
        let is_whole = |opened: &Vec<T>| opened.len() == width || opened.len() == TILE_WIDTH;
        let opened = bytes.ok_or("is missing").and_then(|bytes| {
            open(&bytes).filter(is_whole).ok_or("is cut off, or has more in it than its name says")
        });
        opened.map_err(|what| self.find(Finding::File { path: resource.path(), what })).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::audit::note::SigningKey;
    use crate::audit::published::{encode_bundle, encode_tile};

    const SIZE: u64 = 700;

    type Files = BTreeMap<String, Vec<u8>>;

    fn key() -> SigningKey {
        SigningKey::from_seed("legal-aid.example/audit", &[4; 32]).unwrap()
    }

    fn entry(index: u64) -> Vec<u8> {
        format!("{{\"n\":\"{index}\"}}").into_bytes()
    }

    /// A log of 700 entries as it is published, with its checkpoint.
    fn published() -> (Files, String) {
        let mut writer = TileWriter::new();
        let mut files = Files::new();
        for index in 0..SIZE.div_ceil(256) {
            let range = index * 256..SIZE.min((index + 1) * 256);
            let entries: Vec<_> = range.map(entry).collect();
            entries.iter().for_each(|entry| writer.append(leaf_hash(entry)));
            let bundle = encode_bundle(entries.iter().map(Vec::as_slice)).unwrap();
            files.insert(Resource::Entries { index, width: entries.len() }.path(), bundle);
        }
        for (tile, hashes) in writer.take_dirty() {
            files.insert(Resource::Tile { tile, width: hashes.len() }.path(), encode_tile(&hashes));
        }
        let key = key();
        let checkpoint =
            Checkpoint { origin: key.name().to_owned(), size: SIZE, root: writer.root(), extensions: vec![] };
        (files, checkpoint.sign(&key).unwrap())
    }

    fn verify(files: &Files, note: &str) -> Report {
        let read = |resource: Resource| Ok(files.get(&resource.path()).cloned());
        verify_published(note, key().verifying_key(), &[], read).unwrap()
    }

    #[test]
    fn a_published_log_is_sound_and_has_the_files_that_the_specification_names() {
        let (files, note) = published();
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        let wanted = [
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.p/188",
            "tile/1/000.p/2",
            "tile/entries/000",
            "tile/entries/001",
            "tile/entries/002.p/188",
        ];
        assert_eq!(names, wanted);
        let report = verify(&files, &note);
        assert!(report.is_sound(), "{:?}", report.findings);
        assert_eq!(report.verified_entries, SIZE);
    }

    #[test]
    fn a_changed_bit_in_any_file_is_found_and_named() {
        let (files, note) = published();
        for name in files.keys() {
            let mut changed = files.clone();
            let bytes = changed.get_mut(name).unwrap();
            let last = bytes.len() - 3;
            bytes[last] ^= 1;
            let report = verify(&changed, &note);
            let said: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
            let named = match name.as_str() {
                "tile/0/000" | "tile/entries/000" => "entry 255 was changed",
                "tile/0/001" | "tile/entries/001" => "entry 511 was changed",
                "tile/1/000.p/2" => "tile/1/000.p/2 does not follow",
                _ => "entry 699 was changed",
            };
            assert!(said.iter().any(|said| said.starts_with(named)), "{name}: {said:?}");
        }
    }

    #[test]
    fn a_missing_or_shortened_file_is_found_and_named() {
        let (files, note) = published();
        for name in files.keys() {
            let mut without = files.clone();
            without.remove(name);
            let said: Vec<String> =
                verify(&without, &note).findings.iter().map(ToString::to_string).collect();
            assert!(said.contains(&format!("{name} is missing")), "{name}: {said:?}");
            let whole = &files[name];
            // By a byte, by a hash, and with a hash or an empty entry too many.
            let wrong = [
                &whole[..whole.len() - 1],
                &whole[..whole.len() - 32],
                &[whole, [0; 32].as_slice()].concat(),
            ];
            for bytes in wrong {
                let mut changed = files.clone();
                changed.insert(name.clone(), bytes.to_vec());
                let said: Vec<String> =
                    verify(&changed, &note).findings.iter().map(ToString::to_string).collect();
                assert!(
                    said.iter().any(|said| said.starts_with(&format!("{name} is cut off"))),
                    "{name}: {said:?}"
                );
            }
        }
    }

    #[test]
    fn fuller_files_serve_a_smaller_checkpoint() {
        let (files, _) = published();
        let mut writer = TileWriter::new();
        (0..300).for_each(|index| writer.append(leaf_hash(&entry(index))));
        let key = key();
        let root = writer.root();
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: 300, root, extensions: vec![] };
        let mut files = files;
        files.insert("tile/1/000.p/1".to_owned(), files["tile/1/000.p/2"][..32].to_vec());
        let report = verify(&files, &checkpoint.sign(&key).unwrap());
        assert!(report.is_sound(), "{:?}", report.findings);
        assert_eq!(report.verified_entries, 300);
    }
}
