//! Checking proofs about the tree, needing nothing but the hashes: RFC 9162, sections 2.1.3.2 and 2.1.4.2.
//!
//! The proofs themselves are those of RFC 6962, sections 2.1.1 and 2.1.2; [`TileSet`](super::tile::TileSet)
//! makes them.

use super::merkle::{Hash, empty_root, node_hash};

/// Why a proof does not prove what it is said to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The tree is too small to hold the leaf.
    #[error("index {index} is outside a tree of {size} entries")]
    IndexOutsideTree {
        /// Index of the leaf, from zero.
        index: u64,
        /// Number of leaves.
        size: u64,
    },
    /// The tree that is said to be the earlier one is larger.
    #[error("the old size {old} is greater than the new size {new}")]
    SizesReversed {
        /// Leaves of the earlier tree.
        old: u64,
        /// Leaves of the later tree.
        new: u64,
    },
    /// The proof has more or fewer hashes than these sizes call for.
    #[error("the proof has the wrong number of hashes")]
    WrongLength,
    /// The proof does not lead to the root it should; for consistency, the later root.
    #[error("the proof does not lead to the root")]
    RootDiffers,
    /// The proof does not lead to the root of the earlier tree.
    #[error("the proof does not lead to the old root")]
    OldRootDiffers,
}

/// Checks that `leaf` (a leaf hash) is at `index`, from zero, in the tree of `size` leaves with this `root`
/// (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// [`ProofError`] unless the proof is exactly the one RFC 6962, section 2.1.1 defines.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::IndexOutsideTree { index, size });
    }
    let mut walk = Walk { node: index, last: size - 1 };
    let mut hash = *leaf;
    for sibling in proof {
        if walk.last == 0 {
            return Err(ProofError::WrongLength);
        }
        if walk.sibling_is_left() {
            hash = node_hash(sibling, &hash);
            walk.climb_past_lone_nodes();
        } else {
            hash = node_hash(&hash, sibling);
        }
        walk.climb();
    }
    if walk.last != 0 {
        return Err(ProofError::WrongLength);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::RootDiffers) }
}

/// Checks that the tree of `old_size` leaves with `old_root` is what the tree of `new_size` leaves with
/// `new_root` began with (RFC 9162, section 2.1.4.2).
///
/// The RFC leaves the empty tree undefined. Here it begins every tree: its root must be
/// [`empty_root`] and the proof empty, as `tlog-witness` has it.
///
/// # Errors
/// [`ProofError`] unless the proof is exactly the one RFC 6962, section 2.1.2 defines.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::SizesReversed { old: old_size, new: new_size });
    }
    if old_size == 0 && *old_root != empty_root() {
        return Err(ProofError::OldRootDiffers);
    }
    if old_size == new_size || old_size == 0 {
        return match proof {
            [] if old_size == new_size && old_root != new_root => Err(ProofError::RootDiffers),
            [] => Ok(()),
            _ => Err(ProofError::WrongLength),
        };
    }

    // An old tree that is perfect is a node of the new one; its root is then left out of the proof.
    let (start, rest) = match proof {
        [] => return Err(ProofError::WrongLength),
        _ if old_size.is_power_of_two() => (old_root, proof),
        [first, rest @ ..] => (first, rest),
    };
    let (old, new) = roots_from(start, rest, old_size, new_size)?;
    if old != *old_root {
        return Err(ProofError::OldRootDiffers);
    }
    if new == *new_root { Ok(()) } else { Err(ProofError::RootDiffers) }
}

/// The root that a tree of `new_size` leaves with `new_root` had at `old_size`, by a consistency proof between the two;
/// `None` unless the proof leads to `new_root`, or `old_size` is a power of two, from which proofs do not hold it.
pub fn old_root_of(old_size: u64, new_size: u64, new_root: &Hash, proof: &[Hash]) -> Option<Hash> {
    if old_size == 0 || old_size >= new_size || old_size.is_power_of_two() {
        return None;
    }
    let (start, rest) = proof.split_first()?;
    let (old, new) = roots_from(start, rest, old_size, new_size).ok()?;
    (new == *new_root).then_some(old)
}

/// The two roots to which a consistency proof leads, for `0 < old_size < new_size`.
fn roots_from(start: &Hash, rest: &[Hash], old_size: u64, new_size: u64) -> Result<(Hash, Hash), ProofError> {
    let mut walk = Walk { node: old_size - 1, last: new_size - 1 };
    while walk.node & 1 == 1 {
        walk.climb();
    }
    let (mut old, mut new) = (*start, *start);
    for hash in rest {
        if walk.last == 0 {
            return Err(ProofError::WrongLength);
        }
        if walk.sibling_is_left() {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
            walk.climb_past_lone_nodes();
        } else {
            new = node_hash(&new, hash);
        }
        walk.climb();
    }
    if walk.last == 0 { Ok((old, new)) } else { Err(ProofError::WrongLength) }
}

/// Where a check stands on its way up: `fn` and `sn` in RFC 9162.
struct Walk {
    /// Index of the node in its row.
    node: u64,
    /// Index of the last node in that row.
    last: u64,
}

impl Walk {
    fn sibling_is_left(&self) -> bool {
        self.node & 1 == 1 || self.node == self.last
    }

    /// The last node of a row with no sibling moves up as it is.
    fn climb_past_lone_nodes(&mut self) {
        while self.node & 1 == 0 && self.node != 0 {
            self.climb();
        }
    }

