use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::audit::entry::{Decision, Phase};
use crate::domain::calendar::SHANGHAI;

const CENTRE: &str = "12331004MB00000014";
const COURT: &str = "11331004MB00000024";

/// A time of day in Shanghai in November 2026; the 2nd is a Monday.
fn at(day: i8, hour: i8, minute: i8) -> Timestamp {
    SHANGHAI.to_timestamp(date(2026, 11, day).at(hour, minute, 0, 0)).unwrap()
}

fn entry(recorded: Timestamp, method: &'static str, phase: Phase) -> Entry {
    let mut entry = Entry::new(Uuid::nil(), phase, recorded, "legalaid.exchange.v1.Any", method, "node-1");
    entry.caller = Some(CENTRE.to_owned());
    entry.unit = Some("main".to_owned());
    entry.operator = Some("01".to_owned());
    entry.matter = Some("M-1".to_owned());
    entry
}

fn look_up(recorded: Timestamp) -> Entry {
    entry(recorded, "VerifyLowIncome", Phase::Request)
}

fn settings(rule: Rule, threshold: u64) -> Settings {
    let mut settings = Settings::standard();
    settings.set(rule, Some(RuleSettings { threshold, ..Settings::standard_of(rule) }));
    settings
}

fn look(settings: &Settings, rule: Rule, entries: &[Entry]) -> (Vec<Finding>, Vec<Notice>) {
    let calendar = Calendar::built_in().unwrap();
    let mut detector = Detector::new(settings, &[rule], &calendar, Timestamp::MIN, Timestamp::MAX);
    for (index, entry) in (0..).zip(entries) {
        detector.feed(index, entry);
    }
    detector.finish();
    (detector.take_findings(), detector.take_notices())
}

/// The one finding, with the threshold at `threshold`; nothing is found with one more.
fn only_from(rule: Rule, threshold: u64, entries: &[Entry]) -> Finding {
    let (none, _) = look(&settings(rule, threshold + 1), rule, entries);
    assert_eq!(none, [], "just under the threshold");
    let (mut found, _) = look(&settings(rule, threshold), rule, entries);
    assert_eq!(found.len(), 1, "{found:?}");
    let finding = found.remove(0);
    assert_eq!((finding.rule, finding.threshold, finding.observed), (rule, threshold, threshold));
    finding
}

#[test]
fn bulk_look_ups_are_those_of_one_operator_in_one_hour() {
    let mut entries: Vec<Entry> = (0..5).map(|minute| look_up(at(2, 10, minute))).collect();
    let other = Entry { operator: Some("02".to_owned()), ..look_up(at(2, 10, 30)) };
    let refused = Entry { phase: Phase::Refused, ..look_up(at(2, 10, 31)) };
    let replayed = Entry { phase: Phase::Read, reason: Some("REPLAYED".into()), ..look_up(at(2, 10, 32)) };
    let ended = entry(at(2, 10, 33), "VerifyLowIncome", Phase::Response);
    let next_hour = look_up(at(2, 11, 0));
    entries.extend([other, refused, replayed, ended, next_hour]);
    let finding = only_from(Rule::BulkLookUps, 5, &entries);
    assert_eq!((finding.from, finding.before), (at(2, 10, 0), at(2, 11, 0)));
    assert_eq!((finding.entries.as_slice(), finding.entry_count), ([0, 1, 2, 3, 4].as_slice(), 5));
    assert_eq!(finding.about.operator.as_deref(), Some("01"));
    assert!(!finding.at_least);
}

#[test]
fn a_long_list_of_entries_is_cut_and_counted() {
    let entries: Vec<Entry> = (0..50).map(|second| look_up(at(2, 10, second))).collect();
    let finding = only_from(Rule::BulkLookUps, 50, &entries);
    assert_eq!((finding.entries.len(), finding.entry_count), (LISTED_ENTRIES, 50));
}

