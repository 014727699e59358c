//! Court case numbers such as （2024）浙1004民初123号.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::law::is_chinese;
use super::violation::BrokenRule;

/// A court case number: year, court code, type word, number, and 之N for a further document of the same
/// case. Written with full-width brackets. Names a case, not a person, so it may be shown and logged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaseNumber {
    year: u16,
    court_code: String,
    type_word: String,
    number: u32,
    part: Option<u8>,
}

impl CaseNumber {
    /// Reads a case number. Brackets may be full- or half-width, white space does not count, 之N may have
    /// Chinese or Arabic numerals.
    pub fn parse(text: &str) -> Result<Self, CaseNumberError> {
        let text: String = text.chars().filter(|character| !character.is_whitespace()).collect();
        let inside = text.strip_prefix(['（', '(']).ok_or(CaseNumberError::Brackets)?;
        let (year, rest) = inside.split_once(['）', ')']).ok_or(CaseNumberError::Brackets)?;
        let year = read_year(year).ok_or(CaseNumberError::Year)?;
        let (court_code, rest) = split_court_code(rest).ok_or(CaseNumberError::Court)?;
        let (type_word, rest) = split_where(rest, |character| !is_chinese(character));
        // Eight is more than any type word has, and too few for a sentence about somebody.
        if !(1..=8).contains(&type_word.chars().count()) {
            return Err(CaseNumberError::TypeWord);
        }
        let (number, ending) = split_where(rest, |character| !character.is_ascii_digit());
        let number = read_number(number).ok_or(CaseNumberError::Number)?;
        let part = match ending.strip_prefix('号').ok_or(CaseNumberError::Ending)? {
            "" => None,
            suffix => Some(suffix.strip_prefix('之').and_then(read_part).ok_or(CaseNumberError::Part)?),
        };
        let (court_code, type_word) = (court_code.to_owned(), type_word.to_owned());
        Ok(Self { year, court_code, type_word, number, part })
    }

    /// The year in which the case was docketed.
    pub fn year(&self) -> u16 {
        self.year
    }

    /// The court's code, such as `浙1004`, `浙` (a high court) or `最高法`.
    pub fn court_code(&self) -> &str {
        &self.court_code
    }

    /// The kind of case and instance, such as `民初`.
    pub fn type_word(&self) -> &str {
        &self.type_word
    }

    /// The running number in that year, court and type.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The N of 之N.
    pub fn part(&self) -> Option<u8> {
        self.part
    }
}

impl fmt::Display for CaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "（{}）{}{}{}号", self.year, self.court_code, self.type_word, self.number)?;
        match self.part {
            Some(part) => write!(f, "之{}", chinese_numeral(part)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for CaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaseNumber({self})")
    }
}

impl FromStr for CaseNumber {
    type Err = CaseNumberError;

    fn from_str(text: &str) -> Result<Self, CaseNumberError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for CaseNumber {
    type Error = CaseNumberError;

    fn try_from(text: String) -> Result<Self, CaseNumberError> {
        Self::parse(&text)
    }
}

impl From<CaseNumber> for String {
    fn from(number: CaseNumber) -> Self {
        number.to_string()
    }
}

/// Which part of a case number can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseNumberError {
    /// It does not begin with a year in brackets.
    #[error("the case number does not begin with a year in brackets")]
    Brackets,
    /// Not four digits from 1949 to 2100.
    #[error("the year of the case number is not between 1949 and 2100")]
    Year,
    /// Neither a province's character with up to four digits nor 最高法.
    #[error("the court code of the case number is unknown")]
    Court,
    /// No type word of one to eight Chinese characters.
    #[error("the type word of the case number is missing or too long")]
    TypeWord,
    /// Not one to six digits without leading zeros.
    #[error("the running number of the case number is not one to six digits without leading zeros")]
    Number,
    /// 号 is missing.
    #[error("the running number of the case number is not followed by its closing word")]
    Ending,
    /// What follows 号 is not 之 with a number from 1 to 99.
    #[error("the case number ends in something other than a part number")]
    Part,
}

impl BrokenRule for CaseNumberError {
    fn rule(&self) -> &'static str {
        match self {
            Self::Brackets => "CASE_NUMBER_BRACKETS",
            Self::Year => "CASE_NUMBER_YEAR",
            Self::Court => "CASE_NUMBER_COURT",
            Self::TypeWord => "CASE_NUMBER_TYPE",
            Self::Number => "CASE_NUMBER_NUMBER",
            Self::Ending => "CASE_NUMBER_ENDING",
            Self::Part => "CASE_NUMBER_PART",
        }
    }

    fn description_zh(&self) -> &'static str {
        match self {
            Self::Brackets => "案号应以括号内的年份开头",
            Self::Year => "案号年份应在1949至2100之间",
            Self::Court => "案号中的法院代字无法识别",
            Self::TypeWord => "案号缺少类型代字或类型代字过长",
            Self::Number => "案号的案件编号应为1至6位数字且不以0开头",
            Self::Ending => "案件编号之后缺少“号”字",
            Self::Part => "案号末尾应为“之”加序号",
        }
    }
}

