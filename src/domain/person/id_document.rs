//! Identity documents of all the kinds that people bring.

use std::fmt;

use jiff::civil::Date;
use zeroize::Zeroizing;

use super::Sex;
use super::resident_id::{ResidentId, ResidentIdError};
use crate::domain::law::{Article, is_chinese};
use crate::domain::violation::BrokenRule;
use crate::domain::vocabulary::vocabulary;

vocabulary! {
    /// Kinds of identity documents.
    pub enum IdKind {
        /// 居民身份证, checked by GB 11643.
        ResidentId => "resident-id",
        /// 军官证, such as 南字第12345678号.
        MilitaryOfficer => "military-officer",
        /// 护照, of any country.
        Passport => "passport",
        /// 港澳台居民居住证: a number built by GB 11643 that begins with 81, 82 or 83.
        ResidencePermit => "residence-permit",
        /// 港澳居民来往内地通行证.
        HongKongMacauPermit => "hong-kong-macau-permit",
        /// 台湾居民来往大陆通行证.
        TaiwanPermit => "taiwan-permit",
        /// 外国人永久居留身份证.
        ForeignerPermanentResident => "foreigner-permanent-resident",
    }
}

/// An identity document's kind and number. As secret as [`ResidentId`].
#[derive(Clone, PartialEq, Eq)]
pub struct IdDocument {
    kind: IdKind,
    number: Number,
}

#[derive(Clone, PartialEq, Eq)]
enum Number {
    /// Built and checked by GB 11643.
    Checked(ResidentId),
    Plain(Zeroizing<String>),
}

impl IdDocument {
    /// Reads a number by the rules of its kind. Where no standard gives a check digit, only length (5 to
    /// 20) and characters are checked; small letters become capitals, space around is cut off.
    pub fn parse(kind: IdKind, number: &str, today: Date) -> Result<Self, IdDocumentError> {
        let number = match kind {
            IdKind::ResidentId => Number::Checked(ResidentId::parse(number.trim(), today)?),
            IdKind::ResidencePermit => {
                let checked = ResidentId::parse(number.trim(), today)?;
                if !["81", "82", "83"].iter().any(|prefix| checked.reveal().starts_with(prefix)) {
                    return Err(IdDocumentError::ResidencePermitPrefix);
                }
                Number::Checked(checked)
            }
            IdKind::MilitaryOfficer => Number::Plain(parse_plain(number, is_chinese)?),
            IdKind::Passport
            | IdKind::HongKongMacauPermit
            | IdKind::TaiwanPermit
            | IdKind::ForeignerPermanentResident => Number::Plain(parse_plain(number, |_| false)?),
        };
        Ok(Self { kind, number })
    }

    /// The kind of document.
    pub fn kind(&self) -> IdKind {
        self.kind
    }

    /// The number in full. Each call is a place to ask whether it is allowed.
    pub fn reveal(&self) -> &str {
        match &self.number {
            Number::Checked(number) => number.reveal(),
            Number::Plain(number) => number,
        }
    }

    /// The date of birth, where the number holds it.
    pub fn birth_date(&self) -> Option<Date> {
        self.checked().map(ResidentId::birth_date)
    }

    /// Full years on a date, where the number holds a date of birth.
    pub fn age_on(&self, date: Date) -> Option<u16> {
        self.birth_date().map(|born| super::full_years(born, date))
    }

    /// The sex, where the number holds it.
    pub fn sex(&self) -> Option<Sex> {
        self.checked().map(ResidentId::sex)
    }

    /// The resident identity number, if the document is a resident identity card.
    pub fn resident_id(&self) -> Option<&ResidentId> {
        self.checked().filter(|_| self.kind == IdKind::ResidentId)
    }

    fn checked(&self) -> Option<&ResidentId> {
        match &self.number {
            Number::Checked(number) => Some(number),
            Number::Plain(_) => None,
        }
    }
}

impl From<ResidentId> for IdDocument {
    fn from(number: ResidentId) -> Self {
        Self { kind: IdKind::ResidentId, number: Number::Checked(number) }
    }
}

/// The kind, and two last characters of a number of 18; of a shorter number nothing.
impl fmt::Debug for IdDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.checked().map(ResidentId::last_two).unwrap_or_default();
        write!(f, "IdDocument({} …{end})", self.kind)
    }
}

