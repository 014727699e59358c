//! Times and legal dates.

use jiff::Timestamp;
use jiff::civil::Date;

use crate::domain::calendar::legal_day;
use crate::domain::violation::Violations;
use crate::grpc::generated::google::r#type as google_type;

/// How far a peer's clock may run ahead before its times count as in the future.
const CLOCK_TOLERANCE_SECONDS: i64 = 120;

/// The legal day of an instant.
pub(crate) fn shanghai_day(at: Timestamp) -> Date {
    legal_day(at)
}

/// An instant on the wire.
pub(crate) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.as_microsecond();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or(0),
    }
}

/// A legal date on the wire.
pub(crate) fn date(day: Date) -> google_type::Date {
    google_type::Date { year: day.year().into(), month: day.month().into(), day: day.day().into() }
}

/// A legal date from the wire, if it is a real one.
pub(crate) fn civil_date(value: &google_type::Date) -> Option<Date> {
    let year = i16::try_from(value.year).ok().filter(|year| *year >= 1)?;
    Date::new(year, i8::try_from(value.month).ok()?, i8::try_from(value.day).ok()?).ok()
}

/// Reads a date where one is given.
pub(super) fn optional_date(
    violations: &mut Violations,
    field: &str,
    value: Option<&google_type::Date>,
) -> Option<Date> {
    let value = value?;
    let day = civil_date(value);
    if day.is_none() {
        violations.add(field, "REAL_DATE", "not a date of the calendar", "不是有效日期");
    }
    day
}

/// Reads a mandatory date.
pub(super) fn mandatory_date(
    violations: &mut Violations,
    field: &str,
    value: Option<&google_type::Date>,
) -> Option<Date> {
    if value.is_none() {
        return violations.require(field, None);
    }
    optional_date(violations, field, value)
}

/// Reads a mandatory date that is not in the future.
pub(super) fn past_date(
    violations: &mut Violations,
    field: &str,
    value: Option<&google_type::Date>,
    today: Date,
) -> Option<Date> {
    let day = mandatory_date(violations, field, value)?;
    if day > today {
        violations.add(field, "NOT_IN_THE_FUTURE", "must not be in the future", "日期不得晚于今日");
        return None;
    }
    Some(day)
}

/// Reads a mandatory instant that is not in the future.
pub(super) fn past_instant(
    violations: &mut Violations,
    field: &str,
    value: Option<&prost_types::Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let value = violations.require(field, value)?;
    let at = Timestamp::new(value.seconds, value.nanos).ok();
    let Some(at) = at.filter(|_| value.nanos >= 0) else {
        violations.add(field, "REAL_TIME", "not a valid timestamp", "不是有效时间");
        return None;
    };
    if at.as_second() > now.as_second() + CLOCK_TOLERANCE_SECONDS {
        violations.add(field, "NOT_IN_THE_FUTURE", "must not be in the future", "时间不得晚于当前时间");
        return None;
    }
    Some(at)
}
