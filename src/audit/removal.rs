//! What an entry says of a removal: an erasure takes salts and bodies away, pruning the bytes of entries past their
//! retention. Hashes stay, so that the log is proven as before; whoever verifies it reads here why something is gone.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::entry::decimal;
use crate::domain::vocabulary::vocabulary;

vocabulary! {
    /// What is removed.
    pub enum RemovalKind {
        /// Salts and bodies of one person.
        Subject => "SUBJECT",
        /// Salts and bodies of all that is older than a day.
        Period => "PERIOD",
        /// What is past its retention: entries and exchanges.
        Retention => "RETENTION",
    }
}

vocabulary! {
    /// Why something is erased: the cases of 个人信息保护法 art 47.
    pub enum ErasureGround {
        /// The purpose is achieved, cannot be achieved, or does not need the data any more: item (1).
        PurposeAchieved => "PURPOSE_ACHIEVED",
        /// The time for which it was to be kept has ended: item (2).
        RetentionEnded => "RETENTION_ENDED",
        /// The person has withdrawn consent: item (3).
        ConsentWithdrawn => "CONSENT_WITHDRAWN",
        /// It was processed against the law or an agreement: item (4).
        UnlawfulProcessing => "UNLAWFUL_PROCESSING",
        /// Another law says so: item (5).
        OtherLaw => "OTHER_LAW",
    }
}

/// What an entry says of a removal. That of the call says what is wanted; each EVENT that follows says what has gone
/// with it, in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// Reference of the approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// Of a period: all before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// How many entries were concerned in all, in the EVENT that ends the removal.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal")]
    pub entries: Option<u64>,
    /// How many exchanges and verifications.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal")]
    pub exchanges: Option<u64>,
    /// Why, of an erasure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ground: Option<ErasureGround>,
    /// What is removed.
    pub kind: RemovalKind,
    /// The entries concerned, in an EVENT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranges: Option<IndexRanges>,
}

impl Removal {
    /// A removal of a kind; the rest is filled in by who knows it.
    pub fn new(kind: RemovalKind) -> Self {
        Self {
            approval: None,
            before: None,
            entries: None,
            exchanges: None,
            ground: None,
            kind,
            ranges: None,
        }
    }
}

/// Indexes of entries as ranges, written `0-8,12`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IndexRanges(Vec<(u64, u64)>);

impl IndexRanges {
    /// Takes an index in, which must not be below one already in.
    pub fn push(&mut self, index: u64) {
        match self.0.last_mut() {
            Some((_, last)) if *last >= index => {}
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => self.0.push((index, index)),
        }
    }

    /// Takes in others that all come after, and says whether they do.
    pub fn append(&mut self, later: &Self) -> bool {
        let (Some(&(_, last)), Some(&(first, end))) = (self.0.last(), later.0.first()) else { return false };
        if first <= last {
            return false;
        }
        let joins = first == last + 1;
        if joins && let Some(range) = self.0.last_mut() {
            range.1 = end;
        }
        self.0.extend(&later.0[usize::from(joins)..]);
        true
    }

    /// Takes the first out: at most so many indexes in at most so many ranges, of each at least one.
    #[must_use]
    pub fn take_first(&mut self, most: u64, most_ranges: usize) -> Self {
        let (mut taken, mut left) = (Vec::new(), most.max(1));
        let mut ranges = std::mem::take(&mut self.0).into_iter();
        while left > 0
            && taken.len() < most_ranges.max(1)
            && let Some((first, last)) = ranges.next()
        {
            let end = last.min(first + (left - 1));
            taken.push((first, end));
            left -= end - first + 1;
            self.0.extend((end < last).then_some((end + 1, last)));
        }
        self.0.extend(ranges);
        Self(taken)
    }

    /// First and last index of each range, in order.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// How many indexes.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an index is among them.
    pub fn contains(&self, index: u64) -> bool {
        let place = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(place).is_some_and(|(first, _)| *first <= index)
    }

