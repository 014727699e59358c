//! Requests for judicial relief and decisions on them.

use jiff::civil::Date;

use super::content::{Read, Surroundings};
use super::envelope::mandatory;
use super::fee_waiver::aid_decision;
use super::person::{person, region_remark};
use super::time::{past_date, past_instant, shanghai_day};
use super::{digest, fen, length, text, word};
use crate::domain::agency::CreditCode;
use crate::domain::case_number::CaseNumber;
use crate::domain::judicial_relief::{
    DecisionTerms, MOST_MEMBERS, Outcome, PriorTerms, ReliefTerms, Stage, check_granted,
};
use crate::domain::money::Fen;
use crate::domain::violation::Violations;
use crate::grpc::proto;

/// Reads a request and checks every rule on what could be read. `field` paths are relative to it.
pub(super) fn judicial_relief_request(
    violations: &mut Violations,
    value: &proto::JudicialReliefRequest,
    Surroundings { recipient, region, now, .. }: Surroundings,
) -> Read {
    let today = shanghai_day(now);
    let applicant = violations
        .require("applicant", value.applicant.as_ref())
        .and_then(|applicant| violations.within("applicant", |v| person(v, applicant, today)));
    let _: Option<()> = word(violations, "relation_to_victim", value.relation_to_victim, relation);
    let court = violations
        .require("original_case", value.original_case.as_ref())
        .and_then(|case| violations.within("original_case", |v| relief_case(v, case)));
    let stage = word(violations, "stage", value.stage, stage);
    let _: Option<()> = word(violations, "ground", value.ground, |ground: proto::JudicialReliefGround| {
        (ground != proto::JudicialReliefGround::Unspecified).then_some(())
    });
    let mut sum = |field, value: Option<i64>| {
        violations.require(field, value).and_then(|sum| fen(violations, field, sum))
    };
    let real_loss = sum("real_loss_fen", value.real_loss_fen);
    let compensation = sum("compensation_fen", value.compensation_fen);
    let asked = sum("sum_asked_fen", value.sum_asked_fen);
    let (members, workers) = violations
        .require("household", value.household.as_ref())
        .map(|household| violations.within("household", |v| self::household(v, household)))
        .unwrap_or_default();
    let prior = violations
        .require("prior_relief", value.prior_relief.as_ref())
        .map(|prior| violations.within("prior_relief", |v| prior_relief(v, prior, today)))
        .unwrap_or_default();
    if let Some(ruling) = &value.enforcement_termination {
        violations.within("enforcement_termination", |v| {
            mandatory(v, "case_number", &ruling.case_number, CaseNumber::parse);
            past_date(v, "ruled_on", ruling.ruled_on.as_ref(), today);
            digest(v, "document_sha256", &ruling.document_sha256);
        });
    }
    if let Some(undertaking) = &value.undertaking {
        violations.within("undertaking", |v| {
            past_date(v, "signed_on", undertaking.signed_on.as_ref(), today);
            digest(v, "document_sha256", &undertaking.document_sha256);
        });
    }
    text(violations, "reason", &value.reason, 1, 2000);
    if let Some(decision) = &value.aid_decision {
        violations.within("aid_decision", |v| aid_decision(v, decision, today));
    }
    past_instant(violations, "filed_at", value.filed_at.as_ref(), now);
    let terms = ReliefTerms {
        court,
        stage,
        real_loss,
        compensation,
        asked,
        members,
        workers,
        prior,
        has_termination: value.enforcement_termination.is_some(),
        has_undertaking: value.undertaking.is_some(),
    };
    terms.check(recipient.as_ref(), violations);
    let subject = applicant.map(|person| person.id);
    let mut remarks = terms.remarks(region, today);
    remarks.extend(region_remark("applicant.id_number", subject.as_ref()));
    Read { subject, remarks, ..Read::default() }
}

/// The court of the case.
fn relief_case(violations: &mut Violations, value: &proto::ReliefCase) -> Option<CreditCode> {
    let court = mandatory(violations, "court", &value.court, CreditCode::parse);
    mandatory(violations, "case_number", &value.case_number, CaseNumber::parse);
    text(violations, "cause_of_action", &value.cause_of_action, 2, 100);
    court
}

