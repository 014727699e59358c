//! What of the log is published, and under which paths: the static resources of C2SP `tlog-tiles`. The gateway
//! answers them over HTTPS, and a folder of files with these paths is the same log for any static file server.

use super::merkle::Hash;
use super::tile::{TILE_WIDTH, TileId};

/// Content type of a checkpoint.
const TEXT: &str = "text/plain; charset=utf-8";

/// Content type of tiles and entry bundles.
const BYTES: &str = "application/octet-stream";

/// One resource of a published log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The newest signed checkpoint, at `checkpoint`.
    Checkpoint,
    /// A tile of the tree, at `tile/<L>/<N>` or, as long as it is partial, `tile/<L>/<N>.p/<W>`.
    Tile {
        /// Which tile.
        tile: TileId,
        /// Hashes in it, 1 to [`TILE_WIDTH`].
        width: usize,
    },
    /// The entries under a tile of level 0, at `tile/entries/<N>` or `tile/entries/<N>.p/<W>`.
    Entries {
        /// Index of the tile; the first entry is `index * 256`.
        index: u64,
        /// Entries in it, 1 to [`TILE_WIDTH`].
        width: usize,
    },
    /// What is kept of a bundle some of whose entries were pruned, at `tile/kept/<N>`: the same form, with no bytes for
    /// an entry that was. C2SP knows no such bundle, and asks for a URL of its own for every other form of entries.
    Kept {
        /// Index of the tile.
        index: u64,
        /// Entries in it, 1 to [`TILE_WIDTH`].
        width: usize,
    },
}

/// Why a path is not that of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing of that kind is published.
    #[error("there is nothing of that name; published are checkpoint, tile/<L>/<N> and tile/entries/<N>")]
    Unknown,
    /// It begins like a tile's path, and is none.
    #[error(
        "not a tile's path: a level of 0 to 63 or the word entries, an index as in x001/x234/067, and for a \
         partial tile .p/ and a width of 1 to 255"
    )]
    Malformed,
}

/// Why bytes are not a tile or an entry bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// An entry is cut off, or a hash is.
    #[error("it is cut off")]
    CutOff,
    /// An entry has more bytes than its length can say.
    #[error("an entry has more than 65535 bytes")]
    TooLong,
}

impl Resource {
    /// The resource at a path, which has no slash in front.
    ///
    /// # Errors
    /// [`PathError`] for every path that is not exactly what [`Resource::path`] gives.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if path == "checkpoint" {
            return Ok(Self::Checkpoint);
        }
        let rest = path.strip_prefix("tile/").ok_or(PathError::Unknown)?;
        let (kind, place) = rest.split_once('/').ok_or(PathError::Malformed)?;
        let (index, width) = match place.split_once(".p/") {
            None => (place, TILE_WIDTH),
            Some((index, width)) => {
                let width = decimal(width).and_then(|width| usize::try_from(width).ok());
                let width = width.filter(|width| (1..TILE_WIDTH).contains(width));
                (index, width.ok_or(PathError::Malformed)?)
            }
        };
        let index = parse_index(index).ok_or(PathError::Malformed)?;
        if kind == "entries" {
            return Ok(Self::Entries { index, width });
        }
        if kind == "kept" {
            return Ok(Self::Kept { index, width });
        }
        let level = decimal(kind).and_then(|level| u8::try_from(level).ok()).filter(|level| *level < 64);
        let tile = TileId { level: level.ok_or(PathError::Malformed)?, index };
        Ok(Self::Tile { tile, width })
    }

    /// Its path, without a slash in front.
    pub fn path(self) -> String {
        let (kind, index, width) = match self {
            Self::Checkpoint => return "checkpoint".to_owned(),
            Self::Tile { tile, width } => (tile.level.to_string(), tile.index, width),
            Self::Entries { index, width } => ("entries".to_owned(), index, width),
            Self::Kept { index, width } => ("kept".to_owned(), index, width),
        };
        let partial = if width < TILE_WIDTH { format!(".p/{width}") } else { String::new() };
        format!("tile/{kind}/{}{partial}", index_path(index))
    }

    /// The content type it is served with.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Checkpoint => TEXT,
            Self::Tile { .. } | Self::Entries { .. } | Self::Kept { .. } => BYTES,
        }
    }

    /// Whether it never changes once it is there. The checkpoint does, and what is kept of a bundle may become less.
    pub fn is_immutable(self) -> bool {
        !matches!(self, Self::Checkpoint | Self::Kept { .. })
    }

    /// Whether a log of `size` entries has it.
    pub fn is_within(self, size: u64) -> bool {
        match self {
            Self::Checkpoint => true,
            Self::Tile { tile, width } => width <= tile.width_at(size),
            Self::Entries { index, width } | Self::Kept { index, width } => {
                width <= TileId { level: 0, index }.width_at(size)
            }
        }
    }
}

/// A tile as it is published: its hashes one after another.
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(Hash::as_bytes).copied().collect()
}

/// The hashes of a published tile.
///
/// # Errors
/// [`FormError::CutOff`] when the last hash is not whole.
pub fn decode_tile(bytes: &[u8]) -> Result<Vec<Hash>, FormError> {
    bytes.chunks(32).map(|hash| Hash::from_slice(hash).map_err(|_| FormError::CutOff)).collect()
}

