//! Appeal referrals and what becomes of them.

use jiff::civil::Date;

use super::content::{Read, StatedRoute, Surroundings};
use super::envelope::mandatory;
use super::fee_waiver::aid_decision;
use super::person::{person, region_remark};
use super::time::{past_date, past_instant, shanghai_day};
use super::{digest, length, text, word};
use crate::domain::agency::CreditCode;
use crate::domain::appeal_referral::{
    Direction, Outcome, OutcomeTerms, ReferralTerms, RetrialResult, RetrialTerms, Track, check_outcome,
};
use crate::domain::case_number::CaseNumber;
use crate::domain::person::PersonName;
use crate::domain::violation::Violations;
use crate::grpc::proto;
use crate::grpc::proto::exchange_message::Body;
use crate::grpc::proto::response::Kind as Arm;

/// Most parties, documents or pieces of evidence of one referral.
const MOST_ENTRIES: usize = 50;

/// Reads a referral and checks every rule on what could be read. `field` paths are relative to it.
pub(super) fn appeal_referral(
    violations: &mut Violations,
    value: &proto::AppealReferral,
    Surroundings { now, .. }: Surroundings,
) -> Read {
    let today = shanghai_day(now);
    let direction = word(violations, "direction", value.direction, direction);
    let track = word(violations, "track", value.track, track);
    let applicant = violations
        .require("applicant", value.applicant.as_ref())
        .and_then(|applicant| violations.within("applicant", |v| person(v, applicant, today)));
    if value.other_parties.is_empty() {
        violations.require("other_parties", None::<()>);
    }
    each(violations, "other_parties", &value.other_parties, |v, party: &proto::ReferralParty| {
        text(v, "name", &party.name, 2, 100);
        let _: Option<()> = word(v, "role", party.role, |role: proto::PartyRole| {
            (role != proto::PartyRole::Unspecified).then_some(())
        });
    });
    let mut newest_effect = None;
    each(violations, "documents", &value.documents, |v, document| {
        newest_effect = newest_effect.max(effective_document(v, document, track, today));
    });
    let retrial = value.retrial_application.as_ref();
    let retrial =
        retrial.map(|it| violations.within("retrial_application", |v| retrial_application(v, it, today)));
    let applied_before = violations.require("applied_before", value.applied_before);
    text(violations, "claims", &value.claims, 1, 2000);
    text(violations, "facts_and_reasons", &value.facts_and_reasons, 1, 4000);
    each(violations, "evidence", &value.evidence, |v, evidence: &proto::Evidence| {
        text(v, "description", &evidence.description, 2, 200);
        digest(v, "sha256", &evidence.sha256);
    });
    if let Some(decision) = &value.aid_decision {
        violations.within("aid_decision", |v| aid_decision(v, decision, today));
    }
    if let Some(lawyer) = &value.lawyer {
        violations.within("lawyer", |v| {
            mandatory(v, "name", &lawyer.name, PersonName::parse);
            text(v, "firm", &lawyer.firm, 2, 100);
            text(v, "licence_number", &lawyer.licence_number, 1, 64);
        });
    }
    past_instant(violations, "filed_at", value.filed_at.as_ref(), now);
    let terms = ReferralTerms {
        direction,
        track,
        documents: value.documents.len(),
        newest_effect,
        evidence: value.evidence.len(),
        retrial,
        applied_before,
    };
    terms.check(violations);
    let route = direction.and_then(Direction::route);
    let field = "content.appeal_referral.direction";
    let stated_route = route.map(|route| StatedRoute { field, route });
    let subject = applicant.map(|person| person.id);
    let mut remarks = terms.remarks(today);
    remarks.extend(region_remark("applicant.id_number", subject.as_ref()));
    // The procuratorate's time limits run where it is asked, not where it hands a person on.
    let asked = direction == Some(Direction::CentreToProcuratorate);
    let track = track.filter(|_| asked).map(Track::as_str);
    Read { subject, remarks, stated_route, track, ..Read::default() }
}

/// Reads the entries of a list, at most [`MOST_ENTRIES`].
fn each<T>(
    violations: &mut Violations,
    field: &str,
    entries: &[T],
    mut read: impl FnMut(&mut Violations, &T),
) {
    if entries.len() > MOST_ENTRIES {
        violations.add(
            field,
            "AT_MOST_50",
            format!("at most {MOST_ENTRIES} entries"),
            format!("不得超过{MOST_ENTRIES}项"),
        );
    }
    for (place, entry) in entries.iter().take(MOST_ENTRIES).enumerate() {
        violations.within(&format!("{field}[{place}]"), |v| read(v, entry));
    }
}

/// The day on which the document took effect.
fn effective_document(
    violations: &mut Violations,
    value: &proto::EffectiveDocument,
    track: Option<Track>,
    today: Date,
) -> Option<Date> {
    let _: Option<()> = word(violations, "kind", value.kind, |kind: proto::EffectiveDocumentKind| {
        (kind != proto::EffectiveDocumentKind::Unspecified).then_some(())
    });
    mandatory(violations, "organ", &value.organ, CreditCode::parse);
    if track.is_some_and(Track::has_case_number) {
        mandatory(violations, "number", &value.number, CaseNumber::parse);
    } else {
        text(violations, "number", &value.number, 1, 64);
    }
    let effective_on = past_date(violations, "effective_on", value.effective_on.as_ref(), today);
    digest(violations, "document_sha256", &value.document_sha256);
    effective_on
}

