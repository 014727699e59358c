//! What a party adds to an exchange.

use jiff::Timestamp;
use jiff::civil::Date;

use super::appeal_referral::{appeal_outcome, appeal_outcome_fits};
use super::cooperation::cooperation_result;
use super::counsel_notice::{counsel_assignment, counsel_assignment_fits};
use super::direct_assignment::direct_assignment_acknowledgement;
use super::envelope::one_basis;
use super::fee_waiver::{fee_waiver_decision, fee_waiver_decision_fits};
use super::judicial_relief::{judicial_relief_decision, judicial_relief_decision_fits};
use super::time::{mandatory_date, past_date, past_instant, shanghai_day};
use super::{digest, length, text};
use crate::domain::appeal_referral::Outcome;
use crate::domain::exchange::{Kind, ResponseKind};
use crate::domain::law::Article;
use crate::domain::violation::Violations;
use crate::grpc::proto;
use crate::grpc::proto::content::Kind as Opened;
use crate::grpc::proto::exchange_message::Body;
use crate::grpc::proto::response::Kind as Arm;

/// Most papers that one supplement request names.
const MOST_MISSING: usize = 50;

/// A response as read.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    /// What it is to the state machine.
    pub(crate) kind: ResponseKind,
    /// The only kind of exchange that it fits, if it is not for all.
    pub(crate) only_for: Option<Kind>,
    /// The digest that a receipt confirms.
    pub(crate) confirms: Option<[u8; 32]>,
    /// The last day that it sets for the other party.
    pub(crate) due_on: Option<Date>,
}

/// Reads a response; `field` paths start at `response`.
pub(crate) fn response(
    violations: &mut Violations,
    value: Option<&proto::Response>,
    now: Timestamp,
) -> Option<Answer> {
    let arm = violations.require("response", value.and_then(|value| value.kind.as_ref()))?;
    let today = shanghai_day(now);
    violations.within("response", |v| {
        let answer = |kind| Answer { kind, only_for: None, confirms: None, due_on: None };
        Some(match arm {
            Arm::Receipt(receipt) => v.within("receipt", |v| {
                let confirms = digest(v, "message_sha256", &receipt.message_sha256);
                past_instant(v, "received_at", receipt.received_at.as_ref(), now);
                length(v, "receipt_number", &receipt.receipt_number, 0, 64);
                Answer { confirms, ..answer(ResponseKind::Receipt) }
            }),
            Arm::SupplementRequest(request) => {
                let due_on = v.within("supplement_request", |v| supplement_request(v, request, today));
                Answer { due_on, ..answer(ResponseKind::SupplementRequest) }
            }
            Arm::Supplement(supplement) => {
                text(v, "supplement.note", &supplement.note, 1, 2000);
                answer(ResponseKind::Supplement)
            }
            Arm::Withdrawal(withdrawal) => {
                text(v, "withdrawal.reason", &withdrawal.reason, 1, 2000);
                answer(ResponseKind::Withdrawal)
            }
            Arm::Closure(closure) => {
                past_date(v, "closure.closed_on", closure.closed_on.as_ref(), today);
                length(v, "closure.final_allocation", &closure.final_allocation, 0, 2000);
                answer(ResponseKind::Closure)
            }
            Arm::FeeWaiverDecision(decision) => {
                v.within("fee_waiver_decision", |v| fee_waiver_decision(v, decision, today));
                Answer { only_for: Some(Kind::FeeWaiver), ..answer(ResponseKind::Decision) }
            }
            Arm::JudicialReliefDecision(decision) => {
                v.within("judicial_relief_decision", |v| judicial_relief_decision(v, decision, today));
                Answer { only_for: Some(Kind::JudicialRelief), ..answer(ResponseKind::Decision) }
            }
            Arm::AppealOutcome(outcome) => {
                let outcome = v.within("appeal_outcome", |v| appeal_outcome(v, outcome, today));
                let is_step = outcome.is_some_and(Outcome::is_step);
                let kind = if is_step { ResponseKind::Progress } else { ResponseKind::Decision };
                Answer { only_for: Some(Kind::AppealReferral), ..answer(kind) }
            }
            Arm::CounselAssignment(assigned) => {
                v.within("counsel_assignment", |v| counsel_assignment(v, assigned, today));
                Answer { only_for: Some(Kind::CounselNotice), ..answer(ResponseKind::Decision) }
            }
            Arm::DirectAssignmentAcknowledgement(acknowledged) => {
                v.within("direct_assignment_acknowledgement", |v| {
                    direct_assignment_acknowledgement(v, acknowledged, today);
                });
                Answer { only_for: Some(Kind::DirectAssignmentReport), ..answer(ResponseKind::Decision) }
            }
            Arm::CooperationResult(result) => {
                v.within("cooperation_result", |v| cooperation_result(v, result, today));
                Answer { only_for: Some(Kind::CooperationRequest), ..answer(ResponseKind::Decision) }
            }
        })
    })
}

