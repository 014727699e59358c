use std::num::NonZeroU32;

use jiff::Span;
use jiff::civil::Date;
use proptest::prelude::*;

use super::*;
use crate::domain::eligibility::{DeclaredIncome, Matter, RuleSets, Urgency};
use crate::domain::money::Fen;
use crate::domain::person::Group;
use crate::domain::region::RegionCode;

/// Luqiao's line is 2,400 yuan from 2025-07-01, and 2,200 before.
fn case() -> Case {
    Case {
        region: RegionCode::parse("331004").unwrap(),
        applied_on: Date::constant(2025, 7, 1),
        matter: Matter::TrafficInjury,
        review: None,
        urgency: None,
        groups: Vec::new(),
        programmes: Vec::new(),
        income: None,
    }
}

fn clocks() -> Clocks {
    Clocks::built_in().unwrap()
}

fn sets() -> RuleSets {
    RuleSets::load([]).unwrap()
}

fn assessed_with(case: &Case, registers: &[(Programme, Standing)]) -> Assessment {
    assess(case, &sets().in_force(case.region, case.applied_on), &Registers(registers.to_vec()), &clocks())
}

fn assessed(case: &Case) -> Assessment {
    assessed_with(case, &[])
}

fn outcome(case: &Case) -> Outcome {
    assessed(case).outcome
}

fn to_ask(case: &Case) -> Vec<Programme> {
    programmes_to_ask(case, &sets().in_force(case.region, case.applied_on))
}

fn income(fen: i64, members: u32) -> Option<DeclaredIncome> {
    Some(DeclaredIncome { monthly: Fen::new(fen).unwrap(), members: NonZeroU32::new(members).unwrap() })
}

fn claim(group: Group, is_proven: bool) -> GroupClaim {
    GroupClaim { group, is_proven, has_no_fixed_livelihood: true }
}

#[test]
fn hardship_plays_no_part_in_the_matters_of_article_32() {
    for matter in Matter::ALL {
        let found = outcome(&Case { matter: *matter, ..case() });
        assert_eq!(found == Outcome::NoMeansTest, matter.is_free_of_limit(), "{matter}");
    }
    assert_eq!(outcome(&Case { matter: Matter::Other, ..case() }), Outcome::ReferToPerson);
}

#[test]
fn against_an_effective_judgment_aid_waits_for_the_retrial_or_the_protest() {
    let reviewed = |review| outcome(&Case { review: Some(review), income: income(0, 1), ..case() });
    assert_eq!(reviewed(Review::RetrialOrdered), Outcome::WithinLine);
    assert_eq!(reviewed(Review::Protested), Outcome::WithinLine);
    assert_eq!(reviewed(Review::Neither), Outcome::ReferToPerson);
}

#[test]
fn less_than_seven_days_to_a_deadline_is_urgent_and_seven_are_not() {
    let ending = |day| {
        let urgency = Urgency { ground: UrgentGround::Deadline, ends_on: Some(Date::constant(2025, 7, day)) };
        outcome(&Case { urgency: Some(urgency), ..case() })
    };
    assert_eq!(ending(1), Outcome::Provisional, "today");
    assert_eq!(ending(7), Outcome::Provisional, "six days left");
    assert_eq!(ending(8), Outcome::UndertakingNeeded, "seven days left");
    let past = Urgency { ground: UrgentGround::Deadline, ends_on: Some(Date::constant(2025, 6, 30)) };
    assert_eq!(outcome(&Case { urgency: Some(past), ..case() }), Outcome::UndertakingNeeded);
    let at_once = Urgency { ground: UrgentGround::Preservation, ends_on: None };
    let assessment = assessed(&Case { urgency: Some(at_once), ..case() });
    assert_eq!(assessment.outcome, Outcome::Provisional);
    assert_eq!((assessment.due[0].code, assessment.due[0].by), ("PAPERS", None), "promptly, says the law");
}

