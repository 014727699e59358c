//! The resident identity number (GB 11643).

use std::fmt;

use jiff::civil::{Date, date};
use zeroize::Zeroizing;

use super::Sex;
use crate::domain::law::Article;
use crate::domain::region::RegionCode;
use crate::domain::violation::BrokenRule;

/// A resident identity number (GB 11643): region, date of birth, sequence, check digit. Secret: it has no
/// `Display`, its `Debug` shows the last two characters, and it is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ResidentId(Zeroizing<[u8; 18]>);

impl ResidentId {
    /// Reads a number: 17 digits and a check digit (a small x is taken for X), a real date of birth not
    /// after `today`. An unknown region is no error, since people keep numbers of regions that are gone.
    pub fn parse(text: &str, today: Date) -> Result<Self, ResidentIdError> {
        if text.chars().count() != 18 {
            return Err(ResidentIdError::Length);
        }
        let mut number = Self(Zeroizing::new([0; 18]));
        for (index, character) in text.chars().enumerate() {
            number.0[index] = match (index, character) {
                (_, '0'..='9') => character as u8,
                (17, 'x' | 'X') => b'X',
                _ => return Err(ResidentIdError::Character { position: index + 1 }),
            };
        }
        let (year, month, day) = number.birth_parts();
        // The calendar has no year 0.
        let born = Date::new(year, month, day).ok().filter(|born| born.year() > 0);
        let born = born.ok_or(ResidentIdError::BirthDate)?;
        if born > today {
            return Err(ResidentIdError::BornInTheFuture);
        }
        if number.0[17] != number.expected_check_digit() {
            return Err(ResidentIdError::CheckDigit);
        }
        Ok(number)
    }

    /// The 18 characters in full. Each call is a place to ask whether it is allowed.
    pub fn reveal(&self) -> &str {
        // `parse` lets in nothing but ASCII, so the fallback is never taken.
        std::str::from_utf8(self.0.as_slice()).unwrap_or_default()
    }

    /// The date of birth, digits 7 to 14.
    pub fn birth_date(&self) -> Date {
        let (year, month, day) = self.birth_parts();
        // `parse` has made this date once, so this can't panic.
        date(year, month, day)
    }

    /// Odd sequence numbers are men's, even ones women's (digit 17).
    pub fn sex(&self) -> Sex {
        if self.digit(16) % 2 == 1 { Sex::Male } else { Sex::Female }
    }

    /// The region where the number was given out, unless its code is unknown; not where the person lives.
    pub fn region(&self) -> Option<RegionCode> {
        RegionCode::parse(self.reveal().get(..6)?).ok()
    }

    /// Full years on a date; zero before birth. Who was born on 29 February is a year older on 1 March
    /// where there is no such day.
    pub fn age_on(&self, date: Date) -> u16 {
        super::full_years(self.birth_date(), date)
    }

    pub(super) fn last_two(&self) -> &str {
        self.reveal().get(16..).unwrap_or_default()
    }

    fn digit(&self, index: usize) -> u8 {
        self.0[index] - b'0'
    }

    fn birth_parts(&self) -> (i16, i8, i8) {
        let pair = |index| (self.digit(index) * 10 + self.digit(index + 1)).cast_signed();
        (i16::from(pair(6)) * 100 + i16::from(pair(8)), pair(10), pair(12))
    }

    fn expected_check_digit(&self) -> u8 {
        let sum: usize = WEIGHTS.iter().zip(0..).map(|(weight, i)| weight * usize::from(self.digit(i))).sum();
        CHECK_DIGITS[sum % 11]
    }
}

/// Whether `text` holds what looks like a resident number, its last character aside: six digits, a date of birth from
/// 1900 to 2099, three digits. Of random hexadecimal ids one in some hundred thousand does.
pub fn may_hold_resident_id(text: &str) -> bool {
    text.as_bytes().windows(17).any(|window| {
        let number = |range: std::ops::Range<usize>| {
            window[range].iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'))
        };
        window.iter().all(u8::is_ascii_digit)
            && (1900..2100).contains(&number(6..10))
            && (1..=12).contains(&number(10..12))
            && (1..=31).contains(&number(12..14))
    })
}

const WEIGHTS: [usize; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
const CHECK_DIGITS: [u8; 11] = *b"10X98765432";

impl fmt::Debug for ResidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResidentId(…{})", self.last_two())
    }
}

