//! Direct-assignment reports and acknowledgements.

use jiff::civil::Date;

use super::content::{Read, Surroundings};
use super::envelope::mandatory;
use super::person::{document, region_remark};
use super::time::{past_date, shanghai_day};
use super::{length, text, word};
use crate::domain::case_number::CaseNumber;
use crate::domain::direct_assignment::{AcknowledgementTerms, Outcome, ReportTerms};
use crate::domain::lawyer::LicenceNumber;
use crate::domain::person::PersonName;
use crate::domain::violation::Violations;
use crate::grpc::proto;

/// Reads a report; `field` paths are relative to it.
pub(super) fn direct_assignment_report(
    violations: &mut Violations,
    value: &proto::DirectAssignmentReport,
    Surroundings { now, .. }: Surroundings,
) -> Read {
    let today = shanghai_day(now);
    let case_number = mandatory(violations, "case_number", &value.case_number, CaseNumber::parse);
    text(violations, "cause_of_action", &value.cause_of_action, 2, 100);
    text(violations, "firm", &value.firm, 2, 100);
    mandatory(violations, "lawyer_name", &value.lawyer_name, PersonName::parse);
    if !value.licence_number.is_empty() {
        violations.check("licence_number", LicenceNumber::parse(&value.licence_number));
    }
    let assigned_on = past_date(violations, "assigned_on", value.assigned_on.as_ref(), today);
    text(violations, "reason", &value.reason, 1, 2000);
    let subject = value.assisted_person.as_ref().and_then(|person| {
        violations.within("assisted_person", |v| {
            mandatory(v, "name", &person.name, PersonName::parse);
            document(v, person.id_kind, &person.id_number, today)
        })
    });
    let mut remarks = ReportTerms { case_number, assigned_on }.remarks();
    remarks.extend(region_remark("assisted_person.id_number", subject.as_ref()));
    Read { subject, remarks, ..Read::default() }
}

/// Reads an acknowledgement; `field` paths are relative to it.
pub(super) fn direct_assignment_acknowledgement(
    violations: &mut Violations,
    value: &proto::DirectAssignmentAcknowledgement,
    today: Date,
) {
    let outcome = word(violations, "outcome", value.outcome, outcome);
    length(violations, "registration_number", &value.registration_number, 0, 64);
    length(violations, "reasons", &value.reasons, 0, 4000);
    past_date(violations, "acknowledged_on", value.acknowledged_on.as_ref(), today);
    let terms = AcknowledgementTerms {
        outcome,
        has_registration_number: !value.registration_number.trim().is_empty(),
        has_reasons: !value.reasons.trim().is_empty(),
    };
    terms.check(violations);
}

fn outcome(value: proto::DirectAssignmentOutcome) -> Option<Outcome> {
    match value {
        proto::DirectAssignmentOutcome::Unspecified => None,
        proto::DirectAssignmentOutcome::Registered => Some(Outcome::Registered),
        proto::DirectAssignmentOutcome::AlreadyRegistered => Some(Outcome::AlreadyRegistered),
        proto::DirectAssignmentOutcome::NotRegistered => Some(Outcome::NotRegistered),
    }
}
