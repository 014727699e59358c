//! Fee-waiver requests and decisions.

use jiff::civil::Date;

use super::content::{Read, Surroundings};
use super::envelope::mandatory;
use super::person::{person, region_remark};
use super::time::{optional_date, past_date, past_instant, shanghai_day};
use super::{digest, fen, length, text, word};
use crate::domain::agency::CreditCode;
use crate::domain::case_number::CaseNumber;
use crate::domain::court_fee::ClaimKind;
use crate::domain::fee_waiver::{
    ApplicantKind, DecisionTerms, FeeWaiverTerms, Ground, Outcome, Relief, check_payable,
};
use crate::domain::money::Fen;
use crate::domain::violation::Violations;
use crate::grpc::proto;

/// Reads a request and checks every rule on what could be read, so that the clerk sees everything at once.
/// `field` paths are relative to the fee waiver.
pub(super) fn fee_waiver_request(
    violations: &mut Violations,
    value: &proto::FeeWaiverRequest,
    Surroundings { recipient, now, .. }: Surroundings,
) -> Read {
    let today = shanghai_day(now);
    let applicant = violations
        .require("applicant", value.applicant.as_ref())
        .and_then(|applicant| violations.within("applicant", |v| person(v, applicant, today)));
    let applicant_kind = word(violations, "applicant_kind", value.applicant_kind, applicant_kind);
    let case = violations
        .require("court_case", value.court_case.as_ref())
        .map(|case| violations.within("court_case", |v| court_case(v, case, today)))
        .unwrap_or_default();
    let claim_kind = word(violations, "claim_kind", value.claim_kind, claim_kind);
    let claimed_sum = value.claimed_sum_fen.and_then(|sum| fen(violations, "claimed_sum_fen", sum));
    let fee = violations.require("fee_fen", value.fee_fen).and_then(|sum| fen(violations, "fee_fen", sum));
    let relief = word(violations, "relief", value.relief, relief);
    let ground = word(violations, "ground", value.ground, ground);
    if let Some(decision) = &value.aid_decision {
        violations.within("aid_decision", |v| aid_decision(v, decision, today));
    }
    if let Some(proof) = &value.hardship_proof {
        violations.within("hardship_proof", |v| hardship_proof(v, proof, today));
    }
    text(violations, "reason", &value.reason, 1, 2000);
    let filed_at = past_instant(violations, "filed_at", value.filed_at.as_ref(), now);
    let terms = FeeWaiverTerms {
        applicant_kind,
        claim_kind,
        has_claimed_sum: value.claimed_sum_fen.is_some(),
        claimed_sum,
        fee,
        relief,
        reduction_permille: value.reduction_permille,
        ground,
        has_aid_decision: value.aid_decision.is_some(),
        has_hardship_proof: value.hardship_proof.is_some(),
        filed_on: filed_at.map(shanghai_day),
        ..case
    };
    terms.check(recipient.as_ref(), violations);
    let subject = applicant.map(|person| person.id);
    let mut remarks = terms.remarks();
    remarks.extend(region_remark("applicant.id_number", subject.as_ref()));
    Read { subject, remarks, ..Read::default() }
}

fn court_case(violations: &mut Violations, value: &proto::CourtCase, today: Date) -> FeeWaiverTerms {
    let court = mandatory(violations, "court", &value.court, CreditCode::parse);
    if !value.case_number.is_empty() {
        violations.check("case_number", CaseNumber::parse(&value.case_number));
    }
    text(violations, "cause_of_action", &value.cause_of_action, 2, 100);
    let instance = word(violations, "instance", value.instance, |instance: proto::Instance| {
        (instance != proto::Instance::Unspecified).then_some(instance)
    });
    let _: Option<()> = word(violations, "role", value.role, |role: proto::PartyRole| {
        (role != proto::PartyRole::Unspecified).then_some(())
    });
    let mut past =
        |field, value: Option<&_>| value.and_then(|day| past_date(violations, field, Some(day), today));
    let docketed_on = past("docketed_on", value.docketed_on.as_ref());
    let appealed_on = past("appealed_on", value.appealed_on.as_ref());
    FeeWaiverTerms {
        court,
        has_case_number: !value.case_number.is_empty(),
        second_instance: instance == Some(proto::Instance::Second),
        has_docketing: value.docketed_on.is_some(),
        docketed_on,
        has_appeal: value.appealed_on.is_some(),
        appealed_on,
        ..FeeWaiverTerms::default()
    }
}

/// Reads a decision to give aid; its centre is handed back. `field` paths are relative to it.
pub(super) fn aid_decision(
    violations: &mut Violations,
    value: &proto::AidDecision,
    today: Date,
) -> Option<CreditCode> {
    let centre = mandatory(violations, "centre", &value.centre, CreditCode::parse);
    text(violations, "number", &value.number, 1, 64);
    past_date(violations, "decided_on", value.decided_on.as_ref(), today);
    digest(violations, "document_sha256", &value.document_sha256);
    centre
}

