use jiff::civil::date;
use proptest::prelude::*;

use super::*;

fn calendar() -> Calendar {
    Calendar::built_in().unwrap()
}

fn at(day: Date, hour: i8) -> Timestamp {
    SHANGHAI.to_timestamp(day.at(hour, 30, 0, 0)).unwrap()
}

fn end(event: Date, length: u16, unit: Unit) -> Date {
    calendar().end_of(at(event, 9), Period::new(length, unit).unwrap()).on.unwrap()
}

#[test]
fn the_day_of_the_event_is_day_0() {
    assert_eq!(end(date(2026, 11, 16), 3, Unit::Days), date(2026, 11, 19));
    assert_eq!(end(date(2026, 11, 16), 3, Unit::WorkingDays), date(2026, 11, 19));
}

#[test]
fn a_period_lasts_to_the_end_of_its_last_day_in_shanghai() {
    let due = calendar().end_of(at(date(2026, 11, 16), 23), Period::new(3, Unit::Days).unwrap());
    assert_eq!(due.at, "2026-11-19T16:00:00Z".parse::<Timestamp>().unwrap());
    assert!(!due.is_estimate);
}

#[test]
fn a_period_that_ends_on_a_holiday_ends_on_the_next_working_day() {
    // 2026-10-01 to 07 is National Day; the 8th is a Thursday.
    assert_eq!(end(date(2026, 9, 28), 7, Unit::Days), date(2026, 10, 8));
    // A make-up working day is one: 2026-02-14 is a Saturday.
    assert_eq!(end(date(2026, 2, 7), 7, Unit::Days), date(2026, 2, 14));
    // Without it, a Saturday moves to Monday.
    assert_eq!(end(date(2026, 11, 14), 7, Unit::Days), date(2026, 11, 23));
}

#[test]
fn working_days_leave_out_the_spring_festival_and_count_its_make_up_days() {
    // Friday 13th; then 14 (made up), 24, 25, 26, 27, 28 (made up) February, 2 March.
    assert_eq!(end(date(2026, 2, 13), 7, Unit::WorkingDays), date(2026, 3, 2));
}

#[test]
fn months_end_on_the_same_day_or_the_months_last() {
    assert_eq!(end(date(2025, 11, 30), 3, Unit::Months), date(2026, 2, 28));
    assert_eq!(end(date(2026, 3, 16), 3, Unit::Months), date(2026, 6, 16));
}

#[test]
fn hours_run_from_the_event_through_every_holiday() {
    let event = at(date(2026, 9, 30), 18);
    let due = calendar().end_of(event, Period::new(24, Unit::Hours).unwrap());
    assert_eq!((due.at, due.on), (event + SignedDuration::from_hours(24), None));
}

#[test]
fn a_year_that_is_not_known_gives_an_estimate() {
    let calendar = calendar();
    let week = Period::new(7, Unit::Days).unwrap();
    assert!(calendar.end_of(at(date(2026, 12, 28), 9), week).is_estimate);
    assert!(!calendar.end_of(at(date(2026, 12, 1), 9), week).is_estimate);
    // 1 October is not known to be a holiday there: by weekends alone it is a Friday.
    assert!(calendar.is_working_day(date(2027, 10, 1)));
}

