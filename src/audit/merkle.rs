//! The Merkle tree of RFC 6962, section 2.1: its hashes, and its root while it grows.

use std::fmt;

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};

/// A SHA-256 hash in the tree: of a leaf, of an inner node, or the root. `Debug` and `Display` show lower
/// hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

/// Text or bytes that are not one SHA-256 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a sha-256 hash of 32 bytes")]
pub struct NotAHash;

/// The hash of a leaf: `SHA-256(0x00 || entry)` (RFC 6962, section 2.1). The prefix keeps a leaf from being
/// passed off as an inner node.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    /// Most entries are shorter, and are hashed in one piece: setting up a digest for several costs as much as some
    /// hundred bytes of it.
    const ONE_PIECE: usize = 1024;
    let mut piece = [0x00; ONE_PIECE];
    if let Some(piece) = piece.get_mut(..=entry.len()) {
        piece[1..].copy_from_slice(entry);
        return sha256(piece);
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[0x00]);
    context.update(entry);
    Hash::of_digest(&context.finish())
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)` (RFC 6962, section 2.1).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut piece = [0x01; 65];
    piece[1..33].copy_from_slice(&left.0);
    piece[33..].copy_from_slice(&right.0);
    sha256(&piece)
}

/// The root of a tree without leaves: the hash of the empty string (RFC 6962, section 2.1).
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// The perfect subtrees along the right edge of a growing tree, which is all that its root depends on.
///
/// It holds at most 64 hashes, whatever the size of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The largest subtree first; one for each bit set in `size`.
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// The frontier of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The frontier of a tree of `size` leaves, from its perfect subtrees, the largest first.
    pub(super) fn of_subtrees(size: u64, subtrees: Vec<Hash>) -> Self {
        Self { size, subtrees }
    }

    /// Appends a leaf, given its [`leaf_hash`].
    pub fn append(&mut self, leaf: Hash) {
        self.append_and_tell(leaf, |_, _| {});
    }

    /// The same, and tells the height and root of each perfect subtree that is complete now, from the leaf up.
    pub(super) fn append_and_tell(&mut self, leaf: Hash, mut complete: impl FnMut(u32, Hash)) {
        let mut subtree = leaf;
        complete(0, subtree);
        // As in a binary counter: each trailing one is a subtree of the same height, waiting for its sibling.
        for height in 1..=self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                subtree = node_hash(&left, &subtree);
                complete(height, subtree);
            }
        }
        self.subtrees.push(subtree);
        self.size += 1;
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The Merkle tree hash of all leaves so far (RFC 6962, section 2.1).
    pub fn root(&self) -> Hash {
        join_leftwards(self.subtrees.iter().rev().copied()).unwrap_or_else(empty_root)
    }
}

impl Hash {
    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash in a slice of bytes.
    ///
    /// # Errors
    /// [`NotAHash`] unless there are exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, NotAHash> {
        bytes.try_into().map(Self).map_err(|_| NotAHash)
    }

    /// The hash written as 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`NotAHash`] for any other text.
    pub fn from_hex(text: &str) -> Result<Self, NotAHash> {
        Self::from_slice(&HEXLOWER.decode(text.as_bytes()).map_err(|_| NotAHash)?)
    }

    /// The hash written as 44 characters of standard base64, with padding (RFC 4648, section 4).
    ///
    /// # Errors
    /// [`NotAHash`] for any other text, also where only unused bits differ.
    pub fn from_base64(text: &str) -> Result<Self, NotAHash> {
        Self::from_slice(&decode_base64(text).ok_or(NotAHash)?)
    }

    fn of_digest(digest: &digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Standard base64 with padding (RFC 4648, section 4), as checkpoints write it.
    pub fn to_base64(&self) -> String {
        BASE64.encode(&self.0)
    }
}

/// Standard base64 with padding (RFC 4648, section 4) in its one spelling. The library also reads several encodings one
/// after another, each with its padding: a second spelling of the same bytes.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let has_padding_within = text.trim_end_matches('=').contains('=');
    if has_padding_within { None } else { BASE64.decode(text.as_bytes()).ok() }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Joins adjacent perfect subtrees, given from the right (smallest) to the left (largest), into the hash of
/// the range that they cover. `None` if there are none.
pub(super) fn join_leftwards(subtrees: impl Iterator<Item = Hash>) -> Option<Hash> {
    subtrees.reduce(|right, left| node_hash(&left, &right))
}

/// The root of a perfect subtree, given the hashes along its bottom: a power of two of them.
pub(super) fn perfect_root(hashes: &[Hash]) -> Option<Hash> {
    debug_assert!(hashes.len().is_power_of_two());
    let mut frontier = Frontier::new();
    for hash in hashes {
        frontier.append(*hash);
    }
    match frontier.subtrees.as_slice() {
        [root] => Some(*root),
        _ => None,
    }
}

fn sha256(bytes: &[u8]) -> Hash {
    Hash::of_digest(&digest::digest(&digest::SHA256, bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The Merkle tree hash as RFC 6962, section 2.1 defines it, with no regard to cost.
    pub(in crate::audit) fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node_hash(&root_by_definition(&leaves[..split]), &root_by_definition(&leaves[split..]))
            }
        }
    }

    /// The hashes of `count` leaves that all differ.
    pub(in crate::audit) fn distinct_leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
    }

    /// The leaves and the roots at sizes 0 to 8 of the reference tree in the Certificate Transparency code.
    pub(in crate::audit) const REFERENCE_LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const REFERENCE_ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn the_reference_tree_has_the_published_root_at_every_size() {
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root().to_string(), REFERENCE_ROOTS[0]);
        for (leaf, root) in REFERENCE_LEAVES.iter().zip(&REFERENCE_ROOTS[1..]) {
            frontier.append(leaf_hash(leaf));
            assert_eq!(frontier.root().to_string(), *root);
        }
        assert_eq!(frontier.size(), 8);
    }

    #[test]
    fn the_frontier_agrees_with_the_definition_at_every_size() {
        let leaves = distinct_leaves(600);
        let mut frontier = Frontier::new();
        for size in 0..=leaves.len() {
            assert_eq!(frontier.root(), root_by_definition(&leaves[..size]), "size {size}");
            if let Some(leaf) = leaves.get(size) {
                frontier.append(*leaf);
            }
        }
    }

    #[test]
    fn a_long_entry_hashes_like_a_short_one() {
        for length in [0, 1, 1022, 1023, 1024, 1025, 16_384] {
            let entry = vec![0x5a; length];
            let prefixed: Vec<u8> = [0x00].iter().chain(&entry).copied().collect();
            assert_eq!(leaf_hash(&entry), sha256(&prefixed), "{length} bytes");
        }
    }

    #[test]
    fn a_hash_survives_its_encodings_and_nothing_else_parses() {
        let hash = leaf_hash(b"entry");
        assert_eq!(Hash::from_hex(&hash.to_string()), Ok(hash));
        assert_eq!(Hash::from_base64(&hash.to_base64()), Ok(hash));
        assert_eq!(Hash::from_bytes(*hash.as_bytes()), hash);
        assert_eq!(Hash::from_hex(&hash.to_string().to_uppercase()), Err(NotAHash));
        assert_eq!(Hash::from_hex(&hash.to_string()[2..]), Err(NotAHash));
        assert_eq!(Hash::from_base64(&hash.to_base64()[..43]), Err(NotAHash));
        // Two encodings one after another, as long as one.
        let bytes = hash.as_bytes();
        let twice = BASE64.encode(&bytes[..29]) + &BASE64.encode(&bytes[29..]);
        assert_eq!(twice.len(), 44);
        assert_eq!(Hash::from_base64(&twice), Err(NotAHash));
    }
}
