//! How fast an agency may call, by its agreements.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::civil::Date;

use crate::access::{Directory, Method, RateTerms};
use crate::domain::agency::CreditCode;

/// When the next call of each agency under each agreement would be exactly in time (generic cell rate algorithm, ITU-T I.371): one
/// instant says how much of the burst is left. Bounded by the agreements with a rate.
#[derive(Default)]
pub(super) struct Rates {
    due: Mutex<HashMap<CreditCode, HashMap<String, Instant>>>,
}

impl Rates {
    /// Takes a call's share of the first agreement in force that names its method and has room. An agreement without
    /// a rate always has.
    ///
    /// # Errors
    /// How long to wait until one has room.
    pub(super) fn take(
        &self,
        directory: &Directory,
        caller: &CreditCode,
        method: Method,
        today: Date,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut shortest: Option<Duration> = None;
        for (agreement, terms) in directory.rate_terms(caller, method, today) {
            let Some(terms) = terms else { return Ok(()) };
            match self.take_one(caller, agreement, terms, now) {
                Ok(()) => return Ok(()),
                Err(wait) => shortest = Some(shortest.map_or(wait, |other| other.min(wait))),
            }
        }
        // None allows the method at all: that is for access to say.
        shortest.map_or(Ok(()), Err)
    }

    fn take_one(
        &self,
        caller: &CreditCode,
        agreement: &str,
        terms: RateTerms,
        now: Instant,
    ) -> Result<(), Duration> {
        let each = Duration::from_secs(1) / terms.per_second;
        let allowance = each * (terms.burst - 1);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let due = due.entry(*caller).or_default();
        let next = due.get(agreement).copied().unwrap_or(now).max(now);
        let early = next.duration_since(now);
        if early > allowance {
            return Err(early - allowance);
        }
        match due.get_mut(agreement) {
            Some(due) => *due = next + each,
            None => drop(due.insert(agreement.to_owned(), next + each)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: RateTerms = RateTerms { per_second: 10, burst: 3 };

    fn caller() -> CreditCode {
        CreditCode::parse("12331004MB0000002T").unwrap()
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate_holds() {
        let (rates, start) = (Rates::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for _ in 0..3 {
            rates.take_one(&caller(), "A", TERMS, start).unwrap();
        }
        assert_eq!(rates.take_one(&caller(), "A", TERMS, start), Err(Duration::from_millis(100)));
        assert_eq!(rates.take_one(&caller(), "A", TERMS, at(40)), Err(Duration::from_millis(60)));
        rates.take_one(&caller(), "A", TERMS, at(100)).unwrap();
        assert!(
            rates.take_one(&caller(), "A", TERMS, at(100)).is_err(),
            "a refused call takes nothing, and gives nothing"
        );
        rates.take_one(&caller(), "B", TERMS, at(100)).unwrap();
        let another = CreditCode::parse("12331002MB0000010Q").unwrap();
        rates.take_one(&another, "A", TERMS, at(100)).unwrap();
        // After a pause the burst is whole again, and no larger.
        for _ in 0..3 {
            rates.take_one(&caller(), "A", TERMS, at(60_000)).unwrap();
        }
        assert!(rates.take_one(&caller(), "A", TERMS, at(60_000)).is_err());
    }
}