#[test]
fn a_file_that_contradicts_itself_is_refused() {
    let year = |holiday: &str| format!("[[year]]\nyear = 2027\nsource = \"test\"\nholiday = [{holiday}]\n");
    let error = |text: &str| Calendar::parse(text).unwrap_err().to_string();
    let day = r#"{ name = "x", from = "2027-01-01", to = "2027-01-03" }"#;
    assert!(Calendar::parse(&year(day)).unwrap().knows(2027));
    assert_eq!(error(&year(&format!("{day}, {day}"))), "2027-01-01 stands twice");
    assert_eq!(error(&format!("{}{}", year(day), year(day))), "2027 stands twice");
    assert_eq!(error(&year(day).replace("\"test\"", "\" \"")), "2027: name the source");
    let backwards = day.replace("2027-01-03", "2026-12-31");
    assert!(error(&year(&backwards)).contains("ends before it begins"));
    assert_eq!(error(&year(&day.replace("2027-01-03", "2028-01-03"))), "2028-01-03 lies outside its year");
    let made_up = |work: &str| day.replace(" }", &format!(", work = [\"{work}\"] }}"));
    assert_eq!(error(&year(&made_up("2027-01-04"))), "2027-01-04 is a working day anyway");
    assert_eq!(error(&year(&made_up("2027-01-02"))), "2027-01-02 stands twice");
    assert!(error(&year(&day.replace("name", "nam"))).contains("nam"));
}

/// Counts with the holidays as the notices say them, day by day, on paper as it were.
fn is_free(day: Date) -> bool {
    let (month, number) = (day.month(), day.day());
    let within = |from: (i8, i8), to: (i8, i8)| (from..=to).contains(&(month, number));
    let (free, worked): (bool, &[(i8, i8)]) = match day.year() {
        2025 => (
            within((1, 1), (1, 1))
                || within((1, 28), (2, 4))
                || within((4, 4), (4, 6))
                || within((5, 1), (5, 5))
                || within((5, 31), (6, 2))
                || within((10, 1), (10, 8)),
            &[(1, 26), (2, 8), (4, 27), (9, 28), (10, 11)],
        ),
        2026 => (
            within((1, 1), (1, 3))
                || within((2, 15), (2, 23))
                || within((4, 4), (4, 6))
                || within((5, 1), (5, 5))
                || within((6, 19), (6, 21))
                || within((9, 25), (9, 27))
                || within((10, 1), (10, 7)),
            &[(1, 4), (2, 14), (2, 28), (5, 9), (9, 20), (10, 10)],
        ),
        _ => (false, &[]),
    };
    let weekend = day.weekday().to_monday_one_offset() >= 6;
    free || (weekend && !worked.contains(&(month, number)))
}

fn naive(day_0: Date, length: usize, unit: Unit) -> Date {
    let mut days = (1..).map(|step| day_0 + Span::new().days(i64::from(step)));
    match unit {
        Unit::WorkingDays => days.filter(|day| !is_free(*day)).nth(length - 1).unwrap(),
        Unit::Months => {
            let months = usize::try_from(day_0.month() - 1).unwrap() + length;
            let (year, month) = (months / 12, i8::try_from(months % 12 + 1).unwrap());
            let first = date(day_0.year() + i16::try_from(year).unwrap(), month, 1);
            let wanted = first.series(Span::new().days(1));
            let last = wanted.take_while(|day| day.month() == month && day.day() <= day_0.day()).last();
            days.find(|day| *day >= last.unwrap() && !is_free(*day)).unwrap()
        }
        _ => days.skip(length - 1).find(|day| !is_free(*day)).unwrap(),
    }
}

proptest! {
    #[test]
    fn counting_agrees_with_counting_on_the_fingers(
        offset in 0i64..900,
        hour in 0i8..24,
        length in 1u16..120,
        unit in prop_oneof![Just(Unit::Days), Just(Unit::WorkingDays), Just(Unit::Months)],
    ) {
        let day_0 = date(2024, 12, 1) + Span::new().days(offset);
        let due = calendar().end_of(at(day_0, hour), Period::new(length, unit).unwrap());
        let last = naive(day_0, usize::from(length), unit);
        prop_assert_eq!(due.on, Some(last));
        prop_assert_eq!(due.at, SHANGHAI.to_timestamp(last.tomorrow().unwrap().at(0, 0, 0, 0)).unwrap());
        let known = |day: Date| (2025..=2026).contains(&day.year());
        prop_assert!(known(last) || due.is_estimate);
        prop_assert!(!(known(day_0) && known(last) && due.is_estimate));
    }
}
