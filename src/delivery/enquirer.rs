//! The enquirer: asks a register again that could not answer, and puts its answer in the outbox.
//!
//! A verification is taken together with the REQUEST entry that witnesses the attempt, and moved on together with the
//! RESPONSE entry. If the gateway stops in between, its time runs out and the question is asked again.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use prost::Message;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::courier::backoff;
use super::peers::Peers;
use super::registry::{self, LowIncome, PovertyHousehold, Register};
use crate::access::{Agreement, Directory, Method, Question};
use crate::audit::entry::{Decision, Entry, Field, Phase, PseudonymKey, Salt};
use crate::audit::log::{AppendError, LONGEST_WAIT};
use crate::audit::secret::subject_bytes;
use crate::clock::Clock;
use crate::domain::agency::{PurposeCode, StaffNumber, UnitCode};
use crate::domain::envelope::auditable;
use crate::domain::exchange::{DeliveryId, Kind};
use crate::domain::law::LegalBasis;
use crate::domain::verification::{HouseholdQuery, NoAnswer, VerificationState};
use crate::domain::violation::Violations;
use crate::entropy;
use crate::grpc::proto;
use crate::grpc::proto::exchange_message::Body;
use crate::grpc::wire::{RegisterAnswer as _, kind_of, shanghai_day, timestamp};
use crate::store::{AuditLog, Effect, NewDelivery, Store, StoreError, VerificationRecord, VerificationStep};
use crate::telemetry::Trace;

/// How often due verifications are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is added to the time of an attempt before it may be taken again.
const SLACK: Duration = Duration::from_secs(30);

/// When and how often to ask again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Time for one attempt.
    pub attempt: Duration,
    /// Wait before the first; doubled after each further one.
    pub first_retry: Duration,
    /// Longest wait.
    pub longest_retry: Duration,
    /// Age at which a verification is given up.
    pub give_up_after: Duration,
    /// Questions at once.
    pub at_once: usize,
}

/// What the enquirer works with.
#[derive(Clone)]
pub struct Enquirer {
    /// The database.
    pub store: Store,
    /// The audit log.
    pub log: AuditLog,
    /// Who may ask whom.
    pub directory: Arc<ArcSwap<Directory>>,
    /// Connections to registries.
    pub peers: Peers,
    /// What time it is.
    pub clock: Clock,
    /// Makes pseudonyms.
    pub pseudonyms: PseudonymKey,
    /// This node's name.
    pub node: String,
    /// Woken when an answer waits in the outbox.
    pub outbox: Arc<Notify>,
    /// When and how often to ask.
    pub patience: Patience,
}

/// A kept question as read again.
struct Kept<R: Register> {
    bytes: Vec<u8>,
    envelope: proto::Envelope,
    query: R::Query,
    asked: HouseholdQuery,
}

/// How a verification ended.
struct Ending<R: Register> {
    state: VerificationState,
    answer: R::Answer,
}

