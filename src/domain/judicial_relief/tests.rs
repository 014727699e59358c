use jiff::civil::date;

use super::*;

fn sound() -> ReliefTerms {
    ReliefTerms {
        court: CreditCode::parse("11331004MB00000031").ok(),
        stage: Some(Stage::Trial),
        real_loss: Some(Fen::yuan(50_000)),
        compensation: Some(Fen::yuan(20_000)),
        asked: Some(Fen::yuan(30_000)),
        members: Some(4),
        workers: Some(4),
        prior: PriorTerms { received: Some(false), ..PriorTerms::default() },
        ..ReliefTerms::default()
    }
}

fn prior() -> PriorTerms {
    let received = PriorTerms { received: Some(true), same_case: Some(false), ..PriorTerms::default() };
    PriorTerms { has_organ: true, has_day: true, has_sum: true, ..received }
}

fn broken(terms: &ReliefTerms) -> Vec<(String, &'static str)> {
    let mut violations = Violations::new();
    terms.check(terms.court.as_ref(), &mut violations);
    violations.into_vec().into_iter().map(|found| (found.field, found.rule)).collect()
}

fn assert_breaks(terms: &ReliefTerms, field: &str, rule: &'static str) {
    assert_eq!(broken(terms), [(field.to_owned(), rule)]);
}

#[test]
fn a_sound_request_breaks_no_rule() {
    assert_eq!(broken(&sound()), []);
    assert_eq!(broken(&ReliefTerms { prior: prior(), ..sound() }), []);
    assert_eq!(broken(&ReliefTerms::default()), []);
}

#[test]
fn a_sum_is_at_most_the_open_loss() {
    let one_more = Fen::new(3_000_001);
    assert_breaks(&ReliefTerms { asked: one_more, ..sound() }, "sum_asked_fen", "SUM_WITHIN_OPEN_LOSS");
    let made_good = ReliefTerms { compensation: Some(Fen::yuan(60_000)), ..sound() };
    assert_breaks(&made_good, "sum_asked_fen", "SUM_WITHIN_OPEN_LOSS");
}

#[test]
fn a_sum_is_above_zero() {
    assert_eq!(broken(&ReliefTerms { asked: Fen::new(1), ..sound() }), []);
    assert_breaks(&ReliefTerms { asked: Some(Fen::ZERO), ..sound() }, "sum_asked_fen", "SUM_ABOVE_ZERO");
}

#[test]
fn workers_are_members() {
    let terms = ReliefTerms { workers: Some(5), ..sound() };
    assert_breaks(&terms, "household.workers", "WORKERS_ARE_MEMBERS");
}

#[test]
fn the_court_of_the_case_gives_relief() {
    let mut violations = Violations::new();
    let other = CreditCode::parse("12331004MB0000002T").unwrap();
    sound().check(Some(&other), &mut violations);
    assert_eq!(violations.as_slice()[0].rule, "COURT_IS_THE_RECIPIENT");
    assert_eq!(violations.as_slice()[0].article, Some(opinions("2")));
}

#[test]
fn relief_is_given_once_for_a_case_and_elsewhere_it_is_declared_in_full() {
    // Whether it was relief for the same case is the court's to find: a machine does not refuse.
    let again = ReliefTerms { prior: PriorTerms { same_case: Some(true), ..prior() }, ..sound() };
    assert_eq!(broken(&again), []);
    assert_eq!(again.remarks(None, date(2026, 3, 2))[0].rule, "ONCE_PER_CASE_AND_APPLICANT");
    let partial = PriorTerms { has_organ: false, ..prior() };
    let rule = "DECLARED_WITH_PRIOR_RELIEF";
    assert_breaks(&ReliefTerms { prior: partial, ..sound() }, "prior_relief.organ", rule);
    let denied = PriorTerms { has_sum: true, ..sound().prior };
    assert_breaks(&ReliefTerms { prior: denied, ..sound() }, "prior_relief.sum_fen", rule);
}

#[test]
fn each_stage_has_its_paper_and_no_other() {
    let in_stage = |stage, has_termination, has_undertaking| {
        broken(&ReliefTerms { stage: Some(stage), has_termination, has_undertaking, ..sound() })
    };
    assert_eq!(in_stage(Stage::Enforcement, true, false), []);
    assert_eq!(in_stage(Stage::Petition, false, true), []);
    let required = |field: &str| vec![(field.to_owned(), "REQUIRED")];
    assert_eq!(in_stage(Stage::Enforcement, false, false), required("enforcement_termination"));
    assert_eq!(in_stage(Stage::Petition, false, false), required("undertaking"));
    let misplaced = in_stage(Stage::Trial, true, true);
    assert_eq!(misplaced[0], ("enforcement_termination".to_owned(), "ONLY_IN_ENFORCEMENT"));
    assert_eq!(misplaced[1], ("undertaking".to_owned(), "ONLY_IN_PETITION"));
}

