//! What the gateway promises, in the simplest form: exchanges, deliveries and request ids as plain values, moved by what
//! happened. Written from the documentation, not from the code.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::domain::exchange::{
    DeliveryId, DeliveryState, ExchangeId, ExchangeState, ResponseKind,
};
use legal_aid_gateway::store::{ExchangeRecord, OutboxRecord};
use uuid::Uuid;

use super::calls::{Act, Call, PAPERS_WITHIN, Reply};
use super::gateway::{DICE, SCHEDULE};
use super::op::{Fate, Told};
use super::parties::Party;

/// All that is promised of what is stored.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) threads: Vec<Thread>,
    pub(crate) parcels: Vec<Parcel>,
    claims: BTreeMap<(CreditCode, Uuid), Claim>,
}

/// An exchange.
#[derive(Clone)]
pub(crate) struct Thread {
    /// Known once it was seen.
    pub(crate) id: Option<ExchangeId>,
    pub(crate) matter: String,
    pub(crate) recipient: Party,
    pub(crate) state: ExchangeState,
    pub(crate) messages: u32,
    /// Last day for the papers that were asked for.
    pub(crate) papers_due: Option<Date>,
}

/// A delivery.
#[derive(Clone)]
pub(crate) struct Parcel {
    pub(crate) id: Option<DeliveryId>,
    pub(crate) thread: usize,
    pub(crate) sequence: u32,
    pub(crate) to: Party,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u32,
    attempts_before: u32,
    since: Timestamp,
    due: Due,
    pub(crate) was_dead: bool,
    /// Of one that is leased to a courier: by which attempt.
    holder: Option<u32>,
    /// Times that a courier took it.
    pub(crate) leases: usize,
    /// Couriers' attempts that have not ended.
    pub(crate) open: usize,
    /// How the others ended: the reasons in the log, nothing for delivered.
    pub(crate) ends: Vec<&'static str>,
}

#[derive(Clone, Copy)]
enum Due {
    At(Timestamp),
    /// The wait is a fraction of a number of seconds.
    About(Timestamp),
}

/// A request id that is taken.
#[derive(Clone)]
struct Claim {
    version: u8,
    /// The first answer, if anybody heard it.
    answer: Option<Reply>,
}

/// What a call is to be answered.
pub(crate) enum Expected {
    /// It is carried out now.
    Done(Outcome),
    /// The first answer to its request id is given again, where it is known.
    First(Option<Reply>),
    Refused(Vec<&'static str>),
}

/// What an answer says.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) state: Option<ExchangeState>,
    pub(crate) already: Option<bool>,
    /// The deliveries, as far as their ids are known.
    pub(crate) pulled: Vec<Option<DeliveryId>>,
    pub(crate) again: usize,
}

impl Outcome {
    /// Whether an answer says so.
    pub(crate) fn is(&self, reply: &Reply) -> bool {
        let state = reply.exchange.as_ref().map(|(_, state)| state.as_str_name().to_owned());
        let expected = self.state.map(|state| format!("EXCHANGE_STATE_{}", state.as_str()));
        let pulled = reply.ids();
        let all = self.pulled.iter().flatten().all(|id| pulled.contains(&id.to_string()));
        (state, reply.already, reply.again) == (expected, self.already, self.again)
            && pulled.len() == self.pulled.len()
            && all
    }
}