impl Enquirer {
    /// Asks until `stop` ends; attempts in progress are brought to their end.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let at_once = u32::try_from(self.patience.at_once).unwrap_or(u32::MAX);
        loop {
            let due = match self.store.due_verifications(self.clock.now(), at_once).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(%error, "due verifications cannot be read");
                    Vec::new()
                }
            };
            let mut attempts = JoinSet::new();
            for record in due {
                let enquirer = self.clone();
                attempts.spawn(async move { enquirer.complete(&record).await });
            }
            let mut any = false;
            while let Some(moved) = attempts.join_next().await {
                any |= moved.unwrap_or(false);
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = tokio::time::sleep(if any { Duration::ZERO } else { LOOK_EVERY }) => {}
            }
        }
    }

    /// One attempt. Returns whether the verification moved: if not, looking again at once would find it again.
    async fn complete(&self, record: &VerificationRecord) -> bool {
        match record.kind {
            Kind::LowIncomeQuery => self.try_once::<LowIncome>(record, Method::VerifyLowIncome).await,
            Kind::PovertyHouseholdQuery => {
                self.try_once::<PovertyHousehold>(record, Method::VerifyPovertyHousehold).await
            }
            _ => false,
        }
    }

    async fn try_once<R: Register>(&self, record: &VerificationRecord, method: Method) -> bool {
        match self.attempt::<R>(record, method).await {
            Ok(moved) => moved,
            Err(StoreError::Database(error)) => {
                tracing::warn!(%error, verification = %record.verification_id, "kept question cannot be read");
                false
            }
            Err(error) => {
                tracing::error!(%error, verification = %record.verification_id, "kept question cannot be read");
                self.put_back::<R>(record, method).await
            }
        }
    }

    /// Counts an attempt at a question that cannot be read: it waits like any other, holds up none, and is given up at
    /// the same age.
    async fn put_back<R: Register>(&self, record: &VerificationRecord, method: Method) -> bool {
        let now = self.clock.now();
        let mut entry = self.entry(Phase::Refused, now, record, method);
        entry.matter = Some(record.matter_id.clone());
        entry.code = Some("INTERNAL".into());
        entry.reason = Some("QUESTION_UNREADABLE".into());
        let envelope = proto::Envelope {
            matter_id: record.matter_id.clone(),
            kind: kind_of(record.kind).into(),
            ..Default::default()
        };
        let ended = self.is_too_old(record).then(|| {
            let (state, answer) =
                (VerificationState::GivenUp, R::Answer::none(NoAnswer::RegistryUnreachable));
            (state, self.message(record, &envelope, Ending::<R> { state, answer }))
        });
        let (verification_id, attempts) = (record.verification_id, record.attempts);
        let effects =
            vec![Effect::AskAgain { verification_id, attempts, until: now }, self.step(record, ended, now)];
        let moved = self.log.append(entry, Salt(entropy::bytes()), effects).await.is_ok();
        self.outbox.notify_one();
        moved
    }

    /// Asks, with its two entries; or ends without asking what may not be asked any more.
    async fn attempt<R: Register>(
        &self,
        record: &VerificationRecord,
        method: Method,
    ) -> Result<bool, StoreError> {
        let started = self.clock.now();
        let kept = self.kept::<R>(record, started).await?;
        let trace = self.peers.traces().begin();
        let mut entry = self.entry(Phase::Request, started, record, method);
        entry.trace = Some(trace.id().to_owned());
        self.say_why::<R>(&mut entry, &kept);
        let salt = Salt(entropy::bytes());
        let id = &kept.asked.subject.id;
        let subject = subject_bytes(id.kind().as_str(), id.reveal());
        entry.subject_commitment = Some(salt.commit(Field::Subject, &subject));
        entry.request_commitment = Some(salt.commit(Field::Request, &kept.bytes));
        let agreement = match self.may_ask::<R>(record, method, &kept, started) {
            Ok(agreement) => agreement,
            Err(reason) => return Ok(self.give_up(entry, salt, record, kept, reason).await),
        };
        entry.agreement = Some(agreement.reference());
        entry.decision = Some(Decision::Allow);
        let until = started.checked_add(self.patience.attempt + SLACK).unwrap_or(Timestamp::MAX);
        let (verification_id, attempts) = (record.verification_id, record.attempts);
        let take = Effect::AskAgain { verification_id, attempts, until };
        let request_index = match self.log.append(entry, salt, vec![take]).await {
            Ok(index) => index,
            Err(AppendError::Rejected(_)) => return Ok(true),
            Err(_) => return Ok(false),
        };
        let answer = self.ask::<R>(record, &kept, started, &trace).await;
        self.settle::<R>(record, method, request_index, started, (&kept.envelope, &agreement), answer).await;
        Ok(true)
    }

    /// The question, read as it was when it came.
    async fn kept<R: Register>(
        &self,
        record: &VerificationRecord,
        now: Timestamp,
    ) -> Result<Kept<R>, StoreError> {
        let unreadable = || StoreError::Inconsistent { table: "verifications", column: "question" };
        let bytes = self.store.question(&record.verification_id).await?;
        let question = R::Question::decode(bytes.as_slice()).map_err(|_| unreadable())?;
        let (envelope, query) = R::parts(question);
        let asked = R::read(&mut Violations::new(), query.as_ref(), now).ok_or_else(unreadable)?;
        let (envelope, query) = (envelope.ok_or_else(unreadable)?, query.ok_or_else(unreadable)?);
        Ok(Kept { bytes, envelope, query, asked })
    }

    /// The agreement that allows the question today, or why none does.
    fn may_ask<R: Register>(
        &self,
        record: &VerificationRecord,
        method: Method,
        kept: &Kept<R>,
        now: Timestamp,
    ) -> Result<Arc<Agreement>, &'static str> {
        let directory = self.directory.load();
        if !directory.is_active(&record.caller) {
            return Err("AGENCY_NOT_ACTIVE");
        }
        let envelope = &kept.envelope;
        let purpose = PurposeCode::parse(&envelope.purpose).map_err(|_| "PURPOSE_NOT_AGREED")?;
        let operator = envelope.operator.as_ref();
        let unit = operator.and_then(|operator| UnitCode::parse(&operator.unit).ok());
        let staff_number = operator.and_then(|operator| StaffNumber::parse(&operator.staff_number).ok());
        let bases = envelope.legal_basis.iter();
        let legal_basis: Vec<_> =
            bases.filter_map(|basis| LegalBasis::parse(&basis.law, &basis.article).ok()).collect();
        let question = Question {
            unit: unit.as_ref(),
            operator: staff_number.as_ref(),
            kind: Some(record.kind),
            counterpart: Some(&record.registry),
            legal_basis: Some(&legal_basis),
            programmes: &R::programmes(&kept.query),
            ..Question::new(&record.caller, method, Some(&purpose), shanghai_day(now))
        };
        directory.decide(&question).map(Arc::clone).map_err(|denial| denial.reason())
    }

    async fn ask<R: Register>(
        &self,
        record: &VerificationRecord,
        kept: &Kept<R>,
        now: Timestamp,
        trace: &Trace,
    ) -> Result<R::Answer, NoAnswer> {
        let registry = {
            let directory = self.directory.load();
            let active = directory.is_active(&record.registry);
            directory.agency(&record.registry).filter(|_| active).cloned()
        };
        let registry = registry.ok_or(NoAnswer::RegistryUnreachable)?;
        // A copy of the query, so that the question can be read again for the answer's delivery.
        let query =
            R::Query::decode(kept.query.encode_to_vec().as_slice()).map_err(|_| NoAnswer::RegistryError)?;
        let question = registry::question::<R>(kept.envelope.clone(), query, &kept.asked);
        let asking = registry::Asking { caller: record.caller, asked: &kept.asked, today: shanghai_day(now) };
        let within = registry::Within { trace, at: now };
        registry::ask::<R>(&self.peers, &registry, question, asking, self.patience.attempt, within).await
    }

    /// Writes how the attempt ended, as long as it takes: until then its REQUEST is open.
    async fn settle<R: Register>(
        &self,
        record: &VerificationRecord,
        method: Method,
        request_index: u64,
        started: Timestamp,
        (envelope, agreement): (&proto::Envelope, &Agreement),
        answer: Result<R::Answer, NoAnswer>,
    ) {
        let (mut answer, mut reason) = match answer {
            Ok(answer) => (answer, None),
            Err(why) => (R::Answer::none(why), Some(why.as_str())),
        };
        let withheld = registry::withhold::<R>(&mut answer, agreement);
        let withheld: Vec<_> = withheld.iter().map(|field| field.as_str().into()).collect();
        let answer_bytes = answer.encode_to_vec();
        let unavailable = answer.outline().result == proto::VerificationResult::Unavailable;
        let ending = match (unavailable, self.is_too_old(record)) {
            (false, _) => Some(Ending::<R> { state: VerificationState::Answered, answer }),
            (true, true) => Some(Ending { state: VerificationState::GivenUp, answer }),
            (true, false) => None,
        };
        let message = ending.map(|ending| (ending.state, self.message(record, envelope, ending)));
        let (mut lost, mut wait) = (false, Duration::from_millis(100));
        loop {
            let now = self.clock.now();
            let mut entry = self.entry(Phase::Response, started, record, method);
            let salt = Salt(entropy::bytes());
            entry.request_index = Some(request_index);
            entry.code = Some("OK".into());
            entry.reason = reason.map(Into::into);
            entry.withheld.clone_from(&withheld);
            entry.duration_us = u64::try_from(now.duration_since(started).as_micros()).ok();
            entry.response_commitment = Some(salt.commit(Field::Response, &answer_bytes));
            let effects = if lost { Vec::new() } else { vec![self.step(record, message.clone(), now)] };
            match self.log.conclude(entry, salt, effects).await {
                // Ended already: a batch that seemed to fail became durable after all.
                Ok(_) | Err(AppendError::AlreadyEnded) => break,
                Err(AppendError::Rejected(_)) => {
                    // Its time ran out and it was asked again meanwhile: only the entry is left to write.
                    lost = true;
                    reason = Some("ATTEMPT_LOST");
                }
                Err(AppendError::Overloaded | AppendError::Unavailable) => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
        self.outbox.notify_one();
    }

    fn is_too_old(&self, record: &VerificationRecord) -> bool {
        let age = self.clock.now().duration_since(record.created);
        age >= SignedDuration::try_from(self.patience.give_up_after).unwrap_or(SignedDuration::MAX)
    }

    /// Ends a verification whose question may not be asked any more: one entry, and the centre is told.
    async fn give_up<R: Register>(
        &self,
        mut entry: Entry,
        salt: Salt,
        record: &VerificationRecord,
        kept: Kept<R>,
        reason: &'static str,
    ) -> bool {
        entry.phase = Phase::Refused;
        entry.decision = Some(Decision::Deny);
        entry.code = Some("PERMISSION_DENIED".into());
        entry.reason = Some(reason.into());
        let answer = R::Answer::none(NoAnswer::RegistryUnreachable);
        let state = VerificationState::GivenUp;
        let message = self.message(record, &kept.envelope, Ending::<R> { state, answer });
        let (verification_id, attempts) = (record.verification_id, record.attempts);
        let at = self.clock.now();
        let step = VerificationStep::Ended { state, message, delivery: self.delivery(record) };
        let step = Effect::Step { verification_id, attempts, step, at };
        let moved = self.log.append(entry, salt, vec![step]).await.is_ok();
        self.outbox.notify_one();
        moved
    }

    /// The message to the centre, sealed for its place.
    fn message<R: Register>(
        &self,
        record: &VerificationRecord,
        envelope: &proto::Envelope,
        Ending { mut answer, .. }: Ending<R>,
    ) -> Vec<u8> {
        answer.advise();
        let thread = record.verification_id.thread();
        let message = proto::ExchangeMessage {
            exchange_id: thread.to_string(),
            sequence: 1,
            envelope: Some(envelope.clone()),
            accept_time: Some(timestamp(self.clock.now())),
            body: Some(Body::Verification(proto::VerificationOutcome {
                verification_id: record.verification_id.to_string(),
                registry: record.registry.to_string(),
                request_id: envelope.request_id.clone(),
                answer: Some(R::outcome(answer)),
            })),
        };
        self.store.seal_message(&thread, 1, &message.encode_to_vec())
    }

    fn step(
        &self,
        record: &VerificationRecord,
        ended: Option<(VerificationState, Vec<u8>)>,
        now: Timestamp,
    ) -> Effect {
        let Patience { first_retry, longest_retry, .. } = self.patience;
        let step = match ended {
            Some((state, message)) => {
                VerificationStep::Ended { state, message, delivery: self.delivery(record) }
            }
            None => {
                let wait = backoff(first_retry, longest_retry, record.attempts + 1, entropy::bytes::<1>()[0]);
                VerificationStep::Retry { due: now.checked_add(wait).unwrap_or(Timestamp::MAX) }
            }
        };
        Effect::Step { verification_id: record.verification_id, attempts: record.attempts + 1, step, at: now }
    }

    fn delivery(&self, record: &VerificationRecord) -> NewDelivery {
        let delivery_id = DeliveryId::new(entropy::uuid_v7(self.clock.now()));
        NewDelivery { delivery_id, sender: record.registry, recipient: record.caller }
    }

    /// The centre asks, by what it agreed: an attempt is logged as its first question was, but for a certificate.
    fn entry(&self, phase: Phase, occurred: Timestamp, record: &VerificationRecord, method: Method) -> Entry {
        let id = entropy::uuid_v7(self.clock.now());
        let mut entry = Entry::new(id, phase, occurred, method.service(), method.name(), &self.node);
        entry.caller = Some(record.caller.to_string());
        entry.counterpart = Some(record.registry.to_string());
        entry.exchange = Some(record.verification_id.thread().uuid());
        entry.kind = Some(record.kind.as_str().into());
        entry
    }

    fn say_why<R: Register>(&self, entry: &mut Entry, kept: &Kept<R>) {
        let id = &kept.asked.subject.id;
        let operator = kept.envelope.operator.clone().unwrap_or_default();
        entry.reason = Some("ASKED_AGAIN".into());
        entry.subject = Some(self.pseudonyms.pseudonym(id.kind().as_str(), id.reveal()));
        entry.matter = Some(kept.envelope.matter_id.clone());
        let bases = kept.envelope.legal_basis.iter();
        let bases = bases.filter_map(|basis| LegalBasis::parse(&basis.law, &basis.article).ok());
        entry.legal_basis = bases.map(|basis| auditable(&basis)).collect();
        entry.purpose = Some(kept.envelope.purpose.clone());
        entry.unit = Some(operator.unit);
        entry.operator = Some(operator.staff_number);
    }
}
