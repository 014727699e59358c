//! The tree and its proofs beside those of an implementation that is not ours: the crate `ct-merkle`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use legal_aid_gateway::audit::merkle::{Hash, leaf_hash};
use legal_aid_gateway::audit::proof::{verify_consistency, verify_inclusion};
use legal_aid_gateway::audit::tile::{TileSet, TileWriter};
use sha2::Sha256;

type Theirs = MemoryBackedTree<Sha256, Vec<u8>>;

/// Every size up to this one is compared.
const EVERY_SIZE_TO: u64 = 600;

/// Larger sizes are drawn below this one.
const LARGEST: u64 = 1_000_000;

/// The same entries in both implementations.
struct Both {
    ours: TileWriter,
    tiles: TileSet,
    theirs: Theirs,
    /// Our root at each size, for the sizes that are compared.
    roots: Vec<(u64, Hash)>,
}

impl Both {
    fn new() -> Self {
        Self { ours: TileWriter::new(), tiles: TileSet::new(), theirs: Theirs::new(), roots: Vec::new() }
    }

    fn grow_to(&mut self, size: u64) {
        for index in self.ours.size()..size {
            self.ours.append(leaf_hash(&entry(index)));
            self.theirs.push(entry(index));
        }
        for (tile, hashes) in self.ours.take_dirty() {
            self.tiles.insert(tile, hashes);
        }
        self.roots.push((size, self.ours.root()));
    }

    fn roots_agree(&self) {
        let size = self.ours.size();
        assert_eq!(self.ours.root().as_bytes()[..], self.theirs.root().as_bytes()[..], "size {size}");
        assert_eq!(self.tiles.root(size).unwrap(), self.ours.root(), "size {size}");
    }

    /// Both make the same proof that `index` is in the tree, and each verifies the other's.
    fn inclusion_agrees(&self, index: u64) {
        let (size, root) = (self.ours.size(), self.ours.root());
        let ours = self.tiles.inclusion_proof(index, size).unwrap();
        let theirs = self.theirs.prove_inclusion(usize::try_from(index).unwrap());
        assert_eq!(flat(&ours), theirs.as_bytes(), "entry {index} of {size}");
        let proof = InclusionProof::try_from_bytes(flat(&ours)).unwrap();
        self.theirs.root().verify_inclusion(&entry(index), index, &proof).unwrap();
        let leaf = leaf_hash(&entry(index));
        assert_eq!(verify_inclusion(&leaf, index, size, &cut(theirs.as_bytes()), &root), Ok(()));
    }

    /// Both make the same proof that an earlier tree began this one, and each verifies the other's.
    fn consistency_agrees(&self, (old_size, old_root): (u64, Hash)) {
        let (size, root) = (self.ours.size(), self.ours.root());
        let ours = self.tiles.consistency_proof(old_size, size).unwrap();
        let theirs = self.theirs.prove_consistency(usize::try_from(size - old_size).unwrap());
        assert_eq!(flat(&ours), theirs.as_bytes(), "{old_size} in {size}");
        let old = RootHash::<Sha256>::new((*old_root.as_bytes()).into(), old_size);
        let proof = ConsistencyProof::try_from_bytes(flat(&ours)).unwrap();
        self.theirs.root().verify_consistency(&old, &proof).unwrap();
        let theirs = cut(theirs.as_bytes());
        assert_eq!(verify_consistency(old_size, &old_root, size, &root, &theirs), Ok(()));
    }