/// Checks an answer that fits one kind only against the thread that it answers, such as a sum granted against the
/// sum asked. `field` paths start at `response`. What the answer says for itself was checked when it was read.
pub(crate) fn answer_fits(
    violations: &mut Violations,
    answer: &proto::Response,
    thread: &[proto::ExchangeMessage],
) {
    let opening = thread.iter().find_map(|message| match &message.body {
        Some(Body::Content(content)) => content.kind.as_ref(),
        _ => None,
    });
    let (Some(opening), Some(arm)) = (opening, answer.kind.as_ref()) else { return };
    // An answer of another kind than the exchange has its own violation already.
    violations.within("response", |v| match (opening, arm) {
        (Opened::FeeWaiver(asked), Arm::FeeWaiverDecision(decided)) => {
            v.within("fee_waiver_decision", |v| fee_waiver_decision_fits(v, decided, asked));
        }
        (Opened::JudicialRelief(asked), Arm::JudicialReliefDecision(decided)) => {
            v.within("judicial_relief_decision", |v| judicial_relief_decision_fits(v, decided, asked));
        }
        (Opened::AppealReferral(referral), Arm::AppealOutcome(outcome)) => {
            v.within("appeal_outcome", |v| appeal_outcome_fits(v, outcome, referral, thread));
        }
        (Opened::CounselNotice(notice), Arm::CounselAssignment(assigned)) => {
            v.within("counsel_assignment", |v| counsel_assignment_fits(v, assigned, notice));
        }
        _ => {}
    });
}

/// Returns the day until which the papers may be handed in.
fn supplement_request(
    violations: &mut Violations,
    value: &proto::SupplementRequest,
    today: Date,
) -> Option<Date> {
    if value.missing.is_empty() || value.missing.len() > MOST_MISSING {
        violations.add_by_article(
            "missing",
            "ALL_MISSING_PAPERS_AT_ONCE",
            format!("everything missing is named once and all together: 1 to {MOST_MISSING} papers"),
            format!("应当一次性告知需要补充的材料，1至{MOST_MISSING}项"),
            Article::legal_aid_law("43"),
        );
    }
    for (place, paper) in value.missing.iter().take(MOST_MISSING).enumerate() {
        violations.within(&format!("missing[{place}]"), |v| {
            text(v, "description", &paper.description, 2, 200);
            length(v, "form_number", &paper.form_number, 0, 64);
            if let Some(basis) = &paper.required_by {
                v.within("required_by", |v| one_basis(v, basis));
            }
        });
    }
    let due = mandatory_date(violations, "due_on", value.due_on.as_ref());
    if due.is_some_and(|due| due < today) {
        violations.add_by_article(
            "due_on",
            "NOT_IN_THE_PAST",
            "must not be in the past",
            "补正期限不得早于今日",
            Article::legal_aid_law("43"),
        );
    }
    due
}
