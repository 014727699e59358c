//! Who exchanges: agencies, the units below them, their staff, and the plain codes they use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::law::Article;
use super::violation::BrokenRule;
use super::vocabulary::vocabulary;

vocabulary! {
    /// What an agency is in the exchange; agreements say which kinds may send what to which.
    pub enum AgencyKind {
        /// A legal-aid centre, 法律援助机构 (法律援助法 art 12).
        LegalAidCentre => "legal-aid-centre",
        /// A people's court.
        Court => "court",
        /// A people's procuratorate.
        Procuratorate => "procuratorate",
        /// The civil-affairs register of minimum allowance and destitute people (低保, 特困).
        CivilAffairsRegistry => "civil-affairs-registry",
        /// The register of registered poor and watched households.
        PovertyRegistry => "poverty-registry",
        /// A public security organ, 公安机关: it gives notice where counsel must be assigned (法律援助法 art 36).
        PublicSecurityOrgan => "public-security-organ",
        /// Reads the audit log and nothing else.
        Auditor => "auditor",
        /// Runs the gateway.
        Operator => "operator",
        /// The gateway itself, or another one.
        Gateway => "gateway",
    }
}

/// An agency's unified social credit code (GB 32100): 18 characters, the last one a check character.
/// Names an organisation, never a person, so it may be shown and logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CreditCode([u8; 18]);

impl CreditCode {
    /// Reads a code: length, alphabet (no I, O, S, V, Z), check character; upper case only.
    pub fn parse(text: &str) -> Result<Self, CreditCodeError> {
        if text.chars().count() != 18 {
            return Err(CreditCodeError::Length);
        }
        let mut code = [0; 18];
        let mut values = [0; 18];
        for (index, character) in text.chars().enumerate() {
            let value = CREDIT_ALPHABET.chars().position(|allowed| allowed == character);
            let refused = CreditCodeError::Character { position: index + 1 };
            values[index] = value.ok_or(refused)?;
            code[index] = u8::try_from(character).map_err(|_| refused)?;
        }
        let sum: usize = values.iter().zip(CREDIT_WEIGHTS).map(|(value, weight)| value * weight).sum();
        if values[17] != (31 - sum % 31) % 31 {
            return Err(CreditCodeError::CheckCharacter);
        }
        Ok(Self(code))
    }

    /// The 18 characters.
    pub fn as_str(&self) -> &str {
        // `parse` lets in nothing but ASCII, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

const CREDIT_ALPHABET: &str = "0123456789ABCDEFGHJKLMNPQRTUWXY";
const CREDIT_WEIGHTS: [usize; 17] = [1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28];

impl fmt::Display for CreditCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CreditCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CreditCode({})", self.as_str())
    }
}

impl FromStr for CreditCode {
    type Err = CreditCodeError;

    fn from_str(text: &str) -> Result<Self, CreditCodeError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for CreditCode {
    type Error = CreditCodeError;

    fn try_from(text: String) -> Result<Self, CreditCodeError> {
        Self::parse(&text)
    }
}

impl From<CreditCode> for String {
    fn from(code: CreditCode) -> Self {
        code.as_str().to_owned()
    }
}

/// Why a text is not a unified social credit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditCodeError {
    /// Not 18 characters.
    #[error("a unified social credit code has 18 characters")]
    Length,
    /// A character outside the alphabet.
    #[error("character {position} is not of the credit code alphabet")]
    Character {
        /// Counted from 1.
        position: usize,
    },
    /// The last character does not fit the others.
    #[error("the check character does not fit")]
    CheckCharacter,
}

impl BrokenRule for CreditCodeError {
    fn rule(&self) -> &'static str {
        match self {
            Self::Length => "CREDIT_CODE_LENGTH",
            Self::Character { .. } => "CREDIT_CODE_CHARACTER",
            Self::CheckCharacter => "CREDIT_CODE_CHECK",
        }
    }

    fn description_zh(&self) -> &'static str {
        match self {
            Self::Length => "统一社会信用代码应为18位",
            Self::Character { .. } => "统一社会信用代码含有不允许的字符",
            Self::CheckCharacter => "统一社会信用代码校验位不符",
        }
    }

    fn article(&self) -> Option<Article> {
        Some(Article::gb_32100())
    }
}

