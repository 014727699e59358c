//! Administrative regions by their codes (GB/T 2260).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::law::Article;
use super::violation::BrokenRule;

/// A region's six digits, hierarchical by pairs: province, city, county. `331004` is a county of
/// `331000`, which is a city of `330000`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegionCode([u8; 3]);

impl RegionCode {
    /// Reads six digits that begin with the pair of a province. Whether the county exists is not looked
    /// up, because the list changes from year to year.
    pub fn parse(text: &str) -> Result<Self, RegionCodeError> {
        let digits: &[u8; 6] = text.as_bytes().try_into().map_err(|_| RegionCodeError::Shape)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(RegionCodeError::Shape);
        }
        let pair = |tens: u8, units: u8| (tens - b'0') * 10 + (units - b'0');
        let [a, b, c, d, e, f] = *digits;
        let pairs = [pair(a, b), pair(c, d), pair(e, f)];
        if !is_province(pairs[0]) {
            return Err(RegionCodeError::Province);
        }
        // A county directly below its province has the city pair 90, never 00.
        if pairs[1] == 0 && pairs[2] != 0 {
            return Err(RegionCodeError::CountyWithoutCity);
        }
        Ok(Self(pairs))
    }

    /// The province that the region is in; a province is in itself.
    pub const fn province(self) -> Self {
        Self([self.0[0], 0, 0])
    }

    /// The city that the region is in, or nothing for a province.
    pub const fn city(self) -> Option<Self> {
        if self.0[1] == 0 { None } else { Some(Self([self.0[0], self.0[1], 0])) }
    }

    /// Whether the region is `other` or lies below it.
    pub fn is_within(&self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(own, outer)| outer == 0 || *own == outer)
    }
}

/// The first pairs that GB/T 2260 has given out.
const fn is_province(pair: u8) -> bool {
    matches!(pair, 11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81 | 82)
}

impl fmt::Display for RegionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [province, city, county] = self.0;
        write!(f, "{province:02}{city:02}{county:02}")
    }
}

impl fmt::Debug for RegionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegionCode({self})")
    }
}

impl FromStr for RegionCode {
    type Err = RegionCodeError;

    fn from_str(text: &str) -> Result<Self, RegionCodeError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for RegionCode {
    type Error = RegionCodeError;

    fn try_from(text: String) -> Result<Self, RegionCodeError> {
        Self::parse(&text)
    }
}

impl From<RegionCode> for String {
    fn from(code: RegionCode) -> Self {
        code.to_string()
    }
}

/// Why a text is not a region's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionCodeError {
    /// Not six digits.
    #[error("a region code has six digits")]
    Shape,
    /// The first two digits are no province's.
    #[error("the region code does not begin with a province")]
    Province,
    /// A county is named but no city.
    #[error("the region code names a county without a city")]
    CountyWithoutCity,
}

/// A village by its twelve digits: six of its region (GB/T 2260), three of the town, three of the village.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VillageCode(RegionCode);

impl VillageCode {
    /// Reads twelve digits that begin with a region. Whether town and village exist is not looked up.
    ///
    /// # Errors
    /// When there are not twelve digits, or they do not begin with a region.
    pub fn parse(text: &str) -> Result<Self, VillageCodeError> {
        if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(VillageCodeError::Shape);
        }
        RegionCode::parse(&text[..6]).map(Self).map_err(VillageCodeError::Region)
    }

    /// The region that the village lies in.
    pub const fn region(self) -> RegionCode {
        self.0
    }
}

/// Why a text is not a village code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VillageCodeError {
    /// Not twelve digits.
    #[error("a village code has twelve digits")]
    Shape,
    /// It does not begin with a region.
    #[error(transparent)]
    Region(RegionCodeError),
}

impl BrokenRule for VillageCodeError {
    fn rule(&self) -> &'static str {
        match self {
            Self::Shape => "VILLAGE_CODE_SHAPE",
            Self::Region(error) => error.rule(),
        }
    }

    fn description_zh(&self) -> &'static str {
        match self {
            Self::Shape => "村级区划代码应为12位数字",
            Self::Region(error) => error.description_zh(),
        }
    }

    fn article(&self) -> Option<Article> {
        Some(Article::gbt_2260())
    }
}

impl BrokenRule for RegionCodeError {
    fn rule(&self) -> &'static str {
        match self {
            Self::Shape => "REGION_CODE_SHAPE",
            Self::Province => "REGION_CODE_PROVINCE",
            Self::CountyWithoutCity => "REGION_CODE_HIERARCHY",
        }
    }

    fn description_zh(&self) -> &'static str {
        match self {
            Self::Shape => "行政区划代码应为6位数字",
            Self::Province => "行政区划代码前两位不是省级代码",
            Self::CountyWithoutCity => "行政区划代码有县级而无地级",
        }
    }

    fn article(&self) -> Option<Article> {
        Some(Article::gbt_2260())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn region(text: &str) -> RegionCode {
        RegionCode::parse(text).unwrap()
    }

    #[test]
    fn luqiao_is_within_taizhou_and_zhejiang() {
        let luqiao = region("331004");
        assert!(luqiao.is_within(region("331000")));
        assert!(luqiao.is_within(region("330000")));
        assert!(luqiao.is_within(luqiao));
        assert!(!luqiao.is_within(region("331003")));
        assert!(!luqiao.is_within(region("330100")));
        assert!(!region("331000").is_within(luqiao));
        assert_eq!(luqiao.province(), region("330000"));
        assert_eq!(luqiao.city(), Some(region("331000")));
        assert_eq!(region("330000").city(), None);
    }

    #[test]
    fn what_is_no_region_is_refused() {
        for text in ["", "33100", "3310040", "33100a", "３３１００４", "+31004"] {
            assert_eq!(RegionCode::parse(text), Err(RegionCodeError::Shape));
        }
        for text in ["000000", "101000", "160000", "830000", "990000"] {
            assert_eq!(RegionCode::parse(text), Err(RegionCodeError::Province));
        }
        assert_eq!(RegionCode::parse("330004"), Err(RegionCodeError::CountyWithoutCity));
        assert!(RegionCode::parse("429004").is_ok());
    }

    #[test]
    fn a_region_is_a_string_in_configuration() {
        assert_eq!(serde_json::to_string(&region("331004")).unwrap(), "\"331004\"");
        assert_eq!(serde_json::from_str::<RegionCode>("\"331004\"").unwrap(), region("331004"));
        assert!(serde_json::from_str::<RegionCode>("\"33\"").is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>(), digits in "[0-9]{6}") {
            let _ = RegionCode::parse(&text);
            let _ = RegionCode::parse(&digits);
        }

        #[test]
        fn being_within_is_ordered_and_goes_up_the_pairs(a in "33[01][0-9]0[0-4]", b in "33[01][0-9]0[0-4]") {
            if let (Ok(a), Ok(b)) = (RegionCode::parse(&a), RegionCode::parse(&b)) {
                prop_assert!(a.is_within(a.province()));
                prop_assert!(a.city().is_none_or(|city| a.is_within(city)));
                prop_assert_eq!(a.is_within(b) && b.is_within(a), a == b);
                prop_assert_eq!(a.to_string().parse::<RegionCode>(), Ok(a));
            }
        }
    }
}
