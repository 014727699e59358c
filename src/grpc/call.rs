//! One call, as the layer in front hands it to a method.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;
use tonic::Status;

use super::buffers::Account;
use super::capacity::Turns;
use super::operation::Facts;
use super::status::Refusal;
use crate::access::Method;
use crate::domain::agency::CreditCode;
use crate::domain::exchange::RequestId;
use crate::identity::server::Peer;
use crate::telemetry::Trace;

/// A call: who, what, when, until when.
#[derive(Clone)]
pub(crate) struct Call {
    /// `None` for a path that is not in the contract. It is not repeated anywhere: it is the caller's text.
    method: Option<Method>,
    slot: Arc<Slot>,
}

/// What the layer in front learns of a call before it is read; it travels in the request's extensions.
pub(crate) struct Slot {
    pub(crate) peer: Peer,
    pub(crate) arrived: Timestamp,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    /// How long a stream waits for the peer's next message, or for the peer to take one.
    pub(crate) idle: Duration,
    pub(crate) trace: Trace,
    /// Whether an entry was written for the answer; if not, the layer writes one.
    pub(crate) witnessed: AtomicBool,
    /// Held by whoever still works on the call, even when the caller has gone.
    #[allow(dead_code, reason = "held, not used")]
    pub(crate) places: Option<Places>,
    /// The call's REQUEST once it is durable, so that a panic can be witnessed.
    pub(crate) open_request: OnceLock<(u64, RequestId, Facts)>,
    /// Bytes of the call's message.
    pub(crate) buffered: Account,
    /// What was wrong with the body below its messages; tonic does not pass it on.
    pub(crate) fault: OnceLock<BodyFault>,
    /// Held until its first entry is durable.
    pub(crate) turn: Turn,
}

/// Why a body cannot be read on. It has no source: tonic would take a cancelled stream, found as the source, for one that
/// ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    /// Something follows the first message.
    #[error("more than one message in a request that is no stream")]
    MoreThanOne,
    /// It did not come to its end in time.
    #[error("the request was not whole in time")]
    Late,
    /// There is no room for its message.
    #[error("no room for the message")]
    NoRoom,
    /// The peer reset the stream, or the connection broke.
    #[error("the stream was broken off")]
    BrokenOff,
}

/// A turn among the calls that are worked on.
#[derive(Default)]
pub(crate) struct Turn(Mutex<Option<OwnedSemaphorePermit>>);

/// A place among all calls and one among the agency's.
pub(crate) struct Places {
    pub(crate) _of_all: OwnedSemaphorePermit,
    pub(crate) _of_agency: OwnedSemaphorePermit,
}

impl Call {
    /// The call that a tonic request belongs to, and its message.
    pub(crate) fn of<M>(method: Method, request: tonic::Request<M>) -> Result<(Self, M), Status> {
        let (_, extensions, message) = request.into_parts();
        let slot = extensions.get::<Arc<Slot>>().cloned();
        let slot = slot.ok_or_else(|| Refusal::Internal.into_status(None))?;
        Ok((Self { method: Some(method), slot }, message))
    }

    /// A call of its own within a stream: it has its own entries and its own time, within the stream's.
    pub(crate) fn within(&self, arrived: Timestamp, method: Method, lifetime: Duration) -> Self {
        let started = Instant::now();
        let slot = Slot {
            peer: self.slot.peer.clone(),
            arrived,
            started,
            deadline: self.slot.deadline.min(started + lifetime),
            idle: self.slot.idle,
            trace: self.slot.trace.child(),
            witnessed: AtomicBool::new(false),
            // The stream holds its places for all that happens within it.
            places: None,
            open_request: OnceLock::new(),
            buffered: Account::of_another(),
            fault: OnceLock::new(),
            turn: Turn::default(),
        };
        Self { method: Some(method), slot: Arc::new(slot) }
    }

    /// The call of a method, before it is read.
    pub(crate) fn of_method(method: Method, slot: Arc<Slot>) -> Self {
        Self { method: Some(method), slot }
    }

    /// The call at a path of the contract, or at none, before it is read.
    pub(crate) fn at(method: Option<Method>, slot: Arc<Slot>) -> Self {
        Self { method, slot }
    }

    pub(crate) fn caller(&self) -> CreditCode {
        self.slot.peer.certificate.agency
    }

    /// Who is at the other end of the call's connection.
    pub(crate) fn peer(&self) -> &Peer {
        &self.slot.peer
    }

    /// SHA-256 of the caller's public key, in hex.
    pub(crate) fn certificate(&self) -> String {
        HEXLOWER.encode(&self.slot.peer.certificate.spki_sha256)
    }

    pub(crate) fn service_and_method(&self) -> (&'static str, &'static str) {
        self.method.map_or(("unknown", "unknown"), |method| (method.service(), method.name()))
    }

    pub(crate) fn method_name(&self) -> &'static str {
        self.service_and_method().1
    }

    /// Whether the path is one of the contract.
    pub(crate) fn is_of_contract(&self) -> bool {
        self.method.is_some()
    }

    pub(crate) fn arrived(&self) -> Timestamp {
        self.slot.arrived
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.slot.trace
    }

    pub(crate) fn time_left(&self) -> Duration {
        self.slot.deadline.saturating_duration_since(Instant::now())
    }

    /// How long a stream waits for the peer.
    pub(crate) fn idle(&self) -> Duration {
        self.slot.idle
    }

    pub(crate) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.slot.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Waits for a turn, as long as there is time.
    pub(crate) async fn take_turn(&self, turns: &Turns) -> Result<(), Refusal> {
        let turn = timeout_at(self.slot.deadline.into(), turns.next()).await;
        let turn = turn.map_err(|_| Refusal::DeadlineExceeded)?;
        *self.slot.turn.0.lock().unwrap_or_else(PoisonError::into_inner) = turn;
        Ok(())
    }

    /// Lets the next have its turn.
    pub(crate) fn pass_turn_on(&self) {
        drop(self.slot.turn.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Notes that the call's REQUEST is durable.
    pub(crate) fn opened(&self, request_index: u64, request_id: RequestId, named: Facts) {
        let _ = self.slot.open_request.set((request_index, request_id, named));
        // What follows may wait for others.
        self.pass_turn_on();
    }

    /// The call's durable REQUEST, if it has one.
    pub(crate) fn open_request(&self) -> Option<&(u64, RequestId, Facts)> {
        self.slot.open_request.get()
    }

    /// Counts the bytes of an answer until the peer has read it; `false` when there is no room for them.
    pub(crate) fn has_room_for_answer(&self, bytes: usize) -> bool {
        self.slot.buffered.take(bytes)
    }

    /// Counts the bytes of an answer to what was done already: it is given, and others find less room.
    pub(crate) fn count_answer(&self, bytes: usize) {
        self.slot.buffered.overdraw(bytes);
    }

    /// Why the call's body cannot be read on, where its transport says so.
    pub(crate) fn body_refusal(&self) -> Option<Refusal> {
        match self.slot.fault.get()? {
            BodyFault::Late => Some(Refusal::RequestLate),
            BodyFault::NoRoom => Some(Refusal::NoRoom),
            BodyFault::MoreThanOne | BodyFault::BrokenOff => None,
        }
    }

    pub(crate) fn mark_witnessed(&self) {
        self.slot.witnessed.store(true, Ordering::Release);
    }

    pub(crate) fn is_witnessed(&self) -> bool {
        self.slot.witnessed.load(Ordering::Acquire)
    }
}