/// An entry bundle: before each entry its length in two bytes, big-endian.
///
/// # Errors
/// [`FormError::TooLong`] for an entry that the log would not have taken.
pub fn encode_bundle<'e>(entries: impl IntoIterator<Item = &'e [u8]>) -> Result<Vec<u8>, FormError> {
    let mut bundle = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).map_err(|_| FormError::TooLong)?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// The entries of a bundle.
///
/// # Errors
/// [`FormError::CutOff`] when the last entry is not whole.
pub fn decode_bundle(mut bytes: &[u8]) -> Result<Vec<&[u8]>, FormError> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk().ok_or(FormError::CutOff)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, rest) = rest.split_at_checked(length).ok_or(FormError::CutOff)?;
        entries.push(entry);
        bytes = rest;
    }
    Ok(entries)
}

/// An index in groups of three digits, all but the last with an `x` before them: 1234067 is `x001/x234/067`.
fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// Reads an index in its only spelling.
fn parse_index(path: &str) -> Option<u64> {
    let mut index: u64 = 0;
    for group in path.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    (index_path(index) == path).then_some(index)
}

/// A decimal number in its only spelling.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tile(level: u8, index: u64, width: usize) -> Resource {
        Resource::Tile { tile: TileId { level, index }, width }
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let entries = |index, width| Resource::Entries { index, width };
        for (resource, path) in [
            (Resource::Checkpoint, "checkpoint"),
            (tile(0, 0, 256), "tile/0/000"),
            (tile(0, 1_234_067, 256), "tile/0/x001/x234/067"),
            (tile(0, 1_234_067, 8), "tile/0/x001/x234/067.p/8"),
            (tile(1, 5, 17), "tile/1/005.p/17"),
            (tile(63, 1_000, 255), "tile/63/x001/000.p/255"),
            (entries(273, 112), "tile/entries/273.p/112"),
            (entries(0, 256), "tile/entries/000"),
            (Resource::Kept { index: 3, width: 256 }, "tile/kept/003"),
        ] {
            assert_eq!(resource.path(), path);
            assert_eq!(Resource::parse(path), Ok(resource));
        }
    }

    #[test]
    fn no_path_has_a_second_spelling() {
        for unknown in ["", "/checkpoint", "checkpoint/", "tiles/0/000", "entries/000", "../checkpoint"] {
            assert_eq!(Resource::parse(unknown), Err(PathError::Unknown), "{unknown}");
        }
        for malformed in [
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001/x002",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/+1/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/08",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/0/000/",
            "tile/entries/..",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(Resource::parse(malformed), Err(PathError::Malformed), "{malformed}");
        }
    }

    /// The example of the specification: a tree of 70,000 leaves.
    #[test]
    fn a_tree_of_seventy_thousand_has_the_tiles_that_the_specification_names() {
        let size = 70_000;
        for (there, beyond) in [
            (tile(0, 272, 256), tile(0, 273, 113)),
            (tile(0, 273, 112), tile(0, 273, 256)),
            (tile(1, 0, 256), tile(1, 1, 18)),
            (tile(1, 1, 17), tile(2, 0, 2)),
            (tile(2, 0, 1), tile(3, 0, 1)),
            (Resource::Entries { index: 273, width: 112 }, Resource::Entries { index: 274, width: 1 }),
        ] {
            assert!(there.is_within(size), "{there:?}");
            assert!(!beyond.is_within(size), "{beyond:?}");
        }
        assert!(Resource::Checkpoint.is_within(0));
    }

    #[test]
    fn a_bundle_that_is_cut_off_or_too_long_is_refused() {
        let bundle = encode_bundle([b"one".as_slice(), b"", b"three"]).unwrap();
        assert_eq!(bundle, b"\0\x03one\0\0\0\x05three");
        for cut in [1, 4, 6, bundle.len() - 1] {
            assert_eq!(decode_bundle(&bundle[..cut]), Err(FormError::CutOff), "{cut}");
        }
        assert_eq!(encode_bundle([vec![0; 65_536].as_slice()]), Err(FormError::TooLong));
        assert_eq!(decode_tile(&[0; 33]), Err(FormError::CutOff));
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(
            entries: Vec<Vec<u8>>, hashes: Vec<[u8; 32]>, level in 0..64_u8, index: u64, width in 1..257_usize
        ) {
            let bundle = encode_bundle(entries.iter().map(Vec::as_slice)).unwrap();
            prop_assert_eq!(decode_bundle(&bundle).unwrap(), entries);
            let hashes: Vec<Hash> = hashes.into_iter().map(Hash::from_bytes).collect();
            prop_assert_eq!(decode_tile(&encode_tile(&hashes)).unwrap(), hashes);
            for resource in [tile(level, index, width), Resource::Entries { index, width }] {
                prop_assert_eq!(Resource::parse(&resource.path()), Ok(resource));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(path in "(tile/)?[0-9x/.p]{0,24}") {
            if let Ok(resource) = Resource::parse(&path) {
                prop_assert_eq!(resource.path(), path);
            }
        }
    }
}