/// What a courier made of an attempt.
#[derive(Clone, Copy)]
pub(crate) enum Heard {
    Taken,
    Failed { reason: &'static str, asked: Option<u32> },
}

impl Heard {
    pub(crate) fn of(fate: Fate) -> Self {
        let failed = |reason| Self::Failed { reason, asked: None };
        match fate {
            Fate::Arrives | Fate::ArrivesTwice => Self::Taken,
            Fate::RequestLost(told) | Fate::ReplyLost(told) | Fate::Delayed(told) => match told {
                Told::Unavailable => failed("INBOX_UNREACHABLE"),
                Told::TimedOut => failed("INBOX_TIMED_OUT"),
            },
            Fate::WrongDigest => failed("INBOX_DIGEST_DIFFERS"),
            Fate::Refused => failed("INBOX_REFUSED"),
            Fate::Busy { seconds } => Self::Failed { reason: "INBOX_OVERLOADED", asked: Some(seconds) },
            Fate::NoWay => failed("INBOX_UNREACHABLE"),
        }
    }
}

/// Where an answer leads, if it may be given: the state machine of every kind.
pub(crate) fn next_state(
    from: ExchangeState,
    by_sender: bool,
    answer: ResponseKind,
) -> Option<ExchangeState> {
    use ExchangeState as S;
    use ResponseKind as R;
    Some(match (from, by_sender, answer) {
        (S::Submitted | S::Delivered, false, R::Receipt) => S::Received,
        (S::Received | S::Supplemented, false, R::SupplementRequest) => S::SupplementRequested,
        (S::SupplementRequested, true, R::Supplement) => S::Supplemented,
        (S::Received | S::Supplemented, false, R::Decision) => S::Decided,
        (
            S::Submitted | S::Delivered | S::Received | S::SupplementRequested | S::Supplemented,
            true,
            R::Withdrawal,
        ) => S::Withdrawn,
        (S::Decided, _, R::Closure) => S::Closed,
        _ => return None,
    })
}

impl Model {
    /// What a call does and is answered.
    pub(crate) fn apply(&self, call: &Call, now: Timestamp) -> (Self, Expected) {
        let mut after = self.clone();
        let carried_out = after.carry_out(&call.act, now);
        let key = (call.caller, call.request_id);
        match (self.claims.get(&key), carried_out) {
            (Some(claim), _) if claim.version == call.version => {
                (self.clone(), Expected::First(claim.answer.clone()))
            }
            (Some(_), carried_out) => {
                // Either is a good reason to refuse it.
                let mut reasons = vec!["REQUEST_ID_REUSED"];
                reasons.extend(carried_out.err());
                (self.clone(), Expected::Refused(reasons))
            }
            (None, Err(reason)) => (self.clone(), Expected::Refused(vec![reason])),
            (None, Ok(outcome)) => {
                after.claims.insert(key, Claim { version: call.version, answer: None });
                (after, Expected::Done(outcome))
            }
        }
    }

    /// Notes the answer that a caller heard.
    pub(crate) fn heard(&mut self, call: &Call, reply: &Reply) {
        if let Some(claim) = self.claims.get_mut(&(call.caller, call.request_id)) {
            claim.answer = Some(reply.clone());
        }
    }

    /// Whether this very call was carried out before.
    pub(crate) fn knows(&self, call: &Call) -> bool {
        let claim = self.claims.get(&(call.caller, call.request_id));
        claim.is_some_and(|claim| claim.version == call.version)
    }

    fn carry_out(&mut self, act: &Act, now: Timestamp) -> Result<Outcome, &'static str> {
        let mut outcome = Outcome::default();
        match act {
            Act::Submit { to, matter } => {
                let state = ExchangeState::Submitted;
                self.threads.push(Thread {
                    id: None,
                    matter: matter.clone(),
                    recipient: *to,
                    state,
                    messages: 1,
                    papers_due: None,
                });
                self.post(self.threads.len() - 1, *to, now);
                outcome.state = Some(state);
            }
            Act::Respond { thread: at, by, answer } => {
                let thread = &mut self.threads[*at];
                let by_sender = *by == Party::Centre;
                let to = if by_sender { thread.recipient } else { Party::Centre };
                thread.state = next_state(thread.state, by_sender, *answer).ok_or("ILLEGAL_TRANSITION")?;
                thread.messages += 1;
                outcome.state = Some(thread.state);
                if *answer == ResponseKind::SupplementRequest {
                    let until = jiff::Span::new().days(PAPERS_WITHIN);
                    thread.papers_due = shanghai(now).checked_add(until).ok();
                }
                self.post(*at, to, now);
            }
            Act::Pull { who } => {
                for parcel in self.due(*who, now) {
                    let parcel = &mut self.parcels[parcel];
                    outcome.pulled.push(parcel.id);
                    parcel.take(None, now);
                }
            }
            Act::Acknowledge { wrong: true, .. } => return Err("INVALID_REQUEST"),
            Act::Acknowledge { parcel, .. } => {
                let already = self.parcels[*parcel].state == DeliveryState::Delivered;
                outcome.already = Some(already);
                if !already {
                    self.arrive(*parcel);
                }
            }
            Act::Redeliver { thread } => {
                let dead =
                    |parcel: &&mut Parcel| parcel.thread == *thread && parcel.state == DeliveryState::Dead;
                for parcel in self.parcels.iter_mut().filter(dead) {
                    outcome.again += 1;
                    parcel.state = DeliveryState::Pending;
                    parcel.attempts_before = parcel.attempts;
                    (parcel.since, parcel.due) = (now, Due::At(now));
                }
                if outcome.again == 0 {
                    return Err("NOTHING_GIVEN_UP");
                }
                let thread = &mut self.threads[*thread];
                if thread.state == ExchangeState::Undeliverable {
                    thread.state = ExchangeState::Submitted;
                }
            }
            Act::Retry { parcel } => {
                let parcel = &mut self.parcels[*parcel];
                if parcel.state != DeliveryState::Pending {
                    return Err("DELIVERY_DOES_NOT_WAIT");
                }
                parcel.due = Due::At(now);
            }
        }
        Ok(outcome)
    }

