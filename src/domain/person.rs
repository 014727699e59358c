//! The person whom an exchange is about. All of it is personal data (个人信息保护法 art 28), so nothing here
//! has a `Display`, and `Debug` hides what names somebody.

mod id_document;
mod resident_id;

use std::fmt;

use jiff::civil::Date;
use zeroize::Zeroizing;

use super::region::RegionCode;
use super::violation::BrokenRule;
use super::vocabulary::vocabulary;

pub use id_document::{IdDocument, IdDocumentError, IdKind};
pub use resident_id::{ResidentId, ResidentIdError, may_hold_resident_id};

/// An applicant, party or subject of a query. `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// The full name.
    pub name: PersonName,
    /// The identity document.
    pub id: IdDocument,
    /// The sex as stated.
    pub sex: Option<Sex>,
    /// The date of birth as stated.
    pub birth_date: Option<Date>,
    /// The region of the household register.
    pub household_region: RegionCode,
    /// Where the person can be reached.
    pub phone: Phone,
    /// Groups that the person belongs to, as stated; may be none.
    pub groups: Vec<Group>,
    /// Who applies on the person's behalf (法律援助法 art 40).
    pub representative: Option<Representative>,
}

impl Person {
    /// The date of birth in the document's number, else the stated one.
    pub fn known_birth_date(&self) -> Option<Date> {
        self.id.birth_date().or(self.birth_date)
    }

    /// The sex in the document's number, else the stated one.
    pub fn known_sex(&self) -> Option<Sex> {
        self.id.sex().or(self.sex)
    }

    /// Full years on a date, where the date of birth is known.
    pub fn age_on(&self, date: Date) -> Option<u16> {
        self.known_birth_date().map(|born| full_years(born, date))
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Person(…)")
    }
}

/// Who applies for somebody who can't: a guardian, a near relative, another statutory agent
/// (法律援助法 art 40).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Representative {
    /// The representative's full name.
    pub name: PersonName,
    /// The representative's identity document.
    pub id: IdDocument,
    /// What the representative is to the person.
    pub relation: RepresentativeRelation,
    /// By what right the representative acts.
    pub basis: RepresentationBasis,
}

vocabulary! {
    /// What a representative is to the person (法律援助法 art 40).
    pub enum RepresentativeRelation {
        /// 监护人.
        Guardian => "guardian",
        /// 近亲属: for detained people, or where the statutory agent harms the person.
        NearRelative => "near-relative",
        /// 其他法定代理人.
        OtherStatutory => "other-statutory",
    }
}

vocabulary! {
    /// By what right a representative acts (法律援助法 art 40).
    pub enum RepresentationBasis {
        /// Guardianship by law.
        LegalGuardian => "legal-guardian",
        /// A mandate of the person.
        Entrusted => "entrusted",
    }
}

vocabulary! {
    /// The sex as identity documents state it.
    pub enum Sex {
        /// 男.
        Male => "male",
        /// 女.
        Female => "female",
    }
}

vocabulary! {
    /// Groups that eligibility, green channels and statistics ask about (法律援助法 art 42, regional rules).
    pub enum Group {
        /// 残疾人.
        Disabled => "disabled",
        /// 老年人.
        Elderly => "elderly",
        /// 未成年人.
        Minor => "minor",
        /// 妇女.
        Woman => "woman",
        /// 农民工 (进城务工人员).
        MigrantWorker => "migrant-worker",
        /// 军人军属.
        ServiceMember => "service-member",
        /// 低保: receives the minimum living allowance.
        MinimumAllowance => "minimum-allowance",
        /// 特困人员.
        Destitute => "destitute",
        /// 零就业家庭.
        ZeroEmploymentHousehold => "zero-employment-household",
        /// 农村计划生育家庭.
        FamilyPlanningRuralHousehold => "family-planning-rural-household",
        /// 下岗失业人员.
        LaidOffWorker => "laid-off-worker",
        /// 建档立卡贫困户.
        RegisteredPoor => "registered-poor",
        /// 司法救助对象: was granted judicial relief.
        JudicialRelief => "judicial-relief",
        /// 优抚对象: receives special care.
        SpecialCare => "special-care",
        /// Another group.
        Other => "other",
    }
}

/// A person's full name. Secret; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonName(Zeroizing<String>);

impl PersonName {
    /// Reads a name: 1 to 64 characters after space around is cut off, no control or direction
    /// characters, not digits alone.
    pub fn parse(text: &str) -> Result<Self, PersonNameError> {
        let name = text.trim();
        if !(1..=64).contains(&name.chars().count()) {
            return Err(PersonNameError::Length);
        }
        if name.chars().any(is_invisible) {
            return Err(PersonNameError::Character);
        }
        if name.chars().all(|character| character.is_numeric() || character.is_whitespace()) {
            return Err(PersonNameError::DigitsOnly);
        }
        Ok(Self(Zeroizing::new(name.to_owned())))
    }

    /// The name in full. Each call is a place to ask whether it is allowed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonName(…)")
    }
}

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonNameError {
    /// Empty or longer than 64 characters.
    #[error("a name has 1 to 64 characters")]
    Length,
    /// Holds a character that can't be seen.
    #[error("the name holds a control character")]
    Character,
    /// A number in the name's place.
    #[error("the name is made of digits only")]
    DigitsOnly,
}