    /// What is in these and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut cuts = other.0.iter().copied().peekable();
        for &(mut first, last) in &self.0 {
            while cuts.next_if(|(_, end)| *end < first).is_some() {}
            let mut ahead = cuts.clone();
            while let Some((begin, end)) = ahead.next_if(|(begin, _)| *begin <= last) {
                if begin > first {
                    left.push((first, begin - 1));
                }
                first = end + 1;
            }
            if first <= last {
                left.push((first, last));
            }
        }
        Self(left)
    }
}

impl FromIterator<u64> for IndexRanges {
    fn from_iter<I: IntoIterator<Item = u64>>(indexes: I) -> Self {
        let mut ranges = Self::default();
        indexes.into_iter().for_each(|index| ranges.push(index));
        ranges
    }
}

impl fmt::Display for IndexRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl From<IndexRanges> for String {
    fn from(ranges: IndexRanges) -> Self {
        ranges.to_string()
    }
}

/// A text that does not hold ranges of indexes in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ranges of indexes are written in order, such as 0-8,12")]
pub struct NotRanges;

impl FromStr for IndexRanges {
    type Err = NotRanges;

    fn from_str(text: &str) -> Result<Self, NotRanges> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| digits.parse::<u64>().map_err(|_| NotRanges);
            let (first, last) = (number(first)?, number(last)?);
            if last < first || last == u64::MAX || ranges.last().is_some_and(|(_, before)| *before >= first) {
                return Err(NotRanges);
            }
            ranges.push((first, last));
        }
        Ok(Self(ranges))
    }
}

impl TryFrom<String> for IndexRanges {
    type Error = NotRanges;

    fn try_from(text: String) -> Result<Self, NotRanges> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_written_and_read() {
        let ranges: IndexRanges = [0, 1, 2, 5, 7, 8].into_iter().collect();
        assert_eq!(ranges.to_string(), "0-2,5,7-8");
        assert_eq!("0-2,5,7-8".parse(), Ok(ranges.clone()));
        assert_eq!(ranges.count(), 6);
        for wrong in ["2-1", "5,3", "a", "1-", ",", "1,1", "18446744073709551615"] {
            assert_eq!(wrong.parse::<IndexRanges>(), Err(NotRanges), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn ranges_are_the_sets_that_they_stand_for(
            one in prop::collection::btree_set(0u64..60, 0..40),
            other in prop::collection::btree_set(0u64..60, 0..40),
            (most, most_ranges) in (1u64..20, 1usize..6),
        ) {
            let (a, b): (IndexRanges, IndexRanges) = (one.iter().copied().collect(), other.iter().copied().collect());
            let left: IndexRanges = one.difference(&other).copied().collect::<BTreeSet<_>>().into_iter().collect();
            prop_assert_eq!(a.without(&b), left);
            let (low, high): (IndexRanges, IndexRanges) = (one.range(..30).copied().collect(), one.range(30..).copied().collect());
            let mut joined = low.clone();
            prop_assert_eq!(joined.append(&high), !low.is_empty() && !high.is_empty());
            if !low.is_empty() && !high.is_empty() {
                prop_assert_eq!(joined, a.clone());
            }
            prop_assert!((0..60).all(|index| a.contains(index) == one.contains(&index)));
            prop_assert_eq!(&a.to_string().parse::<IndexRanges>().unwrap(), &a);
            let (mut rest, mut parts) = (a.clone(), IndexRanges::default());
            while !rest.is_empty() {
                let part = rest.take_first(most, most_ranges);
                prop_assert!(part.count() <= most && part.ranges().len() <= most_ranges && !part.is_empty());
                part.ranges().iter().for_each(|(first, last)| (*first..=*last).for_each(|index| parts.push(index)));
            }
            prop_assert_eq!(parts, a);
        }
    }
}
