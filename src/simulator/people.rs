//! Synthetic people, the same for the same seed. No real person has such a name; their numbers have valid check
//! digits.

use jiff::civil::Date;

use crate::domain::person::ResidentId;

/// Days of birth that are given out: of 1950-01-01 and the days after.
const DAYS: u64 = 18_000;

/// The first of them.
const FIRST_DAY: Date = Date::constant(1950, 1, 1);

/// Sequence numbers that are given out for one day.
const SEQUENCES: u64 = 998;

/// The ten stems, as digits of a name.
const STEMS: [char; 10] = ['甲', '乙', '丙', '丁', '戊', '己', '庚', '辛', '壬', '癸'];

/// A person who does not exist.
#[derive(Clone, PartialEq, Eq)]
pub struct SyntheticPerson {
    /// The name.
    pub name: String,
    /// The resident ID number.
    pub id_number: String,
}

impl std::fmt::Debug for SyntheticPerson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyntheticPerson(…)")
    }
}

/// The person at `place` under a seed, registered in the six digits of `region`. Different places give different
/// numbers, up to some 18 million.
pub fn person(seed: u32, region: &str, place: u32) -> SyntheticPerson {
    let (seed, place) = (u64::from(seed), u64::from(place));
    // 7919 and the number of days have no common factor: each day comes once before one comes again.
    let day = (place * 7919 + seed) % DAYS;
    let sequence = 1 + (place / DAYS + seed) % SEQUENCES;
    let days = jiff::Span::new().days(i64::try_from(day).unwrap_or(0));
    let born = FIRST_DAY.saturating_add(days);
    let digits = format!("{region}{:04}{:02}{:02}{sequence:03}", born.year(), born.month(), born.day());
    let whole = |check| ResidentId::parse(&format!("{digits}{check}"), Date::MAX).ok();
    let id_number = "0123456789X".chars().find_map(whole);
    let id_number = id_number.map(|id| id.reveal().to_owned()).unwrap_or_default();
    let digits = place.to_string();
    let stems = digits.bytes().map(|digit| STEMS[usize::from(digit - b'0')]);
    SyntheticPerson { name: std::iter::once('测').chain(stems).collect(), id_number }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::person::PersonName;

    #[test]
    fn ten_thousand_people_have_valid_names_and_numbers_and_no_two_the_same() {
        let today = Date::constant(2026, 1, 1);
        let mut seen = HashSet::new();
        for place in 0..20_000 {
            let person = person(7, "331004", place);
            assert!(PersonName::parse(&person.name).is_ok());
            assert!(ResidentId::parse(&person.id_number, today).is_ok());
            assert!(seen.insert(person.id_number), "{place}");
        }
        assert_eq!(person(7, "331004", 3), person(7, "331004", 3));
        assert_ne!(person(7, "331004", 3), person(8, "331004", 3));
    }
}