    fn climb(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::merkle::tests::{REFERENCE_LEAVES, distinct_leaves, root_by_definition};
    use super::super::tile::tests::tiles_of;
    use super::*;
    use crate::audit::merkle::leaf_hash;
    use proptest::prelude::*;

    fn hashes(hex: &[&str]) -> Vec<Hash> {
        hex.iter().map(|text| Hash::from_hex(text).unwrap()).collect()
    }

    #[test]
    fn the_published_proofs_of_the_reference_tree_verify() {
        let leaves: Vec<Hash> = REFERENCE_LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect();
        let inclusion = hashes(&[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]);
        assert_eq!(verify_inclusion(&leaves[5], 5, 8, &inclusion, &root_by_definition(&leaves)), Ok(()));
        let consistency = hashes(&[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]);
        let (old, new) = (root_by_definition(&leaves[..6]), root_by_definition(&leaves));
        assert_eq!(verify_consistency(6, &old, 8, &new, &consistency), Ok(()));
    }

    #[test]
    fn nothing_is_in_the_empty_tree_and_every_tree_begins_with_it() {
        let leaf = leaf_hash(b"");
        assert_eq!(
            verify_inclusion(&leaf, 0, 0, &[], &empty_root()),
            Err(ProofError::IndexOutsideTree { index: 0, size: 0 })
        );
        assert_eq!(verify_consistency(0, &empty_root(), 1, &leaf, &[]), Ok(()));
        assert_eq!(verify_consistency(0, &leaf, 1, &leaf, &[]), Err(ProofError::OldRootDiffers));
        assert_eq!(verify_consistency(0, &empty_root(), 1, &leaf, &[leaf]), Err(ProofError::WrongLength));
        assert_eq!(
            verify_consistency(2, &leaf, 1, &leaf, &[]),
            Err(ProofError::SizesReversed { old: 2, new: 1 })
        );
    }

    #[test]
    fn absurd_sizes_are_refused_without_overflow() {
        let leaf = leaf_hash(b"");
        let long = vec![leaf; 70];
        assert_eq!(
            verify_inclusion(&leaf, u64::MAX - 1, u64::MAX, &long, &leaf),
            Err(ProofError::WrongLength)
        );
        assert_eq!(verify_consistency(1, &leaf, u64::MAX, &leaf, &long), Err(ProofError::WrongLength));
    }

    fn flip(hash: &Hash, bit: usize) -> Hash {
        let mut bytes = *hash.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Hash::from_bytes(bytes)
    }

    /// The proof with one hash changed, one cut off each end, one added at each end.
    fn damaged(proof: &[Hash], position: usize, bit: usize) -> Vec<Vec<Hash>> {
        let mut spoilt = Vec::new();
        if !proof.is_empty() {
            let mut flipped = proof.to_vec();
            let position = position % proof.len();
            flipped[position] = flip(&flipped[position], bit);
            spoilt.extend([flipped, proof[1..].to_vec(), proof[..proof.len() - 1].to_vec()]);
        }
        let extra = leaf_hash(b"extra");
        spoilt.push([&[extra], proof].concat());
        spoilt.push([proof, &[extra]].concat());
        spoilt
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn an_inclusion_proof_holds_for_its_leaf_index_and_tree_only(
            (size, index) in (1_u64..1200).prop_flat_map(|size| (Just(size), 0..size)),
            position: usize,
            bit in 0_usize..256,
        ) {
            let leaves = distinct_leaves(size);
            let (leaf, root) = (leaves[usize::try_from(index).unwrap()], root_by_definition(&leaves));
            let proof = tiles_of(&leaves).inclusion_proof(index, size).unwrap();
            prop_assert_eq!(verify_inclusion(&leaf, index, size, &proof, &root), Ok(()));
            prop_assert!(verify_inclusion(&flip(&leaf, bit), index, size, &proof, &root).is_err());
            prop_assert!(verify_inclusion(&leaf, index, size, &proof, &flip(&root, bit)).is_err());
            prop_assert!(verify_inclusion(&leaf, index ^ 1, size, &proof, &root).is_err() || size == 1);
            for proof in damaged(&proof, position, bit) {
                prop_assert!(verify_inclusion(&leaf, index, size, &proof, &root).is_err());
            }
        }

        #[test]
        fn a_consistency_proof_holds_for_its_two_trees_only(
            (new, old) in (1_u64..1200).prop_flat_map(|new| (Just(new), 1..=new)),
            position: usize,
            bit in 0_usize..256,
        ) {
            let leaves = distinct_leaves(new);
            let old_root = root_by_definition(&leaves[..usize::try_from(old).unwrap()]);
            let new_root = root_by_definition(&leaves);
            let proof = tiles_of(&leaves).consistency_proof(old, new).unwrap();
            prop_assert_eq!(verify_consistency(old, &old_root, new, &new_root, &proof), Ok(()));
            prop_assert!(verify_consistency(old, &flip(&old_root, bit), new, &new_root, &proof).is_err());
            prop_assert!(verify_consistency(old, &old_root, new, &flip(&new_root, bit), &proof).is_err());
            for proof in damaged(&proof, position, bit) {
                prop_assert!(verify_consistency(old, &old_root, new, &new_root, &proof).is_err());
            }
        }
    }
}
