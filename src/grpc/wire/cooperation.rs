//! Cooperation requests and results.

use jiff::civil::Date;

use super::content::{Read, Surroundings};
use super::fee_waiver::aid_decision;
use super::person::{person, region_remark};
use super::time::{mandatory_date, past_date, shanghai_day};
use super::{length, text, word};
use crate::domain::cooperation::{CooperationTerms, Outcome, ResultTerms, Task};
use crate::domain::violation::Violations;
use crate::grpc::proto;

/// Reads a request; `field` paths are relative to it.
pub(super) fn cooperation_request(
    violations: &mut Violations,
    value: &proto::CooperationRequest,
    around: Surroundings,
) -> Read {
    let today = shanghai_day(around.now);
    let task = word(violations, "task", value.task, task);
    let subject = value.person.as_ref().and_then(|concerned| {
        violations.within("person", |v| person(v, concerned, today)).map(|person| person.id)
    });
    if !value.place.is_empty() {
        text(violations, "place", &value.place, 2, 200);
    }
    text(violations, "content", &value.content, 1, 4000);
    let due_on = mandatory_date(violations, "due_on", value.due_on.as_ref());
    let decision = value.aid_decision.as_ref();
    let deciding_centre =
        decision.and_then(|decision| violations.within("aid_decision", |v| aid_decision(v, decision, today)));
    let terms = CooperationTerms {
        task,
        has_person: value.person.is_some(),
        has_place: !value.place.trim().is_empty(),
        has_papers: around.has_attachments,
        due_on,
        has_aid_decision: decision.is_some(),
        deciding_centre,
    };
    terms.check(&around.sender, today, violations);
    let remarks = region_remark("person.id_number", subject.as_ref()).into_iter().collect();
    Read { subject, remarks, ..Read::default() }
}

/// Reads a result; `field` paths are relative to it.
pub(super) fn cooperation_result(violations: &mut Violations, value: &proto::CooperationResult, today: Date) {
    let outcome = word(violations, "outcome", value.outcome, outcome);
    text(violations, "account", &value.account, 1, 4000);
    length(violations, "reasons", &value.reasons, 0, 4000);
    past_date(violations, "completed_on", value.completed_on.as_ref(), today);
    ResultTerms { outcome, has_reasons: !value.reasons.trim().is_empty() }.check(violations);
}

fn task(value: proto::CooperationTask) -> Option<Task> {
    match value {
        proto::CooperationTask::Unspecified => None,
        proto::CooperationTask::TakeApplication => Some(Task::TakeApplication),
        proto::CooperationTask::Investigate => Some(Task::Investigate),
        proto::CooperationTask::Serve => Some(Task::Serve),
        proto::CooperationTask::Interview => Some(Task::Interview),
    }
}

fn outcome(value: proto::CooperationOutcome) -> Option<Outcome> {
    match value {
        proto::CooperationOutcome::Unspecified => None,
        proto::CooperationOutcome::Done => Some(Outcome::Done),
        proto::CooperationOutcome::PartlyDone => Some(Outcome::PartlyDone),
        proto::CooperationOutcome::NotDone => Some(Outcome::NotDone),
    }
}