impl BrokenRule for PersonNameError {
    fn rule(&self) -> &'static str {
        match self {
            Self::Length => "NAME_LENGTH",
            Self::Character => "NAME_CHARACTER",
            Self::DigitsOnly => "NAME_DIGITS_ONLY",
        }
    }

    fn description_zh(&self) -> &'static str {
        match self {
            Self::Length => "姓名应为1至64个字符",
            Self::Character => "姓名含有控制字符",
            Self::DigitsOnly => "姓名不得全为数字",
        }
    }
}

/// A mainland mobile or landline number. Secret; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Phone(Zeroizing<String>);

impl Phone {
    /// Reads a mobile number (11 digits, 13 to 19 first) or a landline with its area code, with or without
    /// a hyphen between them.
    pub fn parse(text: &str) -> Result<Self, PhoneError> {
        let number = text.trim();
        if is_mobile(number) || is_landline(number) {
            Ok(Self(Zeroizing::new(number.to_owned())))
        } else {
            Err(PhoneError)
        }
    }

    /// The number in full. Each call is a place to ask whether it is allowed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phone(…)")
    }
}

/// The text is no mainland telephone number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the phone number is neither a mainland mobile number nor a landline with its area code")]
pub struct PhoneError;

impl BrokenRule for PhoneError {
    fn rule(&self) -> &'static str {
        "PHONE_NUMBER"
    }

    fn description_zh(&self) -> &'static str {
        "电话应为11位手机号码或带区号的固定电话"
    }
}

fn full_years(born: Date, on: Date) -> u16 {
    let years = i32::from(on.year()) - i32::from(born.year());
    let birthday_is_ahead = (on.month(), on.day()) < (born.month(), born.day());
    u16::try_from(years - i32::from(birthday_is_ahead)).unwrap_or(0)
}

/// Control characters, and those that hide or turn the text around them.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn is_mobile(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 11 && all_digits(text) && bytes[0] == b'1' && bytes[1] >= b'3'
}

/// `0\d{2,3}-?\d{7,8}`
fn is_landline(text: &str) -> bool {
    let digits_fit = |digits: &str| text.starts_with('0') && all_digits(digits);
    match text.split_once('-') {
        Some((area, number)) => {
            matches!(area.len(), 3 | 4)
                && digits_fit(area)
                && matches!(number.len(), 7 | 8)
                && all_digits(number)
        }
        None => matches!(text.len(), 10..=12) && digits_fit(text),
    }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_trimmed_and_hidden() {
        let name = PersonName::parse(" 测试·甲 ").unwrap();
        assert_eq!(name.reveal(), "测试·甲");
        assert_eq!(format!("{name:?}"), "PersonName(…)");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(PersonName::parse("  "), Err(PersonNameError::Length));
        assert_eq!(PersonName::parse(&"甲".repeat(65)), Err(PersonNameError::Length));
        assert!(PersonName::parse(&"甲".repeat(64)).is_ok());
        assert_eq!(PersonName::parse("测\u{0}试"), Err(PersonNameError::Character));
        assert_eq!(PersonName::parse("测\u{202e}试"), Err(PersonNameError::Character));
        assert_eq!(PersonName::parse("110105 1949"), Err(PersonNameError::DigitsOnly));
    }

    #[test]
    fn mobile_and_landline_numbers_are_read() {
        for number in
            ["13800000000", "19900000000", "0576-82400000", "057682400000", "010-12345678", "0101234567"]
        {
            assert_eq!(Phone::parse(number).unwrap().reveal(), number);
        }
        for number in
            ["", "12800000000", "1380000000", "138000000000", "0576-824000", "576-82400000", "+8613800000000"]
        {
            assert_eq!(Phone::parse(number), Err(PhoneError));
        }
    }

    #[test]
    fn debug_of_a_person_shows_nothing_and_of_a_representative_no_name() {
        let person = sample();
        assert_eq!(format!("{person:?}"), "Person(…)");
        let representative = Representative {
            name: person.name.clone(),
            id: person.id.clone(),
            relation: RepresentativeRelation::Guardian,
            basis: RepresentationBasis::LegalGuardian,
        };
        let shown = format!("{representative:?}");
        assert!(!shown.contains("测试") && !shown.contains("1949"));
    }

    #[test]
    fn the_document_outweighs_the_stated_date_of_birth() {
        let person = sample();
        assert_eq!(person.known_birth_date(), Some(date(1949, 12, 31)));
        assert_eq!(person.age_on(date(2024, 12, 31)), Some(75));
        assert_eq!(person.known_sex(), Some(Sex::Female));
    }

    #[test]
    fn a_leap_day_child_is_a_year_older_on_the_first_of_march() {
        assert_eq!(full_years(date(2008, 2, 29), date(2022, 2, 28)), 13);
        assert_eq!(full_years(date(2008, 2, 29), date(2022, 3, 1)), 14);
        assert_eq!(full_years(date(2008, 2, 29), date(2024, 2, 29)), 16);
    }

    fn sample() -> Person {
        Person {
            name: PersonName::parse("测试甲").unwrap(),
            id: IdDocument::parse(IdKind::ResidentId, "11010519491231002X", date(2024, 6, 1)).unwrap(),
            sex: None,
            birth_date: Some(date(1950, 1, 1)),
            household_region: RegionCode::parse("331004").unwrap(),
            phone: Phone::parse("13800000000").unwrap(),
            groups: vec![Group::Elderly],
            representative: None,
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>(), close in "[01][0-9-]{9,12}") {
            let _ = PersonName::parse(&text);
            let _ = Phone::parse(&text);
            let _ = Phone::parse(&close);
        }
    }
}
