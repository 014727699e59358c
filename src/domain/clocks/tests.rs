use jiff::civil::date;

use super::*;
use crate::domain::calendar::SHANGHAI;

const NATION: &str = "420106";
const ZHEJIANG: &str = "331004";
const SHANGHAI_CITY: &str = "310101";

fn clocks() -> Clocks {
    Clocks::built_in().unwrap()
}

fn at(day: Date) -> Timestamp {
    SHANGHAI.to_timestamp(day.at(10, 0, 0, 0)).unwrap()
}

fn region(code: &str) -> RegionCode {
    RegionCode::parse(code).unwrap()
}

/// Last day and articles of the one clock of an event on Monday, 2026-11-02.
fn event(on: Occasion, code: &str) -> (Option<Date>, Vec<String>, SourceMark) {
    let started = clocks().started_by_event(on, region(code), at(date(2026, 11, 2)));
    let [clock] = &started[..] else { panic!("{started:?}") };
    (clock.due.on, clock.articles.clone(), clock.source)
}

fn rule(text: &str) -> Result<Clocks, String> {
    Clocks::load(Some(text), None).map_err(|error| error.to_string())
}

const OWN: &str = r#"
[[clock]]
id = "AID_DECISION"
on = "AID_APPLICATION"
region = "420000"
length = 5
unit = "working-days"
articles = ["湖北省法律援助条例 1"]
source = "C2"
from = "2026-01-01"
note = "a test"
"#;

#[test]
fn the_centre_decides_in_7_days_or_as_its_region_says() {
    let article = || vec!["法律援助法 43".to_owned()];
    let primary = SourceMark::PrimaryText;
    assert_eq!(event(Occasion::AidApplication, NATION), (Some(date(2026, 11, 9)), article(), primary));
    let (zhejiang, _, mark) = event(Occasion::AidApplication, ZHEJIANG);
    assert_eq!((zhejiang, mark), (Some(date(2026, 11, 11)), SourceMark::Secondary));
    assert_eq!(event(Occasion::AidApplication, SHANGHAI_CITY).0, Some(date(2026, 11, 16)));
}

#[test]
fn every_other_event_of_the_table_has_its_clock() {
    assert_eq!(event(Occasion::AidDecision, NATION).0, Some(date(2026, 11, 5)));
    assert_eq!(event(Occasion::FeePaymentNotice, NATION).0, Some(date(2026, 11, 9)));
    let detained =
        clocks().started_by_event(Occasion::DetainedApplication, region(NATION), at(date(2026, 11, 2)));
    assert_eq!(detained[0].due.at, at(date(2026, 11, 3)));
    // Before the law was in force, there was no such limit.
    let before = clocks().started_by_event(Occasion::AidDecision, region(NATION), at(date(2021, 12, 31)));
    assert_eq!(before, []);
}

#[test]
fn every_row_of_the_table_of_clocks_is_there() {
    let clocks = clocks();
    let row = |id: &str| {
        let rule = clocks.rules.iter().find(|rule| rule.id == id && rule.region.is_none());
        let rule = rule.unwrap_or_else(|| panic!("no clock {id}"));
        (rule.length, rule.unit.as_str(), rule.articles.join(", "), rule.source.as_str())
    };
    assert_eq!(row("AID_DECISION"), (Some(7), "days", "法律援助法 43".to_owned(), "C"));
    assert_eq!(row("COUNSEL_AFTER_DECISION"), (Some(3), "days", "法律援助法 43".to_owned(), "C"));
    assert_eq!(row("COUNSEL_AFTER_NOTICE"), (Some(3), "days", "法律援助法 36".to_owned(), "C"));
    assert_eq!(row("DETAINED_APPLICATION"), (Some(24), "hours", "法律援助法 39".to_owned(), "C"));
    let fee_waiver = "诉讼费用交纳办法 49, 民事诉讼法 126".to_owned();
    assert_eq!(row("FEE_WAIVER_DECISION"), (Some(7), "days", fee_waiver, "C"));
    assert_eq!(row("FEE_PAYMENT"), (Some(7), "days", "诉讼费用交纳办法 22".to_owned(), "C"));
    assert_eq!(row("RELIEF_OPINION"), (Some(10), "working-days", String::new(), "C2"));
    assert_eq!(row("CIVIL_SUPERVISION_REVIEW"), (Some(3), "months", "民事诉讼法 220".to_owned(), "C"));
    assert_eq!(row("PROCURATORATE_ACCEPTANCE"), (Some(7), "days", String::new(), "M"));
    assert_eq!(row("SUPPLEMENT"), (None, "set-in-request", "法律援助法 43".to_owned(), "C"));
    assert_eq!(clocks.rules.len(), 12);
}

