//! Calls of which one side or both are a stream: uploads, downloads, watching, batches.
//!
//! The order is that of every call. The first message is read, allowed and witnessed by a REQUEST before it has effect
//! and before the first item of an answer leaves; a RESPONSE says how the stream ended, also when the peer vanished. Each
//! stream runs in a task of its own, which holds the call's places while it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming};

use super::{Intake, answer_with_index, in_own_task};
use crate::access::Method;
use crate::audit::entry::Salt;
use crate::audit::log::AppendError;
use crate::entropy;
use crate::grpc::call::Call;
use crate::grpc::code_name;
use crate::grpc::operation::{Effectful, Facts, Operation, Witnessed};
use crate::grpc::proto;
use crate::grpc::status::Refusal;
use crate::grpc::wire::shanghai_day;
use crate::store::Rejection;

/// Items that wait for the peer to take them.
pub(in crate::grpc) const WAITING_ITEMS: usize = 2;

/// What tonic sends of a stream.
pub(crate) type Items<R> = ReceiverStream<Result<R, Status>>;

/// A method whose request is a stream. Its first message is read like any request; the task takes the rest.
pub(crate) trait Receiving: Operation {
    /// Gives the task the messages that follow the first.
    fn attach(task: &mut Self::Task, rest: Incoming<Self::Request>);
}

/// A method that answers with a stream: its REQUEST is durable before the first item leaves, its RESPONSE says how many
/// items left and how it ended.
pub(crate) trait Sending: Operation {
    /// Looks up what access and the rules depend on; nothing is sent yet.
    fn prepare(
        intake: &Intake,
        call: &Call,
        task: &mut Self::Task,
        facts: &mut Facts,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Sends the items.
    fn send(
        intake: &Arc<Intake>,
        call: &Call,
        task: Self::Task,
        facts: &Facts,
        out: &mut Outgoing<Self::Response>,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// The messages of a request after the first.
pub(crate) struct Incoming<M> {
    stream: Streaming<M>,
    idle: Duration,
    call: Call,
}

impl<M> Incoming<M> {
    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// When none comes for too long, it cannot be read, or the peer is gone.
    pub(crate) async fn next(&mut self) -> Result<Option<M>, Refusal> {
        match timeout(self.idle, self.stream.message()).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(status)) => Err(self.call.body_refusal().unwrap_or_else(|| broken(&status))),
            Err(_) => Err(Refusal::StreamIdle),
        }
    }
}

/// Why a stream cannot be read on.
fn broken(status: &Status) -> Refusal {
    match status.code() {
        code @ (Code::OutOfRange | Code::ResourceExhausted) => Refusal::Unreadable(code),
        Code::Internal | Code::InvalidArgument => Refusal::Unreadable(Code::InvalidArgument),
        Code::Unimplemented => Refusal::Compressed,
        _ => Refusal::PeerGone,
    }
}

/// The way of an answer's items to the peer.
pub(crate) struct Outgoing<R> {
    items: mpsc::Sender<Result<R, Status>>,
    idle: Duration,
    sent: Arc<AtomicU64>,
    /// Evidence that the first item carries.
    receipt: Option<proto::AuditReceipt>,
    stopping: watch::Receiver<bool>,
}

impl<R: Witnessed> Outgoing<R> {
    /// Sends an item, and waits while the peer takes none.
    ///
    /// # Errors
    /// When the peer is gone, or takes nothing for too long.
    pub(crate) async fn send(&mut self, mut item: R) -> Result<(), Refusal> {
        if let Some(receipt) = self.receipt.take() {
            item.witness(receipt);
        }
        match timeout(self.idle, self.items.send(Ok(item))).await {
            Ok(Ok(())) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Ok(Err(_)) => Err(Refusal::PeerGone),
            Err(_) => Err(Refusal::StreamIdle),
        }
    }

    /// Waits until a stream that has nothing to send must end: the peer went away, or the gateway is about to stop.
    pub(crate) async fn ended(&self) -> Refusal {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = self.items.closed() => Refusal::PeerGone,
            _ = stopping.wait_for(|stopping| *stopping) => Refusal::Stopping,
        }
    }
}