/// Why a text is not a resident identity number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResidentIdError {
    /// Not 18 characters; numbers of 15 digits are no longer valid.
    #[error("a resident identity number has 18 characters")]
    Length,
    /// Something other than a digit, or an X before the end.
    #[error("character {position} of the resident identity number is not allowed there")]
    Character {
        /// Counted from 1.
        position: usize,
    },
    /// Digits 7 to 14 are no date.
    #[error("the resident identity number holds no real date of birth")]
    BirthDate,
    /// The date of birth is after today.
    #[error("the date of birth in the resident identity number is in the future")]
    BornInTheFuture,
    /// The last character does not fit the others.
    #[error("the check digit of the resident identity number does not fit")]
    CheckDigit,
}

impl BrokenRule for ResidentIdError {
    fn rule(&self) -> &'static str {
        match self {
            Self::Length => "RESIDENT_ID_LENGTH",
            Self::Character { .. } => "RESIDENT_ID_CHARACTER",
            Self::BirthDate => "RESIDENT_ID_BIRTH_DATE",
            Self::BornInTheFuture => "RESIDENT_ID_FUTURE",
            Self::CheckDigit => "RESIDENT_ID_CHECK",
        }
    }

    fn description_zh(&self) -> &'static str {
        match self {
            Self::Length => "公民身份号码应为18位",
            Self::Character { .. } => "公民身份号码含有不允许的字符",
            Self::BirthDate => "公民身份号码中的出生日期不存在",
            Self::BornInTheFuture => "公民身份号码中的出生日期晚于今天",
            Self::CheckDigit => "公民身份号码校验码不符",
        }
    }

    fn article(&self) -> Option<Article> {
        Some(Article::gb_11643())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: [&str; 2] = ["11010519491231002X", "360426199101010071"];
    const TODAY: Date = date(2024, 6, 1);

    fn parse(text: &str) -> Result<ResidentId, ResidentIdError> {
        ResidentId::parse(text, TODAY)
    }

    #[test]
    fn the_standards_sample_is_read_in_its_parts() {
        let id = parse("11010519491231002x").unwrap();
        assert_eq!(id.reveal(), VALID[0]);
        assert_eq!(id.birth_date(), date(1949, 12, 31));
        assert_eq!(id.sex(), Sex::Female);
        assert_eq!(id.region(), RegionCode::parse("110105").ok());
        assert_eq!(parse(VALID[1]).unwrap().sex(), Sex::Male);
    }

    #[test]
    fn a_birthday_adds_a_year_on_the_day_itself() {
        let id = parse(VALID[0]).unwrap();
        assert_eq!(id.age_on(date(1949, 12, 31)), 0);
        assert_eq!(id.age_on(date(1940, 1, 1)), 0);
        assert_eq!(id.age_on(date(2009, 12, 30)), 59);
        assert_eq!(id.age_on(date(2009, 12, 31)), 60);
    }

    #[test]
    fn each_fault_has_its_reason() {
        assert_eq!(parse("110105491231002"), Err(ResidentIdError::Length));
        assert_eq!(parse("1101051949123100２X"), Err(ResidentIdError::Character { position: 17 }));
        assert_eq!(parse("1101051949123X002X"), Err(ResidentIdError::Character { position: 14 }));
        assert_eq!(parse("11010519490231002X"), Err(ResidentIdError::BirthDate));
        assert_eq!(parse("110105000012310029"), Err(ResidentIdError::BirthDate));
        assert_eq!(parse("110105194912310020"), Err(ResidentIdError::CheckDigit));
        assert_eq!(ResidentId::parse(VALID[0], date(1949, 12, 30)), Err(ResidentIdError::BornInTheFuture));
        assert!(ResidentId::parse(VALID[0], date(1949, 12, 31)).is_ok());
    }

    #[test]
    fn debug_shows_the_last_two_characters_only() {
        assert_eq!(format!("{:?}", parse(VALID[0]).unwrap()), "ResidentId(…2X)");
    }

    proptest! {
        #[test]
        fn any_single_change_of_a_valid_number_is_refused(
            sample in 0..VALID.len(), place in 0..18_usize, other in "[0-9X]"
        ) {
            let mut text = VALID[sample].to_owned();
            prop_assume!(text[place..=place] != other);
            text.replace_range(place..=place, &other);
            prop_assert!(parse(&text).is_err());
        }

        #[test]
        fn parsing_never_panics_and_no_error_repeats_its_input(text in any::<String>(), close in "[0-9]{17}[0-9X]") {
            let _ = parse(&text);
            if let Err(error) = parse(&close) {
                prop_assert!(!error.to_string().contains(&close[10..]));
            }
        }
    }
}