#[test]
fn out_of_hours_are_nights_weekends_and_holidays_and_not_the_make_up_day() {
    let within = [look_up(at(2, 8, 0)), look_up(at(2, 17, 59))];
    assert_eq!(look(&settings(Rule::OutOfHours, 1), Rule::OutOfHours, &within).0, []);
    let night = [look_up(at(2, 7, 59)), look_up(at(2, 12, 0)), look_up(at(2, 18, 0))];
    let finding = only_from(Rule::OutOfHours, 2, &night);
    assert_eq!((finding.from, finding.before), (at(2, 0, 0), at(3, 0, 0)));
    assert_eq!(finding.entries, [0, 2]);
    let sunday = only_from(Rule::OutOfHours, 1, &[look_up(at(8, 10, 0))]);
    assert!(!sunday.is_estimate);
    let in_october = |day| look_up(SHANGHAI.to_timestamp(date(2026, 10, day).at(10, 0, 0, 0)).unwrap());
    only_from(Rule::OutOfHours, 1, &[in_october(1)]);
    // A Saturday on which people work for the holiday.
    assert_eq!(look(&settings(Rule::OutOfHours, 1), Rule::OutOfHours, &[in_october(10)]).0, []);
    let system = [entry(at(8, 10, 0), "PullDeliveries", Phase::Request)];
    assert_eq!(look(&settings(Rule::OutOfHours, 1), Rule::OutOfHours, &system).0, []);
}

#[test]
fn a_year_whose_holidays_are_not_known_is_said() {
    let far = SHANGHAI.to_timestamp(date(2099, 1, 3).at(10, 0, 0, 0)).unwrap();
    let (found, notices) = look(&settings(Rule::OutOfHours, 1), Rule::OutOfHours, &[look_up(far)]);
    assert!(found[0].is_estimate);
    assert_eq!(notices, [Notice::YearNotKnown(2099)]);
}

#[test]
fn calls_without_a_matter_count_refused_ones_too() {
    let without = |minute, phase| Entry { matter: None, ..entry(at(2, 10, minute), "SubmitExchange", phase) };
    let lists = Entry { matter: None, ..entry(at(2, 10, 9), "ListExchanges", Phase::Read) };
    let entries = [without(0, Phase::Refused), look_up(at(2, 10, 1)), without(2, Phase::Request), lists];
    assert_eq!(only_from(Rule::NoMatter, 2, &entries).entries, [0, 2]);
}

/// The two entries of a call in an exchange.
fn in_exchange(
    entries: &mut Vec<Entry>,
    method: &'static str,
    caller: &str,
    exchange: u128,
    reason: Option<&'static str>,
) {
    let recorded = entries.last().map_or(at(2, 9, 0), |entry| entry.recorded);
    let mut request = entry(recorded, method, Phase::Request);
    request.caller = Some(caller.to_owned());
    request.counterpart = Some(if caller == COURT { CENTRE } else { COURT }.to_owned());
    let mut response = entry(recorded, method, Phase::Response);
    response.matter = None;
    response.request_index = Some(entries.len() as u64);
    response.exchange = Some(Uuid::from_u128(exchange));
    response.code = Some("OK".into());
    response.reason = reason.map(Into::into);
    entries.extend([request, response]);
}

#[test]
fn a_matter_is_closed_when_its_last_exchange_has_ended() {
    let mut entries = Vec::new();
    in_exchange(&mut entries, "SubmitExchange", CENTRE, 1, None);
    in_exchange(&mut entries, "SubmitExchange", CENTRE, 2, None);
    in_exchange(&mut entries, "RespondToExchange", COURT, 1, Some("CLOSED"));
    entries.push(look_up(at(3, 9, 0)));
    let rule = Rule::MatterClosed;
    assert_eq!(look(&settings(rule, 1), rule, &entries).0, [], "one exchange is open");
    in_exchange(&mut entries, "RespondToExchange", CENTRE, 2, Some("WITHDRAWN"));
    let first = entries.len() as u64;
    entries.push(look_up(at(3, 9, 30)));
    entries.push(Entry { matter: Some("M-2".to_owned()), ..look_up(at(3, 9, 31)) });
    entries.push(Entry { caller: Some(COURT.to_owned()), ..look_up(at(3, 9, 32)) });
    entries.push(look_up(at(3, 9, 33)));
    let finding = only_from(rule, 2, &entries);
    assert_eq!(finding.entries, [first, first + 3]);
    assert_eq!(finding.about.matter.as_deref(), Some("M-1"));
    // A new exchange opens it again.
    in_exchange(&mut entries, "SubmitExchange", CENTRE, 3, None);
    entries.push(look_up(at(4, 9, 0)));
    assert_eq!(look(&settings(rule, 1), rule, &entries).0.len(), 1);
}

