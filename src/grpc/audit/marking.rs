//! `MarkFinding`: an auditor says what a finding is.

use tokio::time::timeout;

use super::context;
use super::findings::{find, mark_on_wire};
use crate::access::Method;
use crate::audit::findings::FindingId;
use crate::domain::envelope::Operator;
use crate::grpc::call::Call;
use crate::grpc::intake::Intake;
use crate::grpc::operation::{Done, Effectful, Facts, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::status::Refusal;
use crate::grpc::wire::{text, timestamp, word};
use crate::store::{Effect, Mark, NewMark};

/// The method.
pub(super) struct MarkFinding;

/// A mark as asked for.
pub(super) struct Marking {
    finding: FindingId,
    mark: Mark,
    comment: String,
    operator: Operator,
}

impl Operation for MarkFinding {
    const METHOD: Method = Method::MarkFinding;
    type Request = proto::MarkFindingRequest;
    type Response = proto::MarkFindingResponse;
    type Task = Marking;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Marking> {
        context(reading, request.context.as_ref());
        let violations = &mut reading.violations;
        let finding = match (request.finding_id.as_str(), FindingId::parse(&request.finding_id)) {
            ("", _) => violations.require("finding_id", None),
            (_, None) => {
                violations.add(
                    "finding_id",
                    "FINDING_ID",
                    "must be the id of a finding, as ListFindings gives it",
                    "须为查询结果中的疑点编号",
                );
                None
            }
            (_, found) => found,
        };
        reading.facts.finding = finding;
        let mark = word(violations, "mark", request.mark, |mark| match mark {
            proto::FindingMarkKind::Normal => Some(Mark::Normal),
            proto::FindingMarkKind::Incident => Some(Mark::Incident),
            proto::FindingMarkKind::Unspecified => None,
        });
        let comment = text(violations, "comment", &request.comment, 1, 2000)?.to_owned();
        let operator = reading.facts.operator.clone();
        Some(Marking { finding: finding?, mark: mark?, comment, operator: operator? })
    }
}

impl Effectful for MarkFinding {
    /// Only what the log still shows can be marked: a mistyped id would leave the finding itself unmarked. Whether the
    /// caller may mark at all is asked first.
    async fn prepare(
        intake: &Intake,
        call: &Call,
        task: &mut Marking,
        facts: &mut Facts,
    ) -> Result<(), Refusal> {
        intake.allow(call, Self::METHOD, facts)?;
        let found = timeout(call.time_left(), find(intake, task.finding)).await;
        found.map_err(|_| Refusal::DeadlineExceeded)??.ok_or(Refusal::NotFound).map(drop)
    }

    async fn act(intake: &Intake, call: &Call, task: &mut Marking) -> Result<Done<Self::Response>, Refusal> {
        let (request_index, ..) = *call.open_request().ok_or(Refusal::Internal)?;
        let at = intake.clock.now();
        let mark = NewMark {
            request_index,
            finding: task.finding,
            mark: task.mark,
            comment: intake.store.seal_comment(request_index, &task.comment),
            marked_by: call.caller(),
            unit: task.operator.unit.as_str().to_owned(),
            operator: task.operator.staff_number.as_str().to_owned(),
            at,
        };
        let response = proto::MarkFindingResponse {
            finding_id: task.finding.to_string(),
            mark: mark_on_wire(task.mark).into(),
            mark_time: Some(timestamp(at)),
            audit: None,
        };
        let reason = match task.mark {
            Mark::Normal => "MARKED_NORMAL",
            Mark::Incident => "MARKED_INCIDENT",
        };
        let effects = vec![Effect::MarkFinding(Box::new(mark))];
        Ok(Done { response, effects, reason: Some(reason), exchange: None })
    }
}
