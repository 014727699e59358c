use super::*;
use crate::audit::note::{NoteError, SigningKey};
use crate::audit::tile::tiles_for_root;

/// A log as a database would have it.
#[derive(Clone)]
struct Stored {
    entries: BTreeMap<u64, Vec<u8>>,
    tiles: BTreeMap<TileId, Vec<Hash>>,
    head: Head,
}

fn key() -> SigningKey {
    SigningKey::from_seed("log.example/audit", &[5; 32]).unwrap()
}

fn sign(size: u64, root: Hash) -> String {
    let origin = "log.example/audit".to_owned();
    Checkpoint { origin, size, root, extensions: Vec::new() }.sign(&key()).unwrap()
}

/// A sound log.
fn log(size: u64) -> Stored {
    let entries: BTreeMap<u64, Vec<u8>> =
        (0..size).map(|index| (index, format!("{{\"entry\":\"{index}\"}}").into_bytes())).collect();
    let mut stored = Stored {
        entries,
        tiles: BTreeMap::new(),
        head: Head {
            size,
            root: Hash::from_bytes([0; 32]),
            open_from: 0,
            written_to: size,
            recorded: None,
            checkpoint: String::new(),
        },
    };
    stored.rewrite();
    stored.head.checkpoint = sign(size, stored.head.root);
    stored
}

impl Stored {
    /// Makes tiles and head fit the entries, without a new signature.
    fn rewrite(&mut self) {
        let mut tree = TileWriter::new();
        self.entries.values().for_each(|entry| tree.append(leaf_hash(entry)));
        self.tiles = tree.take_dirty().into_iter().collect();
        (self.head.size, self.head.root) = (tree.size(), tree.root());
    }

    fn swap(&mut self, one: u64, other: u64) {
        let (first, second) = (self.entries[&one].clone(), self.entries[&other].clone());
        self.entries.insert(one, second);
        self.entries.insert(other, first);
    }

    /// Renumbers as if an entry had been put in at `index`.
    fn insert(&mut self, index: u64) {
        for (from, entry) in self.entries.split_off(&index) {
            self.entries.insert(from + 1, entry);
        }
        self.entries.insert(index, b"{}".to_vec());
    }

    /// Renumbers as if the entry at `index` had never been.
    fn take_out(&mut self, index: u64) {
        for (from, entry) in self.entries.split_off(&index).into_iter().skip(1) {
            self.entries.insert(from - 1, entry);
        }
    }

    fn tile(&mut self, level: u8, index: u64) -> &mut Vec<Hash> {
        self.tiles.get_mut(&TileId { level, index }).unwrap()
    }

    fn tiles(&self, ids: impl IntoIterator<Item = TileId>) -> TileSet {
        let mut set = TileSet::new();
        for id in ids {
            if let Some(hashes) = self.tiles.get(&id) {
                set.insert(id, hashes.clone());
            }
        }
        set
    }

    fn check(&self, kept: Vec<Checkpoint>) -> Report {
        let edge = self.tiles(tiles_for_root(self.head.size));
        let mut check = Fsck::begin(self.head.clone(), &edge, Some(key().verifying_key()), kept);
        for (first, end) in runs(check.size()) {
            let leaf = |index| self.entries.get(&index).map_or(Leaf::Missing, |entry| Leaf::of(entry));
            let leaves: Vec<_> = (first..end).map(leaf).collect();
            self.entries.range(first..end).for_each(|(index, entry)| check.tell(*index, entry));
            let level_0 = (first / 256..end.div_ceil(256)).map(|index| TileId { level: 0, index });
            let tiles = self.tiles(level_0.chain([TileId { level: 1, index: first / 65_536 }]));
            for (tile, hashes) in check.take(&leaves, &tiles) {
                check.compare(tile, &hashes, self.tiles.get(&tile).map(Vec::as_slice));
            }
        }
        for (tile, hashes) in check.edge() {
            check.compare(tile, &hashes, self.tiles.get(&tile).map(Vec::as_slice));
        }
        let mut beyond =
            self.entries.range(self.head.size..).map(|(index, _)| i64::try_from(*index).unwrap());
        let beyond = beyond.next().map(|first| (first, 1 + beyond.count() as u64));
        let mut tiles = BTreeMap::new();
        for id in self.tiles.keys() {
            *tiles.entry(i64::from(id.level)).or_default() += 1;
        }
        check.finish(beyond, &tiles)
    }

    fn findings(&self) -> Vec<Finding> {
        self.check(Vec::new()).findings
    }
}

fn other() -> Hash {
    leaf_hash(b"another")
}

#[test]
fn a_sound_log_is_found_sound_at_every_shape_of_its_right_edge() {
    for size in [0, 1, 255, 256, 257, 16_384, 16_385, 65_535, 65_536, 65_537, 66_000] {
        let stored = log(size);
        let half = {
            let mut tree = TileWriter::new();
            stored.entries.values().take(size as usize / 2).for_each(|entry| tree.append(leaf_hash(entry)));
            Checkpoint {
                origin: "log.example/audit".to_owned(),
                size: size / 2,
                root: tree.root(),
                extensions: Vec::new(),
            }
        };
        let report = stored.check(vec![half]);
        assert!(report.is_sound(), "size {size}: {:?}", report.findings);
        assert_eq!((report.root, report.kept_checked), (stored.head.root, 1), "size {size}");
        assert_eq!(report.tiles, stored.tiles.len() as u64, "size {size}: every tile is compared");
    }
}

