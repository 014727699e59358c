use super::super::merkle::Frontier;
use super::super::merkle::tests::{distinct_leaves, root_by_definition};
use super::*;
use crate::audit::proof::{verify_consistency, verify_inclusion};
use proptest::prelude::*;

/// All tiles of the tree over these leaves.
pub(in crate::audit) fn tiles_of(leaves: &[Hash]) -> TileSet {
    let mut writer = TileWriter::new();
    for leaf in leaves {
        writer.append(*leaf);
    }
    let mut tiles = TileSet::new();
    for (tile, hashes) in writer.take_dirty() {
        tiles.insert(tile, hashes);
    }
    tiles
}

/// Only the named tiles, each cut to what it held at `size`.
fn only(tiles: &TileSet, named: &[TileId], size: u64) -> TileSet {
    TileSet(named.iter().map(|tile| (*tile, tiles.0[tile][..tile.width_at(size)].to_vec())).collect())
}

#[test]
fn tiles_give_the_root_by_definition_at_every_size() {
    let leaves = distinct_leaves(600);
    let latest = tiles_of(&leaves);
    let mut writer = TileWriter::new();
    for size in 0..=600 {
        let root = root_by_definition(&leaves[..usize::try_from(size).unwrap()]);
        assert_eq!((writer.size(), writer.root()), (size, root));
        assert_eq!(latest.root(size), Ok(root), "from fuller tiles, at size {size}");
        assert_eq!(only(&latest, &tiles_for_root(size), size).root(size), Ok(root), "size {size}");
        if let Some(leaf) = leaves.get(usize::try_from(size).unwrap()) {
            writer.append(*leaf);
        }
    }
}

#[test]
fn a_resumed_writer_goes_on_as_the_first_would_have() {
    let leaves = distinct_leaves(600);
    let latest = tiles_of(&leaves);
    let mut uninterrupted = TileWriter::new();
    for size in 0..600_usize {
        let mut asked = Vec::new();
        let mut resumed = TileWriter::resume(size as u64, |tile| {
            asked.push(tile);
            latest.0.get(&tile).cloned()
        })
        .unwrap();
        assert_eq!(asked, tiles_for_root(size as u64));
        assert_eq!(resumed.take_dirty(), []);
        let mut first = uninterrupted.clone();
        for leaf in leaves[size..].iter().take(300) {
            resumed.append(*leaf);
            first.append(*leaf);
        }
        assert_eq!(resumed.root(), first.root());
        assert_eq!(resumed.take_dirty(), first.take_dirty());
        uninterrupted.append(leaves[size]);
        uninterrupted.take_dirty();
    }
}

#[test]
fn tiles_stored_batch_by_batch_are_those_of_the_whole_tree() {
    let leaves = distinct_leaves(70_000);
    let mut writer = TileWriter::new();
    let mut stored = TileSet::new();
    for batch in leaves.chunks(777) {
        for leaf in batch {
            writer.append(*leaf);
        }
        for (tile, hashes) in writer.take_dirty() {
            assert_eq!(hashes.len(), tile.width_at(writer.size()));
            stored.insert(tile, hashes);
        }
    }
    assert_eq!(stored.0, tiles_of(&leaves).0);
    assert_eq!(writer.take_dirty(), []);
    assert_eq!(stored.0.keys().map(|tile| tile.level).max(), Some(2));
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.append(*leaf));
    assert_eq!(stored.root(70_000), Ok(frontier.root()));
}