#[test]
fn a_fee_waiver_runs_from_its_delivery_and_a_supplement_to_the_day_that_was_set() {
    use ExchangeState as S;
    let clocks = clocks();
    let exchange = Running { kind: Kind::FeeWaiver, track: None, region: region(ZHEJIANG) };
    let start = at(date(2026, 11, 2));
    let ids = |state, set| {
        let started = clocks.started_by(&exchange, state, start, set);
        started.into_iter().map(|clock| (clock.id, clock.due.on)).collect::<Vec<_>>()
    };
    assert_eq!(ids(S::Submitted, None), []);
    let decision = || vec![("FEE_WAIVER_DECISION".to_owned(), Some(date(2026, 11, 9)))];
    assert_eq!(ids(S::Delivered, None), decision());
    assert_eq!(ids(S::Supplemented, None), decision());
    assert_eq!(ids(S::SupplementRequested, None), []);
    // A Saturday was set: it lasts to Monday.
    let set = Some(date(2026, 11, 14));
    assert_eq!(ids(S::SupplementRequested, set), [("SUPPLEMENT".to_owned(), Some(date(2026, 11, 16)))]);

    let stops = |id, state| clocks.stops(id, Some(state), None);
    assert!(stops("FEE_WAIVER_DECISION", S::Decided) && !stops("FEE_WAIVER_DECISION", S::Received));
    assert!(
        stops("FEE_WAIVER_DECISION", S::Withdrawn) && stops("GONE", S::Closed) && !stops("GONE", S::Decided)
    );
    let lapses = |id| clocks.lapses(id, Kind::FeeWaiver);
    assert!(lapses("SUPPLEMENT") && !lapses("FEE_WAIVER_DECISION"));
    assert!(clocks.waits_for_sender("SUPPLEMENT") && !clocks.waits_for_sender("FEE_WAIVER_DECISION"));
}

#[test]
fn only_what_was_applied_for_is_deemed_withdrawn() {
    // Article 43 is about applications. A defender under articles 25 and 28 is owed without one (art 36).
    let lapsing: Vec<_> =
        Kind::ALL.iter().copied().filter(|kind| clocks().lapses("SUPPLEMENT", *kind)).collect();
    assert_eq!(lapsing, [Kind::FeeWaiver, Kind::JudicialRelief, Kind::AppealReferral]);
}

#[test]
fn other_kinds_run_by_the_table_and_a_referral_by_its_track() {
    let clocks = clocks();
    let running = |kind, track| {
        let exchange = Running { kind, track, region: region(ZHEJIANG) };
        let started = clocks.started_by(&exchange, ExchangeState::Delivered, at(date(2026, 11, 2)), None);
        started.into_iter().map(|clock| (clock.id, clock.due.on.unwrap())).collect::<Vec<_>>()
    };
    let named = |id: &str, day| (id.to_owned(), day);
    assert_eq!(running(Kind::JudicialRelief, None), [named("RELIEF_OPINION", date(2026, 11, 16))]);
    assert_eq!(running(Kind::CounselNotice, None), [named("COUNSEL_AFTER_NOTICE", date(2026, 11, 5))]);
    let review = named("CIVIL_SUPERVISION_REVIEW", date(2027, 2, 2));
    let acceptance = named("PROCURATORATE_ACCEPTANCE", date(2026, 11, 9));
    assert_eq!(running(Kind::AppealReferral, Some("CIVIL_JUDGMENT")), [review, acceptance]);
    assert_eq!(running(Kind::AppealReferral, Some("EXECUTION")), []);
    assert_eq!(running(Kind::AppealReferral, None), []);
    // Acceptance is told as progress; the review goes on.
    let told = |id| clocks.stops(id, None, Some(ResponseKind::Progress));
    assert!(told("PROCURATORATE_ACCEPTANCE") && !told("CIVIL_SUPERVISION_REVIEW"));
}

