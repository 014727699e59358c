//! Tells a stream that its peer broke off from one that came to its end, which tonic ends both alike, and holds each of its
//! messages to the budget of bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;

use super::buffers::Account;
use super::call::{BodyFault, Slot};
use super::messages::{Next, Reader};

/// A request's body that ends in an error where its peer did not end it.
pub(super) struct WholeStream {
    body: Body,
    reader: Reader,
    /// What the message takes that is being read.
    account: Account,
    slot: Arc<Slot>,
    most_bytes: usize,
}

impl WholeStream {
    /// `body`; a message over `most_bytes` is left to tonic to refuse.
    pub(super) fn new(body: Body, slot: Arc<Slot>, most_bytes: usize) -> Self {
        Self { body, reader: Reader::default(), account: slot.buffered.beside(), slot, most_bytes }
    }

    fn has_room_for(&mut self, data: &[u8]) -> bool {
        let (account, most_bytes) = (&self.account, self.most_bytes);
        let mut has_room = true;
        self.reader.read(data, |next| {
            let (Next::First(bytes) | Next::Further(bytes)) = next;
            // The one before it was taken out.
            account.settle();
            has_room &= bytes > most_bytes || account.take(bytes);
        });
        has_room
    }
}

impl HttpBody for WholeStream {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let fault = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => {
                let has_room = frame.data_ref().is_none_or(|data| self.has_room_for(data));
                if has_room {
                    return Poll::Ready(Some(Ok(frame)));
                }
                BodyFault::NoRoom
            }
            None if self.body.is_end_stream() => return Poll::Ready(None),
            Some(Err(_)) | None => BodyFault::BrokenOff,
        };
        let _ = self.slot.fault.set(fault);
        Poll::Ready(Some(Err(fault)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
