//! Counts legal periods in Asia/Shanghai: days, working days, hours and months.
//!
//! Day 0 is the day of the event. A period of days or months that ends on a holiday ends on the next working day
//! (民事诉讼法 art 85). Holidays and their make-up working days are data, by year.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};
use jiff::tz::Offset;
use jiff::{SignedDuration, Span, Timestamp};
use serde::Deserialize;
use thiserror::Error;

use super::vocabulary::vocabulary;

/// Legal dates are days in Asia/Shanghai, which has been UTC+8 without daylight saving since 1991.
pub const SHANGHAI: Offset = Offset::constant(8);

/// The holidays that come with the program.
const BUILT_IN: &str = include_str!("../../data/holidays.toml");

/// Longest period, in its unit.
pub const LONGEST_PERIOD: u16 = 3650;

vocabulary! {
    /// What a period is counted in.
    pub enum Unit {
        /// Calendar days.
        Days => "days",
        /// Days that are neither weekend nor holiday, make-up working days included.
        WorkingDays => "working-days",
        /// Hours from the event itself; an end in a holiday stays.
        Hours => "hours",
        /// Months: the same day of the month, or the month's last.
        Months => "months",
    }
}

/// A length of time as a law gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    length: u16,
    unit: Unit,
}

impl Period {
    /// A period of 1 to [`LONGEST_PERIOD`] units.
    pub fn new(length: u16, unit: Unit) -> Option<Self> {
        (1..=LONGEST_PERIOD).contains(&length).then_some(Self { length, unit })
    }
}

/// When a period ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The first instant after it: from then on it is overdue.
    pub at: Timestamp,
    /// Its last day; nothing for hours.
    pub on: Option<Date>,
    /// Whether it touches a year whose holidays are not known.
    pub is_estimate: bool,
}

/// Knows which days are working days.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    years: BTreeSet<i16>,
    holidays: BTreeSet<Date>,
    make_up_days: BTreeSet<Date>,
}

/// Why a holiday file cannot be used.
#[derive(Debug, Error)]
pub enum CalendarError {
    /// Not TOML of this shape.
    #[error("{0}")]
    Malformed(#[from] toml::de::Error),
    /// A year without its source.
    #[error("{0}: name the source")]
    NoSource(i16),
    /// A year that stands twice.
    #[error("{0} stands twice")]
    YearTwice(i16),
    /// A holiday that ends before it begins, or lasts longer than a month.
    #[error("{0}: a holiday ends before it begins, or lasts longer than a month")]
    Range(Date),
    /// A day that is neither of its year nor of the December before.
    #[error("{0} lies outside its year")]
    OutsideYear(Date),
    /// A day that stands twice.
    #[error("{0} stands twice")]
    DayTwice(Date),
    /// A make-up working day that is no weekend day.
    #[error("{0} is a working day anyway")]
    NotAWeekend(Date),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    year: Vec<Year>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Year {
    year: i16,
    source: String,
    holiday: Vec<Holiday>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Holiday {
    #[serde(rename = "name")]
    _name: String,
    from: Date,
    to: Date,
    #[serde(default)]
    work: Vec<Date>,
}

impl Calendar {
    /// The calendar that comes with the program.
    ///
    /// # Errors
    /// Never in a tested build.
    pub fn built_in() -> Result<Self, CalendarError> {
        Self::parse(BUILT_IN)
    }

    /// Reads a holiday file; see `data/holidays.toml` for its shape.
    ///
    /// # Errors
    /// When it contradicts itself.
    pub fn parse(text: &str) -> Result<Self, CalendarError> {
        let file: File = toml::from_str(text)?;
        let mut calendar = Self::default();
        for year in file.year {
            if year.source.trim().is_empty() {
                return Err(CalendarError::NoSource(year.year));
            }
            if !calendar.years.insert(year.year) {
                return Err(CalendarError::YearTwice(year.year));
            }
            for holiday in &year.holiday {
                calendar.add(year.year, holiday)?;
            }
        }
        match calendar.holidays.intersection(&calendar.make_up_days).next() {
            Some(day) => Err(CalendarError::DayTwice(*day)),
            None => Ok(calendar),
        }
    }

    fn add(&mut self, year: i16, holiday: &Holiday) -> Result<(), CalendarError> {
        let within = |day: Date| {
            // A New Year's holiday may begin, or be made up for, in December.
            let fits = day.year() == year || (day.year() == year - 1 && day.month() == 12);
            if fits { Ok(day) } else { Err(CalendarError::OutsideYear(day)) }
        };
        let (from, to) = (within(holiday.from)?, within(holiday.to)?);
        if to < from || to.duration_since(from) > SignedDuration::from_hours(31 * 24) {
            return Err(CalendarError::Range(from));
        }
        for day in from.series(Span::new().days(1)).take_while(|day| *day <= to) {
            if !self.holidays.insert(day) {
                return Err(CalendarError::DayTwice(day));
            }
        }
        for day in &holiday.work {
            let day = within(*day)?;
            if !is_weekend(day) {
                return Err(CalendarError::NotAWeekend(day));
            }
            if !self.make_up_days.insert(day) {
                return Err(CalendarError::DayTwice(day));
            }
        }
        Ok(())
    }

    /// Whether the holidays of a year are known.
    pub fn knows(&self, year: i16) -> bool {
        self.years.contains(&year)
    }

    /// Whether people work on a day; in a year that is not known, by weekends alone.
    pub fn is_working_day(&self, day: Date) -> bool {
        self.make_up_days.contains(&day) || !(self.holidays.contains(&day) || is_weekend(day))
    }

    /// When a period ends that an event at `event` starts.
    pub fn end_of(&self, event: Timestamp, period: Period) -> Due {
        let (day_0, length) = (legal_day(event), i64::from(period.length));
        match period.unit {
            Unit::Hours => {
                let at = event.saturating_add(SignedDuration::from_hours(length));
                Due { at: at.unwrap_or(Timestamp::MAX), on: None, is_estimate: false }
            }
            Unit::Days => self.end_on(day_0.saturating_add(Span::new().days(length))),
            Unit::Months => self.end_on(day_0.saturating_add(Span::new().months(length))),
            Unit::WorkingDays => {
                let (mut day, mut counted, mut is_estimate) = (day_0, 0, false);
                while counted < length {
                    let Ok(next) = day.tomorrow() else { break };
                    day = next;
                    is_estimate |= !self.knows(day.year());
                    counted += i64::from(self.is_working_day(day));
                }
                Due { is_estimate, ..end_of_day(day) }
            }
        }
    }

    /// When a period ends whose last day was set to `last`.
    pub fn end_on(&self, last: Date) -> Due {
        let (mut day, mut is_estimate) = (last, !self.knows(last.year()));
        while !self.is_working_day(day) {
            let Ok(next) = day.tomorrow() else { break };
            day = next;
            is_estimate |= !self.knows(day.year());
        }
        Due { is_estimate, ..end_of_day(day) }
    }
}

/// The legal day of an instant.
pub fn legal_day(at: Timestamp) -> Date {
    SHANGHAI.to_datetime(at).date()
}

fn is_weekend(day: Date) -> bool {
    matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
}

fn end_of_day(day: Date) -> Due {
    let after = day.tomorrow().ok().and_then(|next| SHANGHAI.to_timestamp(next.at(0, 0, 0, 0)).ok());
    Due { at: after.unwrap_or(Timestamp::MAX), on: Some(day), is_estimate: false }
}

#[cfg(test)]
mod tests;
