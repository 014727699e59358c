//! How a call is taken in: allowed, read, witnessed, carried out, witnessed again, answered.
//!
//! No answer leaves before its entry is durable. A call with effect has two entries, REQUEST before anything is
//! dispatched and RESPONSE before the answer; a local read or a refusal has one.

mod access;
mod entries;
mod peer;
mod retry;
pub(super) mod streams;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

use super::agreement::AgreementBook;
use super::attachment::AttachmentLimits;
use super::audit::FindingRules;
use super::call::Call;
use super::capacity::Turns;
use super::code_name;
use super::operation::{Done, Effectful, Facts, Lookup, Witnessed};
use super::proto;
use super::status::{LOG_INDEX_HEADER, Refusal};
use crate::access::{Denial, Directory, Method};
use crate::audit::entry::{Decision, Entry, Field, Phase, PseudonymKey, Salt};
use crate::audit::log::{AppendError, LONGEST_WAIT};
use crate::audit::witnessed::Standing;
use crate::clock::Clock;
use crate::delivery::peers::Peers;
use crate::domain::agency::CreditCode;
use crate::domain::clocks::Clocks;
use crate::domain::eligibility::RuleSets;
use crate::domain::exchange::RequestId;
use crate::store::{AuditLog, Effect, Rejection, SearchIndex, Store, StoreError};
use crate::{entropy, fault};

/// Everything that calls are carried out with.
pub struct Intake {
    /// The database.
    pub store: Store,
    /// By what the log's entries are found.
    pub index: SearchIndex,
    /// The audit log.
    pub log: AuditLog,
    /// Agencies and agreements.
    pub directory: Arc<ArcSwap<Directory>>,
    /// Keeps the directory's agreements as the database has them.
    pub agreements: AgreementBook,
    /// Registries and inboxes.
    pub peers: Peers,
    /// Rules of eligibility.
    pub rules: Arc<ArcSwap<RuleSets>>,
    /// The clocks of the law.
    pub clocks: Arc<Clocks>,
    /// What time it is.
    pub clock: Clock,
    /// Makes pseudonyms and page tokens.
    pub pseudonyms: PseudonymKey,
    /// This node's name.
    pub node: String,
    /// How long a pulled delivery is leased.
    pub lease: Duration,
    /// How long after an UNAVAILABLE answer a registry is asked again.
    pub ask_again_after: Duration,
    /// Whose turn it is.
    pub turns: Turns,
    /// How fast batches go.
    pub paces: super::verification::Paces,
    /// Woken when something new waits in the outbox.
    pub outbox: Arc<tokio::sync::Notify>,
    /// Becomes true when the gateway is about to stop: streams without an end are ended then.
    pub stopping: tokio::sync::watch::Receiver<bool>,
    /// How often a watch gives a sign of life.
    pub heartbeat: Duration,
    /// How far the log's witnesses are.
    pub witnesses: tokio::sync::watch::Receiver<Standing>,
    /// Bounds on attachments.
    pub attachments: AttachmentLimits,
    /// Rules that look for what is odd in the log.
    pub findings: FindingRules,
}

/// How an attempt to make an answer durable ended.
enum Concluded {
    /// It is, at this index.
    Durable(u64),
    /// The log failed.
    Unwitnessed(Status),
    /// What it rests on changed meanwhile; nothing was written.
    Conflict,
}

/// What is kept of the caller's time, while a registry is asked, to write the answer's entry and send it.
pub(super) const RESERVE: Duration = Duration::from_millis(100);

/// How often a call is carried out again when what it rests on changed meanwhile.
const MOST_ATTEMPTS: u32 = 3;

impl Intake {
    /// A call that came in. Without the database's server there is no evidence and no answer, and nobody waits for it.
    fn take_in<M>(&self, method: Method, request: tonic::Request<M>) -> Result<(Call, M), Status> {
        let (call, message) = Call::of(method, request)?;
        if self.store.log_writes().is_away() {
            call.mark_witnessed();
            return Err(Refusal::LogUnavailable.into_status(None));
        }
        Ok((call, message))
    }