/// Characters of the provinces, of the corps courts in Xinjiang (兵) and of the military courts (军).
const COURT_CHARACTERS: &str = "京津冀晋蒙辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝川贵云藏陕甘青宁新兵军";
const SUPREME_COURT: &str = "最高法";

fn read_year(text: &str) -> Option<u16> {
    let is_plain = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    let year = text.parse().ok().filter(|_| is_plain)?;
    (1949..=2100).contains(&year).then_some(year)
}

/// Splits the court's code off: high courts have no digits, intermediate courts two, basic courts four.
fn split_court_code(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix(SUPREME_COURT) {
        return Some((SUPREME_COURT, rest));
    }
    let character = text.chars().next().filter(|character| COURT_CHARACTERS.contains(*character))?;
    let (digits, _) = split_where(&text[character.len_utf8()..], |character| !character.is_ascii_digit());
    matches!(digits.len(), 0 | 2..=4).then(|| text.split_at(character.len_utf8() + digits.len()))
}

fn read_number(text: &str) -> Option<u32> {
    let fits = (1..=6).contains(&text.len()) && !text.starts_with('0');
    text.parse().ok().filter(|_| fits)
}

fn read_part(text: &str) -> Option<u8> {
    (1..=99).find(|part| chinese_numeral(*part) == text || part.to_string() == text)
}

/// One to ninety-nine.
fn chinese_numeral(number: u8) -> String {
    let digit = |value: u8| "一二三四五六七八九".chars().nth(usize::from(value.wrapping_sub(1)));
    let (tens, units) = (number / 10, number % 10);
    let tens_digit = digit(tens).filter(|_| tens > 1);
    tens_digit.into_iter().chain((tens > 0).then_some('十')).chain(digit(units)).collect()
}

/// The text up to the first character that ends it, and the rest.
fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_case_number_is_read_in_its_parts() {
        let number = CaseNumber::parse("（2024）浙1004民初123号").unwrap();
        assert_eq!((number.year(), number.court_code()), (2024, "浙1004"));
        assert_eq!((number.type_word(), number.number(), number.part()), ("民初", 123, None));
    }

    #[test]
    fn brackets_space_and_numerals_are_normalised() {
        let written = [
            ("(2024)浙1004民初123号", "（2024）浙1004民初123号"),
            (" （2024） 浙1004 民初 123 号\n", "（2024）浙1004民初123号"),
            ("(2024）浙10民终9号之2", "（2024）浙10民终9号之二"),
            ("（2024）浙1004民初123号之十一", "（2024）浙1004民初123号之十一"),
            ("（2024）浙1004民初123号之20", "（2024）浙1004民初123号之二十"),
            ("(2023)最高法民申123456号", "（2023）最高法民申123456号"),
            ("(2023)京民终1号", "（2023）京民终1号"),
        ];
        for (given, normal) in written {
            assert_eq!(CaseNumber::parse(given).unwrap().to_string(), normal);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let refused = |text| CaseNumber::parse(text).unwrap_err();
        assert_eq!(refused(""), CaseNumberError::Brackets);
        assert_eq!(refused("2024浙1004民初123号"), CaseNumberError::Brackets);
        assert_eq!(refused("（2024浙1004民初123号"), CaseNumberError::Brackets);
        assert_eq!(refused("（1948）浙1004民初123号"), CaseNumberError::Year);
        assert_eq!(refused("（+202）浙1004民初123号"), CaseNumberError::Year);
        assert_eq!(refused("（2024）台1004民初123号"), CaseNumberError::Court);
        assert_eq!(refused("（2024）浙1民初123号"), CaseNumberError::Court);
        assert_eq!(refused("（2024）浙10041民初123号"), CaseNumberError::Court);
        assert_eq!(refused("（2024）浙1004-123号"), CaseNumberError::TypeWord);
        assert_eq!(refused("（2024）浙1004民民民民民民民民民123号"), CaseNumberError::TypeWord);
        assert_eq!(refused("（2024）浙1004民初0123号"), CaseNumberError::Number);
        assert_eq!(refused("（2024）浙1004民初1234567号"), CaseNumberError::Number);
        assert_eq!(refused("（2024）浙1004民初123"), CaseNumberError::Ending);
        assert_eq!(refused("（2024）浙1004民初123号之"), CaseNumberError::Part);
        assert_eq!(refused("（2024）浙1004民初123号之100"), CaseNumberError::Part);
        assert_eq!(refused("（2024）浙1004民初123号后"), CaseNumberError::Part);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>(), close in "[（(][0-9]{0,5}[)）]浙?[0-9]{0,5}\\PC{0,6}号?之?\\PC?") {
            let _ = CaseNumber::parse(&text);
            let _ = CaseNumber::parse(&close);
        }

        #[test]
        fn what_is_written_is_read_back(
            year in 1949..=2100_u16, court in "浙(10(04)?)?", number in 1..=999_999_u32, part in 1..=99_u8
        ) {
            let text = format!("({year}){court}民初{number}号之{part}");
            let parsed = CaseNumber::parse(&text).unwrap();
            prop_assert_eq!((parsed.year(), parsed.number(), parsed.part()), (year, number, Some(part)));
            prop_assert_eq!(CaseNumber::parse(&parsed.to_string()), Ok(parsed));
        }
    }
}
