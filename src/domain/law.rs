//! Laws and standards, as the sources of rules and as a caller's legal basis.

use std::fmt;

use super::agency::has_digit_run;
use super::violation::BrokenRule;

/// A place in a law or standard that a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Article {
    law: Law,
    number: Option<&'static str>,
}

impl Article {
    /// An article of the Legal Aid Law, such as `"42(3)"`.
    pub const fn legal_aid_law(number: &'static str) -> Self {
        Self::of(Law::LegalAidLaw, number)
    }

    /// An article of the Measures on the Payment of Litigation Costs (State Council Order 481).
    pub const fn court_fee_measures(number: &'static str) -> Self {
        Self::of(Law::CourtFeeMeasures, number)
    }

    /// An article of the Civil Procedure Law.
    pub const fn civil_procedure_law(number: &'static str) -> Self {
        Self::of(Law::CivilProcedureLaw, number)
    }

    /// An article of the Network Data Security Management Regulation.
    pub const fn network_data_regulation(number: &'static str) -> Self {
        Self::of(Law::NetworkDataRegulation, number)
    }

    /// An article of the Personal Information Protection Law.
    pub const fn personal_information_protection_law(number: &'static str) -> Self {
        Self::of(Law::PersonalInformationProtectionLaw, number)
    }

    /// The resident identity number's standard as a whole.
    pub const fn gb_11643() -> Self {
        Self::whole(Law::Gb11643)
    }

    /// The unified social credit code's standard as a whole.
    pub const fn gb_32100() -> Self {
        Self::whole(Law::Gb32100)
    }

    /// The region codes' standard as a whole.
    pub const fn gbt_2260() -> Self {
        Self::whole(Law::Gbt2260)
    }

    /// An article of any listed law.
    pub const fn of(law: Law, number: &'static str) -> Self {
        Self { law, number: Some(number) }
    }

    /// A law or standard as a whole.
    pub const fn whole(law: Law) -> Self {
        Self { law, number: None }
    }

    /// The law.
    pub const fn law(self) -> Law {
        self.law
    }

    /// The article's number, or nothing where the law as a whole is meant.
    pub const fn number(self) -> Option<&'static str> {
        self.number
    }
}

/// Such as `诉讼费用交纳办法 art 44`.
impl Article {
    /// As a Chinese text cites it, such as 《法律援助法》第41条.
    pub fn cited_zh(self) -> String {
        let law = self.law.name();
        let Some(number) = self.number else {
            return if law.is_ascii() { law.to_owned() } else { format!("《{law}》") };
        };
        let (article, below) = number.split_at(number.find('(').unwrap_or(number.len()));
        format!("《{law}》第{article}条{}", below.replace('(', "（").replace(')', "）"))
    }
}

impl fmt::Display for Article {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{} art {number}", self.law),
            None => write!(f, "{}", self.law),
        }
    }
}

/// The laws and standards that rules here cite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// 法律援助法, in force since 2022-01-01.
    LegalAidLaw,
    /// 诉讼费用交纳办法, State Council Order 481.
    CourtFeeMeasures,
    /// 民事诉讼法.
    CivilProcedureLaw,
    /// GB 11643, the resident identity number.
    Gb11643,
    /// GB 32100, the unified social credit code.
    Gb32100,
    /// GB/T 2260, the codes of administrative regions.
    Gbt2260,
    /// 网络数据安全管理条例.
    NetworkDataRegulation,
    /// 个人信息保护法.
    PersonalInformationProtectionLaw,
    /// 最高人民法院关于加强和规范人民法院国家司法救助工作的意见 (法发〔2016〕16号).
    JudicialReliefOpinions,
}

impl Law {
    /// The law's own name: Chinese for a law, the number for a standard.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LegalAidLaw => "法律援助法",
            Self::CourtFeeMeasures => "诉讼费用交纳办法",
            Self::CivilProcedureLaw => "民事诉讼法",
            Self::Gb11643 => "GB 11643",
            Self::Gb32100 => "GB 32100",
            Self::Gbt2260 => "GB/T 2260",
            Self::NetworkDataRegulation => "网络数据安全管理条例",
            Self::PersonalInformationProtectionLaw => "个人信息保护法",
            Self::JudicialReliefOpinions => "关于加强和规范人民法院国家司法救助工作的意见",
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The legal basis that a caller gives in the envelope. Its shape is checked, so that nothing personal
/// fits in; whether that law says so is for the agreement and for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegalBasis {
    law: String,
    article: String,
}

impl LegalBasis {
    /// Reads a law's name (2 to 64 Chinese characters, ASCII letters, digits, spaces, title brackets; fewer
    /// than six digits in a row) and an article `41`, `41-2`, `41(2)` or `41-2(3)`.
    pub fn parse(law: &str, article: &str) -> Result<Self, LegalBasisError> {
        let law = law.trim();
        let plausible = (2..=64).contains(&law.chars().count())
            && law.chars().any(char::is_alphabetic)
            && law.chars().all(may_stand_in_law_name);
        if !plausible || has_digit_run(law, 6) {
            return Err(LegalBasisError::Law);
        }
        if !is_article_number(article) {
            return Err(LegalBasisError::Article);
        }
        Ok(Self { law: law.to_owned(), article: article.to_owned() })
    }

