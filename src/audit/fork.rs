//! Two checkpoints of one log that cannot both be honest, and what proves it.

use std::fmt;

use super::checkpoint::Checkpoint;
use super::merkle::Hash;
use super::proof::{old_root_of, verify_consistency};

/// A proven fork: the holder of the log's key has signed two histories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fork {
    /// Two roots at one size.
    SameSize {
        /// Number of entries.
        size: u64,
        /// The roots.
        roots: [Hash; 2],
    },
    /// The longer log begins with other entries than the shorter one has.
    Prefix {
        /// Size and root of the shorter log.
        shorter: (u64, Hash),
        /// Size and root of the longer log.
        longer: (u64, Hash),
        /// The root that the longer log had at the size of the shorter, by a proof that leads to its root.
        root_then: Hash,
    },
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameSize { size, roots: [one, other] } => write!(
                f,
                "at {size} entries one checkpoint signs root {}, the other root {}",
                one.to_base64(),
                other.to_base64()
            ),
            Self::Prefix { shorter, longer, root_then } => write!(
                f,
                "the log of {} entries had root {} at {} entries, and the other checkpoint signs root {} there",
                longer.0,
                root_then.to_base64(),
                shorter.0,
                shorter.1.to_base64()
            ),
        }
    }
}

/// Whether two checkpoints of one origin, in either order, are proven to be of two histories. `proof` is a consistency
/// proof from the smaller size as the longer log gave it; at one size it is not needed.
///
/// A proof that merely does not verify proves nothing: anybody can make one. This one must lead to the root of the
/// longer log, and to another than the shorter log's. From a size that is a power of two no proof can do that, because
/// it leaves out the root in question (RFC 6962, section 2.1.2).
pub fn prove(one: &Checkpoint, other: &Checkpoint, proof: &[Hash]) -> Option<Fork> {
    if one.origin != other.origin {
        return None;
    }
    let (shorter, longer) = if one.size <= other.size { (one, other) } else { (other, one) };
    if shorter.size == longer.size {
        let roots = [one.root, other.root];
        return (one.root != other.root).then_some(Fork::SameSize { size: one.size, roots });
    }
    let root_then = old_root_of(shorter.size, longer.size, &longer.root, proof)?;
    (root_then != shorter.root).then_some(Fork::Prefix {
        shorter: (shorter.size, shorter.root),
        longer: (longer.size, longer.root),
        root_then,
    })
}

/// Whether the proof shows that two checkpoints of one origin, in either order, are of one history.
pub fn is_one_history(one: &Checkpoint, other: &Checkpoint, proof: &[Hash]) -> bool {
    let (shorter, longer) = if one.size <= other.size { (one, other) } else { (other, one) };
    one.origin == other.origin
        && verify_consistency(shorter.size, &shorter.root, longer.size, &longer.root, proof).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::merkle::leaf_hash;
    use crate::audit::merkle::tests::{distinct_leaves, root_by_definition};
    use crate::audit::tile::tests::tiles_of;

    fn checkpoint(leaves: &[Hash]) -> Checkpoint {
        let (origin, root) = ("log.example".to_owned(), root_by_definition(leaves));
        Checkpoint { origin, size: leaves.len() as u64, root, extensions: Vec::new() }
    }

    /// The same number of leaves with the first one changed.
    fn other_history(size: u64) -> Vec<Hash> {
        let mut leaves = distinct_leaves(size);
        leaves[0] = leaf_hash(b"another beginning");
        leaves
    }

    #[test]
    fn two_roots_at_one_size_are_a_fork_and_one_root_is_none() {
        let (one, other) = (checkpoint(&distinct_leaves(9)), checkpoint(&other_history(9)));
        assert!(matches!(prove(&one, &other, &[]), Some(Fork::SameSize { size: 9, .. })));
        assert_eq!(prove(&one, &one, &[]), None);
        let elsewhere = Checkpoint { origin: "other.example".to_owned(), ..other };
        assert_eq!(prove(&one, &elsewhere, &[]), None);
    }

    #[test]
    fn the_longer_logs_own_proof_convicts_it_at_every_size_but_powers_of_two() {
        for (old, new) in [(3, 4), (5, 9), (6, 7), (100, 300), (257, 600)] {
            let (honest, forked) = (checkpoint(&distinct_leaves(old)), other_history(new));
            let proof = tiles_of(&forked).consistency_proof(old, new).unwrap();
            let longer = checkpoint(&forked);
            assert!(prove(&honest, &longer, &proof).is_some(), "{old} to {new}");
            assert!(prove(&longer, &honest, &proof).is_some(), "{old} to {new}, the other way round");
        }
        let forked = other_history(9);
        let proof = tiles_of(&forked).consistency_proof(4, 9).unwrap();
        assert_eq!(prove(&checkpoint(&distinct_leaves(4)), &checkpoint(&forked), &proof), None);
    }

    #[test]
    fn no_proof_convicts_an_honest_log() {
        let leaves = distinct_leaves(300);
        let (old, new) = (checkpoint(&leaves[..100]), checkpoint(&leaves));
        let proof = tiles_of(&leaves).consistency_proof(100, 300).unwrap();
        assert!(is_one_history(&old, &new, &proof) && is_one_history(&new, &old, &proof));
        assert_eq!(prove(&old, &new, &proof), None);
        assert_eq!(prove(&old, &new, &[]), None);
        for place in 0..proof.len() {
            let mut spoilt = proof.clone();
            spoilt[place] = leaf_hash(b"made up");
            assert_eq!(prove(&old, &new, &spoilt), None, "hash {place}");
            assert!(!is_one_history(&old, &new, &spoilt));
        }
    }
}
