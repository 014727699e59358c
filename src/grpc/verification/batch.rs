//! Many questions on one stream. Each is a call of its own, with its own request id, access, entries and outcome; what is
//! wrong with one is that one's result.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::{Response, Status};
use tonic_types::StatusExt as _;

use super::Verify;
use crate::access::{self, BatchTerms, Method};
use crate::delivery::registry::{LowIncome, PovertyHousehold, Register as _};
use crate::domain::agency::{CreditCode, PurposeCode};
use crate::domain::region::RegionCode;
use crate::grpc::call::Call;
use crate::grpc::intake::Intake;
use crate::grpc::intake::streams::{Incoming, Outgoing, Receiving, Sending};
use crate::grpc::operation::{Facts, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::proto::batch_verify_request::Question;
use crate::grpc::proto::batch_verify_response::Result as Outcome;
use crate::grpc::status::{LOG_INDEX_HEADER, Refusal};
use crate::grpc::wire::{call_context, shanghai_day};

/// How long one question of a batch may take.
const QUESTION: Duration = Duration::from_secs(10);

/// How far a batch that was held up may catch up with its rate.
const CATCH_UP: Duration = Duration::from_millis(100);

/// `VerificationService.BatchVerify`.
pub(super) struct BatchVerify;

/// A batch as begun.
pub(super) struct Batch {
    /// A question in the first message.
    first: Option<Question>,
    rest: Option<Incoming<proto::BatchVerifyRequest>>,
}

impl Operation for BatchVerify {
    const METHOD: Method = Method::BatchVerify;
    type Request = proto::BatchVerifyRequest;
    type Response = proto::BatchVerifyResponse;
    type Task = Batch;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Batch> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        Some(Batch { first: request.question, rest: None })
    }
}

impl Receiving for BatchVerify {
    fn attach(task: &mut Batch, rest: Incoming<proto::BatchVerifyRequest>) {
        task.rest = Some(rest);
    }
}

impl Sending for BatchVerify {
    async fn prepare(_: &Intake, _: &Call, _: &mut Batch, _: &mut Facts) -> Result<(), Refusal> {
        Ok(())
    }

    /// Reads a question only when there is a place for it: what waits, waits with the caller.
    async fn send(
        intake: &Arc<Intake>,
        call: &Call,
        task: Batch,
        facts: &Facts,
        out: &mut Outgoing<Self::Response>,
    ) -> Result<(), Refusal> {
        let Batch { first, rest } = task;
        let mut rest = rest.ok_or(Refusal::Internal)?;
        let pace = {
            let directory = intake.directory.load();
            let agreement = facts.agreement.as_ref().ok_or(Refusal::Internal)?;
            intake.paces.of(&call.caller(), &agreement.id, directory.batch_terms(&agreement.id))
        };
        let mut items = JoinSet::new();
        let mut number = 0;
        let mut begin = |items: &mut JoinSet<_>, question| {
            number += 1;
            let (intake, call, pace, number) = (Arc::clone(intake), call.clone(), Arc::clone(&pace), number);
            items.spawn(async move { answer(&intake, &call, &pace, number, question).await });
        };
        if let Some(question) = first {
            begin(&mut items, Some(question));
        }
        let mut ending = None;
        while ending.is_none() || !items.is_empty() {
            tokio::select! {
                biased;
                Some(done) = items.join_next(), if !items.is_empty() => {
                    out.send(done.map_err(|_| Refusal::Internal)?).await?;
                }
                refusal = out.ended(), if ending.is_none() => ending = Some(Err(refusal)),
                next = rest.next(), if ending.is_none() && items.len() < pace.terms.at_once => match next {
                    Ok(Some(message)) => begin(&mut items, message.question),
                    Ok(None) => ending = Some(Ok(())),
                    Err(refusal) => ending = Some(Err(refusal)),
                },
            }
        }
        ending.unwrap_or(Ok(()))
    }
}

/// One question, to its result.
async fn answer(
    intake: &Arc<Intake>,
    stream: &Call,
    stream_pace: &Arc<Pace>,
    number: u64,
    question: Option<Question>,
) -> proto::BatchVerifyResponse {
    let pace = question.as_ref().and_then(|question| own_pace(intake, stream, question));
    let pace = pace.as_ref().unwrap_or(stream_pace);
    let _place = pace.place().await;
    let request_id = |envelope: Option<&proto::Envelope>| {
        // What is no request id is not repeated: it is the caller's text.
        let text = envelope.map(|envelope| envelope.request_id.as_str()).unwrap_or_default();
        crate::domain::exchange::RequestId::parse(text).map(|id| id.to_string()).unwrap_or_default()
    };
    let (request_id, outcome) = match question {
        Some(Question::LowIncome(question)) => {
            let id = request_id(question.envelope.as_ref());
            let answer = intake.carry_out_item::<Verify<LowIncome>>(stream, question, QUESTION).await;
            (id, answer.map(Response::into_inner).map(Outcome::LowIncome))
        }
        Some(Question::PovertyHousehold(question)) => {
            let id = request_id(question.envelope.as_ref());
            let answer = intake.carry_out_item::<Verify<PovertyHousehold>>(stream, question, QUESTION).await;
            (id, answer.map(Response::into_inner).map(Outcome::PovertyHousehold))
        }
        None => {
            let call = stream.within(intake.clock.now(), Method::BatchVerify, QUESTION);
            let mut violations = crate::domain::violation::Violations::new();
            let _: Option<()> = violations.require("question", None);
            let refusal = Refusal::Invalid(violations.into_vec());
            (String::new(), Err(intake.refuse(&call, &Facts::default(), refusal).await))
        }
    };
    let outcome = outcome.unwrap_or_else(|status| Outcome::Refusal(refused(&status)));
    proto::BatchVerifyResponse { number, request_id, result: Some(outcome), audit: None }
}

