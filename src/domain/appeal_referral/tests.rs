use jiff::civil::date;

use super::*;

/// An enforcement complaint to the procuratorate: nothing is wrong with it.
fn sound() -> ReferralTerms {
    ReferralTerms {
        direction: Some(Direction::CentreToProcuratorate),
        track: Some(Track::Enforcement),
        documents: 1,
        newest_effect: Some(date(2025, 1, 31)),
        applied_before: Some(false),
        ..ReferralTerms::default()
    }
}

fn refused() -> RetrialTerms {
    RetrialTerms {
        filed: Some(true),
        has_day: true,
        filed_on: Some(date(2025, 3, 1)),
        has_result: true,
        result: Some(RetrialResult::Refused),
        has_ruling: true,
        ruled_on: Some(date(2025, 3, 1)),
    }
}

/// A complaint about a civil judgment, after retrial was refused.
fn civil(retrial: RetrialTerms) -> ReferralTerms {
    ReferralTerms { track: Some(Track::CivilJudgment), retrial: Some(retrial), ..sound() }
}

fn broken(terms: &ReferralTerms) -> Vec<(String, &'static str)> {
    let mut violations = Violations::new();
    terms.check(&mut violations);
    violations.into_vec().into_iter().map(|found| (found.field, found.rule)).collect()
}

fn one(field: &str, rule: &'static str) -> Vec<(String, &'static str)> {
    vec![(field.to_owned(), rule)]
}

#[test]
fn sound_referrals_break_no_rule() {
    assert_eq!(broken(&sound()), []);
    assert_eq!(broken(&civil(refused())), []);
    assert_eq!(broken(&ReferralTerms::default()), []);
}

#[test]
fn documents_are_needed_on_every_track_but_support_of_prosecution_which_needs_evidence() {
    for track in Track::ALL.iter().filter(|track| **track != Track::SupportOfProsecution) {
        let terms = ReferralTerms { track: Some(*track), documents: 0, ..civil(refused()) };
        assert_eq!(broken(&terms), one("documents", "REQUIRED"), "{track}");
    }
    let support = ReferralTerms { track: Some(Track::SupportOfProsecution), documents: 0, ..sound() };
    assert_eq!(broken(&support), one("evidence", "REQUIRED"));
    assert_eq!(broken(&ReferralTerms { evidence: 1, ..support }), []);
}

#[test]
fn on_the_civil_judgment_track_the_court_comes_first() {
    let field = "retrial_application";
    assert_eq!(broken(&ReferralTerms { retrial: None, ..civil(refused()) }), one(field, "REQUIRED"));
    let unfiled = RetrialTerms { filed: Some(false), ..RetrialTerms::default() };
    assert_eq!(broken(&civil(unfiled)), one("retrial_application.filed", "RETRIAL_FIRST"));
    let open = RetrialTerms { has_ruling: false, ruled_on: None, ..refused() };
    let pending = RetrialTerms { result: Some(RetrialResult::Pending), ..open };
    assert_eq!(broken(&civil(pending)), one("retrial_application.result", "RETRIAL_FIRST"));
    let late = RetrialTerms { result: Some(RetrialResult::NotDecidedInTime), ..open };
    assert_eq!(broken(&civil(late)), []);
    let wrong = RetrialTerms { result: Some(RetrialResult::ClearlyWrong), ..refused() };
    assert_eq!(broken(&civil(wrong)), []);
}

#[test]
fn towards_a_centre_the_court_need_not_come_first() {
    let direction = Some(Direction::ProcuratorateToCentre);
    let terms = ReferralTerms { direction, retrial: None, applied_before: Some(true), ..civil(refused()) };
    assert_eq!(broken(&terms), []);
}

#[test]
fn a_procuratorate_is_applied_to_once() {
    let again = ReferralTerms { applied_before: Some(true), ..civil(refused()) };
    assert_eq!(broken(&again), one("applied_before", "ONE_APPLICATION_ONLY"));
    assert_eq!(broken(&ReferralTerms { applied_before: Some(true), ..sound() }), []);
}

#[test]
fn an_application_for_retrial_is_stated_in_full_and_in_order() {
    let dayless = RetrialTerms { has_day: false, filed_on: None, ..refused() };
    let rule = "STATED_WITH_APPLICATION";
    assert_eq!(broken(&civil(dayless)), one("retrial_application.filed_on", rule));
    let unruled = RetrialTerms { has_ruling: false, ruled_on: None, ..refused() };
    assert_eq!(broken(&civil(unruled)), one("retrial_application.ruled_on", "RULING_WITH_ITS_DAY"));
    let early = RetrialTerms { ruled_on: Some(date(2025, 2, 28)), ..refused() };
    assert_eq!(broken(&civil(early)), one("retrial_application.ruled_on", "NOT_BEFORE_THE_APPLICATION"));
}