    /// Neither accepts a proof of which any byte was changed.
    fn changed_proofs_fail(&self, index: u64, (old_size, old_root): (u64, Hash)) {
        let (size, root) = (self.ours.size(), self.ours.root());
        let leaf = leaf_hash(&entry(index));
        let inclusion = flat(&self.tiles.inclusion_proof(index, size).unwrap());
        for changed in each_byte_changed(&inclusion) {
            assert!(verify_inclusion(&leaf, index, size, &cut(&changed), &root).is_err());
            let proof = InclusionProof::try_from_bytes(changed).unwrap();
            assert!(self.theirs.root().verify_inclusion(&entry(index), index, &proof).is_err());
        }
        let consistency = flat(&self.tiles.consistency_proof(old_size, size).unwrap());
        let old = RootHash::<Sha256>::new((*old_root.as_bytes()).into(), old_size);
        for changed in each_byte_changed(&consistency) {
            assert!(verify_consistency(old_size, &old_root, size, &root, &cut(&changed)).is_err());
            let proof = ConsistencyProof::try_from_bytes(changed).unwrap();
            assert!(self.theirs.root().verify_consistency(&old, &proof).is_err());
        }
        // A hash too many, a hash too few, another entry, the entry's neighbour.
        let proof = cut(&inclusion);
        assert!(verify_inclusion(&leaf, index, size, &[proof.clone(), vec![root]].concat(), &root).is_err());
        assert!(verify_inclusion(&leaf, index, size, &proof[1..], &root).is_err());
        assert!(verify_inclusion(&leaf_hash(b"another"), index, size, &proof, &root).is_err());
        assert!(verify_inclusion(&leaf, index ^ 1, size, &proof, &root).is_err());
    }
}

#[test]
fn at_every_size_to_six_hundred_both_agree() {
    let mut both = Both::new();
    assert_eq!(both.ours.root().as_bytes()[..], both.theirs.root().as_bytes()[..], "the empty tree");
    for size in 1..=EVERY_SIZE_TO {
        both.grow_to(size);
        both.roots_agree();
        let mut draw = Draw(size);
        // The ends, the borders of tiles, and some between: all pairs would be 360 thousand.
        for index in [0, size / 2, size - 1, 255.min(size - 1), draw.below(size), draw.below(size)] {
            both.inclusion_agrees(index);
        }
        for earlier in [1, size / 2, size - 1, 256, draw.below(size), draw.below(size)] {
            if (1..size).contains(&earlier) {
                both.consistency_agrees(both.roots[usize::try_from(earlier).unwrap() - 1]);
            }
        }
    }
}

#[test]
fn at_sizes_around_the_tiles_every_entry_and_every_earlier_size_agree() {
    let mut both = Both::new();
    for size in [1, 2, 3, 7, 8, 9, 255, 256, 257, 512, 513] {
        for between in both.ours.size() + 1..=size {
            both.grow_to(between);
        }
        (0..size).for_each(|index| both.inclusion_agrees(index));
        let earlier: Vec<_> = both.roots.iter().copied().filter(|(earlier, _)| *earlier < size).collect();
        earlier.into_iter().for_each(|earlier| both.consistency_agrees(earlier));
    }
}

#[test]
fn at_random_sizes_to_a_million_both_agree_and_changed_proofs_fail() {
    let mut draw = Draw(0x5eed);
    let mut sizes: Vec<u64> = (0..12).map(|_| 1_000 + draw.below(LARGEST - 1_000)).collect();
    sizes.extend([65_536, 65_537, LARGEST]);
    sizes.sort_unstable();
    let mut both = Both::new();
    for size in sizes {
        both.grow_to(size);
        both.roots_agree();
        for _ in 0..16 {
            both.inclusion_agrees(draw.below(size));
        }
        for earlier in both.roots[..both.roots.len() - 1].iter().copied() {
            both.consistency_agrees(earlier);
        }
    }
    let earlier = both.roots[both.roots.len() / 2];
    both.changed_proofs_fail(draw.below(LARGEST) & !1, earlier);
    both.changed_proofs_fail(LARGEST - 1, both.roots[0]);
}

fn entry(index: u64) -> Vec<u8> {
    format!("{{\"n\":\"{index}\"}}").into_bytes()
}

fn flat(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

fn cut(bytes: &[u8]) -> Vec<Hash> {
    bytes.chunks(32).map(|hash| Hash::from_slice(hash).unwrap()).collect()
}

fn each_byte_changed(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).map(|position| {
        let mut changed = bytes.to_vec();
        changed[position] ^= 0x10;
        changed
    })
}

/// Numbers that look random and are the same in every run (splitmix64), so that a failure can be repeated.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
