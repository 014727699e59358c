//! Sets of places in a chunk, and the lists they are stored as.

use super::chunk::{BLOCK, CHUNK};

/// Words of a set: one bit for each place in a chunk.
const WORDS: usize = CHUNK as usize / 64;

/// Bytes of a list that is stored as bits. A list of so many places is stored as places, two bytes each.
const BITMAP_BYTES: usize = WORDS * 8;

// A block of times is a word of bits.
const _: () = assert!(BLOCK == 64);

/// Which places in a chunk, of 65,536.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits(Box<[u64; WORDS]>);

/// A stored list is not one that was written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a list of the search index is malformed")]
pub struct MalformedList;

/// The stored form of a list of places in ascending order: two bytes each, or one bit for each place of the chunk where
/// that is shorter.
pub fn encode_list(places: &[u16]) -> Vec<u8> {
    if places.len() * 2 < BITMAP_BYTES {
        return places.iter().flat_map(|place| place.to_le_bytes()).collect();
    }
    Bits::of(places).0.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Bits {
    /// The first `count` places.
    pub fn first(count: u32) -> Self {
        let mut bits = Self::none();
        bits.0.fill(u64::MAX);
        bits.keep_below(count);
        bits
    }

    /// The places of a list.
    pub fn of(places: &[u16]) -> Self {
        let mut bits = Self::none();
        for place in places {
            bits.0[usize::from(*place) / 64] |= 1 << (place % 64);
        }
        bits
    }

    /// The places of a stored list.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(list: &[u8]) -> Result<Self, MalformedList> {
        let mut bits = Self::none();
        if list.len() == BITMAP_BYTES {
            let (words, _) = list.as_chunks::<8>();
            for (word, bytes) in bits.0.iter_mut().zip(words) {
                *word = u64::from_le_bytes(*bytes);
            }
            return Ok(bits);
        }
        let (places, rest) = list.as_chunks::<2>();
        if list.is_empty() || list.len() > BITMAP_BYTES || !rest.is_empty() {
            return Err(MalformedList);
        }
        for bytes in places {
            let place = u16::from_le_bytes(*bytes);
            bits.0[usize::from(place) / 64] |= 1 << (place % 64);
        }
        Ok(bits)
    }

    /// Keeps what `other` has too.
    pub fn and(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0.iter()).for_each(|(word, other)| *word &= other);
    }

    /// Keeps the blocks of 64 places that `wanted` names.
    pub fn keep_blocks(&mut self, wanted: impl Fn(usize) -> bool) {
        for (block, word) in self.0.iter_mut().enumerate() {
            if *word != 0 && !wanted(block) {
                *word = 0;
            }
        }
    }

    /// Keeps places below `end`.
    pub fn keep_below(&mut self, end: u32) {
        let (whole, rest) = (end as usize / 64, end % 64);
        if whole < WORDS {
            self.0[whole] &= (1 << rest) - 1;
            self.0[whole + 1..].fill(0);
        }
    }

    /// Keeps places from `start` on.
    pub fn keep_from(&mut self, start: u32) {
        let (whole, rest) = ((start as usize / 64).min(WORDS), start % 64);
        self.0[..whole].fill(0);
        if whole < WORDS {
            self.0[whole] &= u64::MAX << rest;
        }
    }

    /// The places in ascending order.
    pub fn ascending(&self) -> impl Iterator<Item = u32> {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(index as u32 * 64 + bit)
            })
        })
    }

    /// The places in descending order.
    pub fn descending(&self) -> impl Iterator<Item = u32> {
        self.0.iter().enumerate().rev().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.checked_ilog2()?;
                left ^= 1 << bit;
                Some(index as u32 * 64 + bit)
            })
        })
    }

    fn none() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn places() -> impl Strategy<Value = BTreeSet<u16>> {
        prop_oneof![
            proptest::collection::btree_set(any::<u16>(), 1..200),
            proptest::collection::btree_set(any::<u16>(), 4_000..4_200),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn sets_agree_with_plain_sets(a in places(), b in places(), start in 0u32..70_000, end in 0u32..70_000) {
            let list: Vec<u16> = a.iter().copied().collect();
            let encoded = encode_list(&list);
            prop_assert!(encoded.len() <= BITMAP_BYTES);
            let mut bits = Bits::decode(&encoded).unwrap();
            prop_assert_eq!(&bits, &Bits::of(&list));
            bits.and(&Bits::of(&b.iter().copied().collect::<Vec<_>>()));
            bits.keep_from(start);
            bits.keep_below(end);
            let expected: Vec<u32> =
                a.intersection(&b).map(|place| u32::from(*place)).filter(|place| (start..end).contains(place)).collect();
            prop_assert_eq!(bits.ascending().collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(bits.descending().collect::<Vec<_>>(), expected.into_iter().rev().collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_places_and_no_more() {
        for count in [0, 1, 63, 64, 65, 65_535, 65_536] {
            assert_eq!(Bits::first(count).ascending().count(), count as usize);
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bytes in [0, 3, BITMAP_BYTES + 2] {
            assert_eq!(Bits::decode(&vec![0; bytes]), Err(MalformedList));
        }
    }
}
