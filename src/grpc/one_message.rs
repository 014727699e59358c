//! Holds a request that is no stream to exactly one message: tonic takes the first and drops the others unseen.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Something follows the first message.
#[derive(Debug, thiserror::Error)]
#[error("more than one message in a request that is no stream")]
struct MoreThanOne;

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A request's body that ends in an error after its first message, if anything follows.
pub(super) struct OneMessage {
    body: Body,
    reader: Reader,
}

impl OneMessage {
    pub(super) fn new(body: Body) -> Self {
        Self { body, reader: Reader::default() }
    }
}

impl HttpBody for OneMessage {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.reader.takes(data)
        {
            return Poll::Ready(Some(Err(MoreThanOne.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where in the first message the reading is.
#[derive(Default)]
struct Reader {
    /// Prefix bytes seen.
    seen: usize,
    /// Message bytes to come; built from the prefix while that is read.
    left: u32,
}

impl Reader {
    /// Whether `data` still belongs to the first message.
    fn takes(&mut self, mut data: &[u8]) -> bool {
        while self.seen < PREFIX && data.has_remaining() {
            let byte = data.get_u8();
            if self.seen > 0 {
                self.left = self.left << 8 | u32::from(byte);
            }
            self.seen += 1;
        }
        let fits = u32::try_from(data.len()).ok().and_then(|length| self.left.checked_sub(length));
        if self.seen == PREFIX
            && let Some(left) = fits
        {
            self.left = left;
        }
        data.is_empty() || fits.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_message_passes_and_a_byte_more_does_not(message: Vec<u8>, cuts in proptest::collection::vec(1..9_usize, 1..20)) {
            let mut bytes = vec![0];
            bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&message);
            let mut reader = Reader::default();
            let (mut rest, mut cuts) = (bytes.as_slice(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                prop_assert!(reader.takes(piece));
                rest = after;
            }
            prop_assert!(reader.takes(&[]));
            prop_assert!(!reader.takes(&[0]));
        }
    }
}
