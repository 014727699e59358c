//! Money as whole fen, never negative.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in fen (a hundredth of a yuan), zero or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Fen(i64);

impl Fen {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// An amount, unless it is negative.
    pub const fn new(fen: i64) -> Option<Self> {
        if fen < 0 { None } else { Some(Self(fen)) }
    }

    /// Whole yuan.
    pub const fn yuan(yuan: u32) -> Self {
        Self(yuan as i64 * 100)
    }

    /// The nearest amount: what is below zero becomes zero.
    pub(super) const fn at_least_zero(fen: i64) -> Self {
        if fen < 0 { Self::ZERO } else { Self(fen) }
    }

    /// The number of fen.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Such as `1,234.56元`.
    pub fn in_chinese(self) -> String {
        format!("{}元", self.in_figures())
    }

    /// Yuan with two decimals, in groups of three digits.
    fn in_figures(self) -> String {
        let yuan = (self.0 / 100).to_string();
        let mut figures = String::new();
        for (index, digit) in yuan.chars().enumerate() {
            if index > 0 && (yuan.len() - index).is_multiple_of(3) {
                figures.push(',');
            }
            figures.push(digit);
        }
        format!("{figures}.{:02}", self.0 % 100)
    }

    /// The sum, unless it is too large to hold.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, unless it would be negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(Self::new)
    }

    /// So many thousandths of the amount, half a fen rounded up, unless it is too large to hold.
    pub fn permille(self, permille: u32) -> Option<Self> {
        let exact = i128::from(self.0) * i128::from(permille);
        i64::try_from((exact + 500) / 1000).ok().map(Self)
    }
}

/// Such as `1,234.56 yuan`.
impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} yuan", self.in_figures())
    }
}

/// An amount below zero was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount of money is not below zero")]
pub struct NegativeAmount;

impl super::violation::BrokenRule for NegativeAmount {
    fn rule(&self) -> &'static str {
        "AMOUNT_NEGATIVE"
    }

    fn description_zh(&self) -> &'static str {
        "金额不得为负"
    }
}

impl TryFrom<i64> for Fen {
    type Error = NegativeAmount;

    fn try_from(fen: i64) -> Result<Self, NegativeAmount> {
        Self::new(fen).ok_or(NegativeAmount)
    }
}

impl From<Fen> for i64 {
    fn from(amount: Fen) -> Self {
        amount.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_amount_is_shown_in_yuan() {
        let shown = |fen| Fen::new(fen).unwrap().to_string();
        assert_eq!(shown(0), "0.00 yuan");
        assert_eq!(shown(5), "0.05 yuan");
        assert_eq!(shown(99_999), "999.99 yuan");
        assert_eq!(shown(123_456), "1,234.56 yuan");
        assert_eq!(shown(1_234_567_890), "12,345,678.90 yuan");
        assert_eq!(Fen::yuan(1_234).in_chinese(), "1,234.00元");
    }

    #[test]
    fn an_amount_is_never_negative() {
        assert_eq!(Fen::new(-1), None);
        assert_eq!(Fen::yuan(1).checked_sub(Fen::yuan(2)), None);
        assert_eq!(Fen::yuan(2).checked_sub(Fen::yuan(2)), Some(Fen::ZERO));
        assert!(serde_json::from_str::<Fen>("-1").is_err());
        assert_eq!(serde_json::from_str::<Fen>("7").unwrap(), Fen::new(7).unwrap());
    }

    #[test]
    fn an_amount_too_large_is_refused() {
        let most = Fen::new(i64::MAX).unwrap();
        assert_eq!(most.checked_add(Fen::new(1).unwrap()), None);
        assert_eq!(most.permille(1000), Some(most));
        assert_eq!(most.permille(1001), None);
    }

    #[test]
    fn half_a_fen_is_rounded_up() {
        assert_eq!(Fen::new(1).unwrap().permille(500), Fen::new(1));
        assert_eq!(Fen::new(1).unwrap().permille(499), Fen::new(0));
        assert_eq!(Fen::yuan(100).permille(300), Some(Fen::yuan(30)));
    }

    proptest! {
        #[test]
        fn adding_and_taking_away_gives_the_amount_back(a in 0..=i64::MAX / 2, b in 0..=i64::MAX / 2) {
            let (a, b) = (Fen::new(a).unwrap(), Fen::new(b).unwrap());
            prop_assert_eq!(a.checked_add(b).and_then(|sum| sum.checked_sub(b)), Some(a));
        }
    }
}
