//! Holds a request that is no stream to exactly one message, in its time, within the budget of bytes: tonic takes the
//! first message and drops the others unseen, waits for as long as the call may live, and makes room for any number.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::body::Body;

use super::call::{BodyFault, Slot};
use super::messages::{Next, Reader};

/// A request's body that ends in an error after its first message, if anything follows.
pub(super) struct OneMessage {
    body: Body,
    reader: Reader,
    slot: Arc<Slot>,
    most_bytes: usize,
    until: Instant,
    /// Set once the body is waited for.
    late: Option<Pin<Box<Sleep>>>,
}

impl OneMessage {
    /// `body`, which must be whole at `until`; a message over `most_bytes` is left to tonic to refuse.
    pub(super) fn new(body: Body, slot: Arc<Slot>, most_bytes: usize, until: Instant) -> Self {
        Self { body, reader: Reader::default(), slot, most_bytes, until, late: None }
    }

    /// What is wrong with what comes next, if anything.
    fn fault_in(&mut self, data: &[u8]) -> Option<BodyFault> {
        let mut fault = None;
        self.reader.read(data, |next| {
            fault = fault.or(match next {
                Next::First(bytes) if bytes <= self.most_bytes && !self.slot.buffered.take(bytes) => {
                    Some(BodyFault::NoRoom)
                }
                Next::First(_) => None,
                Next::Further(_) => Some(BodyFault::MoreThanOne),
            });
        });
        fault.or(self.reader.is_past_first().then_some(BodyFault::MoreThanOne))
    }

    fn fail(&self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let _ = self.slot.fault.set(fault);
        Poll::Ready(Some(Err(fault)))
    }
}

impl HttpBody for OneMessage {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let until = self.until;
            let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(until.into())));
            return match late.as_mut().poll(context) {
                Poll::Ready(()) => self.fail(BodyFault::Late),
                Poll::Pending => Poll::Pending,
            };
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Some(fault) = self.fault_in(data)
        {
            return self.fail(fault);
        }
        match frame {
            Some(Err(_)) => self.fail(BodyFault::BrokenOff),
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