#[test]
fn a_matter_that_lapsed_or_whose_opening_was_not_seen_is_closed_too() {
    let rule = Rule::MatterClosed;
    let mut entries = Vec::new();
    in_exchange(&mut entries, "SubmitExchange", CENTRE, 1, None);
    let mut lapse = entry(at(2, 10, 0), "DeemWithdrawn", Phase::Event);
    lapse.exchange = Some(Uuid::from_u128(1));
    entries.extend([lapse, look_up(at(2, 11, 0))]);
    assert_eq!(only_from(rule, 1, &entries).entries, [3]);

    let mut entries = Vec::new();
    in_exchange(&mut entries, "RespondToExchange", COURT, 9, Some("CLOSED"));
    entries.push(look_up(at(2, 11, 0)));
    assert_eq!(only_from(rule, 1, &entries).entries, [2]);
    // An answer that failed, or that leaves the exchange open, ends nothing.
    for (code, reason) in [("ABORTED", "CLOSED"), ("OK", "DECIDED")] {
        entries[1].code = Some(code.into());
        entries[1].reason = Some(reason.into());
        assert_eq!(look(&settings(rule, 1), rule, &entries).0, []);
    }
}

#[test]
fn one_subject_is_counted_by_units_of_all_agencies() {
    let asked = |minute, caller: &str, unit: &str, subject: &str| Entry {
        caller: Some(caller.to_owned()),
        unit: Some(unit.to_owned()),
        subject: Some(subject.to_owned()),
        ..look_up(at(2, 10, minute))
    };
    let entries = [
        asked(0, CENTRE, "main", "ab"),
        asked(1, CENTRE, "main", "ab"),
        asked(2, CENTRE, "station", "ab"),
        asked(3, COURT, "main", "ab"),
        asked(4, COURT, "main", "cd"),
    ];
    let finding = only_from(Rule::SubjectAskedByMany, 3, &entries);
    assert_eq!((finding.from, finding.before), (at(2, 0, 0), at(9, 0, 0)));
    assert_eq!((finding.about.subject.as_deref(), finding.entry_count), (Some("ab"), 4));
}

#[test]
fn a_search_for_a_person_or_an_erasure_does_not_count_as_asking_about_them() {
    let by = |minute, method, phase, unit: &str| Entry {
        unit: Some(unit.to_owned()),
        subject: Some("ab".to_owned()),
        ..entry(at(2, 10, minute), method, phase)
    };
    let entries = [
        by(0, "VerifyLowIncome", Phase::Request, "main"),
        by(1, "ListEntries", Phase::Read, "audit"),
        by(2, "EraseRecords", Phase::Request, "records"),
        by(3, "Erased", Phase::Event, "remover"),
        by(4, "RemovalEnded", Phase::Event, "remover"),
    ];
    assert_eq!(only_from(Rule::SubjectAskedByMany, 1, &entries).entries, [0]);
}

#[test]
fn denials_are_counted_by_caller_in_ten_minutes() {
    let denied = |minute, phase| {
        let decision = (phase == Phase::Refused).then_some(Decision::Deny);
        Entry { decision, ..entry(at(2, 10, minute), "GetExchange", phase) }
    };
    let mistaken =
        Entry { code: Some("INVALID_ARGUMENT".into()), ..entry(at(2, 10, 5), "GetExchange", Phase::Refused) };
    let entries =
        [denied(0, Phase::Refused), mistaken, denied(9, Phase::HandshakeRefused), denied(10, Phase::Refused)];
    let finding = only_from(Rule::DenialBurst, 2, &entries);
    assert_eq!(finding.entries, [0, 2]);
    assert_eq!(finding.about, About { caller: Some(CENTRE.to_owned()), ..About::default() });
}

