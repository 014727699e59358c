//! How fast, how many, and by whom calls may come under an agreement.

use serde::{Deserialize, Serialize};

/// How fast calls may come under one agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateTerms {
    /// Calls in a second, over any length of time; 1 to 100,000.
    pub per_second: u32,
    /// Calls that may come at once after a pause; 1 to 100,000.
    pub burst: u32,
}

impl RateTerms {
    pub(in crate::access) fn is_sound(self) -> bool {
        (1..=100_000).contains(&self.per_second) && (1..=100_000).contains(&self.burst)
    }
}

/// How fast the questions of batches may go to a registry, over all streams under one agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchTerms {
    /// Questions at once; 1 to 256.
    pub at_once: usize,
    /// Questions in a second; 1 to 10,000.
    pub per_second: u32,
}

impl Default for BatchTerms {
    fn default() -> Self {
        Self { at_once: 8, per_second: 100 }
    }
}

impl BatchTerms {
    pub(in crate::access) fn is_sound(self) -> bool {
        (1..=256).contains(&self.at_once) && (1..=10_000).contains(&self.per_second)
    }
}

/// How many calls an agreement allows to each agency that it takes in. A call counts once it is allowed and its first entry is
/// written, whatever comes of it; the retry of a request id does not count again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaTerms {
    /// Calls in a clock hour; 1 to 1,000,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// Calls in a day (Asia/Shanghai).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// Calls of one operator in a clock hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_per_hour: Option<u32>,
    /// Calls of one operator in a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_per_day: Option<u32>,
}

impl QuotaTerms {
    pub(in crate::access) fn is_sound(self) -> bool {
        let limits = [self.per_hour, self.per_day, self.operator_per_hour, self.operator_per_day];
        limits.iter().flatten().all(|limit| (1..=1_000_000_000).contains(limit))
            && limits.iter().any(Option::is_some)
    }
}

/// Which operators of the caller may act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperatorTerms {
    /// Any that the caller names.
    #[default]
    Any,
    /// Those that the directory lists, within their days.
    Listed,
}

impl OperatorTerms {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::Any
    }
}