    /// Takes in a call with effect. It runs in its own task: a caller that goes away does not cut it in two.
    pub(crate) async fn carry_out<O: Effectful>(
        self: &Arc<Self>,
        request: tonic::Request<O::Request>,
    ) -> Result<Response<O::Response>, Status> {
        let (call, message) = self.take_in(O::METHOD, request)?;
        if !self.store.log_writes().is_failing()
            && let Err(late) = call.take_turn(&self.turns).await
        {
            return Err(self.refuse(&call, &Facts::default(), late).await);
        }
        let (intake, of_task) = (Arc::clone(self), call.clone());
        let answer = in_own_task(async move { intake.conduct::<O>(&of_task, message, |_| ()).await }).await;
        call.pass_turn_on();
        match answer {
            Some(answer) => answer,
            None => Err(self.after_panic(&call).await),
        }
    }

    /// A method that panicked is witnessed like any other that failed.
    async fn after_panic(&self, call: &Call) -> Status {
        tracing::error!(method = call.method_name(), "a method panicked");
        match call.open_request().cloned() {
            Some((request_index, request_id, facts)) => {
                self.fail(call, facts, request_id, request_index, Refusal::Internal).await
            }
            None => self.refuse(call, &Facts::default(), Refusal::Internal).await,
        }
    }

    /// Takes in a call that only reads.
    pub(crate) async fn look_up<O: Lookup>(
        self: &Arc<Self>,
        request: tonic::Request<O::Request>,
    ) -> Result<Response<O::Response>, Status> {
        let (call, message) = self.take_in(O::METHOD, request)?;
        let (intake, of_task) = (Arc::clone(self), call.clone());
        match in_own_task(async move { intake.read::<O>(&of_task, message).await }).await {
            Some(answer) => answer,
            None => Err(self.after_panic(&call).await),
        }
    }