    /// The law's name, without the space around it.
    pub fn law(&self) -> &str {
        &self.law
    }

    /// The article's number.
    pub fn article(&self) -> &str {
        &self.article
    }
}

impl fmt::Display for LegalBasis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} art {}", self.law, self.article)
    }
}

/// Why a legal basis can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LegalBasisError {
    /// The law's name is too short, too long, or holds what a law's name does not.
    #[error("the law is not a plain name of 2 to 64 characters")]
    Law,
    /// The article is not a number with an optional inserted number and item.
    #[error("the article is not a number such as 41, 41-2 or 41(2)")]
    Article,
}

impl BrokenRule for LegalBasisError {
    fn rule(&self) -> &'static str {
        match self {
            Self::Law => "LEGAL_BASIS_LAW",
            Self::Article => "LEGAL_BASIS_ARTICLE",
        }
    }

    fn description_zh(&self) -> &'static str {
        match self {
            Self::Law => "法律名称应为2至64个字的普通名称",
            Self::Article => "条文号应形如41、41-2或41(2)",
        }
    }

    /// Purpose, method and scope of a provision are agreed: 网络数据安全管理条例 art 12.
    fn article(&self) -> Option<Article> {
        Some(Article::network_data_regulation("12"))
    }
}

/// Whether a character is Chinese writing: the unified ideographs, extension A, and the zero 〇.
pub(super) fn is_chinese(character: char) -> bool {
    matches!(character, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '〇')
}

fn may_stand_in_law_name(character: char) -> bool {
    is_chinese(character)
        || character.is_ascii_alphanumeric()
        || matches!(
            character,
            ' ' | '-' | '/' | '(' | ')' | '（' | '）' | '《' | '》' | '〔' | '〕' | '、' | '·'
        )
}

/// `[0-9]{1,4}(-[0-9]{1,2})?(\([0-9]{1,2}\))?`
fn is_article_number(text: &str) -> bool {
    let (text, item_fits) = match text.split_once('(') {
        Some((before, item)) => (before, item.strip_suffix(')').is_some_and(|item| is_number(item, 2))),
        None => (text, true),
    };
    let (main, inserted_fits) = match text.split_once('-') {
        Some((before, inserted)) => (before, is_number(inserted, 2)),
        None => (text, true),
    };
    item_fits && inserted_fits && is_number(main, 4)
}

fn is_number(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_article_reads_like_a_citation() {
        assert_eq!(Article::court_fee_measures("44").to_string(), "诉讼费用交纳办法 art 44");
        assert_eq!(Article::gb_11643().to_string(), "GB 11643");
    }

    #[test]
    fn a_chinese_text_cites_an_article_in_chinese() {
        assert_eq!(Article::legal_aid_law("41").cited_zh(), "《法律援助法》第41条");
        assert_eq!(Article::court_fee_measures("46(3)").cited_zh(), "《诉讼费用交纳办法》第46条（3）");
        assert_eq!(Article::gb_11643().cited_zh(), "GB 11643");
        assert_eq!(Article::whole(Law::CivilProcedureLaw).cited_zh(), "《民事诉讼法》");
    }

    #[test]
    fn a_basis_of_the_usual_shapes_is_read() {
        for article in ["1", "41", "1260", "120-1", "42(3)", "133-1(12)"] {
            let basis = LegalBasis::parse(" 法律援助法 ", article).unwrap();
            assert_eq!((basis.law(), basis.article()), ("法律援助法", article));
        }
        assert!(LegalBasis::parse("《诉讼费用交纳办法》", "47(3)").is_ok());
        assert!(LegalBasis::parse("GB 11643", "4").is_ok());
    }

    #[test]
    fn a_basis_of_another_shape_is_refused() {
        for article in ["", "x", "12345", "41-", "41-123", "41()", "41(3", "41(3)x", "(3)", "41(3)-1", "-1"] {
            assert_eq!(LegalBasis::parse("法律援助法", article), Err(LegalBasisError::Article), "{article}");
        }
        let too_long = "法".repeat(65);
        for law in ["", "法", too_long.as_str(), "法律\n援助法", "法110105", "1234", "a@b"] {
            assert_eq!(LegalBasis::parse(law, "1"), Err(LegalBasisError::Law));
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(law in any::<String>(), article in "\\PC*") {
            let _ = LegalBasis::parse(&law, &article);
            let _ = LegalBasis::parse("法律援助法", &article);
        }

        #[test]
        fn every_article_of_the_pattern_is_read(article in "[0-9]{1,4}(-[0-9]{1,2})?(\\([0-9]{1,2}\\))?") {
            prop_assert!(LegalBasis::parse("法律援助法", &article).is_ok());
        }
    }
}