fn hardship_proof(violations: &mut Violations, value: &proto::HardshipProof, today: Date) {
    text(violations, "issuer", &value.issuer, 2, 100);
    past_date(violations, "issued_on", value.issued_on.as_ref(), today);
    digest(violations, "document_sha256", &value.document_sha256);
}

/// Reads a decision; `field` paths are relative to it.
pub(super) fn fee_waiver_decision(
    violations: &mut Violations,
    value: &proto::FeeWaiverDecision,
    today: Date,
) {
    let outcome = word(violations, "outcome", value.outcome, outcome);
    if let Some(sum) = value.payable_fen {
        fen(violations, "payable_fen", sum);
    }
    let deferred_until = optional_date(violations, "deferred_until", value.deferred_until.as_ref());
    text(violations, "notice_number", &value.notice_number, 1, 64);
    length(violations, "reasons", &value.reasons, 0, 4000);
    violations.require("hardship_rereviewed", value.hardship_rereviewed);
    length(violations, "final_allocation", &value.final_allocation, 0, 2000);
    let decided_on = past_date(violations, "decided_on", value.decided_on.as_ref(), today);
    let terms = DecisionTerms {
        outcome,
        has_payable: value.payable_fen.is_some(),
        has_deferral: value.deferred_until.is_some(),
        deferred_until,
        has_reasons: !value.reasons.trim().is_empty(),
        decided_on,
    };
    terms.check(violations);
}

/// Checks a decision against what was asked; `field` paths are relative to the decision.
pub(super) fn fee_waiver_decision_fits(
    violations: &mut Violations,
    decided: &proto::FeeWaiverDecision,
    asked: &proto::FeeWaiverRequest,
) {
    let (fee, payable) = (asked.fee_fen.and_then(Fen::new), decided.payable_fen.and_then(Fen::new));
    if let (Some(fee), Some(payable)) = (fee, payable) {
        check_payable(payable, fee, violations);
    }
}

fn applicant_kind(value: proto::ApplicantKind) -> Option<ApplicantKind> {
    match value {
        proto::ApplicantKind::Unspecified => None,
        proto::ApplicantKind::NaturalPerson => Some(ApplicantKind::NaturalPerson),
        proto::ApplicantKind::LegalPerson => Some(ApplicantKind::LegalPerson),
        proto::ApplicantKind::WelfareBody => Some(ApplicantKind::WelfareBody),
    }
}

fn claim_kind(value: proto::ClaimKind) -> Option<ClaimKind> {
    match value {
        proto::ClaimKind::Unspecified => None,
        proto::ClaimKind::Property => Some(ClaimKind::Property),
        proto::ClaimKind::NonProperty => Some(ClaimKind::NonProperty),
        proto::ClaimKind::Labour => Some(ClaimKind::Labour),
        proto::ClaimKind::Administrative => Some(ClaimKind::Administrative),
        proto::ClaimKind::AdministrativeSpecial => Some(ClaimKind::IntellectualPropertyAdministrative),
        proto::ClaimKind::Other => Some(ClaimKind::Other),
    }
}

fn relief(value: proto::Relief) -> Option<Relief> {
    match value {
        proto::Relief::Unspecified => None,
        proto::Relief::Defer => Some(Relief::Defer),
        proto::Relief::Reduce => Some(Relief::Reduce),
        proto::Relief::Exempt => Some(Relief::Exempt),
    }
}

fn ground(value: proto::ReliefGround) -> Option<Ground> {
    match value {
        proto::ReliefGround::Unspecified => None,
        proto::ReliefGround::ReliefGround451 => Some(Ground::Disabled),
        proto::ReliefGround::ReliefGround452 => Some(Ground::Support),
        proto::ReliefGround::ReliefGround453 => Some(Ground::Allowance),
        proto::ReliefGround::ReliefGround454 => Some(Ground::Bravery),
        proto::ReliefGround::ReliefGround455 => Some(Ground::OtherExemption),
        proto::ReliefGround::ReliefGround461 => Some(Ground::Disaster),
        proto::ReliefGround::ReliefGround462 => Some(Ground::SpecialCare),
        proto::ReliefGround::ReliefGround463 => Some(Ground::WelfareBody),
        proto::ReliefGround::ReliefGround464 => Some(Ground::OtherReduction),
        proto::ReliefGround::ReliefGround471 => Some(Ground::SocialInsurance),
        proto::ReliefGround::ReliefGround472 => Some(Ground::InjuryVictim),
        proto::ReliefGround::ReliefGround473 => Some(Ground::LegalAid),
        proto::ReliefGround::ReliefGround474 => Some(Ground::OtherDeferral),
    }
}

fn outcome(value: proto::FeeWaiverOutcome) -> Option<Outcome> {
    match value {
        proto::FeeWaiverOutcome::Unspecified => None,
        proto::FeeWaiverOutcome::Deferred => Some(Outcome::Deferred),
        proto::FeeWaiverOutcome::Reduced => Some(Outcome::Reduced),
        proto::FeeWaiverOutcome::Exempted => Some(Outcome::Exempted),
        proto::FeeWaiverOutcome::Refused => Some(Outcome::Refused),
        proto::FeeWaiverOutcome::Withdrawn => Some(Outcome::Withdrawn),
    }
}