    /// `complete` adds to the task what is not of the message, such as the rest of a stream. (What is rarely run is boxed:
    /// it would make the future of every call larger, and that is copied when the call's task begins.)
    async fn conduct<O: Effectful>(
        &self,
        call: &Call,
        message: O::Request,
        complete: impl FnOnce(&mut O::Task) + Send,
    ) -> Result<Response<O::Response>, Status> {
        let request = message.encode_to_vec();
        let digest = self.pseudonyms.tag(O::METHOD.name(), &request);
        let (mut facts, admitted) = self.admit::<O>(call, message);
        let mut task = match admitted {
            Ok(task) => task,
            Err(refusal) => {
                return Box::pin(self.refuse_unless_answered::<O>(call, facts, digest, refusal)).await;
            }
        };
        complete(&mut task);
        if let Err(refusal) = self.has_quota_left(call, O::METHOD, &mut facts).await {
            return Box::pin(self.refuse_unless_answered::<O>(call, facts, digest, refusal)).await;
        }
        if let Err(refusal) = O::prepare(self, call, &mut task, &mut facts).await {
            let refusal = self.unless_untold(call, O::METHOD, &mut facts, refusal);
            return Box::pin(self.refuse_unless_answered::<O>(call, facts, digest, refusal)).await;
        }
        if let Err(refusal) = self.allow(call, O::METHOD, &mut facts) {
            return Err(Box::pin(self.refuse(call, &facts, refusal)).await);
        }
        let Some(request_id) = facts.request_id else {
            return Err(Box::pin(self.refuse(call, &facts, Refusal::Internal)).await);
        };
        if self.witnesses.borrow().stopped {
            let refused = self.refuse_unless_answered::<O>(call, facts, digest, Refusal::WitnessLag);
            return Box::pin(refused).await;
        }
        // A retry of what was answered must not take the last room of a quota from another call of its batch.
        if self.counting(call, &facts).is_some()
            && let Some(replayed) = Box::pin(self.replay::<O>(call, &facts, request_id, digest)).await
        {
            return replayed;
        }
        let request_index = loop {
            let claim = Effect::Claim { caller: call.caller(), request_id, digest };
            match self.witness_request(call, &facts, &request, Some(claim)).await {
                Ok(index) => break index,
                Err(AppendError::Rejected(Rejection::QuotaSpent)) => {
                    if let Err(spent) = self.allow_by_another(call, O::METHOD, &mut facts).await {
                        return Box::pin(self.refuse_unless_answered::<O>(call, facts, digest, spent)).await;
                    }
                    continue;
                }
                Err(AppendError::Rejected(_)) => {}
                Err(error) => return Err(self.unwitnessed(call, &error)),
            }
            if let Some(replayed) = Box::pin(self.replay::<O>(call, &facts, request_id, digest)).await {
                return replayed;
            }
            // The claim that was in the way is not there: released, or of the same batch and not yet durable. The id
            // is claimed anew; in the latter case that comes behind the first, and finds it.
            if call.time_left().is_zero() {
                return Err(Box::pin(self.refuse(call, &facts, Refusal::StillRunning)).await);
            }
        };
        call.opened(request_index, request_id, facts.named());
        fault::end_point("request.durable");
        if let Some(agreement) = &facts.allowed_by {
            O::allowed(&mut task, agreement);
        }
        let mut attempt = 1;
        loop {
            let outcome = match timeout(call.time_left(), O::act(self, call, &mut task)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Refusal::DeadlineExceeded),
            };
            let done = match outcome {
                Ok(done) => done,
                Err(refusal) => {
                    return Err(Box::pin(self.fail(call, facts, request_id, request_index, refusal)).await);
                }
            };
            facts.withheld = O::withheld(&task);
            let (mut response, done) = done.encoded();
            match self.conclude(call, &facts, request_id, request_index, done).await {
                Concluded::Durable(index) => {
                    response.witness(proto::AuditReceipt { log_index: index });
                    return Ok(answer_with_index(response, index));
                }
                Concluded::Unwitnessed(status) => return Err(status),
                Concluded::Conflict if attempt < MOST_ATTEMPTS => attempt += 1,
                Concluded::Conflict => {
                    let failed = self.fail(call, facts, request_id, request_index, Refusal::Conflict);
                    return Err(Box::pin(failed).await);
                }
            }
            // What it rests on changed meanwhile, as when a court's receipt overtakes the courier's own note.
            if let Err(refusal) = O::prepare(self, call, &mut task, &mut facts).await {
                return Err(Box::pin(self.fail(call, facts, request_id, request_index, refusal)).await);
            }
        }
    }

    /// Makes a call's REQUEST durable, with `claim` and what the call counts against.
    async fn witness_request(
        &self,
        call: &Call,
        facts: &Facts,
        request: &[u8],
        claim: Option<Effect>,
    ) -> Result<u64, AppendError<Rejection>> {
        let salt = Salt(entropy::bytes());
        let mut entry = self.entry(call, Phase::Request, facts, &salt);
        entry.decision = Some(Decision::Allow);
        entry.request_commitment = Some(salt.commit(Field::Request, request));
        let effects = claim.into_iter().chain(self.counting(call, facts)).collect();
        self.log.append(entry, salt, effects).await
    }

    async fn read<O: Lookup>(
        &self,
        call: &Call,
        message: O::Request,
    ) -> Result<Response<O::Response>, Status> {
        let request = message.encode_to_vec();
        let (mut facts, admitted) = self.admit::<O>(call, message);
        let task = match admitted {
            Ok(task) => task,
            Err(refusal) => return Err(self.refuse(call, &facts, refusal).await),
        };
        let allowed = match self.allow(call, O::METHOD, &mut facts) {
            Ok(()) => self.has_quota_left(call, O::METHOD, &mut facts).await,
            refused => refused,
        };
        if let Err(refusal) = allowed {
            return Err(self.refuse(call, &facts, refusal).await);
        }
        let found = match timeout(call.time_left(), O::look_up(self, call, task, &mut facts)).await {
            Ok(found) => found,
            Err(_) => Err(Refusal::DeadlineExceeded),
        };
        // Access is decided again: looking it up may have told the counterpart, and nothing may be left of an agreement.
        let found = match found {
            Ok(response) => self.allow(call, O::METHOD, &mut facts).map(|()| response),
            Err(refusal) => Err(self.unless_untold(call, O::METHOD, &mut facts, refusal)),
        };
        let mut response = match found {
            Ok(response) => response,
            Err(refusal) => return Err(self.refuse(call, &facts, refusal).await),
        };
        let answer = response.encode_to_vec();
        let index = self.witness_reading(call, O::METHOD, facts, &request, &answer).await?;
        drop(answer);
        response.witness(proto::AuditReceipt { log_index: index });
        Ok(answer_with_index(response, index))
    }

    /// Witnesses a call that only reads and what it is answered.
    async fn witness_reading(
        &self,
        call: &Call,
        method: Method,
        mut facts: Facts,
        request: &[u8],
        answer: &[u8],
    ) -> Result<u64, Status> {
        if !call.has_room_for_answer(answer.len()) {
            return Err(self.refuse(call, &facts, Refusal::NoRoom).await);
        }
        loop {
            let salt = Salt(entropy::bytes());
            let mut entry = self.entry(call, Phase::Read, &facts, &salt);
            entry.decision = Some(Decision::Allow);
            entry.code = Some("OK".into());
            entry.request_commitment = Some(salt.commit(Field::Request, request));
            entry.response_commitment = Some(salt.commit(Field::Response, answer));
            let effects = self.counting(call, &facts).into_iter().collect();
            match self.log.append(entry, salt, effects).await {
                Ok(index) => {
                    call.mark_witnessed();
                    return Ok(index);
                }
                Err(AppendError::Rejected(Rejection::QuotaSpent)) => {
                    if let Err(spent) = self.allow_by_another(call, method, &mut facts).await {
                        return Err(self.refuse(call, &facts, spent).await);
                    }
                }
                Err(error) => return Err(self.unwitnessed(call, &error)),
            }
        }
    }

    /// Refuses a call before anything was dispatched: one entry, then the answer.
    pub(crate) async fn refuse(&self, call: &Call, facts: &Facts, refusal: Refusal) -> Status {
        let salt = Salt(entropy::bytes());
        let mut entry = self.entry(call, Phase::Refused, facts, &salt);
        let denial = refusal.denial();
        entry.decision = refusal.is_denial().then_some(Decision::Deny);
        entry.code = Some(code_name(refusal.code()).into());
        entry.reason = Some(denial.map_or(refusal.reason(), Denial::reason).into());
        entry.considered = denial.iter().flat_map(|denial| denial.considered()).collect();
        match self.log.append(entry, salt, Vec::new()).await {
            Ok(index) => {
                call.mark_witnessed();
                tracing::info!(
                    method = call.method_name(),
                    caller = %call.caller(),
                    reason = denial.map_or(refusal.reason(), Denial::reason),
                    considered = denial.map(|denial| denial.considered().collect::<Vec<_>>().join("; ")),
                    log_index = index,
                    "refused"
                );
                refusal.into_status(Some(index))
            }
            Err(error) => self.unwitnessed(call, &error),
        }
    }

    /// Witnesses what was done, and makes it durable.
    async fn conclude(
        &self,
        call: &Call,
        facts: &Facts,
        request_id: RequestId,
        request_index: u64,
        done: Done<Vec<u8>>,
    ) -> Concluded {
        let Done { response, mut effects, reason, exchange } = done;
        call.count_answer(response.len());
        let salt = Salt(entropy::bytes());
        let mut entry = self.response_entry(call, facts, request_index);
        if let Some(exchange) = exchange {
            entry.exchange = Some(exchange.uuid());
        }
        entry.code = Some("OK".into());
        entry.reason = reason.map(Into::into);
        entry.response_commitment = Some(salt.commit(Field::Response, &response));
        effects.push(Effect::Outcome {
            caller: call.caller(),
            request_id,
            request_index,
            response: self.store.seal_outcome(request_index, &response),
            at: self.clock.now(),
        });
        match self.log.conclude(entry, salt, effects).await {
            Ok(index) => {
                fault::end_point("answer.durable");
                call.mark_witnessed();
                Concluded::Durable(index)
            }
            Err(AppendError::Rejected(_)) => Concluded::Conflict,
            Err(error) => {
                self.close_later(call, facts, request_id, request_index);
                Concluded::Unwitnessed(self.unwitnessed(call, &error))
            }
        }
    }

    /// Witnesses that a call failed after its REQUEST, gives its request id back, and answers.
    async fn fail(
        &self,
        call: &Call,
        facts: Facts,
        request_id: RequestId,
        request_index: u64,
        refusal: Refusal,
    ) -> Status {
        let mut entry = self.response_entry(call, &facts, request_index);
        entry.code = Some(code_name(refusal.code()).into());
        entry.reason = Some(refusal.reason().into());
        let release = Effect::Release { caller: call.caller(), request_id, request_index };
        match self.log.conclude(entry, Salt(entropy::bytes()), vec![release]).await {
            Ok(index) => {
                call.mark_witnessed();
                refusal.into_status(Some(index))
            }
            Err(error) => {
                self.close_later(call, &facts, request_id, request_index);
                self.unwitnessed(call, &error)
            }
        }
    }

    /// Closes a REQUEST as interrupted once the log can be written again.
    fn close_later(&self, call: &Call, facts: &Facts, request_id: RequestId, request_index: u64) {
        let entry = self.response_entry(call, facts, request_index);
        let (log, clock) = (self.log.clone(), self.clock.clone());
        close_as_interrupted(log, clock, call.caller(), request_id, request_index, entry);
    }

    /// No evidence, no answer but this one.
    pub(super) fn unwitnessed<R>(&self, call: &Call, error: &AppendError<R>) -> Status {
        call.mark_witnessed();
        tracing::warn!(method = call.method_name(), error = %brief(error), "not answered for want of evidence");
        match error {
            AppendError::Overloaded => Refusal::Overloaded.into_status(None),
            _ => Refusal::LogUnavailable.into_status(None),
        }
    }
}