#[test]
fn a_sum_above_the_cap_of_its_day_is_remarked_with_the_figure() {
    let luqiao = RegionCode::parse("331004").ok();
    // 36 months of 128,825 yuan a year in 2023; of 133,045 yuan a year from 2024 on.
    for (cap, on) in [(38_647_500, date(2023, 12, 31)), (39_913_500, date(2024, 1, 1))] {
        let remarks = |asked| ReliefTerms { asked: Fen::new(asked), ..sound() }.remarks(luqiao, on);
        assert!(remarks(cap).is_empty());
        let above = remarks(cap + 1);
        assert_eq!(above[0].rule, "ABOVE_THE_USUAL_CAP");
        let figure = Fen::new(cap).unwrap().to_string();
        assert!(above[0].description.contains(&figure), "{}", above[0].description);
    }
    let elsewhere = RegionCode::parse("110000").ok();
    let much = ReliefTerms { asked: Some(Fen::yuan(9_000_000)), ..sound() };
    assert!(much.remarks(elsewhere, date(2024, 1, 1)).is_empty());
    assert!(much.remarks(luqiao, date(2013, 1, 1)).is_empty());
}

#[test]
fn every_figure_has_its_source_and_mark() {
    let figures: Figures = toml::from_str(include_str!("../../../data/judicial_relief.toml")).unwrap();
    let sources = figures.cap.iter().map(|cap| (&cap.source, &cap.mark));
    let sources = sources.chain(figures.wage.iter().map(|wage| (&wage.source, &wage.mark)));
    for (source, mark) in sources {
        assert!(!source.is_empty() && ["C", "C2", "M"].contains(&mark.as_str()), "{source}");
    }
}

fn granted() -> DecisionTerms {
    DecisionTerms {
        outcome: Some(Outcome::Granted),
        has_granted: true,
        granted: Some(Fen::yuan(10_000)),
        basis_year: Some(2025),
        decided_on: Some(date(2026, 3, 1)),
        has_payment: true,
        paid_on: Some(date(2026, 3, 1)),
        ..DecisionTerms::default()
    }
}

fn broken_by(terms: &DecisionTerms) -> Vec<&'static str> {
    let mut violations = Violations::new();
    terms.check(&mut violations);
    violations.into_vec().into_iter().map(|found| found.rule).collect()
}

#[test]
fn a_decision_says_all_that_goes_with_its_outcome_and_nothing_else() {
    let refused = DecisionTerms { outcome: Some(Outcome::Refused), has_reasons: true, ..Default::default() };
    assert!(broken_by(&granted()).is_empty());
    assert!(broken_by(&refused).is_empty());
    let silent = DecisionTerms { has_reasons: false, ..refused.clone() };
    assert_eq!(broken_by(&silent), ["REFUSAL_NEEDS_REASONS"]);
    let without = DecisionTerms { has_granted: false, granted: None, basis_year: None, ..granted() };
    assert_eq!(broken_by(&without), ["SUM_WITH_GRANT", "BASIS_YEAR_WITH_GRANT"]);
    assert_eq!(broken_by(&DecisionTerms { granted: Some(Fen::ZERO), ..granted() }), ["SUM_WITH_GRANT"]);
    let paid = DecisionTerms { has_payment: true, ..refused };
    assert_eq!(broken_by(&paid), ["PAID_ONLY_WHEN_GRANTED"]);
}

#[test]
fn the_basis_year_is_past_and_payment_follows_the_decision() {
    let year = DecisionTerms { basis_year: Some(2026), ..granted() };
    assert_eq!(broken_by(&year), ["BASIS_YEAR_BEFORE_THE_DECISION"]);
    let early = DecisionTerms { paid_on: Some(date(2026, 2, 28)), ..granted() };
    assert_eq!(broken_by(&early), ["NOT_BEFORE_THE_DECISION"]);
}

#[test]
fn no_more_is_granted_than_was_asked() {
    for (granted, fits) in [(100, true), (101, false)] {
        let mut violations = Violations::new();
        check_granted(Fen::yuan(granted), Fen::yuan(100), &mut violations);
        assert_eq!(violations.is_empty(), fits, "{granted}");
    }
}