    /// Puts a thread's newest message in the outbox.
    fn post(&mut self, thread: usize, to: Party, now: Timestamp) {
        self.parcels.push(Parcel {
            id: None,
            thread,
            sequence: self.threads[thread].messages,
            to,
            state: DeliveryState::Pending,
            attempts: 0,
            attempts_before: 0,
            since: now,
            due: Due::At(now),
            was_dead: false,
            holder: None,
            leases: 0,
            open: 0,
            ends: Vec::new(),
        });
    }

    /// What may be taken for an agency now: of each exchange the first that is open, if it is due.
    pub(crate) fn due(&self, to: Party, now: Timestamp) -> Vec<usize> {
        let open = |parcel: &Parcel| matches!(parcel.state, DeliveryState::Pending | DeliveryState::Leased);
        let mut due: Vec<usize> = (0..self.parcels.len())
            .filter(|at| {
                let parcel = &self.parcels[*at];
                let earlier = self.parcels.iter().any(|other| {
                    other.thread == parcel.thread
                        && other.to == to
                        && other.sequence < parcel.sequence
                        && open(other)
                });
                parcel.to == to && open(parcel) && parcel.due.time() <= now && !earlier
            })
            .collect();
        due.sort_by_key(|at| (self.parcels[*at].thread, self.parcels[*at].sequence));
        due
    }

    /// A courier takes a delivery.
    pub(crate) fn lease(&mut self, parcel: usize, now: Timestamp) {
        let parcel = &mut self.parcels[parcel];
        let attempt = parcel.attempts + 1;
        parcel.take(Some(attempt), now);
        parcel.leases += 1;
        parcel.open += 1;
    }

    /// The REQUEST of an attempt is closed, and nobody knows how it ended.
    pub(crate) fn interrupt(&mut self, parcel: usize) {
        self.parcels[parcel].open -= 1;
        self.parcels[parcel].ends.push("INTERRUPTED");
    }

    /// A courier says what came of its attempt. It counts only while the delivery is still its own.
    pub(crate) fn settle(&mut self, at: usize, attempt: u32, heard: Heard, now: Timestamp) {
        let parcel = &mut self.parcels[at];
        parcel.open -= 1;
        if parcel.state != DeliveryState::Leased || parcel.holder != Some(attempt) {
            parcel.ends.push("LEASE_LOST");
            return;
        }
        match heard {
            Heard::Taken => {
                parcel.ends.push("");
                self.arrive(at);
            }
            Heard::Failed { reason, asked } => {
                parcel.ends.push(reason);
                parcel.holder = None;
                let age = now.duration_since(parcel.since);
                if age >= jiff::SignedDuration::try_from(SCHEDULE.give_up_after).unwrap() {
                    parcel.state = DeliveryState::Dead;
                    parcel.was_dead = true;
                    let (thread, sequence) = (parcel.thread, parcel.sequence);
                    let thread = &mut self.threads[thread];
                    if sequence == 1 && thread.state == ExchangeState::Submitted {
                        thread.state = ExchangeState::Undeliverable;
                    }
                    return;
                }
                parcel.state = DeliveryState::Pending;
                let failed_before = attempt - 1 - parcel.attempts_before;
                parcel.due = Due::About(now.checked_add(wait(failed_before, asked)).unwrap());
            }
        }
    }

    fn arrive(&mut self, at: usize) {
        let parcel = &mut self.parcels[at];
        parcel.state = DeliveryState::Delivered;
        parcel.holder = None;
        let (thread, sequence) = (parcel.thread, parcel.sequence);
        let thread = &mut self.threads[thread];
        if sequence == 1 && matches!(thread.state, ExchangeState::Submitted | ExchangeState::Undeliverable) {
            thread.state = ExchangeState::Delivered;
        }
    }

    /// No papers came in time: the gateway's own message goes to both.
    pub(crate) fn lapse(&mut self, at: usize, now: Timestamp) {
        let thread = &mut self.threads[at];
        thread.state = ExchangeState::DeemedWithdrawn;
        thread.messages += 1;
        let recipient = thread.recipient;
        self.post(at, Party::Centre, now);
        self.post(at, recipient, now);
    }

    /// The process ended and another began: what was on its way by push is due at once.
    pub(crate) fn restart(&mut self, push: &[Party], now: Timestamp) {
        for at in 0..self.parcels.len() {
            while self.parcels[at].open > 0 {
                self.interrupt(at);
            }
            let parcel = &mut self.parcels[at];
            if parcel.state == DeliveryState::Leased && push.contains(&parcel.to) {
                parcel.state = DeliveryState::Pending;
                (parcel.due, parcel.holder) = (Due::At(now), None);
            }
        }
    }

