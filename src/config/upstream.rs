//! `[upstream]`: when a registry that fails is not asked for a while, and how much of it one caller may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::contradictions::Contradictions;
use super::{LimitsSection, duration};

/// `[upstream]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamSection {
    /// Failures in a row after which a registry is not asked for a while.
    pub failures: u32,
    /// How long it is not asked; doubled each time that the question after it fails too.
    #[serde(with = "duration")]
    pub pause: Duration,
    /// The longest pause.
    #[serde(with = "duration")]
    pub longest_pause: Duration,
    /// How long a registry must have had a question for its silence to count as a failure: that a caller had less time is
    /// not the registry's fault.
    #[serde(with = "duration")]
    pub stalled_after: Duration,
    /// Questions at once to one registry.
    pub questions: usize,
    /// The same of one caller.
    pub questions_per_caller: usize,
}

impl Default for UpstreamSection {
    fn default() -> Self {
        Self {
            failures: 5,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            stalled_after: Duration::from_secs(5),
            questions: 256,
            questions_per_caller: 128,
        }
    }
}

impl UpstreamSection {
    pub(super) fn check(&self, limits: &LimitsSection, found: &mut Contradictions) {
        found.unless(
            self.failures > 0,
            "upstream.failures",
            "must be at least 1, or a registry is never asked",
        );
        for (key, duration) in
            [("upstream.pause", self.pause), ("upstream.stalled_after", self.stalled_after)]
        {
            found.unless(!duration.is_zero(), key, "must be longer than nothing, such as \"1s\"");
        }
        found.unless(
            self.pause <= self.longest_pause,
            "upstream.longest_pause",
            "must not be shorter than upstream.pause",
        );
        found.unless(
            self.stalled_after <= limits.longest_deadline,
            "upstream.stalled_after",
            "must not be longer than limits.longest_deadline, or no silence ever counts",
        );
        found.unless(
            self.questions_per_caller > 0,
            "upstream.questions_per_caller",
            "must be at least 1, or nobody may ask",
        );
        found.unless(
            self.questions_per_caller < self.questions,
            "upstream.questions_per_caller",
            "must be less than upstream.questions: one caller could keep all others from a registry",
        );
    }
}