#[test]
fn a_proof_needs_at_most_two_tiles_a_level() {
    for size in [1, 255, 256, 257, 65_536, 65_537, (1 << 40) + 12_345, u64::MAX] {
        let rows = usize::from(levels(size));
        assert!(tiles_for_root(size).len() <= rows);
        for part in [0, 1, 2, 3, 5, 7, 8] {
            let index = (u128::from(size - 1) * part / 8) as u64;
            assert!(tiles_for_inclusion(index, size).len() <= 2 * rows, "leaf {index} of {size}");
            assert!(tiles_for_consistency(index, size).len() <= 2 * rows, "from {index} to {size}");
        }
    }
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    let leaves = distinct_leaves(300);
    let tiles = tiles_of(&leaves);
    let tile = TileId { level: 0, index: 1 };
    assert_eq!(tiles.inclusion_proof(7, 7), Err(TileError::IndexOutsideTree { index: 7, size: 7 }));
    assert_eq!(tiles.consistency_proof(8, 7), Err(TileError::SizesReversed { old: 8, new: 7 }));
    assert_eq!(tiles.root(301), Err(TileError::TooShort { tile, needed: 45, found: 44 }));
    assert_eq!(tiles.root(513), Err(TileError::Missing { tile: TileId { level: 0, index: 2 } }));
    assert_eq!(TileWriter::resume(300, |_| None).unwrap_err(), TileError::Missing { tile });
    assert_eq!(
        TileWriter::resume(300, |_| Some(vec![leaves[0]; 257])).unwrap_err(),
        TileError::TooWide { tile, found: 257 }
    );
    assert_eq!(tiles_for_inclusion(7, 7), []);
    assert_eq!(tiles_for_consistency(8, 7), []);
}

/// The specification's example, and beyond the tree's top.
#[test]
fn a_tile_is_as_wide_as_tlog_tiles_says() {
    let width = |level, index, size| TileId { level, index }.width_at(size);
    assert_eq!(width(0, 273, 70_000), 112);
    assert_eq!(width(1, 1, 70_000), 17);
    assert_eq!(width(2, 0, 70_000), 1);
    assert_eq!(width(7, 3, u64::MAX), 0);
    assert_eq!(width(63, u64::MAX, u64::MAX), 0);
}

/// All leaves are the same, so each tile is one hash again and again, and none has to be stored.
#[test]
fn proofs_in_a_log_of_ten_million_read_a_handful_of_tiles() {
    let (size, older) = (10_000_000_u64, 9_999_743);
    let mut of_level = vec![distinct_leaves(1)[0]];
    while of_level.len() < 4 {
        of_level.push(perfect_root(&[of_level[of_level.len() - 1]; TILE_WIDTH]).unwrap());
    }
    let together = |one: Vec<TileId>, other: Vec<TileId>| {
        one.into_iter().chain(other).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let read = |named: &[TileId]| {
        let mut tiles = TileSet::new();
        for tile in named {
            tiles.insert(*tile, vec![of_level[usize::from(tile.level)]; tile.width_at(size)]);
        }
        tiles
    };
    let root = read(&tiles_for_root(size)).root(size).unwrap();
    let old_root = read(&tiles_for_root(older)).root(older).unwrap();
    for index in [0, 255, 256, 65_535, 65_536, 4_999_999, 8_388_608, 9_999_743, 9_999_999] {
        // With the root, as the gateway answers it.
        let named = together(tiles_for_inclusion(index, size), tiles_for_root(size));
        assert!(named.len() <= 6, "{index}: {} tiles", named.len());
        let proof = read(&named).inclusion_proof(index, size).unwrap();
        assert_eq!(verify_inclusion(&of_level[0], index, size, &proof, &root), Ok(()));
    }
    let named = together(tiles_for_consistency(older, size), tiles_for_root(size));
    assert!(named.len() <= 6, "{} tiles", named.len());
    let proof = read(&named).consistency_proof(older, size).unwrap();
    assert_eq!(verify_consistency(older, &old_root, size, &root, &proof), Ok(()));
    assert!(tiles_for_root(size).len() <= 3);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_named_tiles_suffice_for_a_proof_and_fuller_ones_change_nothing(
        (total, size, index) in (1_u64..1500)
            .prop_flat_map(|total| (Just(total), 1..=total))
            .prop_flat_map(|(total, size)| (Just(total), Just(size), 0..size)),
    ) {
        let latest = tiles_of(&distinct_leaves(total));
        let exact = only(&latest, &tiles_for_inclusion(index, size), size);
        prop_assert_eq!(exact.inclusion_proof(index, size).unwrap(), latest.inclusion_proof(index, size).unwrap());
        let exact = only(&latest, &tiles_for_consistency(index, size), size);
        prop_assert_eq!(exact.consistency_proof(index, size).unwrap(), latest.consistency_proof(index, size).unwrap());
    }
}
