//! How far the witnesses of a log have followed it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// What the witnesses' part in a log stands at, as those who answer calls see it. Without witnesses it stays as it is
/// by default: nothing cosigned, no lag.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The newest checkpoint with a quorum of cosignatures.
    pub cosigned: Option<Cosigned>,
    /// How long the oldest entry that it does not cover has waited; zero when it covers all.
    pub lag: Duration,
    /// Whether the lag has passed the limit after which no work is taken.
    pub stopped: bool,
    /// Each witness.
    pub witnesses: Vec<WitnessStanding>,
}

impl Standing {
    /// The index up to which the log is cosigned; without witnesses nothing waits for them.
    pub fn cosigned_end(&self) -> u64 {
        if self.witnesses.is_empty() {
            return u64::MAX;
        }
        self.cosigned.as_ref().map_or(0, |cosigned| cosigned.size)
    }
}

/// A checkpoint with enough cosignatures.
#[derive(Clone, Debug)]
pub struct Cosigned {
    /// Number of entries.
    pub size: u64,
    /// The signed note with the lines of all witnesses that have signed it.
    pub note: Arc<str>,
}

/// What one witness has signed last.
#[derive(Clone, Debug)]
pub struct WitnessStanding {
    /// Its name.
    pub name: String,
    /// Number of entries of the newest checkpoint that it has cosigned; zero when none.
    pub size: u64,
    /// When it signed, by its clock.
    pub time: Option<Timestamp>,
    /// Whether it holds another history than this log's.
    pub disagrees: bool,
}