#[test]
fn interrupted_requests_are_counted_by_node() {
    let entries = [look_up(at(2, 10, 0)), entry(at(2, 10, 1), "SubmitExchange", Phase::Interrupted)];
    let finding = only_from(Rule::Interrupted, 1, &entries);
    assert_eq!((finding.entries.as_slice(), finding.about.node.as_deref()), ([1].as_slice(), Some("node-1")));
}

#[test]
fn a_clock_that_went_back_is_measured_in_seconds() {
    let entries = [look_up(at(2, 10, 0)), look_up(at(2, 9, 59)), look_up(at(2, 10, 1))];
    let finding = only_from(Rule::ClockBackwards, 60, &entries);
    assert_eq!(finding.entries, [1]);
}

#[test]
fn silence_is_the_longest_gap_in_office_hours_of_a_day_with_traffic() {
    let rule = Rule::Silence;
    let busy = |minutes: std::ops::Range<i64>| {
        minutes.map(|minute| look_up(at(2, 8, 0).checked_add(SignedDuration::from_mins(minute)).unwrap()))
    };
    let mut entries: Vec<Entry> = busy(0..60).chain(busy(239..290)).collect();
    let finding = only_from(rule, 180, &entries);
    assert_eq!((finding.entries.as_slice(), finding.from), ([59, 60].as_slice(), at(2, 0, 0)));
    // The day that still runs is not silent to its end; once another has begun, it was.
    entries.push(look_up(at(3, 9, 0)));
    let finding = only_from(rule, 311, &entries);
    assert_eq!(finding.entries, [110]);
    // Less than the traffic that a day must have.
    let mut quiet = Settings::standard();
    quiet.traffic = 112;
    assert_eq!(look(&quiet, rule, &entries).0, []);
    quiet.traffic = 111;
    assert_eq!(look(&quiet, rule, &entries).0.len(), 1);
    // A weekend.
    let moved: Vec<Entry> = entries
        .iter()
        .map(|entry| Entry {
            recorded: entry.recorded.checked_sub(SignedDuration::from_hours(24)).unwrap(),
            ..entry.clone()
        })
        .collect();
    assert_eq!(look(&Settings::standard(), rule, &moved).0, []);
}

#[test]
fn a_rule_that_is_off_says_nothing() {
    let mut off = Settings::standard();
    off.set(Rule::Interrupted, None);
    let entries = [entry(at(2, 10, 1), "SubmitExchange", Phase::Interrupted)];
    assert_eq!(look(&off, Rule::Interrupted, &entries).0, []);
}

#[test]
fn an_id_says_rule_and_window_and_differs_by_each() {
    let about = About { caller: Some(CENTRE.to_owned()), ..About::default() };
    let id = FindingId::new(Rule::DenialBurst, at(2, 10, 0), &about);
    assert_eq!((id.rule(), id.from()), (Rule::DenialBurst, at(2, 10, 0)));
    assert_eq!(FindingId::parse(&id.to_string()), Some(id));
    assert_ne!(id, FindingId::new(Rule::Silence, at(2, 10, 0), &about));
    assert_ne!(id, FindingId::new(Rule::DenialBurst, at(2, 10, 10), &about));
    assert_ne!(id, FindingId::new(Rule::DenialBurst, at(2, 10, 0), &About::default()));
    // What is in one part is not in another.
    let moved = About { unit: Some(CENTRE.to_owned()), ..About::default() };
    assert_ne!(id, FindingId::new(Rule::DenialBurst, at(2, 10, 0), &moved));
    for text in ["", "x", "0193e4a0-0000-7000-8000-000000000000", "ff000000-0000-8000-8000-000000000000"] {
        assert_eq!(FindingId::parse(text), None, "{text}");
    }
}

