//! What a simulated agency decides: one small function a kind.

use jiff::ToSpan as _;
use jiff::civil::Date;

use crate::domain::exchange::Kind;
use crate::grpc::proto;
use crate::grpc::proto::content::Kind as Asked;
use crate::grpc::proto::response::Kind as Arm;
use crate::grpc::wire::date;

/// How long a deferred fee need not be paid, in days.
const DEFERRAL_DAYS: i64 = 60;

/// What the script wants of a decision.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict<'s> {
    /// The outcome by name; the kind's usual one where there is none.
    pub(super) outcome: Option<&'s str>,
    /// Reasons of a refusal.
    pub(super) refused: Option<&'s str>,
    /// Whether hardship was reviewed again.
    pub(super) rereviewed: bool,
    /// Whether the matter was accepted before.
    pub(super) accepted: bool,
}

/// Reasons where the outcome needs some and the script gives none.
const USUAL_REASONS: &str = "经审查，不符合条件";

/// Whether a simulated agency decides on the kind.
pub(super) fn decides(kind: Kind) -> bool {
    !matches!(kind, Kind::LowIncomeQuery | Kind::PovertyHouseholdQuery)
}

/// Whether a decision on the kind can refuse. A centre that is told to assign a lawyer assigns one (法律援助法 art 36).
pub(super) fn refuses(kind: Kind) -> bool {
    decides(kind) && kind != Kind::CounselNotice
}

/// Whether the kind has an outcome of this name.
pub(super) fn knows(kind: Kind, outcome: &str) -> bool {
    outcome != "UNSPECIFIED"
        && match kind {
            Kind::FeeWaiver => fee_waiver_outcome(outcome).is_some(),
            Kind::JudicialRelief => judicial_relief_outcome(outcome).is_some(),
            Kind::AppealReferral => appeal_result(outcome).is_some(),
            Kind::DirectAssignmentReport => direct_assignment_outcome(outcome).is_some(),
            Kind::CooperationRequest => cooperation_outcome(outcome).is_some(),
            _ => false,
        }
}

/// The decision on what was asked; `None` where nothing was.
pub(super) fn decide(asked: Option<&Asked>, verdict: Verdict<'_>, today: Date) -> Option<Arm> {
    match asked {
        Some(Asked::FeeWaiver(asked)) => Some(fee_waiver(asked, verdict, today)),
        Some(Asked::JudicialRelief(asked)) => Some(judicial_relief(asked, verdict, today)),
        Some(Asked::AppealReferral(asked)) => Some(appeal_referral(asked, verdict, today)),
        Some(Asked::CounselNotice(_)) => Some(counsel_assignment(today)),
        Some(Asked::DirectAssignmentReport(_)) => Some(acknowledgement(verdict, today)),
        Some(Asked::CooperationRequest(_)) => Some(cooperation_result(verdict, today)),
        None => None,
    }
}

/// The acceptance of a matter, where its kind has such a step.
pub(super) fn accept(asked: Option<&Asked>, today: Date) -> Option<Arm> {
    let Some(Asked::AppealReferral(_)) = asked else { return None };
    Some(Arm::AppealOutcome(proto::AppealOutcome {
        result: proto::AppealResult::Accepted.into(),
        document_number: "A-1".to_owned(),
        decided_on: Some(date(today)),
        ..Default::default()
    }))
}

/// The article that a simulated agency cites in a kind.
pub(super) fn basis(kind: proto::Kind) -> proto::LegalBasis {
    let (law, article) = match kind {
        proto::Kind::JudicialRelief => ("关于加强和规范人民法院国家司法救助工作的意见", "3"),
        proto::Kind::AppealReferral => ("民事诉讼法", "220"),
        proto::Kind::CounselNotice => ("法律援助法", "36"),
        proto::Kind::DirectAssignmentReport => ("法律援助法", "12"),
        proto::Kind::CooperationRequest => ("法律援助法", "51"),
        _ => ("诉讼费用交纳办法", "48"),
    };
    proto::LegalBasis { law: law.to_owned(), article: article.to_owned() }
}

fn fee_waiver(asked: &proto::FeeWaiverRequest, verdict: Verdict<'_>, today: Date) -> Arm {
    use proto::FeeWaiverOutcome as Outcome;
    let named = verdict.outcome.and_then(fee_waiver_outcome).unwrap_or(Outcome::Deferred);
    let outcome = if verdict.refused.is_some() { Outcome::Refused } else { named };
    let half = asked.fee_fen.unwrap_or_default() / 2;
    let later = today.saturating_add(DEFERRAL_DAYS.days());
    Arm::FeeWaiverDecision(proto::FeeWaiverDecision {
        outcome: outcome.into(),
        payable_fen: (outcome == Outcome::Reduced).then_some(half),
        deferred_until: (outcome == Outcome::Deferred).then(|| date(later)),
        notice_number: "N-1".to_owned(),
        reasons: reasons(verdict, outcome == Outcome::Refused),
        hardship_rereviewed: Some(verdict.rereviewed),
        decided_on: Some(date(today)),
        ..Default::default()
    })
}