/// The pace of the agreement that allows the question, which need not be the one that the stream was begun under.
/// Nothing where none does: the question is refused then.
fn own_pace(intake: &Intake, stream: &Call, question: &Question) -> Option<Arc<Pace>> {
    let (method, keeper, envelope, subject) = match question {
        Question::LowIncome(question) => {
            let subject = question.query.as_ref()?.subject.as_ref()?;
            (Method::VerifyLowIncome, LowIncome::KEEPER, question.envelope.as_ref()?, subject)
        }
        Question::PovertyHousehold(question) => {
            let subject = question.query.as_ref()?.subject.as_ref()?;
            (Method::VerifyPovertyHousehold, PovertyHousehold::KEEPER, question.envelope.as_ref()?, subject)
        }
    };
    let (caller, directory) = (stream.caller(), intake.directory.load());
    let registry = if envelope.recipient.is_empty() {
        directory.responsible(keeper, RegionCode::parse(&subject.household_region).ok()?)?.code
    } else {
        CreditCode::parse(&envelope.recipient).ok()?
    };
    let purpose = PurposeCode::parse(&envelope.purpose).ok()?;
    let today = shanghai_day(intake.clock.now());
    let question = access::Question {
        counterpart: Some(&registry),
        is_early: true,
        ..access::Question::new(&caller, method, Some(&purpose), today)
    };
    let agreement = directory.decide(&question).ok()?;
    Some(intake.paces.of(&caller, &agreement.id, agreement.batch.unwrap_or_default()))
}

/// A refusal as a result: what the status of a call alone would have said.
fn refused(status: &Status) -> proto::ItemRefusal {
    let details = status.get_error_details();
    let index = status.metadata().get(LOG_INDEX_HEADER).and_then(|index| index.to_str().ok()?.parse().ok());
    let violation = |found: &tonic_types::FieldViolation| proto::ItemViolation {
        field: found.field.clone(),
        rule: found.reason.clone(),
        description: found.description.clone(),
        description_zh: found.localized_message.as_ref().map(|text| text.message.clone()).unwrap_or_default(),
    };
    let violations = details.bad_request().map(|bad| bad.field_violations.iter().map(violation).collect());
    proto::ItemRefusal {
        code: i32::from(status.code()).unsigned_abs(),
        reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
        description: status.message().to_owned(),
        violations: violations.unwrap_or_default(),
        may_retry: details.retry_info().is_some(),
        audit: index.map(|log_index| proto::AuditReceipt { log_index }),
    }
}

/// How fast each agreement lets the batches of each agency go, over all its streams under it.
#[derive(Default)]
pub struct Paces(Mutex<HashMap<(CreditCode, String), Arc<Pace>>>);

impl Paces {
    /// The pace of an agreement; anew where its terms have changed.
    fn of(&self, caller: &CreditCode, agreement: &str, terms: BatchTerms) -> Arc<Pace> {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (*caller, agreement.to_owned());
        match paces.get(&key) {
            Some(pace) if pace.terms == terms => Arc::clone(pace),
            _ => {
                let pace = Arc::new(Pace::new(terms));
                paces.insert(key, Arc::clone(&pace));
                pace
            }
        }
    }
}

/// Lets so many questions through at once, and so many in a second.
struct Pace {
    terms: BatchTerms,
    places: Semaphore,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(terms: BatchTerms) -> Self {
        Self { terms, places: Semaphore::new(terms.at_once), next: Mutex::new(Instant::now()) }
    }

    /// Waits for a place and for its time.
    async fn place(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // The semaphore is never closed.
        let place = self.places.acquire().await.ok();
        let at = self.time(Instant::now());
        tokio::time::sleep_until(at.into()).await;
        place
    }

    /// Takes the next time.
    fn time(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*next).max(now.checked_sub(CATCH_UP).unwrap_or(now));
        *next = at + Duration::from_secs(1) / self.terms.per_second;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_gives_out_no_more_times_in_a_second_than_agreed() {
        let pace = Pace::new(BatchTerms { at_once: 4, per_second: 50 });
        let start = Instant::now() + Duration::from_secs(1);
        let times: Vec<_> = (0..100).map(|_| pace.time(start)).collect();
        let within = |from: Instant| {
            times.iter().filter(|at| (from..from + Duration::from_secs(1)).contains(*at)).count()
        };
        assert!(times.iter().all(|at| within(*at) <= 50));
        assert_eq!(times[99] - times[0], Duration::from_millis(99 * 20));
    }
}
