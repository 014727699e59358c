//! Tells a stream that its peer broke off from one that came to its end: hyper and tonic end both alike.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;

/// The peer reset the stream, or the connection broke. It has no source: tonic would take a cancelled stream, found as the
/// source, for one that ended.
#[derive(Debug, thiserror::Error)]
#[error("the stream was broken off")]
pub(super) struct BrokenOff;

/// A request's body that ends in an error where its peer did not end it.
pub(super) struct WholeStream(Body);

impl WholeStream {
    pub(super) fn new(body: Body) -> Self {
        Self(body)
    }
}

impl HttpBody for WholeStream {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll_frame(context)) {
            Some(Ok(frame)) => Some(Ok(frame)),
            None if self.0.is_end_stream() => None,
            Some(Err(_)) | None => Some(Err(BrokenOff)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
