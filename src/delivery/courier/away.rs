//! Recipients that cannot be reached. Each attempt costs two entries of the log, whoever it is to: a court that is dead and has
//! thousands of messages waiting would take from the others what it cannot use. So after some failures in a row it is
//! tried by one delivery at a time, with a rest after each that fails, until one arrives.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::agency::CreditCode;

/// Failures in a row that are taken for an accident.
const TOLERATED: u32 = 4;

/// The first rest, doubled after each further failure, and the longest: so soon it is noticed that somebody is back.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Who cannot be reached now. Bounded by the agencies with an inbox.
#[derive(Debug, Default)]
pub(super) struct Away(Mutex<HashMap<CreditCode, Absence>>);

#[derive(Clone, Copy, Debug)]
struct Absence {
    failures: u32,
    rests: u32,
    /// When the last rest began.
    rested: Instant,
    rests_until: Instant,
}

impl Away {
    /// How many of `most` attempts at once may be made to a recipient at a moment.
    pub(super) fn allows(&self, recipient: &CreditCode, most: usize, now: Instant) -> usize {
        let absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match absences.get(recipient) {
            Some(absence) if absence.rests_until > now => 0,
            Some(absence) if absence.failures >= TOLERATED => 1,
            _ => most,
        }
    }

    /// Notes how an attempt ended that began at a moment: whether anybody answered. Those that were under way together when
    /// nobody did are one failure for the rest: it says nothing more that there were many of them.
    pub(super) fn note(&self, recipient: CreditCode, reached: bool, (began, now): (Instant, Instant)) {
        let mut absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reached {
            absences.remove(&recipient);
            return;
        }
        let new = Absence { failures: 0, rests: 0, rested: now, rests_until: now };
        let absence = absences.entry(recipient).or_insert(new);
        absence.failures = absence.failures.saturating_add(1);
        if absence.failures >= TOLERATED && (absence.rests == 0 || began >= absence.rested) {
            absence.rested = now;
            absence.rests_until =
                now + FIRST_REST.saturating_mul(1 << absence.rests.min(10)).min(LONGEST_REST);
            absence.rests = absence.rests.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_reached_is_tried_less_until_somebody_answers() {
        let (away, start) = (Away::default(), Instant::now());
        let court = CreditCode::parse("11320000MB151840XJ").unwrap();
        let other = CreditCode::parse("91110000600037341L").unwrap();
        for _ in 1..TOLERATED {
            away.note(court, false, (start, start));
            assert_eq!(away.allows(&court, 8, start), 8);
        }
        away.note(court, false, (start, start));
        assert_eq!(away.allows(&court, 8, start), 0, "it rests");
        assert_eq!(away.allows(&court, 8, start + FIRST_REST), 1, "then one finds out");
        let mut now = start;
        for _ in 0..100 {
            now += LONGEST_REST;
            away.note(court, false, (now, now));
        }
        assert_eq!(away.allows(&court, 8, now + LONGEST_REST), 1, "never for longer");
        assert_eq!(away.allows(&court, 8, now + LONGEST_REST / 2), 0);
        assert_eq!(away.allows(&other, 8, now), 8, "others do not notice");
        away.note(court, true, (now, now));
        assert_eq!(away.allows(&court, 8, now), 8);
    }

    #[test]
    fn many_that_fail_together_are_one_failure_for_the_rest() {
        let (away, start) = (Away::default(), Instant::now());
        let court = CreditCode::parse("11320000MB151840XJ").unwrap();
        for late in 0..32 {
            away.note(court, false, (start, start + FIRST_REST * late / 100));
        }
        // They ended within a third of a rest, which began with the fourth.
        assert_eq!(away.allows(&court, 8, start + FIRST_REST / 2), 0);
        assert_eq!(away.allows(&court, 8, start + FIRST_REST * 11 / 10), 1);
    }
}
