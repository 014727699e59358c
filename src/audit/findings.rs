//! Findings: what explainable rules notice in the log, for a person to judge.
//!
//! A [`Detector`] takes entries in log order, once, and gives findings as their windows close. Windows stand on a fixed
//! grid in Asia/Shanghai (an hour, a day, a week from Monday), so that a finding is the same whatever part of the log is
//! looked through, and its id with it. A burst that a window's edge cuts in two counts on each side.
//!
//! Memory is bounded however many operators, subjects or matters somebody makes up: see [`tally`].

mod counting;
mod gaps;
mod id;
mod matters;
mod subjects;
mod tally;
mod why;

use std::collections::BTreeSet;

use jiff::Timestamp;

use self::counting::Counting;
use self::gaps::{Backwards, Silence};
use self::matters::Matters;
use self::subjects::Subjects;
use super::entry::Entry;
use crate::domain::calendar::{Calendar, legal_day};

pub use self::id::FindingId;
pub use crate::domain::findings::{OfficeHours, Rule, RuleSettings, Settings, Window, WindowError};

/// Entries that a finding lists; beyond, it gives their number.
pub const LISTED_ENTRIES: usize = 20;

/// Whom or what a finding is about. What a rule does not look at is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct About {
    /// Calling agency (credit code).
    pub caller: Option<String>,
    /// Unit of the operator.
    pub unit: Option<String>,
    /// Staff number.
    pub operator: Option<String>,
    /// Matter.
    pub matter: Option<String>,
    /// Keyed pseudonym of a person.
    pub subject: Option<String>,
    /// Gateway node.
    pub node: Option<String>,
}

impl About {
    /// The operator of an entry.
    fn operator_of(entry: &Entry) -> Self {
        Self {
            caller: entry.caller.clone(),
            unit: entry.unit.clone(),
            operator: entry.operator.clone(),
            ..Self::default()
        }
    }

    /// The node of an entry.
    fn node_of(entry: &Entry) -> Self {
        Self { node: Some(entry.node.clone()), ..Self::default() }
    }
}

/// What a rule noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its id: the same as long as rule, window and what it is about are.
    pub id: FindingId,
    /// The rule.
    pub rule: Rule,
    /// Whom or what it is about.
    pub about: About,
    /// From how many on the rule speaks, in the rule's unit (calls, units, minutes, seconds).
    pub threshold: u64,
    /// How many there were.
    pub observed: u64,
    /// Whether there may be more than `observed`, because too many keys were counted at once.
    pub at_least: bool,
    /// Begin of the window.
    pub from: Timestamp,
    /// End of the window; it is not in it.
    pub before: Timestamp,
    /// The first entries, at most [`LISTED_ENTRIES`].
    pub entries: Vec<u64>,
    /// How many entries there are.
    pub entry_count: u64,
    /// Whether it rests on working days of a year whose holidays are not known.
    pub is_estimate: bool,
}

/// What whoever reads the findings must know of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// The holidays of a year are not known: its working days are by weekends alone.
    YearNotKnown(i16),
    /// More keys than are counted at once: whoever did less than `undercount` beyond a threshold may be missed.
    Crowded {
        /// The rule.
        rule: Rule,
        /// Begin of the window.
        from: Timestamp,
        /// By how much a count may be too low.
        undercount: u64,
    },
}

/// An entry as the rules see it.
struct Seen<'e> {
    index: u64,
    /// When it was recorded; never before its predecessor.
    at: Timestamp,
    entry: &'e Entry,
}

/// What rules give.
#[derive(Default)]
struct Given {
    findings: Vec<Finding>,
    notices: Vec<Notice>,
}

/// A rule at work.
trait Watch: Send {
    /// Takes the next entry.
    fn see(&mut self, seen: &Seen<'_>, given: &mut Given);
    /// Closes the window that is open.
    fn finish(&mut self, given: &mut Given);
}

/// Looks through entries for findings whose window overlaps a range.
pub struct Detector {
    rules: Vec<Box<dyn Watch>>,
    calendar: Calendar,
    from: Timestamp,
    before: Timestamp,
    latest: Timestamp,
    given: Given,
    said: BTreeSet<Notice>,
    knows_holidays_of: BTreeSet<i16>,
    works_by_calendar: bool,
}

impl Detector {
    /// A detector of `rules` for the range from `from` to `before`; feed it the entries of [`Settings::span`].
    pub fn new(
        settings: &Settings,
        rules: &[Rule],
        calendar: &Calendar,
        from: Timestamp,
        before: Timestamp,
    ) -> Self {
        let mut watching: Vec<Box<dyn Watch>> = Vec::new();
        for rule in rules.iter().copied() {
            let Some(set) = settings.of(rule) else { continue };
            watching.push(match rule {
                Rule::MatterClosed => Box::new(Matters::new(set)),
                Rule::SubjectAskedByMany => Box::new(Subjects::new(set)),
                Rule::ClockBackwards => Box::new(Backwards::new(set)),
                Rule::Silence => Box::new(Silence::new(set, settings, calendar.clone())),
                _ => Box::new(Counting::new(rule, set, settings.office, calendar.clone())),
            });
        }
        let by_calendar =
            |rule: &Rule| matches!(rule, Rule::OutOfHours | Rule::Silence) && settings.of(*rule).is_some();
        Self {
            rules: watching,
            calendar: calendar.clone(),
            from,
            before,
            latest: Timestamp::MIN,
            given: Given::default(),
            said: BTreeSet::new(),
            knows_holidays_of: BTreeSet::new(),
            works_by_calendar: rules.iter().any(by_calendar),
        }
    }

    /// Takes the next entry, in log order.
    pub fn feed(&mut self, index: u64, entry: &Entry) {
        self.latest = self.latest.max(entry.recorded);
        let seen = Seen { index, at: self.latest, entry };
        if self.works_by_calendar {
            let year = legal_day(self.latest).year();
            if self.knows_holidays_of.insert(year) && !self.calendar.knows(year) {
                self.given.notices.push(Notice::YearNotKnown(year));
            }
        }
        for rule in &mut self.rules {
            rule.see(&seen, &mut self.given);
        }
    }

    /// Says that no more entries come.
    pub fn finish(&mut self) {
        for rule in &mut self.rules {
            rule.finish(&mut self.given);
        }
    }

    /// The findings since it was last asked.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        let (from, before) = (self.from, self.before);
        let mut findings = std::mem::take(&mut self.given.findings);
        findings.retain(|finding| finding.from < before && finding.before > from);
        findings
    }

    /// The notices since it was last asked; none is given twice.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        let notices = std::mem::take(&mut self.given.notices);
        notices.into_iter().filter(|notice| self.said.insert(notice.clone())).collect()
    }
}

#[cfg(test)]
mod tests;