#[test]
fn a_late_application_and_an_early_complaint_of_delay_are_remarked() {
    let rules = |terms: &ReferralTerms, on| {
        terms.remarks(on).into_iter().map(|remark| remark.rule).collect::<Vec<_>>()
    };
    assert!(rules(&civil(refused()), date(2027, 1, 31)).is_empty());
    assert_eq!(rules(&civil(refused()), date(2027, 2, 1)), ["APPLICATION_IS_LATE"]);
    assert!(rules(&sound(), date(2030, 1, 1)).is_empty());
    let late = RetrialTerms { result: Some(RetrialResult::NotDecidedInTime), ..refused() };
    assert_eq!(rules(&civil(late), date(2025, 6, 1)), ["RETRIAL_REVIEW_NOT_OVER"]);
    assert!(rules(&civil(late), date(2025, 6, 2)).is_empty());
}

#[test]
fn every_limit_has_its_source_and_mark() {
    let limits: Limits = toml::from_str(include_str!("../../../data/appeal_referral.toml")).unwrap();
    for limit in limits.application.iter().chain(&limits.retrial_review) {
        assert!(!limit.source.is_empty() && ["C", "C2", "M"].contains(&limit.mark.as_str()));
    }
}

fn wrong(terms: OutcomeTerms) -> Vec<&'static str> {
    let mut violations = Violations::new();
    terms.check(&mut violations);
    violations.into_vec().into_iter().map(|found| found.rule).collect()
}

#[test]
fn what_goes_against_the_applicant_needs_reasons() {
    for outcome in Outcome::ALL {
        let has_transfer = *outcome == Outcome::Transferred;
        let terms = OutcomeTerms { outcome: Some(*outcome), has_reasons: true, has_transfer };
        assert!(wrong(terms).is_empty(), "{outcome}");
        let silent = wrong(OutcomeTerms { has_reasons: false, ..terms });
        assert_eq!(silent == ["REFUSAL_NEEDS_REASONS"], outcome.needs_reasons(), "{outcome}");
        assert_eq!(wrong(OutcomeTerms { has_transfer: !has_transfer, ..terms }), ["ORGAN_WITH_TRANSFER"]);
    }
}

fn unfit(outcome: Outcome, direction: Direction, track: Track, accepted: bool) -> Option<&'static str> {
    let mut violations = Violations::new();
    check_outcome(outcome, Some(direction), Some(track), accepted, &mut violations);
    violations.into_vec().pop().map(|found| found.rule)
}

#[test]
fn acceptance_comes_first_and_once() {
    let said =
        |outcome, accepted| unfit(outcome, Direction::CentreToProcuratorate, Track::CivilJudgment, accepted);
    assert_eq!(said(Outcome::Accepted, false), None);
    assert_eq!(said(Outcome::Accepted, true), Some("ACCEPTED_ONCE"));
    assert_eq!(said(Outcome::NotAccepted, false), None);
    assert_eq!(said(Outcome::NotAccepted, true), Some("NOT_AFTER_ACCEPTANCE"));
    assert_eq!(said(Outcome::Transferred, true), Some("NOT_AFTER_ACCEPTANCE"));
    assert_eq!(said(Outcome::Protest, true), None);
    assert_eq!(said(Outcome::Protest, false), Some("ACCEPTANCE_FIRST"));
}

#[test]
fn an_outcome_is_one_that_the_recipient_and_the_track_can_have() {
    use Direction::{CentreToProcuratorate, ProcuratorateToCentre};
    let said = |outcome, direction| unfit(outcome, direction, Track::CivilJudgment, true);
    assert_eq!(said(Outcome::Protest, ProcuratorateToCentre), Some("OUTCOME_FITS_DIRECTION"));
    assert_eq!(said(Outcome::AidGranted, CentreToProcuratorate), Some("OUTCOME_FITS_DIRECTION"));
    assert_eq!(said(Outcome::AidGranted, ProcuratorateToCentre), None);
    assert_eq!(said(Outcome::Settled, ProcuratorateToCentre), None);
    let supported = Outcome::ProsecutionSupported;
    assert_eq!(said(supported, CentreToProcuratorate), Some("OUTCOME_FITS_TRACK"));
    let on_track = unfit(supported, CentreToProcuratorate, Track::SupportOfProsecution, true);
    assert_eq!(on_track, None);
}

#[test]
fn each_direction_is_a_way_of_the_kind() {
    for direction in Direction::ALL {
        assert!(direction.route().is_some(), "{direction}");
    }
}