fn retrial_application(
    violations: &mut Violations,
    value: &proto::RetrialApplication,
    today: Date,
) -> RetrialTerms {
    let filed = violations.require("filed", value.filed);
    let mut past =
        |field, value: Option<&_>| value.and_then(|day| past_date(violations, field, Some(day), today));
    let filed_on = past("filed_on", value.filed_on.as_ref());
    let ruled_on = past("ruled_on", value.ruled_on.as_ref());
    let result = match value.result {
        0 => None,
        stated => word(violations, "result", stated, retrial_result),
    };
    RetrialTerms {
        filed,
        has_day: value.filed_on.is_some(),
        filed_on,
        has_result: value.result != 0,
        result,
        has_ruling: value.ruled_on.is_some(),
        ruled_on,
    }
}

/// Reads an outcome, and says what it is; `field` paths are relative to it.
pub(super) fn appeal_outcome(
    violations: &mut Violations,
    value: &proto::AppealOutcome,
    today: Date,
) -> Option<Outcome> {
    let outcome = word(violations, "result", value.result, outcome);
    text(violations, "document_number", &value.document_number, 1, 64);
    past_date(violations, "decided_on", value.decided_on.as_ref(), today);
    length(violations, "reasons", &value.reasons, 0, 4000);
    if !value.transferred_to.is_empty() {
        violations.check("transferred_to", CreditCode::parse(&value.transferred_to));
    }
    let terms = OutcomeTerms {
        outcome,
        has_reasons: !value.reasons.trim().is_empty(),
        has_transfer: !value.transferred_to.is_empty(),
    };
    terms.check(violations);
    outcome
}

/// Checks an outcome against the thread; `field` paths are relative to the outcome.
pub(super) fn appeal_outcome_fits(
    violations: &mut Violations,
    value: &proto::AppealOutcome,
    referral: &proto::AppealReferral,
    thread: &[proto::ExchangeMessage],
) {
    let Some(outcome) = proto::AppealResult::try_from(value.result).ok().and_then(outcome) else { return };
    let accepted = thread.iter().any(|message| match &message.body {
        Some(Body::Response(response)) => match &response.kind {
            Some(Arm::AppealOutcome(earlier)) => earlier.result() == proto::AppealResult::Accepted,
            _ => false,
        },
        _ => false,
    });
    let (direction, track) = (direction(referral.direction()), track(referral.track()));
    check_outcome(outcome, direction, track, accepted, violations);
}

fn direction(value: proto::ReferralDirection) -> Option<Direction> {
    match value {
        proto::ReferralDirection::Unspecified => None,
        proto::ReferralDirection::CentreToProcuratorate => Some(Direction::CentreToProcuratorate),
        proto::ReferralDirection::ProcuratorateToCentre => Some(Direction::ProcuratorateToCentre),
    }
}

fn track(value: proto::ReferralTrack) -> Option<Track> {
    match value {
        proto::ReferralTrack::Unspecified => None,
        proto::ReferralTrack::CivilJudgment => Some(Track::CivilJudgment),
        proto::ReferralTrack::TrialIllegality => Some(Track::TrialIllegality),
        proto::ReferralTrack::Enforcement => Some(Track::Enforcement),
        proto::ReferralTrack::CriminalComplaint => Some(Track::CriminalComplaint),
        proto::ReferralTrack::Administrative => Some(Track::Administrative),
        proto::ReferralTrack::SupportOfProsecution => Some(Track::SupportOfProsecution),
    }
}

fn retrial_result(value: proto::RetrialResult) -> Option<RetrialResult> {
    match value {
        proto::RetrialResult::Unspecified => None,
        proto::RetrialResult::Refused => Some(RetrialResult::Refused),
        proto::RetrialResult::NotDecidedInTime => Some(RetrialResult::NotDecidedInTime),
        proto::RetrialResult::ClearlyWrong => Some(RetrialResult::ClearlyWrong),
        proto::RetrialResult::Pending => Some(RetrialResult::Pending),
    }
}

fn outcome(value: proto::AppealResult) -> Option<Outcome> {
    match value {
        proto::AppealResult::Unspecified => None,
        proto::AppealResult::Accepted => Some(Outcome::Accepted),
        proto::AppealResult::NotAccepted => Some(Outcome::NotAccepted),
        proto::AppealResult::Transferred => Some(Outcome::Transferred),
        proto::AppealResult::Protest => Some(Outcome::Protest),
        proto::AppealResult::ProtestRequested => Some(Outcome::ProtestRequested),
        proto::AppealResult::RetrialSuggested => Some(Outcome::RetrialSuggested),
        proto::AppealResult::Suggestion => Some(Outcome::Suggestion),
        proto::AppealResult::NotSupported => Some(Outcome::NotSupported),
        proto::AppealResult::Ended => Some(Outcome::Ended),
        proto::AppealResult::Settled => Some(Outcome::Settled),
        proto::AppealResult::ProsecutionSupported => Some(Outcome::ProsecutionSupported),
        proto::AppealResult::AidGranted => Some(Outcome::AidGranted),
        proto::AppealResult::AidRefused => Some(Outcome::AidRefused),
    }
}
