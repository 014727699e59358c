//! Refusals of calls that find no place.
//!
//! Under overload most answers are refusals, and each needs its entry before it leaves. An entry apiece would take the
//! log from those who have a place. So the refusals of one agency, method and reason that come while the log writes a
//! batch share one entry of the next: `items` counts them, and it names the trace of each. None is answered before that
//! entry is durable; none waits longer than any other append does.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant, take};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Response};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::body::Body;

use super::call::{Call, Slot};
use super::code_name;
use super::intake::Intake;
use super::operation::Facts;
use super::status::Refusal;
use crate::access::Method;
use crate::audit::entry::{Decision, Phase, Salt};
use crate::domain::agency::CreditCode;
use crate::entropy;

/// Most refusals in one entry: it names the trace of each, and an entry has at most 16 KiB.
const MOST_IN_ONE: usize = 256;

/// Gathers refusals into entries. Clones share them.
#[derive(Clone)]
pub(super) struct Shedder {
    intake: Arc<Intake>,
    gathered: Arc<Mutex<Gathered>>,
}

/// What refusals must have in common to share an entry.
type Key = (CreditCode, [u8; 32], Option<Method>, Discriminant<Refusal>);

/// What waits to be written. Bounded by the streams of all connections, as calls are.
#[derive(Default)]
struct Gathered {
    groups: HashMap<Key, Group>,
    /// Whether somebody writes what is gathered.
    is_written: bool,
}

/// Refusals of one entry.
struct Group {
    first: Call,
    refusal: Refusal,
    /// Those behind the first.
    traces: Vec<String>,
    waiting: Vec<oneshot::Sender<HeaderMap>>,
}

impl Shedder {
    pub(super) fn new(intake: Arc<Intake>) -> Self {
        Self { intake, gathered: Arc::default() }
    }

    /// Refuses a call once its entry is durable.
    pub(super) async fn refuse(
        &self,
        method: Option<Method>,
        slot: Slot,
        refusal: Refusal,
    ) -> Response<Body> {
        let (answer, answered) = oneshot::channel();
        self.gather(method, slot, refusal, answer);
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = match answered.await {
            Ok(headers) => headers,
            // Only a panic while it was written.
            Err(_) => Refusal::Internal.into_status(None).into_http::<Body>().into_parts().0.headers,
        };
        response
    }

    fn gather(
        &self,
        method: Option<Method>,
        slot: Slot,
        refusal: Refusal,
        answer: oneshot::Sender<HeaderMap>,
    ) {
        let certificate = &slot.peer.certificate;
        let key = (certificate.agency, certificate.spki_sha256, method, discriminant(&refusal));
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        match gathered.groups.get_mut(&key) {
            Some(group) if group.waiting.len() < MOST_IN_ONE => {
                group.refusal = group.refusal.longer_wait(refusal);
                group.traces.push(slot.trace.id().to_owned());
                group.waiting.push(answer);
            }
            _ => {
                let first = Call::at(method, Arc::new(slot));
                let group = Group { first, refusal, traces: Vec::new(), waiting: vec![answer] };
                if let Some(full) = gathered.groups.insert(key, group) {
                    tokio::spawn(full.write(Arc::clone(&self.intake)));
                }
            }
        }
        if !gathered.is_written {
            gathered.is_written = true;
            let shedder = self.clone();
            tokio::spawn(async move { shedder.write_all().await });
        }
    }

    /// Writes what is gathered, and what is gathered meanwhile, until nothing is.
    async fn write_all(self) {
        let mut writing = JoinSet::new();
        let mut head = self.intake.log.watch_head();
        loop {
            head.mark_unchanged();
            let groups = {
                let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
                gathered.is_written = !gathered.groups.is_empty() || !writing.is_empty();
                if !gathered.is_written {
                    return;
                }
                take(&mut gathered.groups)
            };
            for group in groups.into_values() {
                writing.spawn(group.write(Arc::clone(&self.intake)));
            }
            // The writer takes what waits when it has written: until then, what comes is gathered.
            tokio::select! {
                moved = head.changed() => if moved.is_err() {
                    while writing.join_next().await.is_some() {}
                },
                Some(_) = writing.join_next() => {}
            }
        }
    }
}

impl Group {
    /// Writes the entry, then answers.
    async fn write(self, intake: Arc<Intake>) {
        let Self { first, refusal, traces, waiting } = self;
        let salt = Salt(entropy::bytes());
        let mut entry = intake.entry(&first, Phase::Refused, &Facts::default(), &salt);
        entry.decision = refusal.is_denial().then_some(Decision::Deny);
        entry.code = Some(code_name(refusal.code()).into());
        entry.reason = Some(refusal.reason().into());
        entry.items = (waiting.len() > 1).then_some(waiting.len() as u64);
        entry.traces = traces;
        let status = match intake.log.append(entry, salt, Vec::new()).await {
            Ok(index) => {
                tracing::info!(
                    method = first.method_name(),
                    caller = %first.caller(),
                    reason = refusal.reason(),
                    calls = waiting.len(),
                    log_index = index,
                    "refused"
                );
                refusal.into_status(Some(index))
            }
            Err(error) => intake.unwitnessed(&first, &error),
        };
        let headers = status.into_http::<Body>().into_parts().0.headers;
        for answer in waiting {
            // Who has gone away needs none.
            let _ = answer.send(headers.clone());
        }
    }
}

impl Refusal {
    /// Of two that differ in when to come again, the one that says later.
    fn longer_wait(&self, other: Self) -> Self {
        match (self, other) {
            (Self::TooFast(one), Self::TooFast(other)) => Self::TooFast(Duration::max(*one, other)),
            (_, other) => other,
        }
    }
}
