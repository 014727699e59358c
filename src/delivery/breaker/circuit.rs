//! One circuit: closed, open for a pause, or half open with one probe on its way.

use jiff::{SignedDuration, Timestamp};

use super::UpstreamLimits;
use crate::delivery::courier::backoff;

#[derive(Debug)]
pub(super) enum Circuit {
    Closed { failures: u32 },
    Open { until: Timestamp, pauses: u32 },
    HalfOpen { pauses: u32 },
}

/// Where a circuit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    Open,
    HalfOpen,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// As what a question passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Ordinary,
    Probe,
}

impl Default for Circuit {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Circuit {
    pub(super) fn state(&self) -> State {
        match self {
            Self::Closed { .. } => State::Closed,
            Self::Open { .. } => State::Open,
            Self::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Whether a question may pass.
    pub(super) fn lets_through(&self, now: Timestamp, limits: &UpstreamLimits) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::HalfOpen { .. } => false,
            Self::Open { until, .. } => {
                let left = until.duration_since(now);
                // No pause is as long as twice the longest: a clock was set back meanwhile.
                let longest = SignedDuration::try_from(limits.longest_pause).unwrap_or(SignedDuration::MAX);
                !left.is_positive() || left > longest.saturating_mul(2)
            }
        }
    }

    /// A question passes; of an open circuit it is the probe.
    pub(super) fn enter(&mut self) -> Turn {
        match *self {
            Self::Open { pauses, .. } => {
                *self = Self::HalfOpen { pauses };
                Turn::Probe
            }
            _ => Turn::Ordinary,
        }
    }

    /// There was an answer.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }

    /// A question failed. What was on its way before the circuit opened does not lengthen the pause. `dice` is a random byte.
    pub(super) fn fail(&mut self, turn: Turn, now: Timestamp, limits: &UpstreamLimits, dice: u8) {
        let pauses = match (&mut *self, turn) {
            (Self::Closed { failures }, _) => {
                *failures = failures.saturating_add(1);
                if *failures < limits.failures {
                    return;
                }
                0
            }
            (Self::HalfOpen { pauses }, Turn::Probe) => pauses.saturating_add(1),
            _ => return,
        };
        let pause = backoff(limits.pause, limits.longest_pause, pauses, dice);
        *self = Self::Open { until: now.checked_add(pause).unwrap_or(Timestamp::MAX), pauses };
    }

    /// A question ended that says nothing: if it was the probe, the next one is.
    pub(super) fn give_up(&mut self, turn: Turn, now: Timestamp) {
        if let (Self::HalfOpen { pauses }, Turn::Probe) = (&*self, turn) {
            *self = Self::Open { until: now, pauses: *pauses };
        }
    }
}
