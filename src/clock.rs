//! What time it is: the system's answer, or one that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

use crate::fault;

/// Knows what time it currently is. Cheap to clone; clones of a moved clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Moved(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn moved_by_hand(start: Timestamp) -> Self {
        Self(Source::Moved(Arc::new(AtomicI64::new(start.as_microsecond()))))
    }

    /// The current time, to the microsecond.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let now = Timestamp::now().as_microsecond();
                to_the_microsecond(now.saturating_add(fault::clock_offset()))
            }
            Source::Moved(micros) => to_the_microsecond(micros.load(Ordering::SeqCst)),
        }
    }

    /// Moves a clock made by [`Clock::moved_by_hand`]; the system's clock does not move.
    pub fn advance(&self, by: std::time::Duration) {
        if let Source::Moved(micros) = &self.0 {
            let step = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            micros.fetch_add(step, Ordering::SeqCst);
        }
    }
}

/// What the store keeps is what was said: it has microseconds.
fn to_the_microsecond(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}