#[test]
fn what_was_done_to_the_entries_is_named_with_its_index() {
    let size = 66_000;
    let sound = log(size);
    // In the first tile, in the midst, in the last full and in the partial tile.
    for index in [0, 255, 40_000, 65_700, size - 3] {
        let found = |change: &dyn Fn(&mut Stored)| {
            let mut stored = sound.clone();
            change(&mut stored);
            stored.findings()
        };
        let changed = found(&|stored| stored.entries.get_mut(&index).unwrap()[3] ^= 1);
        assert_eq!(changed, [Finding::EntryChanged { index }]);
        let deleted = found(&|stored| drop(stored.entries.remove(&index)));
        assert_eq!(deleted, [Finding::EntriesMissing { first: index, last: index }]);
        let swapped = found(&|stored| stored.swap(index, index + 1));
        assert_eq!(swapped, [Finding::EntriesSwapped { index, other: index + 1 }]);
        let inserted = found(&|stored| stored.insert(index));
        assert_eq!(inserted[0], Finding::EntryInserted { index });
        assert_eq!(inserted.last(), Some(&Finding::EntriesBeyondHead { first: size as i64, count: 1 }));
        let taken_out = found(&|stored| stored.take_out(index));
        assert_eq!(taken_out[0], Finding::EntryRemoved { index });
        assert_eq!(taken_out.last(), Some(&Finding::TailCut { first: size - 1, size }));
        let cut = found(&|stored| drop(stored.entries.split_off(&index)));
        assert_eq!(cut, [Finding::TailCut { first: index, size }]);
    }
    let mut far = sound.clone();
    far.swap(3, 60_000);
    assert_eq!(far.findings(), [Finding::EntriesSwapped { index: 3, other: 60_000 }]);
}

#[test]
fn a_changed_tile_is_told_from_a_changed_entry_at_every_level() {
    let sound = log(66_000);
    for (level, index, place) in [(0, 7, 3), (0, 257, 1), (1, 0, 200), (1, 1, 0), (2, 0, 0)] {
        let tile = TileId { level, index };
        let mut stored = sound.clone();
        stored.tile(level, index)[place] = other();
        assert_eq!(stored.findings(), [Finding::HashChanged { tile, place }]);
        let mut stored = sound.clone();
        let expected = stored.tile(level, index).len();
        stored.tile(level, index).pop();
        let found = stored.findings();
        assert!(found.contains(&Finding::TileWidth { tile, found: expected - 1, expected }), "{found:?}");
        stored.tiles.remove(&tile);
        assert_eq!(stored.findings(), [Finding::TileMissing { tile }]);
    }
    let mut stored = sound.clone();
    stored.tiles.insert(TileId { level: 3, index: 0 }, vec![other()]);
    assert_eq!(stored.findings(), [Finding::TilesBeyondHead { level: 3, found: 1, expected: 0 }]);
}

#[test]
fn head_and_checkpoint_must_say_what_the_entries_do() {
    let sound = log(600);
    let mut stored = sound.clone();
    stored.head.root = other();
    assert!(matches!(stored.findings()[..], [Finding::HeadRootDiffers { .. }]));
    let mut stored = sound.clone();
    stored.entries.get_mut(&9).unwrap()[3] ^= 1;
    stored.rewrite();
    assert!(matches!(stored.findings()[..], [Finding::Rewritten { size: 600, .. }]));
    let stranger = SigningKey::from_seed("other.example/audit", &[5; 32]).unwrap();
    let mut stored = sound.clone();
    let foreign = Checkpoint {
        origin: "other.example/audit".to_owned(),
        size: 600,
        root: sound.head.root,
        extensions: vec![],
    };
    stored.head.checkpoint = foreign.sign(&stranger).unwrap();
    assert!(matches!(stored.findings()[..], [Finding::Checkpoint(NoteError::NotSigned)]));
    // A shorter log, signed in order, is sound in itself; who kept a later checkpoint knows better.
    let kept = Checkpoint { origin: String::new(), size: 700, root: other(), extensions: Vec::new() };
    let earlier = Checkpoint { size: 300, ..kept.clone() };
    let found = sound.check(vec![kept, earlier]).findings;
    assert!(
        matches!(
            found[..],
            [Finding::KeptIsLonger { kept: 700, size: 600 }, Finding::KeptDiffers { size: 300, .. }]
        ),
        "{found:?}"
    );
}

#[test]
fn a_log_with_everything_changed_is_listed_in_part() {
    let mut stored = log(5_000);
    stored.entries.values_mut().for_each(|entry| entry[3] ^= 1);
    let report = stored.check(Vec::new());
    assert_eq!(report.findings[0], Finding::EntryChanged { index: 0 });
    assert_eq!(report.findings.len() as u64 + report.findings_left_out, 5_000);
    assert!(report.findings.len() <= 2 * LISTED);
}

#[test]
fn a_head_that_counts_what_nobody_signed_is_named_and_not_followed_without_end() {
    let mut stored = log(300);
    stored.head.size = 1 << 60;
    let report = stored.check(Vec::new());
    assert_eq!(report.size, 300);
    assert_eq!(report.findings, [Finding::HeadNotSigned { size: 1 << 60, signed: 300 }]);
}
