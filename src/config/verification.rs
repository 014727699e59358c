//! `[verification]`: questions to registers that are completed later.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// `[verification]`: when a registry is asked again.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerificationSection {
    /// Time for one attempt.
    #[serde(with = "duration")]
    pub attempt: Duration,
    /// Wait before the registry is asked again; doubled after each further attempt.
    #[serde(with = "duration")]
    pub first_retry: Duration,
    /// Longest wait.
    #[serde(with = "duration")]
    pub longest_retry: Duration,
    /// Age at which it is given up. A centre decides within 7 days (法律援助法 art 43).
    #[serde(with = "duration")]
    pub give_up_after: Duration,
    /// Questions at once.
    pub at_once: usize,
}

impl Default for VerificationSection {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(10),
            first_retry: Duration::from_secs(30),
            longest_retry: Duration::from_secs(3600),
            give_up_after: Duration::from_secs(3 * 86_400),
            at_once: 4,
        }
    }
}
