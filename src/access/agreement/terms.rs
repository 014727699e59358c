//! How fast calls and batches may come under an agreement.

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