/// Members, and those of them who can work.
fn household(violations: &mut Violations, value: &proto::ReliefHousehold) -> (Option<u32>, Option<u32>) {
    let members = violations.require("members", Some(value.members).filter(|members| *members > 0));
    if value.members > MOST_MEMBERS {
        violations.add(
            "members",
            "AT_MOST_50",
            format!("a household has at most {MOST_MEMBERS} members"),
            format!("家庭人口数不得超过{MOST_MEMBERS}"),
        );
    }
    let workers = violations.require("workers", value.workers);
    let income = violations.require("income_per_head_fen", value.income_per_head_fen);
    if let Some(income) = income {
        fen(violations, "income_per_head_fen", income);
    }
    (members, workers)
}

fn prior_relief(violations: &mut Violations, value: &proto::PriorRelief, today: Date) -> PriorTerms {
    let received = violations.require("received", value.received);
    if !value.organ.is_empty() {
        text(violations, "organ", &value.organ, 2, 100);
    }
    if let Some(day) = &value.granted_on {
        past_date(violations, "granted_on", Some(day), today);
    }
    if let Some(sum) = value.sum_fen {
        fen(violations, "sum_fen", sum);
    }
    PriorTerms {
        received,
        same_case: value.same_case,
        has_organ: !value.organ.is_empty(),
        has_day: value.granted_on.is_some(),
        has_sum: value.sum_fen.is_some(),
    }
}

/// Reads a decision; `field` paths are relative to it.
pub(super) fn judicial_relief_decision(
    violations: &mut Violations,
    value: &proto::JudicialReliefDecision,
    today: Date,
) {
    let outcome = word(violations, "outcome", value.outcome, outcome);
    let granted = value.granted_fen.and_then(|sum| fen(violations, "granted_fen", sum));
    text(violations, "document_number", &value.document_number, 1, 64);
    length(violations, "reasons", &value.reasons, 0, 4000);
    let decided_on = past_date(violations, "decided_on", value.decided_on.as_ref(), today);
    let paid_on = value.paid_on.as_ref().and_then(|day| past_date(violations, "paid_on", Some(day), today));
    let terms = DecisionTerms {
        outcome,
        has_granted: value.granted_fen.is_some(),
        granted,
        basis_year: value.wage_basis_year,
        has_reasons: !value.reasons.trim().is_empty(),
        decided_on,
        has_payment: value.paid_on.is_some(),
        paid_on,
    };
    terms.check(violations);
}

/// Checks a decision against what was asked; `field` paths are relative to the decision.
pub(super) fn judicial_relief_decision_fits(
    violations: &mut Violations,
    decided: &proto::JudicialReliefDecision,
    asked: &proto::JudicialReliefRequest,
) {
    let (granted, asked) = (decided.granted_fen.and_then(Fen::new), asked.sum_asked_fen.and_then(Fen::new));
    if let (Some(granted), Some(asked)) = (granted, asked) {
        check_granted(granted, asked, violations);
    }
}

fn relation(value: proto::Relation) -> Option<()> {
    (value != proto::Relation::Unspecified).then_some(())
}

fn stage(value: proto::ReliefStage) -> Option<Stage> {
    match value {
        proto::ReliefStage::Unspecified => None,
        proto::ReliefStage::Trial => Some(Stage::Trial),
        proto::ReliefStage::Enforcement => Some(Stage::Enforcement),
        proto::ReliefStage::Petition => Some(Stage::Petition),
    }
}

fn outcome(value: proto::JudicialReliefOutcome) -> Option<Outcome> {
    match value {
        proto::JudicialReliefOutcome::Unspecified => None,
        proto::JudicialReliefOutcome::Granted => Some(Outcome::Granted),
        proto::JudicialReliefOutcome::Refused => Some(Outcome::Refused),
        proto::JudicialReliefOutcome::Withdrawn => Some(Outcome::Withdrawn),
    }
}
