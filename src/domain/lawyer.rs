//! The lawyer who is assigned to a case.

use std::fmt;

use super::violation::BrokenRule;

/// Number of a lawyer's practising licence (执业证号). It names a person, so `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct LicenceNumber(String);

impl LicenceNumber {
    /// Reads a number: 6 to 32 ASCII letters and digits. Its parts are not looked into, because their meaning has
    /// changed from one issue of licences to the next.
    pub fn parse(text: &str) -> Result<Self, LicenceNumberError> {
        let fits = (6..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if fits { Ok(Self(text.to_ascii_uppercase())) } else { Err(LicenceNumberError) }
    }

    /// The number. Each call is a place to ask whether it is allowed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LicenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LicenceNumber(…)")
    }
}

/// The text is no licence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a practising licence has a number of 6 to 32 letters and digits")]
pub struct LicenceNumberError;

impl BrokenRule for LicenceNumberError {
    fn rule(&self) -> &'static str {
        "LICENCE_NUMBER"
    }

    fn description_zh(&self) -> &'static str {
        "律师执业证号应为6至32位字母或数字"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_number_has_6_to_32_letters_and_digits() {
        assert_eq!(LicenceNumber::parse("1331020261000001a").unwrap().reveal(), "1331020261000001A");
        assert!(LicenceNumber::parse("123456").is_ok());
        assert!(LicenceNumber::parse(&"1".repeat(32)).is_ok());
        for text in ["", "12345", "12345-", "１２３４５６", &"1".repeat(33)] {
            assert_eq!(LicenceNumber::parse(text), Err(LicenceNumberError));
        }
    }

    #[test]
    fn debug_hides_the_number() {
        assert_eq!(format!("{:?}", LicenceNumber::parse("123456").unwrap()), "LicenceNumber(…)");
    }
}
