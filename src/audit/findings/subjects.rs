//! One person asked about by many units.

use std::collections::BTreeSet;

use super::counting::{Windows, is_register_look_up};
use super::tally::Counted;
use super::{About, Given, Rule, RuleSettings, Seen, Watch};

/// Units that are told apart for one person; beyond, there are at least so many.
const MOST_UNITS: usize = 64;

type Unit = (Option<String>, Option<String>);

/// Counts the different units, of whichever agency, that looked a person up in a register.
pub(super) struct Subjects(Windows<BTreeSet<Unit>>);

impl Subjects {
    pub(super) fn new(set: RuleSettings) -> Self {
        let units = |counted: &Counted<BTreeSet<Unit>>| counted.kept.len() as u64;
        Self(Windows::observing(Rule::SubjectAskedByMany, set, units))
    }
}

impl Watch for Subjects {
    fn see(&mut self, seen: &Seen<'_>, given: &mut Given) {
        self.0.advance(seen.at, given);
        let entry = seen.entry;
        if !is_register_look_up(entry) || entry.subject.is_none() {
            return;
        }
        let about = About { subject: entry.subject.clone(), ..About::default() };
        if let Some(counted) = self.0.tally.count(about, seen.index)
            && counted.kept.len() < MOST_UNITS
        {
            counted.kept.insert((entry.caller.clone(), entry.unit.clone()));
        }
    }

    fn finish(&mut self, given: &mut Given) {
        self.0.close(given);
    }
}