macro_rules! plain_code {
    ($(#[$about:meta])* $name:ident, $lengths:expr, $allowed:expr) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads a code by its pattern; 15 or more digits in a row are refused, for they may be a
            /// resident identity number.
            pub fn parse(text: &str) -> Result<Self, CodeError> {
                if !($lengths).contains(&text.chars().count()) {
                    return Err(CodeError::Length);
                }
                let allowed: fn(usize, char) -> bool = $allowed;
                if let Some(index) = text.chars().enumerate().position(|(index, character)| !allowed(index, character)) {
                    return Err(CodeError::Character { position: index + 1 });
                }
                if has_digit_run(text, 15) || has_mobile_number(text) {
                    return Err(CodeError::LikePersonalNumber);
                }
                Ok(Self(text.to_owned()))
            }

            /// The code as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = CodeError;

            fn from_str(text: &str) -> Result<Self, CodeError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = CodeError;

            fn try_from(text: String) -> Result<Self, CodeError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(code: $name) -> Self {
                code.0
            }
        }
    };
}

plain_code! {
    /// A unit below an agency, such as a station in a court: `[A-Za-z0-9._-]{1,32}`.
    UnitCode, 1..=32, |_, character| character.is_ascii_alphanumeric() || "._-".contains(character)
}

plain_code! {
    /// A staff member's number within the agency: `[A-Za-z0-9._-]{1,32}`.
    StaffNumber, 1..=32, |_, character| character.is_ascii_alphanumeric() || "._-".contains(character)
}

plain_code! {
    /// The centre's own id of a case: `[A-Za-z0-9._/-]{1,64}`.
    MatterId, 1..=64, |_, character| character.is_ascii_alphanumeric() || "._/-".contains(character)
}

plain_code! {
    /// What data is asked for, as the agreement lists it (网络数据安全管理条例 art 12):
    /// `[A-Z][A-Z0-9_]{2,63}`.
    PurposeCode, 3..=64, |index, character| {
        character.is_ascii_uppercase() || index > 0 && (character.is_ascii_digit() || character == '_')
    }
}

/// Why a text is not a plain code of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Empty, too short or too long.
    #[error("the code is too short or too long")]
    Length,
    /// A character that the pattern does not have in this place.
    #[error("character {position} is not allowed in the code")]
    Character {
        /// Counted from 1.
        position: usize,
    },
    /// Holds so many digits in a row that it may be a person's number.
    #[error(
        "the code holds 15 or more digits in a row or a mobile telephone number; it may not be a person's number"
    )]
    LikePersonalNumber,
}

impl BrokenRule for CodeError {
    fn rule(&self) -> &'static str {
        match self {
            Self::Length => "CODE_LENGTH",
            Self::Character { .. } => "CODE_CHARACTER",
            Self::LikePersonalNumber => "CODE_LIKE_PERSONAL_NUMBER",
        }
    }

    fn description_zh(&self) -> &'static str {
        match self {
            Self::Length => "代码过短或过长",
            Self::Character { .. } => "代码含有不允许的字符",
            Self::LikePersonalNumber => "代码含有连续15位以上数字或手机号码，不得使用个人号码",
        }
    }
}

/// Whether digits in a row end in a mobile telephone number: 11 digits from 13 to 19, maybe after a country code.
fn has_mobile_number(text: &str) -> bool {
    text.split(|character: char| !character.is_ascii_digit()).any(|run| {
        let last_eleven = run.len().checked_sub(11).map(|from| &run.as_bytes()[from..]);
        last_eleven.is_some_and(|number| number[0] == b'1' && (b'3'..=b'9').contains(&number[1]))
    })
}