#[test]
fn a_proven_group_is_not_checked_and_an_unproven_one_leads_on() {
    let of = |group, is_proven| outcome(&Case { groups: vec![claim(group, is_proven)], ..case() });
    assert_eq!(of(Group::Disabled, true), Outcome::NoMeansTest);
    assert_eq!(of(Group::Disabled, false), Outcome::UndertakingNeeded);
    assert_eq!(of(Group::SpecialCare, true), Outcome::NoMeansTest);
    assert_eq!(of(Group::Woman, true), Outcome::UndertakingNeeded, "a group without a rule");
    let settled = GroupClaim { has_no_fixed_livelihood: false, ..claim(Group::Elderly, true) };
    assert_eq!(outcome(&Case { groups: vec![settled], ..case() }), Outcome::UndertakingNeeded);
}

#[test]
fn migrant_workers_are_exempt_for_pay_and_injury_at_work_only() {
    let of = |matter| outcome(&Case { matter, groups: vec![claim(Group::MigrantWorker, true)], ..case() });
    assert_eq!(of(Matter::LabourPay), Outcome::NoMeansTest);
    assert_eq!(of(Matter::WorkInjury), Outcome::NoMeansTest);
    assert_eq!(of(Matter::LabourRelation), Outcome::UndertakingNeeded);
}

#[test]
fn a_green_channel_is_the_regions_own_and_lets_papers_follow() {
    let laid_off = Case { groups: vec![claim(Group::LaidOffWorker, false)], ..case() };
    assert_eq!(outcome(&laid_off), Outcome::Provisional);
    let elsewhere = Case { region: RegionCode::parse("110105").unwrap(), ..laid_off.clone() };
    assert_eq!(outcome(&elsewhere), Outcome::UndertakingNeeded);
    let proven = Case { groups: vec![claim(Group::LaidOffWorker, true)], ..laid_off };
    assert_eq!(outcome(&proven), Outcome::NoMeansTest);
}

#[test]
fn a_register_is_asked_only_where_a_claim_needs_it_and_nothing_else_decides() {
    let claiming = Case { programmes: vec![Programme::MinimumAllowance], ..case() };
    assert_eq!(to_ask(&claiming), [Programme::MinimumAllowance]);
    assert!(to_ask(&case()).is_empty(), "nothing is claimed");
    let free = Case { matter: Matter::Bravery, ..claiming.clone() };
    assert!(to_ask(&free).is_empty(), "hardship plays no part");
    let proven = Case { groups: vec![claim(Group::Destitute, true)], ..claiming };
    assert!(to_ask(&proven).is_empty(), "a proof decides");
    let unproven = Case { groups: vec![claim(Group::Destitute, false)], ..case() };
    assert_eq!(to_ask(&unproven), [Programme::Destitute], "a claimed group names its programme");
    let edge = Case { programmes: vec![Programme::AllowanceEdge], ..case() };
    assert_eq!(to_ask(&edge), [Programme::AllowanceEdge]);
    let elsewhere = Case { region: RegionCode::parse("110105").unwrap(), ..edge };
    assert!(to_ask(&elsewhere).is_empty(), "it qualifies in Zhejiang, not there");
}

#[test]
fn what_a_register_says_passports_or_leads_on_and_never_refuses() {
    let case = Case { programmes: vec![Programme::Destitute], ..case() };
    let said = |standing| assessed_with(&case, &[(Programme::Destitute, standing)]);
    assert_eq!(said(Standing::Active).outcome, Outcome::Passported);
    for standing in [Standing::NotActive, Standing::Unknown] {
        let within = Case { income: income(240_000, 1), ..case.clone() };
        assert_eq!(said(standing).outcome, Outcome::UndertakingNeeded);
        let assessment = assessed_with(&within, &[(Programme::Destitute, standing)]);
        assert_eq!(assessment.outcome, Outcome::WithinLine, "{standing}");
    }
    let unknown = said(Standing::Unknown);
    let tried = unknown.tried.iter().find(|tried| tried.rule == "programme/destitute").unwrap();
    assert_eq!(tried.verdict, Verdict::Unknown);
    assert!(tried.would_change.is_some());
}

