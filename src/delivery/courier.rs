//! The courier: takes what waits in the outbox to the agencies that have an inbox of their own.
//!
//! A delivery is leased together with the REQUEST entry that witnesses the attempt, and settled together with the
//! RESPONSE entry. If the gateway stops in between, the lease runs out and the delivery is made again: at least
//! once on the way, and once in effect, because its id and digest stay the same.

mod ahead;
mod away;
mod round;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use self::round::{Round, Shared};
use crate::access::{Agency, Directory};
use crate::audit::entry::{Entry, Field, Phase, Salt};
use crate::audit::log::{AppendError, LONGEST_WAIT};
use crate::clock::Clock;
use crate::delivery::inboxes::{Inboxes, NotTaken};
use crate::delivery::peers::Peers;
use crate::domain::agency::CreditCode;
use crate::grpc::{code_name, proto};
use crate::identity::certificate::PeerCertificate;
use crate::store::{AuditLog, DeliveryOutcome, DeliveryRecord, Effect, MessageRecord, Store, StoreError};
use crate::telemetry::{Attempts, Span, SpanKind, Trace, Traces};
use crate::{entropy, fault};

/// How often the outbox is looked through when nothing wakes the courier: leases run out silently.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after a look the next one waits, however often it is asked for: what comes meanwhile is found together.
const PAUSE: Duration = Duration::from_millis(5);

/// What the courier calls.
const INBOX_SERVICE: &str = "legalaid.exchange.v1.InboxService";

/// When and how often to try.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Time for one attempt.
    pub attempt: Duration,
    /// How long an attempt holds its delivery; longer than the attempt.
    pub lease: Duration,
    /// Wait after the first failed attempt; doubled after each further one.
    pub first_retry: Duration,
    /// Longest wait.
    pub longest_retry: Duration,
    /// Age at which a delivery is given up.
    pub give_up_after: Duration,
    /// Deliveries at once to one recipient.
    pub per_recipient: usize,
}

/// How an attempt came out for the recipient's round.
#[derive(Clone, Copy, Debug)]
pub enum Attempt {
    /// It was made. Whether anybody was there, who knows what to do with it or not.
    Made {
        /// Whether somebody was.
        reached: bool,
    },
    /// Another has the delivery meanwhile.
    Overtaken,
    /// It could not be begun. Looking again at once would find it again: the next round does, after a pause.
    Stuck,
}

/// What the courier works with.
#[derive(Clone)]
pub struct Courier<I = Peers> {
    /// The database.
    pub store: Store,
    /// The audit log.
    pub log: AuditLog,
    /// Who has an inbox.
    pub directory: Arc<ArcSwap<Directory>>,
    /// The way to inboxes.
    pub inboxes: I,
    /// What time it is.
    pub clock: Clock,
    /// This node's name.
    pub node: String,
    /// The gateway's own certificate, which is renewed: it is the caller of an inbox.
    pub own: Arc<ArcSwap<PeerCertificate>>,
    /// Wakes the courier when something new waits.
    pub outbox: Arc<Notify>,
    /// When and how often to try.
    pub schedule: Schedule,
    /// Throws the dice for the waits between attempts.
    pub dice: fn() -> u8,
    /// Counts how attempts end.
    pub attempts: Arc<Attempts>,
    /// Who is told of attempts.
    pub traces: Traces,
}

/// Dice for [`Courier::dice`] that nobody can foresee.
pub fn fair_dice() -> u8 {
    entropy::bytes::<1>()[0]
}