impl Intake {
    /// Takes in a stream that is answered by one message, when it has come to its end.
    pub(crate) async fn carry_out_receiving<O: Effectful + Receiving>(
        self: &Arc<Self>,
        request: tonic::Request<Streaming<O::Request>>,
    ) -> Result<Response<O::Response>, Status> {
        let (call, stream) = self.take_in(O::METHOD, request)?;
        let (first, rest) = self.first_message(&call, stream).await?;
        let (intake, of_task) = (Arc::clone(self), call.clone());
        let conducted =
            in_own_task(
                async move { intake.conduct::<O>(&of_task, first, |task| O::attach(task, rest)).await },
            );
        match conducted.await {
            Some(answer) => answer,
            None => Err(self.after_panic(&call).await),
        }
    }

    /// Takes in a message that is answered by a stream.
    pub(crate) async fn carry_out_sending<O: Sending>(
        self: &Arc<Self>,
        request: tonic::Request<O::Request>,
    ) -> Result<Response<Items<O::Response>>, Status> {
        let (call, message) = self.take_in(O::METHOD, request)?;
        self.open_stream::<O>(call, message, |_| ()).await
    }

    /// Takes in a stream that is answered by a stream.
    pub(crate) async fn carry_out_both_ways<O: Sending + Receiving>(
        self: &Arc<Self>,
        request: tonic::Request<Streaming<O::Request>>,
    ) -> Result<Response<Items<O::Response>>, Status> {
        let (call, stream) = self.take_in(O::METHOD, request)?;
        let (first, rest) = self.first_message(&call, stream).await?;
        self.open_stream::<O>(call, first, |task| O::attach(task, rest)).await
    }

    /// Carries out one item of a stream as a call of its own, with its own access, its own two entries and its own
    /// time. It runs in its own task: a stream that is broken off does not cut it in two.
    pub(crate) async fn carry_out_item<O: Effectful>(
        self: &Arc<Self>,
        stream: &Call,
        message: O::Request,
        lifetime: Duration,
    ) -> Result<Response<O::Response>, Status> {
        let call = stream.within(self.clock.now(), O::METHOD, lifetime);
        // The stream's call is held too: its places are this one's.
        let (intake, of_task, held) = (Arc::clone(self), call.clone(), stream.clone());
        let conducted = in_own_task(async move {
            let answer = intake.conduct::<O>(&of_task, message, |_| ()).await;
            drop(held);
            answer
        });
        match conducted.await {
            Some(answer) => answer,
            None => Err(self.after_panic(&call).await),
        }
    }

    /// Whether a stream that was allowed still is: agencies are suspended, and agreements end, while it lives.
    pub(crate) fn may_go_on(&self, call: &Call, method: Method, facts: &Facts) -> Result<(), Refusal> {
        self.still_serves(call.peer())?;
        // What it streams it was allowed to see: there is nothing that a denial could tell.
        let mut facts = Facts { found_counterpart: false, ..facts.clone() };
        self.allow_on(call, method, &mut facts, shanghai_day(self.clock.now()))
    }

    async fn first_message<M>(&self, call: &Call, stream: Streaming<M>) -> Result<(M, Incoming<M>), Status> {
        let mut incoming = Incoming { stream, idle: call.idle().min(call.time_left()), call: call.clone() };
        let refusal = match incoming.next().await {
            Ok(Some(first)) => return Ok((first, Incoming { idle: call.idle(), ..incoming })),
            Ok(None) => Refusal::Unreadable(Code::InvalidArgument),
            Err(refusal) => refusal,
        };
        Err(self.refuse(call, &Facts::default(), refusal).await)
    }

    /// Starts the stream in a task of its own: a caller that goes away does not leave its REQUEST without an end.
    async fn open_stream<O: Sending>(
        self: &Arc<Self>,
        call: Call,
        message: O::Request,
        complete: impl FnOnce(&mut O::Task) + Send + 'static,
    ) -> Result<Response<Items<O::Response>>, Status> {
        let (opened, opening) = oneshot::channel();
        let (intake, of_task) = (Arc::clone(self), call.clone());
        tokio::spawn(Box::pin(async move {
            intake.conduct_stream::<O>(of_task, message, complete, opened).await;
        }));
        match opening.await {
            Ok(answer) => answer,
            Err(_) => Err(self.after_panic(&call).await),
        }
    }

