//! Rules that count calls by whoever made them.

use jiff::Timestamp;

use super::tally::{Counted, PLACES, Tally};
use super::{About, Finding, FindingId, Given, Notice, OfficeHours, Rule, RuleSettings, Seen, Watch};
use crate::audit::entry::{Decision, Entry, Phase};
use crate::domain::calendar::{Calendar, legal_day};

/// Methods that show what others know of a person or a matter.
const LOOK_UPS: [&str; 5] =
    ["VerifyLowIncome", "VerifyPovertyHousehold", "GetVerification", "GetExchange", "DownloadAttachment"];

/// Methods behind which a person sits. Systems pull, acknowledge and watch around the clock.
const BY_PEOPLE: [&str; 8] = [
    "VerifyLowIncome",
    "VerifyPovertyHousehold",
    "GetVerification",
    "GetExchange",
    "DownloadAttachment",
    "AssessEligibility",
    "SubmitExchange",
    "RespondToExchange",
];

/// Methods whose envelope names a matter.
const OF_A_MATTER: [&str; 5] =
    ["VerifyLowIncome", "VerifyPovertyHousehold", "AssessEligibility", "SubmitExchange", "RespondToExchange"];

/// Counts calls by a key, window for window.
pub(super) struct Counting {
    windows: Windows<()>,
    office: OfficeHours,
    calendar: Calendar,
}

impl Counting {
    pub(super) fn new(rule: Rule, set: RuleSettings, office: OfficeHours, calendar: Calendar) -> Self {
        Self { windows: Windows::new(rule, set), office, calendar }
    }

    /// What an entry counts for under the rule, if it counts.
    fn key(&self, seen: &Seen<'_>) -> Option<About> {
        let entry = seen.entry;
        match self.windows.rule {
            Rule::BulkLookUps if is_allowed_call(entry) && LOOK_UPS.contains(&&*entry.method) => {
                Some(About::operator_of(entry))
            }
            Rule::OutOfHours
                if is_allowed_call(entry)
                    && BY_PEOPLE.contains(&&*entry.method)
                    && !self.is_office_time(seen.at) =>
            {
                Some(About::operator_of(entry))
            }
            Rule::NoMatter
                if is_call(entry) && OF_A_MATTER.contains(&&*entry.method) && entry.matter.is_none() =>
            {
                Some(About::operator_of(entry))
            }
            Rule::DenialBurst if is_denial(entry) => {
                Some(About { caller: entry.caller.clone(), ..About::default() })
            }
            Rule::Interrupted if entry.phase == Phase::Interrupted => Some(About::node_of(entry)),
            _ => None,
        }
    }

    fn is_office_time(&self, at: Timestamp) -> bool {
        self.calendar.is_working_day(legal_day(at)) && self.office.contain(at)
    }
}

impl Watch for Counting {
    fn see(&mut self, seen: &Seen<'_>, given: &mut Given) {
        if self.windows.advance(seen.at, given) {
            self.windows.is_estimate = false;
        }
        if self.windows.rule == Rule::OutOfHours {
            self.windows.is_estimate |= !self.calendar.knows(legal_day(seen.at).year());
        }
        if let Some(about) = self.key(seen) {
            self.windows.tally.count(about, seen.index);
        }
    }

    fn finish(&mut self, given: &mut Given) {
        self.windows.close(given);
    }
}

/// The window that is open, and what was counted in it.
pub(super) struct Windows<V> {
    pub(super) rule: Rule,
    pub(super) set: RuleSettings,
    pub(super) tally: Tally<About, V>,
    pub(super) is_estimate: bool,
    open: Option<Timestamp>,
    /// How much was observed of what is kept of a key.
    observed: fn(&Counted<V>) -> u64,
}

impl<V: Default> Windows<V> {
    pub(super) fn new(rule: Rule, set: RuleSettings) -> Self {
        Self::observing(rule, set, |counted| counted.count)
    }

    pub(super) fn observing(rule: Rule, set: RuleSettings, observed: fn(&Counted<V>) -> u64) -> Self {
        Self { rule, set, tally: Tally::new(PLACES), is_estimate: false, open: None, observed }
    }

    /// Comes to an instant: closes the window before it. Returns whether a window was opened.
    pub(super) fn advance(&mut self, at: Timestamp, given: &mut Given) -> bool {
        let begin = self.set.window.begin(at);
        if self.open == Some(begin) {
            return false;
        }
        self.close(given);
        self.open = Some(begin);
        true
    }

    /// Closes the window that is open. Its findings come in the order of their weight.
    pub(super) fn close(&mut self, given: &mut Given) {
        let Some(from) = self.open.take() else { return };
        let undercount = self.tally.undercount();
        let mut findings = Vec::new();
        for (about, counted) in self.tally.take() {
            let observed = (self.observed)(&counted);
            if observed >= self.set.threshold {
                findings.push(Finding {
                    id: FindingId::new(self.rule, from, &about),
                    rule: self.rule,
                    about,
                    threshold: self.set.threshold,
                    observed,
                    at_least: undercount > 0,
                    from,
                    before: self.set.window.end(from),
                    entries: counted.entries,
                    entry_count: counted.entry_count,
                    is_estimate: self.is_estimate,
                });
            }
        }
        findings.sort_by(|a, b| b.observed.cmp(&a.observed).then_with(|| a.about.cmp(&b.about)));
        given.findings.append(&mut findings);
        if undercount > 0 {
            given.notices.push(Notice::Crowded { rule: self.rule, from, undercount });
        }
    }
}

/// Whether an entry begins a call, refused ones too. A first outcome that is given again is none.
fn is_call(entry: &Entry) -> bool {
    matches!(entry.phase, Phase::Request | Phase::Read | Phase::Refused)
        && entry.reason.as_deref() != Some("REPLAYED")
}

fn is_allowed_call(entry: &Entry) -> bool {
    is_call(entry) && entry.phase != Phase::Refused
}

fn is_denial(entry: &Entry) -> bool {
    entry.phase == Phase::HandshakeRefused || entry.decision == Some(Decision::Deny)
}

/// Whether an entry is a look-up in a register that was allowed.
pub(super) fn is_register_look_up(entry: &Entry) -> bool {
    is_allowed_call(entry) && matches!(&*entry.method, "VerifyLowIncome" | "VerifyPovertyHousehold")
}