impl<I: Inboxes> Courier<I> {
    /// Delivers until `stop` ends; attempts in progress are brought to their end.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut rounds = JoinSet::new();
        let mut busy: HashMap<CreditCode, Arc<Notify>> = HashMap::new();
        let shared = Arc::<Shared>::default();
        // Whose round has just found nothing: its end is no reason to begin another at once.
        let mut in_vain = HashSet::new();
        let mut counted: Option<Instant> = None;
        loop {
            let looked = Instant::now();
            if counted.is_none_or(|at| looked.duration_since(at) >= LOOK_EVERY) {
                counted = Some(looked);
                in_vain.clear();
                match self.store.share().await {
                    Ok(share) => shared.share.store(Arc::new(share)),
                    Err(error) => tracing::warn!(%error, "the gateways on the database cannot be counted"),
                }
            }
            match self.waiting(&shared).await {
                Ok(waiting) => {
                    for recipient in waiting.into_iter().filter(|recipient| !in_vain.contains(recipient)) {
                        if let Some(wake) = busy.get(&recipient) {
                            wake.notify_one();
                            continue;
                        }
                        let wake = Arc::<Notify>::default();
                        busy.insert(recipient, Arc::clone(&wake));
                        let round = Round::new(self.clone(), recipient, wake, Arc::clone(&shared));
                        rounds.spawn(round.run());
                    }
                }
                Err(error) => tracing::warn!(%error, "outbox cannot be read"),
            }
            tokio::select! {
                () = &mut stop => break,
                () = self.outbox.notified() => {
                    tokio::time::sleep_until((looked + PAUSE).into()).await;
                    in_vain.clear();
                }
                Some(ended) = rounds.join_next(), if !rounds.is_empty() => {
                    // A round that panicked leaves its recipient for the restart; none is known to.
                    if let Ok(ended) = ended {
                        let wake = busy.remove(&ended.recipient);
                        if ended.in_vain && !was_woken(wake.as_deref()).await {
                            in_vain.insert(ended.recipient);
                        }
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        shared.stopping.store(true, Ordering::Relaxed);
        // Those that wait for something to become due look up.
        busy.values().for_each(|wake| wake.notify_one());
        while rounds.join_next().await.is_some() {}
    }

    /// Agencies with an inbox for which something is due.
    async fn waiting(&self, shared: &Shared) -> Result<Vec<CreditCode>, StoreError> {
        let directory = self.directory.load();
        let now = Instant::now();
        let inboxes: Vec<_> = directory
            .agencies()
            .filter(|agency| agency.endpoint.is_some() && directory.is_active(&agency.code))
            .map(|agency| agency.code)
            .filter(|code| shared.away.allows(code, 1, now) > 0)
            .collect();
        self.store.recipients_due(&inboxes, self.clock.now()).await
    }

    /// An active agency that takes push.
    fn reachable(&self, code: &CreditCode) -> Option<Agency> {
        let directory = self.directory.load();
        let agency = directory.agency(code).filter(|agency| agency.endpoint.is_some());
        agency.filter(|_| directory.is_active(code)).cloned()
    }

    /// One attempt to deliver a message, with its two entries.
    pub async fn attempt(&self, agency: &Agency, record: &DeliveryRecord, message: MessageRecord) -> Attempt {
        let started = self.clock.now();
        let lease = entropy::uuid_v7(started);
        let until = started.checked_add(self.schedule.lease).unwrap_or(Timestamp::MAX);
        let taken = Effect::Lease {
            delivery_id: record.delivery_id,
            attempts: record.attempts,
            lease,
            node: Some(self.node.clone()),
            until,
        };
        let salt = Salt(entropy::bytes());
        let trace = self.traces.begin();
        let mut entry = self.entry(Phase::Request, started, record);
        entry.trace = Some(trace.id().to_owned());
        entry.certificate = Some(HEXLOWER.encode(&self.own.load().spki_sha256));
        entry.request_commitment = Some(salt.commit(Field::Request, &message.message));
        let request_index = match self.log.append(entry, salt, vec![taken]).await {
            Ok(index) => index,
            Err(AppendError::Rejected(_)) => return Attempt::Overtaken,
            Err(_) => return Attempt::Stuck,
        };
        fault::end_point("lease.taken");
        let (began, sent) = (self.clock.now(), Instant::now());
        let (outcome, code) = self.deliver(agency, record, message, &trace).await;
        fault::end_point("delivery.sent");
        self.traces.tell(&Span {
            trace: &trace,
            name: "Deliver",
            service: INBOX_SERVICE,
            kind: SpanKind::Client,
            began,
            took: sent.elapsed(),
            code: code as i32,
            words: &[],
        });
        self.settle(record, lease, request_index, started, outcome, code).await;
        Attempt::Made { reached: somebody_answered(outcome) }
    }

    /// Hands the message over.
    async fn deliver(
        &self,
        agency: &Agency,
        record: &DeliveryRecord,
        message: MessageRecord,
        trace: &Trace,
    ) -> (DeliveryOutcome, Code) {
        let delivery = proto::Delivery {
            delivery_id: record.delivery_id.to_string(),
            message: message.message,
            message_sha256: message.sha256.to_vec(),
            attempt: record.attempts + 1,
        };
        match self.inboxes.hand_over(agency, delivery, self.schedule.attempt, trace).await {
            Ok(answer) if answer.message_sha256 == message.sha256 => (DeliveryOutcome::Delivered, Code::Ok),
            Ok(_) => (self.retry(record, "INBOX_DIGEST_DIFFERS", None), Code::Internal),
            // It has had this delivery before, and says so by a status.
            Err(NotTaken::Refused(status)) if status.code() == Code::AlreadyExists => {
                (DeliveryOutcome::Delivered, Code::AlreadyExists)
            }
            Err(NotTaken::Refused(status)) => {
                (self.retry(record, failure(status.code()), wait_asked_for(&status)), status.code())
            }
            Err(NotTaken::NoWay) => (self.retry(record, "INBOX_UNREACHABLE", None), Code::Unavailable),
            Err(NotTaken::TimedOut) => (self.retry(record, "INBOX_TIMED_OUT", None), Code::DeadlineExceeded),
        }
    }

    /// Later, or given up for age. The recipient may ask for a wait of its own.
    fn retry(
        &self,
        record: &DeliveryRecord,
        reason: &'static str,
        asked: Option<Duration>,
    ) -> DeliveryOutcome {
        let now = self.clock.now();
        let age = now.duration_since(record.since);
        if age >= SignedDuration::try_from(self.schedule.give_up_after).unwrap_or(SignedDuration::MAX) {
            return DeliveryOutcome::Dead { reason };
        }
        let Schedule { first_retry, longest_retry, .. } = self.schedule;
        let attempts = record.attempts.saturating_sub(record.attempts_before);
        let wait = match asked {
            Some(asked) => asked.max(first_retry).min(longest_retry),
            None => backoff(first_retry, longest_retry, attempts, (self.dice)()),
        };
        DeliveryOutcome::Retry { due: now.checked_add(wait).unwrap_or(Timestamp::MAX), reason }
    }

    /// Writes how the attempt ended, as long as it takes: until then its REQUEST is open, and the recipient's round
    /// goes on.
    async fn settle(
        &self,
        record: &DeliveryRecord,
        lease: Uuid,
        request_index: u64,
        started: Timestamp,
        outcome: DeliveryOutcome,
        code: Code,
    ) {
        let mut reason = match outcome {
            DeliveryOutcome::Delivered => None,
            DeliveryOutcome::Retry { reason, .. } | DeliveryOutcome::Dead { reason } => Some(reason),
        };
        let mut lease_lost = false;
        let mut wait = Duration::from_millis(100);
        loop {
            let now = self.clock.now();
            let mut entry = self.entry(Phase::Response, started, record);
            entry.request_index = Some(request_index);
            entry.code = Some(code_name(code).into());
            entry.duration_us = u64::try_from(now.duration_since(started).as_micros()).ok();
            entry.reason = reason.map(Into::into);
            let settle = Effect::Settle {
                delivery_id: record.delivery_id,
                exchange_id: record.exchange_id,
                lease: Some(lease),
                outcome,
                at: now,
            };
            let effects = if lease_lost { Vec::new() } else { vec![settle] };
            match self.log.conclude(entry, Salt(entropy::bytes()), effects).await {
                // Ended already: a batch that seemed to fail became durable after all.
                Ok(_) | Err(AppendError::AlreadyEnded) => {
                    self.count(outcome, lease_lost);
                    if let (DeliveryOutcome::Dead { reason }, false) = (outcome, lease_lost) {
                        dead_letter(record, reason, now);
                    }
                    return;
                }
                Err(AppendError::Rejected(_)) => {
                    // The lease ran out, or the recipient acknowledged meanwhile: only the entry is left to write.
                    lease_lost = true;
                    reason = Some("LEASE_LOST");
                }
                Err(AppendError::Overloaded | AppendError::Unavailable) => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    fn count(&self, outcome: DeliveryOutcome, lease_lost: bool) {
        let counter = match outcome {
            _ if lease_lost => &self.attempts.lease_lost,
            DeliveryOutcome::Delivered => &self.attempts.delivered,
            DeliveryOutcome::Retry { .. } => &self.attempts.retried,
            DeliveryOutcome::Dead { .. } => &self.attempts.given_up,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn entry(&self, phase: Phase, occurred: Timestamp, record: &DeliveryRecord) -> Entry {
        let id = entropy::uuid_v7(self.clock.now());
        let mut entry = Entry::new(id, phase, occurred, INBOX_SERVICE, "Deliver", &self.node);
        entry.caller = Some(self.own.load().agency.to_string());
        entry.counterpart = Some(record.recipient.to_string());
        entry.exchange = Some(record.exchange_id.uuid());
        entry.delivery = Some(record.delivery_id.uuid());
        entry
    }
}

/// Whether a round was woken too late to look once more.
async fn was_woken(wake: Option<&Notify>) -> bool {
    let Some(wake) = wake else { return false };
    tokio::select! {
        biased;
        () = wake.notified() => true,
        () = std::future::ready(()) => false,
    }
}

/// Tells the operator what needs a hand.
fn dead_letter(record: &DeliveryRecord, reason: &'static str, now: Timestamp) {
    tracing::warn!(
        exchange = %record.exchange_id,
        delivery = %record.delivery_id,
        recipient = %record.recipient,
        age_s = now.duration_since(record.since).as_secs(),
        attempts = record.attempts + 1,
        reason,
        "delivery given up; when the recipient is back: `exchange redeliver`"
    );
}

/// What the log says of an attempt that the recipient answered with a status.
fn failure(code: Code) -> &'static str {
    match code {
        Code::Unavailable | Code::Unknown | Code::Cancelled => "INBOX_UNREACHABLE",
        Code::DeadlineExceeded => "INBOX_TIMED_OUT",
        Code::ResourceExhausted => "INBOX_OVERLOADED",
        _ => "INBOX_REFUSED",
    }
}

/// Whether somebody was there to take the message or refuse it.
fn somebody_answered(outcome: DeliveryOutcome) -> bool {
    let away = ["INBOX_UNREACHABLE", "INBOX_TIMED_OUT", "INBOX_OVERLOADED"];
    match outcome {
        DeliveryOutcome::Delivered => true,
        DeliveryOutcome::Retry { reason, .. } | DeliveryOutcome::Dead { reason } => !away.contains(&reason),
    }
}

/// The `google.rpc.RetryInfo` of a recipient that says when to come again.
fn wait_asked_for(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// Doubles from the first wait to the longest, give or take a quarter, so that what failed together is not tried
/// together. `dice` is a random byte.
pub(super) fn backoff(first: Duration, longest: Duration, attempts: u32, dice: u8) -> Duration {
    let doubled = first.saturating_mul(1 << attempts.min(20));
    let wait = doubled.min(longest);
    wait.mul_f64(0.75 + f64::from(dice) / 255.0 / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(900);

    proptest! {
        #[test]
        fn the_wait_grows_and_stays_within_its_bounds(attempts in 0u32..10_000, dice: u8) {
            let wait = backoff(FIRST, LONGEST, attempts, dice);
            prop_assert!(wait >= FIRST.mul_f64(0.75));
            prop_assert!(wait <= LONGEST.mul_f64(1.25));
            let twice_later = backoff(FIRST, LONGEST, attempts.saturating_add(2), dice);
            prop_assert!(twice_later >= wait);
        }
    }
}