/// Whether at least `length` ASCII digits stand in a row.
pub(super) fn has_digit_run(text: &str, length: usize) -> bool {
    text.split(|character: char| !character.is_ascii_digit()).any(|run| run.len() >= length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: [&str; 3] = ["91110000600037341L", "11320000MB151840XJ", "91350100M000100Y43"];

    #[test]
    fn real_codes_are_read_and_written_back() {
        for text in VALID {
            let code = CreditCode::parse(text).unwrap();
            assert_eq!(code.to_string(), text);
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(serde_json::from_str::<CreditCode>(&json).unwrap(), code);
        }
    }

    #[test]
    fn a_wrong_code_is_refused_with_the_reason() {
        let refused = |text| CreditCode::parse(text).unwrap_err();
        assert_eq!(refused("91350100M000100Y4Z"), CreditCodeError::Character { position: 18 });
        assert_eq!(refused("91350100M000100Y44"), CreditCodeError::CheckCharacter);
        assert_eq!(refused("91350100M000100Y4"), CreditCodeError::Length);
        assert_eq!(refused("9135010０M000100Y43"), CreditCodeError::Character { position: 8 });
        assert!(serde_json::from_str::<CreditCode>("\"91350100M000100Y44\"").is_err());
    }

    #[test]
    fn a_resident_number_does_not_pass_as_a_plain_code() {
        for text in ["11010519491231002X", "x-110105194912310", "110105491231002"] {
            assert_eq!(StaffNumber::parse(text), Err(CodeError::LikePersonalNumber));
            assert_eq!(UnitCode::parse(text), Err(CodeError::LikePersonalNumber));
            assert_eq!(MatterId::parse(text), Err(CodeError::LikePersonalNumber));
        }
        assert_eq!(PurposeCode::parse("P110105194912310"), Err(CodeError::LikePersonalNumber));
        for text in ["13800000000", "LQ-13987650123", "8619900000000"] {
            assert_eq!(MatterId::parse(text), Err(CodeError::LikePersonalNumber));
        }
        for text in ["2026-13800", "20260115123456", "12345678901", "1380000000"] {
            assert!(MatterId::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn codes_follow_their_patterns() {
        assert!(MatterId::parse("LQ/2024-000123").is_ok());
        assert_eq!(UnitCode::parse("LQ/1"), Err(CodeError::Character { position: 3 }));
        assert_eq!(UnitCode::parse(""), Err(CodeError::Length));
        assert!(UnitCode::parse(&"a".repeat(32)).is_ok());
        assert_eq!(UnitCode::parse(&"a".repeat(33)), Err(CodeError::Length));
        assert!(PurposeCode::parse("FEE_WAIVER").is_ok());
        assert_eq!(PurposeCode::parse("_FEE"), Err(CodeError::Character { position: 1 }));
        assert_eq!(PurposeCode::parse("FE"), Err(CodeError::Length));
    }

    #[test]
    fn an_agency_kind_is_written_in_kebab_case() {
        assert_eq!(serde_json::to_string(&AgencyKind::LegalAidCentre).unwrap(), "\"legal-aid-centre\"");
        assert_eq!(AgencyKind::ALL.len(), 9);
    }

    proptest! {
        #[test]
        fn any_single_change_of_a_valid_code_is_refused(
            sample in 0..VALID.len(), place in 0..18_usize, other in "[0-9A-Z]"
        ) {
            let mut text = VALID[sample].to_owned();
            prop_assume!(text[place..=place] != other);
            text.replace_range(place..=place, &other);
            prop_assert!(CreditCode::parse(&text).is_err());
        }

        #[test]
        fn parsing_never_panics(text in any::<String>(), close in "[0-9A-Z]{18}") {
            let _ = CreditCode::parse(&text);
            let _ = CreditCode::parse(&close);
            let _ = MatterId::parse(&text);
            let _ = PurposeCode::parse(&text);
        }
    }
}