    /// Compares with what is stored, and learns the ids of what is new.
    pub(crate) fn meet(
        &mut self,
        threads: &[ExchangeRecord],
        parcels: &[OutboxRecord],
    ) -> Result<(), String> {
        let [have, expected] = [threads.len(), self.threads.len()];
        if have != expected {
            return Err(format!("{have} exchanges are stored, there should be {expected}"));
        }
        for (at, thread) in self.threads.iter_mut().enumerate() {
            let found = threads.iter().find(|found| found.matter_id == thread.matter);
            let found = found.ok_or(format!("exchange {at} is not stored"))?;
            let id = *thread.id.get_or_insert(found.exchange_id);
            let stored = (found.exchange_id, found.state, found.messages);
            if stored != (id, thread.state, thread.messages) {
                let expected = (thread.state, thread.messages);
                return Err(format!("exchange {at} is {stored:?}, it should be {expected:?}"));
            }
        }
        let [have, expected] = [parcels.len(), self.parcels.len()];
        if have != expected {
            return Err(format!("{have} deliveries are stored, there should be {expected}"));
        }
        for parcel in &mut self.parcels {
            let (thread, sequence, to) = (parcel.thread, parcel.sequence, parcel.to);
            let name = format!("delivery of message {sequence} of exchange {thread} to {to:?}");
            let exchange_id = self.threads[thread].id;
            let found = parcels.iter().find(|found| {
                (Some(found.exchange_id), found.sequence, found.recipient)
                    == (exchange_id, sequence, to.code())
            });
            let found = found.ok_or(format!("{name} is not stored"))?;
            let id = *parcel.id.get_or_insert(found.delivery_id);
            let stored = (found.delivery_id, found.state, found.attempts);
            if stored != (id, parcel.state, parcel.attempts) {
                let expected = (parcel.state, parcel.attempts);
                return Err(format!("{name} is {stored:?}, it should be {expected:?}"));
            }
            let is_open = matches!(parcel.state, DeliveryState::Pending | DeliveryState::Leased);
            if is_open && !parcel.due.is(found.due) {
                let (due, expected) = (found.due, parcel.due.time());
                return Err(format!("{name} is due at {due}, it should be at {expected}"));
            }
            parcel.due = Due::At(found.due);
        }
        Ok(())
    }

    pub(crate) fn parcel(&self, id: &str) -> Option<usize> {
        self.parcels.iter().position(|parcel| parcel.id.is_some_and(|own| own.to_string() == id))
    }

    /// In short, without ids, which differ from run to run.
    pub(crate) fn outline(&self) -> String {
        let threads =
            self.threads.iter().map(|thread| format!("{}/{}", thread.state.as_str(), thread.messages));
        let parcels = self.parcels.iter().map(|parcel| {
            let (state, due) = (parcel.state.as_str(), parcel.due.time());
            format!("{}.{} {state} {} {due}", parcel.thread, parcel.sequence, parcel.attempts)
        });
        threads.chain(parcels).collect::<Vec<_>>().join(", ")
    }
}

impl Parcel {
    fn take(&mut self, attempt: Option<u32>, now: Timestamp) {
        self.state = DeliveryState::Leased;
        self.attempts += 1;
        self.holder = attempt;
        self.due = Due::At(now.checked_add(SCHEDULE.lease).unwrap());
    }
}

impl Due {
    fn time(self) -> Timestamp {
        match self {
            Self::At(at) | Self::About(at) => at,
        }
    }

    fn is(self, stored: Timestamp) -> bool {
        match self {
            Self::At(at) => at == stored,
            Self::About(at) => at.duration_since(stored).abs() <= jiff::SignedDuration::from_millis(1),
        }
    }
}

/// The wait after so many failures: doubled each time within its bounds, give or take a quarter; or what was asked for,
/// within the same bounds.
fn wait(failed_before: u32, asked: Option<u32>) -> Duration {
    let (first, longest) = (SCHEDULE.first_retry.as_secs_f64(), SCHEDULE.longest_retry.as_secs_f64());
    Duration::from_secs_f64(match asked {
        Some(asked) => f64::from(asked).clamp(first, longest),
        None => {
            let doubled = first * 2f64.powi(failed_before.min(20).try_into().unwrap());
            doubled.min(longest) * (0.75 + f64::from(DICE) / 510.0)
        }
    })
}

/// The day in Asia/Shanghai.
pub(crate) fn shanghai(now: Timestamp) -> Date {
    jiff::tz::Offset::constant(8).to_datetime(now).date()
}
