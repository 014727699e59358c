//! Counsel notices and assignments.

use jiff::civil::Date;

use super::content::{Read, StatedSenders, Surroundings};
use super::envelope::mandatory;
use super::person::{document, region_remark};
use super::time::{optional_date, past_date, past_instant, shanghai_day};
use super::{length, text, word};
use crate::domain::counsel_notice::{Ground, NoticeTerms, Stage, check_experience};
use crate::domain::law::Article;
use crate::domain::lawyer::LicenceNumber;
use crate::domain::person::{IdDocument, PersonName, Phone};
use crate::domain::violation::Violations;
use crate::grpc::proto;

/// Most years of practice that one person has.
const MOST_PRACTICE_YEARS: u32 = 80;

/// Reads a notice; `field` paths are relative to it.
pub(super) fn counsel_notice(
    violations: &mut Violations,
    value: &proto::CounselNotice,
    Surroundings { now, .. }: Surroundings,
) -> Read {
    let today = shanghai_day(now);
    let subject = violations
        .require("suspect", value.suspect.as_ref())
        .and_then(|suspect| violations.within("suspect", |v| suspected(v, suspect, today)));
    let ground = word(violations, "ground", value.ground, ground);
    text(violations, "charge", &value.charge, 2, 100);
    let stage = word(violations, "stage", value.stage, stage);
    length(violations, "organ_case_number", &value.organ_case_number, 0, 64);
    let has_counsel = violations.require("has_counsel", value.has_counsel);
    let in_custody = violations.require("in_custody", value.in_custody);
    if !value.custody_place.is_empty() {
        text(violations, "custody_place", &value.custody_place, 2, 100);
    }
    let next_hearing_on = optional_date(violations, "next_hearing_on", value.next_hearing_on.as_ref());
    let found_on = past_instant(violations, "found_at", value.found_at.as_ref(), now).map(shanghai_day);
    let terms = NoticeTerms {
        ground,
        stage,
        has_counsel,
        in_custody,
        has_custody_place: !value.custody_place.trim().is_empty(),
        next_hearing_on,
        found_on,
        age: found_on.and_then(|found| subject.as_ref()?.age_on(found)),
    };
    terms.check(today, violations);
    let mut remarks = terms.remarks(today);
    remarks.extend(region_remark("suspect.id_number", subject.as_ref()));
    let stated_senders = stage.map(|stage| StatedSenders {
        field: "content.counsel_notice.stage",
        senders: stage.organs(),
        article: Article::legal_aid_law("36"),
    });
    Read { subject, remarks, stated_senders, ..Read::default() }
}

fn suspected(violations: &mut Violations, value: &proto::Suspect, today: Date) -> Option<IdDocument> {
    mandatory(violations, "name", &value.name, PersonName::parse);
    document(violations, value.id_kind, &value.id_number, today)
}

/// Reads an assignment; `field` paths are relative to it.
pub(super) fn counsel_assignment(violations: &mut Violations, value: &proto::CounselAssignment, today: Date) {
    text(violations, "firm", &value.firm, 2, 100);
    mandatory(violations, "lawyer_name", &value.lawyer_name, PersonName::parse);
    mandatory(violations, "licence_number", &value.licence_number, LicenceNumber::parse);
    mandatory(violations, "lawyer_phone", &value.lawyer_phone, Phone::parse);
    text(violations, "assignment_number", &value.assignment_number, 1, 64);
    past_date(violations, "assigned_on", value.assigned_on.as_ref(), today);
    if value.relevant_practice_years.is_some_and(|years| years > MOST_PRACTICE_YEARS) {
        violations.add(
            "relevant_practice_years",
            "RANGE",
            format!("must be at most {MOST_PRACTICE_YEARS}"),
            format!("不得超过{MOST_PRACTICE_YEARS}年"),
        );
    }
}

/// Checks an assignment against the notice; `field` paths are relative to the assignment.
pub(super) fn counsel_assignment_fits(
    violations: &mut Violations,
    assigned: &proto::CounselAssignment,
    notice: &proto::CounselNotice,
) {
    let ground = proto::CounselGround::try_from(notice.ground).ok().and_then(ground);
    if let Some(ground) = ground {
        check_experience(ground, assigned.relevant_practice_years, violations);
    }
}

fn ground(value: proto::CounselGround) -> Option<Ground> {
    match value {
        proto::CounselGround::Unspecified => None,
        proto::CounselGround::CounselGround2511 => Some(Ground::Minor),
        proto::CounselGround::CounselGround2512 => Some(Ground::SensoryDisability),
        proto::CounselGround::CounselGround2513 => Some(Ground::LimitedCapacity),
        proto::CounselGround::CounselGround2514 => Some(Ground::GravestSentence),
        proto::CounselGround::CounselGround2515 => Some(Ground::DeathPenaltyReview),
        proto::CounselGround::CounselGround2516 => Some(Ground::TrialInAbsence),
        proto::CounselGround::CounselGround2517 => Some(Ground::OtherByLaw),
        proto::CounselGround::CounselGround28 => Some(Ground::CompulsoryTreatment),
    }
}

fn stage(value: proto::ProceedingStage) -> Option<Stage> {
    match value {
        proto::ProceedingStage::Unspecified => None,
        proto::ProceedingStage::Investigation => Some(Stage::Investigation),
        proto::ProceedingStage::ProsecutionReview => Some(Stage::ProsecutionReview),
        proto::ProceedingStage::FirstInstance => Some(Stage::FirstInstance),
        proto::ProceedingStage::SecondInstance => Some(Stage::SecondInstance),
        proto::ProceedingStage::Retrial => Some(Stage::Retrial),
        proto::ProceedingStage::DeathPenaltyReview => Some(Stage::DeathPenaltyReview),
        proto::ProceedingStage::CompulsoryTreatment => Some(Stage::CompulsoryTreatment),
    }
}