#[test]
fn the_operators_rules_take_the_place_of_those_for_the_same_clock_and_region() {
    let days = |clocks: &Clocks, code| {
        let started = clocks.started_by_event(Occasion::AidApplication, region(code), at(date(2026, 11, 2)));
        started.iter().map(|clock| clock.due.on.unwrap()).collect::<Vec<_>>()
    };
    let own = rule(OWN).unwrap();
    assert_eq!(days(&own, NATION), [date(2026, 11, 9)]);
    assert_eq!(days(&own, ZHEJIANG), [date(2026, 11, 11)]);
    let replaced = rule(&OWN.replace("420000", "330000")).unwrap();
    assert_eq!(days(&replaced, ZHEJIANG), [date(2026, 11, 9)]);
    let alone = rule(&format!("replaces_all = true\n{OWN}")).unwrap();
    assert_eq!((days(&alone, NATION), days(&alone, ZHEJIANG)), (vec![date(2026, 11, 9)], vec![]));
    // The city's rule goes before the province's.
    let both = format!("{OWN}{}", OWN.replace("420000", "420100").replace("length = 5", "length = 2"));
    assert_eq!(days(&rule(&both).unwrap(), NATION), [date(2026, 11, 4)]);
}

#[test]
fn a_file_that_contradicts_itself_is_refused_by_name() {
    let refused = |text: &str, words: &str| {
        let error = rule(text).unwrap_err();
        assert!(error.contains(words), "{error}");
    };
    refused(&format!("{OWN}{OWN}"), "clock AID_DECISION: two rules for 420000 are in force on 2026-01-01");
    let later = OWN.replace("2026-01-01", "2027-01-01");
    let earlier = OWN.replace("2026-01-01\"", "2026-01-01\"\nuntil = \"2026-12-31\"");
    assert!(rule(&format!("{earlier}{later}")).is_ok());
    refused(&OWN.replace("source = \"C2\"\n", ""), "source");
    refused(&OWN.replace("420000", "990000"), "region");
    refused(&OWN.replace("AID_APPLICATION", "AID_APLICATION"), "AID_APLICATION");
    refused(&OWN.replace("length = 5", "length = 0"), "1 to 3650");
    refused(&OWN.replace("working-days", "weeks"), "working-days");
    refused(&OWN.replace("条例 1", "条例"), "an article is a law and a number");
    refused(&OWN.replace("\"C2\"", "\"C\"").replace("[\"湖北省法律援助条例 1\"]", "[]"), "source C");
    refused(&OWN.replace("note = \"a test\"", "note = \"\""), "a note");
    let lapsing = |kind| format!("length = 5\nlapse = [\"{kind}\"]");
    refused(&OWN.replace("length = 5", &lapsing("FEE_WAIVER")), "an event outside exchanges");
    let exchange = OWN.replace("\"AID_DECISION\"", "\"OWN\"").replace("AID_APPLICATION", "FEE_WAIVER");
    refused(&exchange, "starts in some state");
    let started = exchange.replace("length = 5", "length = 5\nstarts = [\"RECEIVED\"]");
    assert!(rule(&started).is_ok());
    refused(&started.replace("length = 5", &lapsing("FEE_WAIVER")), "can lapse");
    let papers = started.replace("RECEIVED", "SUPPLEMENT_REQUESTED");
    assert!(rule(&papers.replace("length = 5", &lapsing("FEE_WAIVER"))).is_ok());
    refused(&papers.replace("length = 5", &lapsing("COUNSEL_NOTICE")), "kinds that it runs in");
    refused(&started.replace("\"OWN\"", "\"FEE_WAIVER_DECISION\""), "its rules differ");
}