fn judicial_relief(asked: &proto::JudicialReliefRequest, verdict: Verdict<'_>, today: Date) -> Arm {
    use proto::JudicialReliefOutcome as Outcome;
    let named = verdict.outcome.and_then(judicial_relief_outcome).unwrap_or(Outcome::Granted);
    let outcome = if verdict.refused.is_some() { Outcome::Refused } else { named };
    let granted = outcome == Outcome::Granted;
    let last_year = u32::try_from(today.year() - 1).unwrap_or_default();
    Arm::JudicialReliefDecision(proto::JudicialReliefDecision {
        outcome: outcome.into(),
        granted_fen: asked.sum_asked_fen.filter(|_| granted),
        wage_basis_year: granted.then_some(last_year),
        document_number: "J-1".to_owned(),
        reasons: reasons(verdict, outcome == Outcome::Refused),
        decided_on: Some(date(today)),
        ..Default::default()
    })
}

fn appeal_referral(asked: &proto::AppealReferral, verdict: Verdict<'_>, today: Date) -> Arm {
    use proto::AppealResult as Result;
    let to_centre = asked.direction() == proto::ReferralDirection::ProcuratorateToCentre;
    let usual = if to_centre { Result::AidGranted } else { Result::Protest };
    let refusal = match (verdict.accepted, to_centre) {
        (false, _) => Result::NotAccepted,
        (true, true) => Result::AidRefused,
        (true, false) => Result::NotSupported,
    };
    let named = verdict.outcome.and_then(appeal_result).unwrap_or(usual);
    let result = if verdict.refused.is_some() { refusal } else { named };
    let against =
        matches!(result, Result::NotAccepted | Result::NotSupported | Result::Ended | Result::AidRefused);
    let elsewhere = || asked.documents.first().map(|document| document.organ.clone()).unwrap_or_default();
    Arm::AppealOutcome(proto::AppealOutcome {
        result: result.into(),
        document_number: "A-2".to_owned(),
        decided_on: Some(date(today)),
        reasons: reasons(verdict, against),
        transferred_to: if result == Result::Transferred { elsewhere() } else { String::new() },
    })
}

/// A lawyer of enough practice for every ground.
fn counsel_assignment(today: Date) -> Arm {
    Arm::CounselAssignment(proto::CounselAssignment {
        firm: "模拟律师事务所".to_owned(),
        lawyer_name: "测试律师".to_owned(),
        licence_number: "13310202610000009".to_owned(),
        lawyer_phone: "0576-82400000".to_owned(),
        assignment_number: "Z-1".to_owned(),
        assigned_on: Some(date(today)),
        relevant_practice_years: Some(10),
    })
}

fn acknowledgement(verdict: Verdict<'_>, today: Date) -> Arm {
    use proto::DirectAssignmentOutcome as Outcome;
    let named = verdict.outcome.and_then(direct_assignment_outcome).unwrap_or(Outcome::Registered);
    let outcome = if verdict.refused.is_some() { Outcome::NotRegistered } else { named };
    let registered = outcome != Outcome::NotRegistered;
    Arm::DirectAssignmentAcknowledgement(proto::DirectAssignmentAcknowledgement {
        outcome: outcome.into(),
        registration_number: if registered { "D-1".to_owned() } else { String::new() },
        reasons: reasons(verdict, !registered),
        acknowledged_on: Some(date(today)),
    })
}

fn cooperation_result(verdict: Verdict<'_>, today: Date) -> Arm {
    use proto::CooperationOutcome as Outcome;
    let named = verdict.outcome.and_then(cooperation_outcome).unwrap_or(Outcome::Done);
    let outcome = if verdict.refused.is_some() { Outcome::NotDone } else { named };
    Arm::CooperationResult(proto::CooperationResult {
        outcome: outcome.into(),
        account: if outcome == Outcome::Done { "已按请求办理" } else { "已尽力办理" }.to_owned(),
        reasons: reasons(verdict, outcome != Outcome::Done),
        completed_on: Some(date(today)),
    })
}

fn reasons(verdict: Verdict<'_>, needed: bool) -> String {
    if needed { verdict.refused.unwrap_or(USUAL_REASONS).to_owned() } else { String::new() }
}

fn fee_waiver_outcome(word: &str) -> Option<proto::FeeWaiverOutcome> {
    proto::FeeWaiverOutcome::from_str_name(&format!("FEE_WAIVER_OUTCOME_{word}"))
}

fn judicial_relief_outcome(word: &str) -> Option<proto::JudicialReliefOutcome> {
    proto::JudicialReliefOutcome::from_str_name(&format!("JUDICIAL_RELIEF_OUTCOME_{word}"))
}

fn appeal_result(word: &str) -> Option<proto::AppealResult> {
    proto::AppealResult::from_str_name(&format!("APPEAL_RESULT_{word}"))
}

fn direct_assignment_outcome(word: &str) -> Option<proto::DirectAssignmentOutcome> {
    proto::DirectAssignmentOutcome::from_str_name(&format!("DIRECT_ASSIGNMENT_OUTCOME_{word}"))
}

fn cooperation_outcome(word: &str) -> Option<proto::CooperationOutcome> {
    proto::CooperationOutcome::from_str_name(&format!("COOPERATION_OUTCOME_{word}"))
}
