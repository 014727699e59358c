//! Gaps in the log's time: a clock that went back, and silence where there should be traffic.
//!
//! Every batch of entries is signed as it is written, so that a gap between checkpoints is one between entries. The log
//! itself has no heartbeat: silence alone proves nothing, and is looked at only within office hours of a working day that
//! otherwise has traffic.

use jiff::{SignedDuration, Timestamp};

use super::counting::Windows;
use super::{
    About, Finding, FindingId, Given, LISTED_ENTRIES, OfficeHours, Rule, RuleSettings, Seen, Settings, Watch,
    Window,
};
use crate::domain::calendar::{Calendar, SHANGHAI, legal_day};

/// Looks for entries recorded before the one that they follow. Observed is the longest step back, in seconds.
pub(super) struct Backwards {
    windows: Windows<u64>,
}

impl Backwards {
    pub(super) fn new(set: RuleSettings) -> Self {
        Self { windows: Windows::observing(Rule::ClockBackwards, set, |counted| counted.kept) }
    }
}

impl Watch for Backwards {
    fn see(&mut self, seen: &Seen<'_>, given: &mut Given) {
        self.windows.advance(seen.at, given);
        let back = seen.at.duration_since(seen.entry.recorded).as_secs();
        let back = u64::try_from(back).unwrap_or(0);
        if back >= self.windows.set.threshold
            && let Some(counted) = self.windows.tally.count(About::node_of(seen.entry), seen.index)
        {
            counted.kept = counted.kept.max(back);
        }
    }

    fn finish(&mut self, given: &mut Given) {
        self.windows.close(given);
    }
}

/// Looks for the longest silence in the office hours of each day. Observed is its length in minutes.
pub(super) struct Silence {
    set: RuleSettings,
    office: OfficeHours,
    traffic: u64,
    calendar: Calendar,
    today: Option<Today>,
}

/// A working day so far.
struct Today {
    begin: Timestamp,
    until: Timestamp,
    /// The latest entry before or in the office hours, or their begin.
    last: (Timestamp, Option<u64>),
    entries: u64,
    longest: SignedDuration,
    /// The entries before and after the longest silence.
    around: Vec<u64>,
    is_estimate: bool,
}

impl Silence {
    pub(super) fn new(set: RuleSettings, settings: &Settings, calendar: Calendar) -> Self {
        // Office hours are of a day, whatever window is configured.
        let set = RuleSettings { window: Window::DAY, ..set };
        Self { set, office: settings.office, traffic: settings.traffic, calendar, today: None }
    }

    fn open(&self, at: Timestamp) -> Option<Today> {
        let day = legal_day(at);
        if !self.calendar.is_working_day(day) {
            return None;
        }
        let instant = |time| SHANGHAI.to_timestamp(day.to_datetime(time)).ok();
        Some(Today {
            begin: self.set.window.begin(at),
            until: instant(self.office.until)?,
            last: (instant(self.office.from)?, None),
            entries: 0,
            longest: SignedDuration::ZERO,
            around: Vec::new(),
            is_estimate: !self.calendar.knows(day.year()),
        })
    }

    /// Closes the day. Silence to the end of the office hours counts only when a later entry shows that they are over.
    fn close(&mut self, is_over: bool, given: &mut Given) {
        let Some(mut today) = self.today.take() else { return };
        if is_over {
            let until = today.until;
            today.hear(until, None);
        }
        let observed = u64::try_from(today.longest.as_mins()).unwrap_or(0);
        if today.entries >= self.traffic && observed >= self.set.threshold {
            let about = About::default();
            given.findings.push(Finding {
                id: FindingId::new(Rule::Silence, today.begin, &about),
                rule: Rule::Silence,
                about,
                threshold: self.set.threshold,
                observed,
                at_least: false,
                from: today.begin,
                before: self.set.window.end(today.begin),
                entry_count: today.around.len() as u64,
                entries: today.around,
                is_estimate: today.is_estimate,
            });
        }
    }
}

impl Today {
    /// An entry, or the end of the office hours.
    fn hear(&mut self, at: Timestamp, index: Option<u64>) {
        let (last, before) = self.last;
        let silent = at.min(self.until).duration_since(last);
        if silent > self.longest {
            self.longest = silent;
            self.around = before.into_iter().chain(index).take(LISTED_ENTRIES).collect();
        }
        self.last = (last.max(at.min(self.until)), index.or(before));
    }
}

impl Watch for Silence {
    fn see(&mut self, seen: &Seen<'_>, given: &mut Given) {
        let begin = self.set.window.begin(seen.at);
        if self.today.as_ref().is_none_or(|today| today.begin != begin) {
            self.close(true, given);
            self.today = self.open(seen.at);
        }
        if let Some(today) = &mut self.today {
            if self.office.contain(seen.at) {
                today.entries += 1;
            }
            today.hear(seen.at, Some(seen.index));
        }
    }

    fn finish(&mut self, given: &mut Given) {
        self.close(false, given);
    }
}
