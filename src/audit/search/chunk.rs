//! The index of 65,536 entries, as it is built in memory.

use std::collections::HashMap;
use std::ops::Range;

use super::bits::Bits;
use super::{Key, Span};

/// Entries of a chunk.
pub const CHUNK: u64 = 65_536;

/// Entries of which the earliest and the latest time are kept.
pub(super) const BLOCK: u64 = 64;

/// Bytes of the times of one block.
const TIMES_BYTES: usize = 16;

/// The earliest and the latest moment at which some entries were recorded, in microseconds since 1970. The clock may
/// have been set back between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The earliest.
    pub earliest: i64,
    /// The latest.
    pub latest: i64,
}

impl Times {
    /// Of no entry: they touch nothing that has a bound.
    const NONE: Self = Self { earliest: i64::MAX, latest: i64::MIN };

    fn include(&mut self, other: Self) {
        self.earliest = self.earliest.min(other.earliest);
        self.latest = self.latest.max(other.latest);
    }
}

/// The index of a chunk: which places have which key, and when blocks of entries were recorded.
#[derive(Clone, Debug)]
pub struct Chunk {
    number: u64,
    next: u64,
    lists: HashMap<Key, Vec<u16>>,
    blocks: Vec<Times>,
}

impl Chunk {
    /// The chunk that begins at entry `number * CHUNK`, empty.
    pub fn new(number: u64) -> Self {
        Self { number, next: number * CHUNK, lists: HashMap::new(), blocks: Vec::new() }
    }

    /// Which chunk of the log it is, from zero.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The entry that comes next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Index of its first entry.
    pub fn start(&self) -> u64 {
        self.number * CHUNK
    }

    /// Index after its last entry, once it is full.
    pub fn end(&self) -> u64 {
        self.start() + CHUNK
    }

    /// Whether it has all its entries.
    pub fn is_full(&self) -> bool {
        self.next == self.end()
    }

    /// Adds an entry, behind those that it has.
    pub fn add(&mut self, index: u64, keys: &[Key], recorded: i64) {
        debug_assert!(index >= self.next && index < self.end());
        let place = index - self.start();
        // Within a chunk: 16 bits.
        let short = (place % CHUNK) as u16;
        for key in keys {
            self.lists.entry(*key).or_default().push(short);
        }
        let block = (place / BLOCK) as usize;
        self.blocks.resize(self.blocks.len().max(block + 1), Times::NONE);
        self.blocks[block].include(Times { earliest: recorded, latest: recorded });
        self.next = index + 1;
    }

    /// Says that there is nothing to add below `index`: entries may have been pruned.
    pub fn skip_to(&mut self, index: u64) {
        self.next = self.next.max(index.min(self.end()));
    }

    /// Entries that have every key, recorded in a span or within a block of one that was.
    pub fn select(&self, keys: &[Key], span: Span) -> Option<Bits> {
        let mut lists = Vec::with_capacity(keys.len());
        for key in keys {
            lists.push(self.lists.get(key)?);
        }
        lists.sort_by_key(|list| list.len());
        let mut lists = lists.into_iter();
        let mut bits = match lists.next() {
            Some(rarest) => Bits::of(rarest),
            None => Bits::first((self.next - self.start()) as u32),
        };
        lists.for_each(|list| bits.and(&Bits::of(list)));
        if !span.is_everything() {
            bits.keep_blocks(|block| self.blocks.get(block).is_some_and(|times| span.touches(*times)));
        }
        Some(bits)
    }

    /// Each key with its places, in the order of the keys.
    pub fn sorted_lists(&self) -> Vec<(Key, &[u16])> {
        let mut lists: Vec<(Key, &[u16])> =
            self.lists.iter().map(|(key, places)| (*key, places.as_slice())).collect();
        lists.sort_unstable_by_key(|(key, _)| *key);
        lists
    }

    /// When its entries were recorded.
    pub fn times(&self) -> Times {
        let mut all = Times::NONE;
        self.blocks.iter().for_each(|block| all.include(*block));
        all
    }

    /// The stored form of the blocks' times.
    pub fn encode_blocks(&self) -> Vec<u8> {
        let bytes = |times: &Times| [times.earliest.to_le_bytes(), times.latest.to_le_bytes()];
        self.blocks.iter().flat_map(bytes).flatten().collect()
    }

    /// Keeps of `bits` the blocks that `span` touches, by the stored form of their times.
    pub fn keep_span(bits: &mut Bits, blocks: &[u8], span: Span) {
        bits.keep_blocks(|block| {
            let at = block * TIMES_BYTES;
            let number = |at: usize| {
                let bytes = blocks.get(at..at + 8).and_then(|bytes| bytes.first_chunk::<8>());
                bytes.map(|bytes| i64::from_le_bytes(*bytes))
            };
            match (number(at), number(at + 8)) {
                (Some(earliest), Some(latest)) => span.touches(Times { earliest, latest }),
                _ => false,
            }
        });
    }

    /// At most `limit` indices of chunk `number` that are in `bits` and in `within`, in the order asked for.
    pub fn indices(
        number: u64,
        mut bits: Bits,
        within: &Range<u64>,
        newest_first: bool,
        limit: usize,
    ) -> Vec<u64> {
        let start = number * CHUNK;
        let place = |index: u64| index.saturating_sub(start).min(CHUNK) as u32;
        bits.keep_from(place(within.start));
        bits.keep_below(place(within.end));
        let index = |place| start + u64::from(place);
        if newest_first {
            bits.descending().take(limit).map(index).collect()
        } else {
            bits.ascending().take(limit).map(index).collect()
        }
    }
}