#[test]
fn income_at_the_line_is_within_and_a_fen_above_is_not() {
    let of = |fen, members| outcome(&Case { income: income(fen, members), ..case() });
    assert_eq!(of(240_000, 1), Outcome::WithinLine);
    assert_eq!(of(240_001, 1), Outcome::ReferToPerson);
    assert_eq!(of(720_000, 3), Outcome::WithinLine);
    assert_eq!(of(720_001, 3), Outcome::ReferToPerson, "a third of a fen per head above");
}

#[test]
fn the_line_is_that_of_the_day_of_application() {
    let on = |day, fen| outcome(&Case { applied_on: day, income: income(fen, 1), ..case() });
    let (before, first) = (Date::constant(2025, 6, 30), Date::constant(2025, 7, 1));
    assert_eq!(on(before, 220_000), Outcome::WithinLine);
    assert_eq!(on(before, 220_001), Outcome::ReferToPerson);
    assert_eq!(on(first, 220_001), Outcome::WithinLine);
    let example = |day, fen| {
        let region = RegionCode::parse("360426").unwrap();
        outcome(&Case { region, applied_on: day, income: income(fen, 1), ..case() })
    };
    let (last, new) = (Date::constant(2023, 12, 31), Date::constant(2024, 1, 1));
    assert_eq!(example(last, 173_000), Outcome::WithinLine);
    assert_eq!(example(last, 173_001), Outcome::ReferToPerson);
    assert_eq!(example(new, 180_000), Outcome::WithinLine);
    assert_eq!(example(new, 180_001), Outcome::ReferToPerson);
    let unknown = Date::constant(2024, 6, 30);
    assert_eq!(on(unknown, 0), Outcome::UndertakingNeeded, "no figure: an undertaking can establish it");
}

#[test]
fn every_rule_names_its_article_and_what_would_change_it() {
    let case = Case {
        programmes: vec![Programme::Destitute],
        groups: vec![claim(Group::Disabled, false)],
        income: income(1_000_000, 1),
        ..case()
    };
    let assessment = assessed(&case);
    let rules: Vec<_> = assessment.tried.iter().map(|tried| tried.rule.as_str()).collect();
    let expected =
        ["matter", "urgency", "exempt-group/42-1", "programme/destitute", "income-line", "undertaking"];
    assert_eq!(rules, expected);
    for tried in &assessment.tried {
        assert!(tried.article.starts_with("法律援助法 art "), "{tried:?}");
        assert_eq!(tried.would_change.is_none(), tried.verdict == Verdict::Met, "{tried:?}");
        assert!(!tried.inputs.is_empty());
    }
    assert_eq!(assessment.due.last().unwrap().by, Some(Date::constant(2025, 7, 10)));
    assert!(!format!("{assessment:?}").contains("1000000"), "values stay out of Debug");
}

#[test]
fn a_person_looks_before_a_deadline_that_comes_before_the_decision() {
    let referred = |day| {
        let ends_on = Some(Date::constant(2025, 7, day));
        let urgency = Some(Urgency { ground: UrgentGround::Deadline, ends_on });
        let assessment = assessed(&Case { urgency, matter: Matter::Other, ..case() });
        assert_eq!(assessment.outcome, Outcome::ReferToPerson);
        (assessment.due[0].code, assessment.due[0].by.unwrap())
    };
    assert_eq!(referred(3), ("PERSON", Date::constant(2025, 7, 3)));
    assert_eq!(referred(20), ("PERSON", Date::constant(2025, 7, 10)));
}