fn parse_plain(number: &str, also: fn(char) -> bool) -> Result<Zeroizing<String>, IdDocumentError> {
    let number = number.trim();
    if !(5..=20).contains(&number.chars().count()) {
        return Err(IdDocumentError::Length);
    }
    let may_stand = |character: char| character.is_ascii_alphanumeric() || also(character);
    if let Some(index) = number.chars().position(|character| !may_stand(character)) {
        return Err(IdDocumentError::Character { position: index + 1 });
    }
    Ok(Zeroizing::new(number.to_ascii_uppercase()))
}

/// Why a number is not one of its kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdDocumentError {
    /// A number of 18 characters does not follow GB 11643.
    #[error(transparent)]
    ResidentId(#[from] ResidentIdError),
    /// A residence permit begins otherwise.
    #[error("the number of a residence permit begins with 81, 82 or 83")]
    ResidencePermitPrefix,
    /// Not 5 to 20 characters.
    #[error("the document number does not have 5 to 20 characters")]
    Length,
    /// Neither a letter nor a digit.
    #[error("character {position} is not allowed in the document number")]
    Character {
        /// Counted from 1.
        position: usize,
    },
}

impl BrokenRule for IdDocumentError {
    fn rule(&self) -> &'static str {
        match self {
            Self::ResidentId(error) => error.rule(),
            Self::ResidencePermitPrefix => "ID_RESIDENCE_PERMIT_PREFIX",
            Self::Length => "ID_NUMBER_LENGTH",
            Self::Character { .. } => "ID_NUMBER_CHARACTER",
        }
    }

    fn description_zh(&self) -> &'static str {
        match self {
            Self::ResidentId(error) => error.description_zh(),
            Self::ResidencePermitPrefix => "居住证号码应以81、82或83开头",
            Self::Length => "证件号码应为5至20位",
            Self::Character { .. } => "证件号码含有不允许的字符",
        }
    }

    fn article(&self) -> Option<Article> {
        match self {
            Self::ResidentId(error) => error.article(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn parse(kind: IdKind, number: &str) -> Result<IdDocument, IdDocumentError> {
        IdDocument::parse(kind, number, date(2024, 6, 1))
    }

    #[test]
    fn a_resident_card_is_checked_in_full() {
        let document = parse(IdKind::ResidentId, " 11010519491231002x ").unwrap();
        assert_eq!(document.reveal(), "11010519491231002X");
        assert_eq!(document.birth_date(), Some(date(1949, 12, 31)));
        assert!(document.resident_id().is_some());
        let refused = parse(IdKind::ResidentId, "110105194912310021");
        assert_eq!(refused, Err(IdDocumentError::ResidentId(ResidentIdError::CheckDigit)));
    }

    #[test]
    fn a_residence_permit_has_its_own_prefix_and_the_same_check() {
        let document = parse(IdKind::ResidencePermit, "810000199408230021").unwrap();
        assert_eq!(document.sex(), Some(Sex::Female));
        assert!(document.resident_id().is_none());
        assert_eq!(
            parse(IdKind::ResidencePermit, "11010519491231002X"),
            Err(IdDocumentError::ResidencePermitPrefix)
        );
        assert!(parse(IdKind::ResidencePermit, "810000199408230022").is_err());
    }

    #[test]
    fn other_documents_are_checked_for_length_and_characters() {
        assert_eq!(parse(IdKind::Passport, "e12345678").unwrap().reveal(), "E12345678");
        assert!(parse(IdKind::MilitaryOfficer, "南字第12345678号").is_ok());
        assert_eq!(parse(IdKind::Passport, "E123"), Err(IdDocumentError::Length));
        assert_eq!(parse(IdKind::Passport, "E1234-678"), Err(IdDocumentError::Character { position: 6 }));
        assert!(parse(IdKind::Passport, "字第12345678号").is_err());
    }

    #[test]
    fn debug_gives_no_number_away() {
        let shown = |kind, number| format!("{:?}", parse(kind, number).unwrap());
        assert_eq!(shown(IdKind::ResidentId, "11010519491231002X"), "IdDocument(resident-id …2X)");
        assert_eq!(shown(IdKind::Passport, "E12345678"), "IdDocument(passport …)");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>(), kind in 0..IdKind::ALL.len()) {
            let _ = parse(IdKind::ALL[kind], &text);
        }
    }
}