    async fn conduct_stream<O: Sending>(
        self: Arc<Self>,
        call: Call,
        message: O::Request,
        complete: impl FnOnce(&mut O::Task) + Send,
        opened: oneshot::Sender<Result<Response<Items<O::Response>>, Status>>,
    ) {
        let (task, facts, request_index) = match self.begin_stream::<O>(&call, message, complete).await {
            Ok(begun) => begun,
            Err(status) => {
                let _ = opened.send(Err(status));
                return;
            }
        };
        let (items, taken) = mpsc::channel(WAITING_ITEMS);
        let sent = Arc::new(AtomicU64::new(0));
        let mut out = Outgoing {
            items: items.clone(),
            idle: call.idle(),
            sent: Arc::clone(&sent),
            receipt: Some(proto::AuditReceipt { log_index: request_index }),
            stopping: self.stopping.clone(),
        };
        call.mark_witnessed();
        let _ = opened.send(Ok(answer_with_index(ReceiverStream::new(taken), request_index)));

        let (intake, of_task, named) = (Arc::clone(&self), call.clone(), facts.clone());
        let mut sending =
            tokio::spawn(Box::pin(async move { O::send(&intake, &of_task, task, &named, &mut out).await }));
        let outcome = match timeout(call.time_left(), &mut sending).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => {
                tracing::error!(method = call.method_name(), "a method panicked");
                Err(Refusal::Internal)
            }
            Err(_) => {
                sending.abort();
                // It is over only then: no item leaves after the count was taken.
                let _ = sending.await;
                Err(Refusal::DeadlineExceeded)
            }
        };
        // The stream stays open until its end is witnessed.
        if let Err(status) = self.end_stream(&call, &facts, request_index, outcome, &sent).await {
            let _ = timeout(call.idle(), items.send(Err(status))).await;
        }
    }

    /// Reads and allows a stream's request, and makes its REQUEST durable.
    async fn begin_stream<O: Sending>(
        &self,
        call: &Call,
        message: O::Request,
        complete: impl FnOnce(&mut O::Task) + Send,
    ) -> Result<(O::Task, Facts, u64), Status> {
        let request = message.encode_to_vec();
        let (mut facts, admitted) = self.admit::<O>(call, message);
        let mut task = match admitted {
            Ok(task) => task,
            Err(refusal) => return Err(self.refuse(call, &facts, refusal).await),
        };
        complete(&mut task);
        if let Err(refusal) = self.has_quota_left(call, O::METHOD, &mut facts).await {
            return Err(self.refuse(call, &facts, refusal).await);
        }
        let prepared = O::prepare(self, call, &mut task, &mut facts).await;
        let index = self.open(call, O::METHOD, &mut facts, &request, prepared).await?;
        Ok((task, facts, index))
    }

    /// Allows a stream's request, and makes its REQUEST durable.
    async fn open(
        &self,
        call: &Call,
        method: Method,
        facts: &mut Facts,
        request: &[u8],
        prepared: Result<(), Refusal>,
    ) -> Result<u64, Status> {
        let allowed = match prepared {
            Ok(()) => self.allow(call, method, facts),
            Err(refusal) => Err(self.unless_untold(call, method, facts, refusal)),
        };
        if let Err(refusal) = allowed {
            return Err(self.refuse(call, facts, refusal).await);
        }
        let Some(request_id) = facts.request_id else {
            return Err(self.refuse(call, facts, Refusal::Internal).await);
        };
        let index = loop {
            match self.witness_request(call, facts, request, None).await {
                Ok(index) => break index,
                Err(AppendError::Rejected(Rejection::QuotaSpent)) => {
                    if let Err(spent) = self.allow_by_another(call, method, facts).await {
                        return Err(self.refuse(call, facts, spent).await);
                    }
                }
                Err(error) => return Err(self.unwitnessed(call, &error)),
            }
        };
        call.opened(index, request_id, facts.named());
        Ok(index)
    }

    /// Witnesses how a stream ended. What the peer is still to be told is the error.
    async fn end_stream(
        &self,
        call: &Call,
        facts: &Facts,
        request_index: u64,
        outcome: Result<(), Refusal>,
        sent: &AtomicU64,
    ) -> Result<(), Status> {
        let mut entry = self.response_entry(call, facts, request_index);
        entry.code =
            Some(outcome.as_ref().map_or_else(|refusal| code_name(refusal.code()), |()| "OK").into());
        entry.reason = outcome.as_ref().err().map(|refusal| refusal.reason().into());
        entry.items = Some(sent.load(Ordering::Relaxed));
        match self.log.conclude(entry, Salt(entropy::bytes()), Vec::new()).await {
            Ok(index) => outcome.map_err(|refusal| refusal.into_status(Some(index))),
            Err(error) => {
                if let Some(request_id) = facts.request_id {
                    self.close_later(call, facts, request_id, request_index);
                }
                Err(self.unwitnessed(call, &error))
            }
        }
    }
}