#[test]
fn the_decision_is_due_by_the_regions_own_clock_and_never_on_a_holiday() {
    let decided_by = |region, applied_on| {
        let region = RegionCode::parse(region).unwrap();
        assessed(&Case { region, applied_on, ..case() }).due.last().unwrap().by.unwrap()
    };
    let (july, before_holidays) = (Date::constant(2025, 7, 1), Date::constant(2025, 9, 25));
    assert_eq!(decided_by("110105", july), Date::constant(2025, 7, 8), "seven days");
    assert_eq!(decided_by("331004", july), Date::constant(2025, 7, 10), "seven working days");
    assert_eq!(decided_by("310101", july), Date::constant(2025, 7, 15), "ten working days");
    assert_eq!(decided_by("110105", before_holidays), Date::constant(2025, 10, 9), "after the holidays");
}

fn any_case() -> impl Strategy<Value = Case> {
    let day = (0..2_000_i32)
        .prop_map(|days| Date::constant(2021, 6, 1).checked_add(Span::new().days(days)).unwrap());
    let urgency = proptest::option::of(
        (proptest::sample::select(UrgentGround::ALL), proptest::option::of(day.clone()))
            .prop_map(|(ground, ends_on)| Urgency { ground, ends_on }),
    );
    let group = (proptest::sample::select(Group::ALL), any::<bool>(), any::<bool>()).prop_map(
        |(group, is_proven, has_no_fixed_livelihood)| GroupClaim {
            group,
            is_proven,
            has_no_fixed_livelihood,
        },
    );
    let region = proptest::sample::select(vec!["331004", "331002", "360426", "110105", "330000"]);
    (
        (region, day, proptest::sample::select(Matter::ALL)),
        proptest::option::of(proptest::sample::select(Review::ALL)),
        urgency,
        proptest::collection::vec(group, 0..3),
        proptest::collection::vec(proptest::sample::select(Programme::ALL), 0..3),
    )
        .prop_map(|((region, applied_on, matter), review, urgency, groups, programmes)| Case {
            region: RegionCode::parse(region).unwrap(),
            applied_on,
            matter,
            review,
            urgency,
            groups,
            programmes,
            income: None,
        })
}

fn any_standings() -> impl Strategy<Value = Vec<(Programme, Standing)>> {
    let one = (proptest::sample::select(Programme::ALL), proptest::sample::select(Standing::ALL));
    proptest::collection::vec(one, 0..4)
}

proptest! {
    #[test]
    fn more_income_never_improves_the_outcome(
        case in any_case(), standings in any_standings(), fen in 0..2_000_000_i64, more in 1..2_000_000_i64, members in 1..9_u32,
    ) {
        let less = assessed_with(&Case { income: income(fen, members), ..case.clone() }, &standings);
        let richer = assessed_with(&Case { income: income(fen + more, members), ..case }, &standings);
        // Outcomes are declared from the best to the least.
        prop_assert!(less.outcome <= richer.outcome, "{} {}", less.outcome, richer.outcome);
    }

    #[test]
    fn whatever_is_claimed_the_outcome_has_its_reasons(
        case in any_case(), standings in any_standings(), fen in proptest::option::of(0..=i64::MAX), members in 1..=u32::MAX,
    ) {
        let case = Case { income: fen.and_then(|fen| income(fen, members)), ..case };
        let assessment = assessed_with(&case, &standings);
        prop_assert!(Outcome::ALL.contains(&assessment.outcome));
        prop_assert!(!assessment.outcome.as_str().contains("REFUSE"));
        prop_assert!(!assessment.tried.is_empty() && !assessment.due.is_empty());
        let grants = matches!(assessment.outcome, Outcome::NoMeansTest | Outcome::Passported | Outcome::WithinLine | Outcome::Provisional);
        let decides = |tried: &Tried| tried.verdict == Verdict::Met && !["matter", "review"].contains(&tried.rule.as_str());
        let is_met = assessment.tried.iter().any(decides);
        let waits = case.review == Some(Review::Neither);
        prop_assert_eq!(grants, is_met || (case.matter.is_free_of_limit() && !waits));
    }

    #[test]
    fn a_register_that_answers_never_makes_it_worse(case in any_case(), standings in any_standings()) {
        let silent = assessed_with(&case, &[]);
        let answered = assessed_with(&case, &standings);
        prop_assert!(answered.outcome <= silent.outcome);
    }
}
