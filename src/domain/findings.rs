//! The rules that look for what is odd in the audit log: their names, thresholds and windows, and the office hours.

use jiff::Timestamp;
use jiff::civil::Time;
use thiserror::Error;

use super::calendar::SHANGHAI;
use super::vocabulary::vocabulary;

const MINUTES_OF_A_DAY: i64 = 24 * 60;

/// The grid's zero: midnight of a Monday in Asia/Shanghai, in minutes since 1970.
const GRID: i64 = 4 * MINUTES_OF_A_DAY - 8 * 60;

vocabulary! {
    /// A rule.
    pub enum Rule {
        /// Many look-ups by one operator.
        BulkLookUps => "BULK_LOOK_UPS",
        /// Calls of people outside office hours.
        OutOfHours => "OUT_OF_HOURS",
        /// Calls that name no matter although the method asks for one.
        NoMatter => "NO_MATTER",
        /// Look-ups for a matter whose exchanges had ended.
        MatterClosed => "MATTER_CLOSED",
        /// One person asked about by many units.
        SubjectAskedByMany => "SUBJECT_ASKED_BY_MANY",
        /// Many denials of one caller.
        DenialBurst => "DENIAL_BURST",
        /// Requests whose end is not known.
        Interrupted => "INTERRUPTED",
        /// An entry recorded before the one that it follows.
        ClockBackwards => "CLOCK_BACKWARDS",
        /// Silence in office hours on a day with traffic.
        Silence => "SILENCE",
    }
}

impl Rule {
    /// The rule of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.as_str() == name)
    }
}

/// The length of a rule's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(i64);

/// A length that does not fit the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a window is a part of a day in whole minutes that divides it, such as \"10m\" or \"1h\", or 1 to 31 whole days, such as \"168h\""
)]
pub struct WindowError;

impl Window {
    /// A day.
    pub const DAY: Self = Self(MINUTES_OF_A_DAY);

    /// Windows of so many minutes.
    ///
    /// # Errors
    /// When they do not fit the grid.
    pub const fn of_minutes(minutes: i64) -> Result<Self, WindowError> {
        let divides_a_day = minutes > 0 && MINUTES_OF_A_DAY % minutes == 0;
        let is_days = minutes > 0 && minutes % MINUTES_OF_A_DAY == 0 && minutes <= 31 * MINUTES_OF_A_DAY;
        if divides_a_day || is_days { Ok(Self(minutes)) } else { Err(WindowError) }
    }

    /// How many minutes it has.
    pub const fn minutes(self) -> i64 {
        self.0
    }

    /// Begin of the window that an instant is in.
    pub fn begin(self, at: Timestamp) -> Timestamp {
        let minutes = at.as_second().div_euclid(60) - GRID;
        minutes_to_time(minutes.div_euclid(self.0) * self.0 + GRID)
    }

    /// End of the window that begins then.
    pub fn end(self, begin: Timestamp) -> Timestamp {
        minutes_to_time(begin.as_second().div_euclid(60) + self.0)
    }
}

fn minutes_to_time(minutes: i64) -> Timestamp {
    Timestamp::from_second(minutes.saturating_mul(60)).unwrap_or(Timestamp::MAX)
}

/// When people work, on working days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfficeHours {
    /// First minute.
    pub from: Time,
    /// The end; it is not in them.
    pub until: Time,
}

impl OfficeHours {
    /// Whether a time of day is within them.
    pub fn contain(self, at: Timestamp) -> bool {
        let time = SHANGHAI.to_datetime(at).time();
        self.from <= time && time < self.until
    }
}

/// Threshold and window of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSettings {
    /// From how many on the rule speaks; at least 1.
    pub threshold: u64,
    /// Its windows.
    pub window: Window,
}

/// How the rules are set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Each rule; `None` when it is switched off.
    rules: Vec<(Rule, Option<RuleSettings>)>,
    /// When people work.
    pub office: OfficeHours,
    /// How far back the end of a matter is looked for, in days.
    pub look_back_days: u16,
    /// Entries in office hours from which on a day has traffic.
    pub traffic: u64,
}

impl Settings {
    /// The settings that hold where nothing is configured.
    pub fn standard() -> Self {
        let rules = Rule::ALL.iter().map(|rule| (*rule, Some(Self::standard_of(*rule)))).collect();
        let office = OfficeHours { from: Time::constant(8, 0, 0, 0), until: Time::constant(18, 0, 0, 0) };
        Self { rules, office, look_back_days: 90, traffic: 100 }
    }

    /// What holds for a rule where nothing is configured.
    pub fn standard_of(rule: Rule) -> RuleSettings {
        let (threshold, minutes) = match rule {
            Rule::BulkLookUps => (200, 60),
            Rule::OutOfHours | Rule::NoMatter => (3, MINUTES_OF_A_DAY),
            // Of ClockBackwards seconds.
            Rule::MatterClosed | Rule::Interrupted | Rule::ClockBackwards => (1, MINUTES_OF_A_DAY),
            Rule::SubjectAskedByMany => (3, 7 * MINUTES_OF_A_DAY),
            Rule::DenialBurst => (10, 10),
            // Minutes.
            Rule::Silence => (120, MINUTES_OF_A_DAY),
        };
        RuleSettings { threshold, window: Window(minutes) }
    }

    /// Sets a rule, or switches it off.
    pub fn set(&mut self, rule: Rule, to: Option<RuleSettings>) {
        self.rules.retain(|(known, _)| *known != rule);
        self.rules.push((rule, to));
    }

    /// How a rule is set; `None` when it is off.
    pub fn of(&self, rule: Rule) -> Option<RuleSettings> {
        self.rules.iter().find(|(known, _)| *known == rule).and_then(|(_, set)| *set)
    }

    /// When the entries were recorded that rules need for a range: whole windows, and before them as far back as the
    /// end of a matter is looked for.
    pub fn span(&self, rules: &[Rule], from: Timestamp, before: Timestamp) -> (Timestamp, Timestamp) {
        let (mut first, mut end) = (from, before);
        for rule in rules {
            let Some(set) = self.of(*rule) else { continue };
            let begin = set.window.begin(from);
            let reach = match rule {
                Rule::MatterClosed => {
                    let hours = 24 * i64::from(self.look_back_days);
                    begin.checked_sub(jiff::SignedDuration::from_hours(hours)).unwrap_or(Timestamp::MIN)
                }
                _ => begin,
            };
            first = first.min(reach);
            // The window that holds the range's last instant.
            let last = before.checked_sub(jiff::SignedDuration::from_micros(1)).unwrap_or(before);
            end = end.max(set.window.end(set.window.begin(last.max(from))));
        }
        (first, end)
    }
}