/// Does the work in a task of its own; `None` when it panicked. (Boxed, because a spawned future is moved several times,
/// and these are large; all of one type, so that the runtime's part of a task is not compiled for each method.)
async fn in_own_task<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let (done, outcome) = oneshot::channel();
    let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        let _ = done.send(work.await);
    });
    tokio::spawn(task);
    outcome.await.ok()
}

/// Closes a REQUEST as interrupted once the log can be written again. How many wait is bounded by the calls that
/// were in progress when it failed: no new REQUEST is written meanwhile.
pub(super) fn close_as_interrupted(
    log: AuditLog,
    clock: Clock,
    caller: CreditCode,
    request_id: RequestId,
    request_index: u64,
    end: Entry,
) {
    let end = Entry { phase: Phase::Interrupted, reason: Some("INTERRUPTED".into()), ..end };
    tokio::spawn(async move {
        let mut wait = Duration::from_millis(200);
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            let entry = Entry { id: entropy::uuid_v7(clock.now()), ..end.clone() };
            let release = Effect::Release { caller, request_id, request_index };
            match log.conclude(entry, Salt(entropy::bytes()), vec![release]).await {
                // Ended already: the failed batch became durable after all.
                Ok(_) | Err(AppendError::AlreadyEnded | AppendError::Rejected(_)) => return,
                Err(AppendError::Overloaded | AppendError::Unavailable) => {}
            }
        }
    });
}

/// The refusal that a store error amounts to; its detail is for the operator alone.
pub(crate) fn store_refusal(error: &StoreError) -> Refusal {
    tracing::error!(%error, "store");
    match error {
        StoreError::Database(_) => Refusal::StoreUnavailable,
        _ => Refusal::Internal,
    }
}

fn answer_with_index<R>(response: R, index: u64) -> Response<R> {
    let mut response = Response::new(response);
    let mut value = MetadataValue::from(index);
    // Never the same again: kept out of the header tables, where it would only push out what repeats.
    value.set_sensitive(true);
    response.metadata_mut().insert(LOG_INDEX_HEADER, value);
    response
}

fn brief<R>(error: &AppendError<R>) -> &'static str {
    match error {
        AppendError::Rejected(_) => "rejected",
        AppendError::Overloaded => "queue full",
        AppendError::Unavailable => "log unavailable",
        AppendError::AlreadyEnded => "request ended already",
    }
}