#[test]
fn a_range_is_widened_to_whole_windows_and_to_where_matters_may_have_ended() {
    let settings = Settings::standard();
    let (from, before) = (at(4, 10, 30), at(4, 10, 45));
    assert_eq!(settings.span(&[Rule::BulkLookUps], from, before), (at(4, 10, 0), at(4, 11, 0)));
    assert_eq!(settings.span(&[Rule::SubjectAskedByMany], from, before), (at(2, 0, 0), at(9, 0, 0)));
    let (first, end) = settings.span(&[Rule::MatterClosed], from, before);
    assert_eq!(end, at(5, 0, 0));
    assert_eq!(at(4, 0, 0).duration_since(first), SignedDuration::from_hours(24 * 90));
}

#[test]
fn a_crowd_of_made_up_operators_is_said_and_hides_nobody_busy() {
    let mut entries = Vec::new();
    for number in 0..30_000 {
        let operator = if number % 3 == 0 { "busy".to_owned() } else { number.to_string() };
        let recorded = at(2, 10, 0).checked_add(SignedDuration::from_millis(number * 100)).unwrap();
        entries.push(Entry { operator: Some(operator), ..look_up(recorded) });
    }
    let (found, notices) = look(&Settings::standard(), Rule::BulkLookUps, &entries);
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    let [Notice::Crowded { undercount, .. }] = notices.as_slice() else { panic!("{notices:?}") };
    assert_eq!(finding.about.operator.as_deref(), Some("busy"));
    assert!(finding.at_least && finding.observed + undercount >= 10_000, "{finding:?}");
}

proptest! {
    #[test]
    fn findings_are_what_a_count_by_hand_gives_in_whatever_order_equal_times_come(
        calls in prop::collection::vec((0i64..600, 0u8..3), 1..60), seed in any::<u64>(), threshold in 1u64..6,
    ) {
        let rule = Rule::DenialBurst;
        let settings = settings(rule, threshold);
        let mut entries: Vec<Entry> = calls
            .iter()
            .map(|(minute, caller)| {
                let recorded = at(2, 0, 0).checked_add(SignedDuration::from_mins(minute / 3)).unwrap();
                Entry {
                    caller: Some(caller.to_string()),
                    decision: Some(Decision::Deny),
                    ..entry(recorded, "GetExchange", Phase::Refused)
                }
            })
            .collect();
        entries.sort_by_key(|entry| entry.recorded);
        let (found, _) = look(&settings, rule, &entries);
        for finding in &found {
            let of_it: Vec<u64> = (0..)
                .zip(&entries)
                .filter(|(_, entry)| entry.caller == finding.about.caller)
                .filter(|(_, entry)| finding.from <= entry.recorded && entry.recorded < finding.before)
                .map(|(index, _)| index)
                .collect();
            prop_assert_eq!(finding.observed, of_it.len() as u64);
            prop_assert_eq!(finding.entries.as_slice(), &of_it[..of_it.len().min(LISTED_ENTRIES)]);
        }
        // Nobody over the threshold is missed.
        let mut by_hand = std::collections::BTreeMap::<_, u64>::new();
        for entry in &entries {
            *by_hand.entry((entry.caller.clone(), entry.recorded.as_second() / 600)).or_default() += 1;
        }
        prop_assert_eq!(by_hand.values().filter(|count| **count >= threshold).count(), found.len());

        // Equal times in another order.
        let mut shuffled: Vec<(Timestamp, u64, Entry)> = (0u64..)
            .zip(&entries)
            .map(|(index, entry)| (entry.recorded, index.wrapping_mul(seed | 1), entry.clone()))
            .collect();
        shuffled.sort_by_key(|(recorded, order, _)| (*recorded, *order));
        let shuffled: Vec<Entry> = shuffled.into_iter().map(|(_, _, entry)| entry).collect();
        let (again, _) = look(&settings, rule, &shuffled);
        let told = |findings: &[Finding]| findings.iter().map(|f| (f.id, f.observed)).collect::<Vec<_>>();
        prop_assert_eq!(told(&found), told(&again));
    }
}
